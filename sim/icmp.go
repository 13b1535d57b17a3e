package sim

import (
	"encoding/binary"
	"net/netip"

	"github.com/alptrace/alptrace/link"
)

// trouble is why a router drops a packet.
type trouble int

const (
	timeExceeded trouble = iota
	noRoute
	tooBig
)

// Protocol numbers and types.
const (
	protoICMP  = 1
	protoICMP6 = 58

	echo4, echoReply4 = 8, 0
	echo6, echoReply6 = 128, 129
)

// errorType is the type and code of the ICMP error about a trouble.
func errorType(t trouble, v6 bool) (typ, code byte) {
	if v6 {
		return [...]byte{timeExceeded: 3, noRoute: 1, tooBig: 2}[t], 0 // RFC 4443 3
	}
	return [...]byte{timeExceeded: 11, noRoute: 3, tooBig: 3}[t], // RFC 792
		[...]byte{timeExceeded: 0, noRoute: 0, tooBig: 4}[t]
}

// refuse sends an ICMP error about a packet back, unless there must be none:
// about another error, a later fragment, or a source that is no host (RFC 1812
// 4.3.2.7, RFC 4443 2.4). mtu is that of the next link, for tooBig.
func (r *Router) refuse(to int, b []byte, h ipHeader, t trouble, mtu int) {
	p := &r.ports[to]
	from := p.v4
	if h.v6 {
		from = p.v6
	}
	if !from.IsValid() || !h.first || !h.src.IsValid() || h.src.IsUnspecified() || h.src.IsMulticast() || isICMPError(b, h) {
		return
	}
	typ, code := errorType(t, h.v6)
	msg := make([]byte, 8, 8+len(b))
	msg[0], msg[1] = typ, code
	if t == tooBig {
		binary.BigEndian.PutUint32(msg[4:], uint32(mtu)) // of IPv4, the lower half (RFC 1191)
	}
	most := 576 - 20 - 8 // RFC 1812 4.3.2.3
	if h.v6 {
		most = 1280 - 40 - 8
	}
	r.sendICMP(from, h.src, append(msg, b[:min(len(b), most)]...), h.v6)
}

// isICMPError reports whether a packet is about a packet.
func isICMPError(b []byte, h ipHeader) bool {
	if len(b) <= h.length {
		return false
	}
	switch {
	case h.v6:
		return h.proto == protoICMP6 && b[h.length] < 128
	case h.proto == protoICMP:
		typ := b[h.length]
		return typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12
	}
	return false
}

// answer is what a router says to a packet for itself: echo replies.
func (r *Router) answer(_ int, b []byte, h ipHeader) {
	if len(b) < h.length+8 || !h.first {
		return
	}
	icmp := append([]byte(nil), b[h.length:]...)
	if !h.v6 {
		icmp = icmp[:int(binary.BigEndian.Uint16(b[2:]))-h.length]
	}
	switch {
	case !h.v6 && h.proto == protoICMP && icmp[0] == echo4:
		icmp[0] = echoReply4
	case h.v6 && h.proto == protoICMP6 && icmp[0] == echo6:
		icmp[0] = echoReply6
	default:
		return
	}
	r.sendICMP(h.dst, h.src, icmp, h.v6)
}

// sendICMP sends a message, with its checksum.
func (r *Router) sendICMP(src, dst netip.Addr, msg []byte, v6 bool) {
	to := r.way(dst)
	if to < 0 {
		return
	}
	binary.BigEndian.PutUint16(msg[2:], 0)
	var b []byte
	if v6 {
		b = make([]byte, 40, 40+len(msg))
		b[0], b[6], b[7] = 0x60, protoICMP6, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(msg)))
		s, d := src.As16(), dst.As16()
		copy(b[8:], s[:])
		copy(b[24:], d[:])
		sum := link.Checksum(b[8:40], uint16(len(msg))+protoICMP6)
		binary.BigEndian.PutUint16(msg[2:], ^link.Checksum(msg, sum))
	} else {
		binary.BigEndian.PutUint16(msg[2:], ^link.Checksum(msg, 0))
		b = make([]byte, 20, 20+len(msg))
		r.id++
		b[0], b[1], b[8], b[9] = 0x45, 0xc0, 64, protoICMP // precedence: RFC 1812 4.3.2.5
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(msg)))
		binary.BigEndian.PutUint16(b[4:], r.id)
		s, d := src.As4(), dst.As4()
		copy(b[12:], s[:])
		copy(b[16:], d[:])
		binary.BigEndian.PutUint16(b[10:], ^link.Checksum(b, 0))
	}
	_, _ = r.ports[to].link.Send(r.one(append(b, msg...), link.Offload{}))
}
