package netstack

import (
	"reflect"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack keeps most of a connection's state in fields that it does not
// export and offers no other way to. They are read here by reflection, with
// the endpoint's own lock (LockUser) held, which guards them all. A field that
// a later netstack no longer has reads as 0.

// tcpFields are the paths of the fields that tcp_info and SIOCOUTQ need.
type tcpFields struct {
	sndBufUsed, sender, receiver                       []int
	sndUna, sndNxt, maxPayload, outstanding, sackedOut []int
	sndWnd, sndScale                                   []int
	rcvWnd, rcvScale, rcvUsed                          []int
	amss, rcvMem                                       []int
}

// findTCPFields looks the paths up, once.
var findTCPFields = sync.OnceValue(func() *tcpFields {
	ep := reflect.TypeFor[tcp.Endpoint]()
	f := &tcpFields{
		sndBufUsed: path(ep, "sndQueueInfo", "SndBufUsed"),
		sender:     path(ep, "snd"),
		receiver:   path(ep, "rcv"),
		rcvUsed:    path(ep, "RcvBufUsed"),
		amss:       path(ep, "amss"),
		rcvMem:     path(ep, "rcvMemUsed"),
	}
	if f.sender != nil {
		snd := ep.FieldByIndex(f.sender).Type.Elem()
		f.sndUna = path(snd, "SndUna")
		f.sndNxt = path(snd, "SndNxt")
		f.sndWnd = path(snd, "SndWnd")
		f.sndScale = path(snd, "SndWndScale")
		f.maxPayload = path(snd, "MaxPayloadSize")
		f.outstanding = path(snd, "Outstanding")
		f.sackedOut = path(snd, "SackedOut")
	}
	if f.receiver != nil {
		rcv := ep.FieldByIndex(f.receiver).Type.Elem()
		f.rcvScale = path(rcv, "RcvWndScale")
		f.rcvWnd = path(rcv, "rcvWnd")
	}
	return f
})

// path gives the index path of a field, through embedded structs.
func path(t reflect.Type, names ...string) []int {
	var index []int
	for _, name := range names {
		f, ok := t.FieldByName(name)
		if !ok {
			return nil
		}
		index = append(index, f.Index...)
		t = f.Type
	}
	return index
}

// number reads an integer field; 0 if there is none.
func number(v reflect.Value, index []int) int64 {
	if len(index) == 0 {
		return 0
	}
	f := v.FieldByIndex(index)
	switch {
	case f.CanInt():
		return f.Int()
	case f.CanUint():
		return int64(f.Uint())
	}
	return 0
}

// tcpDetail is what tcp_info shows beyond tcpip.TCPInfoOption.
type tcpDetail struct {
	unsent      int    // bytes written and not acknowledged
	sndMSS      int    // payload bytes of the largest segment
	unacked     uint32 // segments in flight
	sacked      uint32
	notSent     uint32 // bytes
	sndWnd      uint32
	rcvWnd      uint32
	advMSS      uint32
	sndScale    uint8
	rcvScale    uint8
	unread      int // bytes received and not read
	established bool
}

// detail reads the state of a netstack TCP endpoint.
func detail(e tcpip.Endpoint) tcpDetail {
	ep, ok := e.(*tcp.Endpoint)
	if !ok {
		if a, ok := e.(alpTCP); ok {
			return alpDetail(a)
		}
		if s, ok := e.(streamEndpoint); ok {
			return tcpDetail{unsent: s.Unacked()}
		}
		return tcpDetail{}
	}
	f := findTCPFields()
	ep.LockUser()
	defer ep.UnlockUser()
	v := reflect.ValueOf(ep).Elem()
	d := tcpDetail{
		unsent: int(number(v, f.sndBufUsed)),
		advMSS: uint32(number(v, f.amss)),
		unread: int(number(v, f.rcvUsed)),
	}
	if snd := field(v, f.sender); snd.IsValid() {
		d.established = true
		d.sndMSS = int(number(snd, f.maxPayload))
		d.unacked = uint32(number(snd, f.outstanding))
		d.sacked = uint32(number(snd, f.sackedOut))
		d.sndWnd = uint32(number(snd, f.sndWnd))
		d.sndScale = uint8(number(snd, f.sndScale))
		inFlight := uint32(number(snd, f.sndNxt)) - uint32(number(snd, f.sndUna))
		if n := uint32(d.unsent); n > inFlight {
			d.notSent = n - inFlight
		}
	}
	if rcv := field(v, f.receiver); rcv.IsValid() {
		d.rcvWnd = uint32(number(rcv, f.rcvWnd))
		d.rcvScale = uint8(number(rcv, f.rcvScale))
	}
	return d
}

// field follows a pointer field; invalid if there is none or it is nil.
func field(v reflect.Value, index []int) reflect.Value {
	if len(index) == 0 {
		return reflect.Value{}
	}
	return v.FieldByIndex(index).Elem()
}
