// Package flow finds out whose a packet is: its transport protocol, addresses
// and ports.
package flow

import (
	"encoding/binary"
	"net/netip"

	"github.com/alptrace/alptrace/link"
)

// Numbers of protocols (IANA).
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// Flow is what a packet belongs to. Protocols without ports have 0; the
// identifier of an ICMP echo is both.
type Flow struct {
	Proto    uint8
	Src, Dst netip.AddrPort
}

// Reverse is the flow of the packets that answer.
func (f Flow) Reverse() Flow { return Flow{f.Proto, f.Dst, f.Src} }

// Packet is what Parse finds.
type Packet struct {
	Flow
	ECN byte // of the IP header, RFC 3168 5
	// Transport is where the transport header begins, bytes from the packet's
	// beginning, and End where the IP packet ends by its own account.
	Transport, End int
	// About is the flow of the packet that an ICMP error is about, invalid
	// otherwise: it was sent by who receives the error.
	About Flow
}

const (
	ethLen  = 14
	vlanLen = 4
	ip4Len  = 20
	ip6Len  = 40
)

// Parse reads the headers of a packet, of which b is the beginning. ok is false
// where it is no IP packet, a fragment that is not the first, or cut short.
func Parse(b []byte, m link.Medium) (p Packet, ok bool) {
	off := 0
	if m == link.Ethernet {
		off = ethLen
		for n := 0; n < 2 && len(b) >= off+vlanLen; n++ {
			if t := binary.BigEndian.Uint16(b[off-2:]); t != 0x8100 && t != 0x88a8 {
				break
			}
			off += vlanLen
		}
	}
	if len(b) <= off {
		return p, false
	}
	ok = p.parseIP(b, off)
	return p, ok
}

// parseIP reads the IP packet at off.
func (p *Packet) parseIP(b []byte, off int) bool {
	ip := b[off:]
	var src, dst netip.Addr
	switch {
	case len(ip) >= ip4Len && ip[0]>>4 == 4:
		hl := int(ip[0]&15) * 4
		if hl < ip4Len || binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
			return false
		}
		src, dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		p.Proto, p.ECN = ip[9], ip[1]&3
		p.Transport, p.End = off+hl, off+int(binary.BigEndian.Uint16(ip[2:]))
	case len(ip) >= ip6Len && ip[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		p.ECN = ip[1] >> 4 & 3
		p.End = off + ip6Len + int(binary.BigEndian.Uint16(ip[4:]))
		hl, ok := p.extensions(ip)
		if !ok {
			return false
		}
		p.Transport = off + hl
	default:
		return false
	}
	sport, dport, ok := p.ports(b)
	p.Src, p.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return ok
}

// extensions passes over the extension headers of IPv6 (RFC 8200 4).
func (p *Packet) extensions(ip []byte) (hl int, ok bool) {
	p.Proto, hl = ip[6], ip6Len
	for range 8 {
		switch p.Proto {
		case 0, 43, 60: // hop-by-hop, routing, destination options
			if len(ip) < hl+8 {
				return 0, false
			}
			p.Proto, hl = ip[hl], hl+int(ip[hl+1])*8+8
		case 44: // fragment
			if len(ip) < hl+8 || binary.BigEndian.Uint16(ip[hl+2:])&^7 != 0 {
				return 0, false
			}
			p.Proto, hl = ip[hl], hl+8
		default:
			return hl, true
		}
	}
	return 0, false
}

// ports reads what there is of ports.
func (p *Packet) ports(b []byte) (src, dst uint16, ok bool) {
	if len(b) < p.Transport+8 {
		return 0, 0, false
	}
	t := b[p.Transport:]
	switch p.Proto {
	case TCP, UDP:
		return binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:]), true
	case ICMP, ICMPv6:
		v6 := p.Proto == ICMPv6
		switch typ := t[0]; {
		case !v6 && (typ == 0 || typ == 8), v6 && (typ == 128 || typ == 129): // echo
			id := binary.BigEndian.Uint16(t[4:])
			return id, id, true
		case !v6 && (typ == 3 || typ == 4 || typ == 11 || typ == 12), v6 && typ < 128: // errors
			var about Packet
			if len(t) > 8 && about.inner(t[8:]) {
				p.About = about.Flow
			}
		}
	}
	return 0, 0, true
}

// inner reads the packet in an ICMP error, but no error in it.
func (p *Packet) inner(b []byte) bool {
	if proto := innerProto(b); proto == ICMP || proto == ICMPv6 {
		return false
	}
	return p.parseIP(b, 0)
}

func innerProto(ip []byte) byte {
	switch {
	case len(ip) >= ip4Len && ip[0]>>4 == 4:
		return ip[9]
	case len(ip) >= ip6Len && ip[0]>>4 == 6:
		return ip[6]
	}
	return 0
}
