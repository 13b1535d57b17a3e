package netstack

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

var unspecified netip.Addr

// optID names an option whose value is kept.
type optID uint8

const (
	optNone optID = iota
	optV6Only
	optRcvLowat
	optUserTimeout
	optBroadcast
	optBindToDevice
	optTOS
	optTClass
	optMTUDiscover
	optMTUDiscover6
	optDontFrag6
	optHdrIncl
	optUDPCork
	optUnicastIf
	optMulticastIf6
	optTimestamp
	optPktinfo
	optRecvTTL
	optRecvTOS
	optRecvOrigDst
	optRecvPktinfo6
	optRecvHopLimit
	optRecvTClass
	optRecvOrigDst6
	numOptions
)

// options are the values that differ from the defaults.
type options struct{ vals []optVal }

type optVal struct {
	id optID
	v  int64
}

func (o *options) get(id optID) int64 {
	for i := range o.vals {
		if o.vals[i].id == id {
			return o.vals[i].v
		}
	}
	return 0
}

func (o *options) set(id optID, v int64) {
	for i := range o.vals {
		if o.vals[i].id == id {
			o.vals[i].v = v
			return
		}
	}
	o.vals = append(o.vals, optVal{id, v})
}

// inherited gives the options that an accepted connection starts with.
func (o *options) inherited() options { return options{slices.Clone(o.vals)} }

func (s *sock) applyAll() {}

func (s *sock) SetOption(level, name int, val []byte) stack.Errno { return unix.ENOPROTOOPT }
func (s *sock) GetOption(level, name int, val []byte) (int, stack.Errno) {
	return 0, unix.ENOPROTOOPT
}
