package netstack

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// Names of level SOL_UDP that x/sys/unix does not have.
const (
	udpCork       = 1
	udpEncap      = 100
	udpNoCheck6Tx = 101
	udpNoCheck6Rx = 102
)

// udpOptions are the options of level SOL_UDP. UDP_SEGMENT and UDP_GRO are not
// offered, so that programs do without.
var udpOptions = map[int]option{
	udpCork:       {id: optUDPCork, check: flag},
	10:            {read: constant(0)}, // UDPLITE_SEND_CSCOV
	11:            {read: constant(0)}, // UDPLITE_RECV_CSCOV
	udpEncap:      {read: constant(0)},
	udpNoCheck6Tx: {id: optNoCheck6Tx, check: flag},
	udpNoCheck6Rx: {id: optNoCheck6Rx, check: flag},
}

// rawOptions are the options of level SOL_RAW on AF_INET.
var rawOptions = map[int]option{
	1: {get: getICMPFilter, set: setICMPFilter, early: true}, // ICMP_FILTER
}

// rawOptions6 are the options of level SOL_RAW on AF_INET6.
var rawOptions6 = map[int]option{
	unix.IPV6_CHECKSUM: {set: setRawChecksum6, read: readChecksum6},
}

// icmpv6Options are the options of level SOL_ICMPV6.
var icmpv6Options = map[int]option{
	unix.ICMPV6_FILTER: {get: getICMPv6Filter, set: setICMPv6Filter, early: true},
}

func getICMPFilter(t target, val []byte) (int, stack.Errno) {
	if t.proto != unix.IPPROTO_ICMP {
		return 0, unix.EOPNOTSUPP
	}
	return putInt(val, int64(t.dgram.filter))
}

func setICMPFilter(t target, val []byte) stack.Errno {
	if t.proto != unix.IPPROTO_ICMP {
		return unix.EOPNOTSUPP
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], t.dgram.filter)
	copy(b[:], val)
	t.dgram.filter = binary.NativeEndian.Uint32(b[:])
	return 0
}

func getICMPv6Filter(t target, val []byte) (int, stack.Errno) {
	var f tcpip.ICMPv6Filter
	if err := t.ep.GetSockOpt(&f); err != nil {
		return 0, errno(err)
	}
	var b [32]byte
	for i, w := range f.DenyType {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return putBytes(val, b[:])
}

func setICMPv6Filter(t target, val []byte) stack.Errno {
	var b [32]byte
	if _, err := getICMPv6Filter(t, b[:]); err != 0 {
		return err
	}
	copy(b[:], val)
	var f tcpip.ICMPv6Filter
	for i := range f.DenyType {
		f.DenyType[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return errno(t.ep.SetSockOpt(&f))
}
