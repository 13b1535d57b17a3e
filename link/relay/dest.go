package relay

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// admit looks at a packet of the near stack before the far one sees it. It
// returns the packet's network protocol, or why the packet must vanish.
func (r *Relay) admit(b []byte, sumOK bool) (tcpip.NetworkProtocolNumber, string) {
	switch header.IPVersion(b) {
	case header.IPv4Version:
		h := header.IPv4(b)
		if !h.IsValid(len(b)) {
			return 0, "bad ipv4 header"
		}
		if why := r.noDest(netipAddr(h.DestinationAddress())); why != "" {
			return 0, why
		}
		if h.FragmentOffset() == 0 {
			body := b[h.HeaderLength():h.TotalLength()]
			if why := checkTransport(h.TransportProtocol(), body); why != "" {
				return 0, why
			}
			if !sumOK && !h.More() && !sumValid(h.TransportProtocol(), h.SourceAddress(), h.DestinationAddress(), body) {
				return 0, "bad checksum"
			}
		}
		return ipv4.ProtocolNumber, ""
	case header.IPv6Version:
		h := header.IPv6(b)
		if !h.IsValid(len(b)) {
			return 0, "bad ipv6 header"
		}
		if why := r.noDest(netipAddr(h.DestinationAddress())); why != "" {
			return 0, why
		}
		body := b[header.IPv6MinimumSize : header.IPv6MinimumSize+int(h.PayloadLength())]
		// Extension headers are not followed: no flow is made of them.
		proto := tcpip.TransportProtocolNumber(h.NextHeader())
		if why := checkTransport(proto, body); why != "" {
			return 0, why
		}
		if !sumOK && !sumValid(proto, h.SourceAddress(), h.DestinationAddress(), body) {
			return 0, "bad checksum"
		}
		return ipv6.ProtocolNumber, ""
	}
	return 0, "not ip"
}

// noDest says why nothing can be sent to a, "" if it can.
func (r *Relay) noDest(a netip.Addr) string {
	switch {
	case a.IsMulticast():
		return "multicast"
	case a.IsLoopback():
		return "loopback"
	case a.IsUnspecified():
		return "unspecified destination"
	case a.Is4In6():
		return "ipv4-mapped destination"
	case a == r.cfg.Near4.Addr() || a == r.cfg.Near6.Addr():
		return "the near stack's own address"
	}
	if a.Is4() {
		b := a.As4()
		switch {
		case b[0] == 0:
			return "destination in 0.0.0.0/8"
		case b == [4]byte{255, 255, 255, 255} || a == broadcast(r.cfg.Near4):
			return "broadcast"
		}
	}
	return ""
}

// broadcast is the last address of an IPv4 network, or no address if it has no
// broadcast (RFC 3021).
func broadcast(p netip.Prefix) netip.Addr {
	if p.Bits() >= 31 {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// checkTransport drops what the near stack may say but the far one must not
// hear: ICMP errors, since whatever they are about, its cause is on this
// machine, and they would act on the far stack's endpoints while those may be
// sending.
func checkTransport(proto tcpip.TransportProtocolNumber, body []byte) string {
	switch {
	case proto == header.ICMPv4ProtocolNumber && len(body) > 0:
		switch header.ICMPv4Type(body[0]) {
		case header.ICMPv4DstUnreachable, header.ICMPv4TimeExceeded, header.ICMPv4ParamProblem,
			header.ICMPv4SrcQuench, header.ICMPv4Redirect:
			return "icmp error"
		}
	case proto == header.ICMPv6ProtocolNumber && len(body) > 0 && body[0] < 128: // RFC 4443, 2.1
		return "icmp error"
	}
	return ""
}

// sumValid reports whether the transport checksum of a whole packet is right.
func sumValid(proto tcpip.TransportProtocolNumber, src, dst tcpip.Address, body []byte) bool {
	var sum uint16
	switch proto {
	case header.TCPProtocolNumber:
	case header.UDPProtocolNumber:
		if len(body) >= header.UDPMinimumSize && header.UDP(body).Checksum() == 0 && src.Len() == 4 {
			return true // RFC 768: none was computed
		}
	case header.ICMPv6ProtocolNumber:
	case header.ICMPv4ProtocolNumber:
		return checksum.Checksum(body, 0) == 0xffff
	default:
		return true // extension headers and protocols that nobody here knows
	}
	sum = header.PseudoHeaderChecksum(proto, src, dst, uint16(len(body)))
	return checksum.Checksum(body, sum) == 0xffff
}

// kind is what a destination of the near stack's is to the relay.
type kind int

const (
	kindWorld   kind = iota // as the host sees it
	kindLocal               // the gateway: the host's loopback
	kindDNS                 // the resolvers, on port 53
	kindNothing             // an address of the virtual network that nobody has
)

// destination translates the address of a flow into what the host's sockets are
// to be given.
func (r *Relay) destination(dst netip.AddrPort) (netip.AddrPort, kind) {
	a := dst.Addr()
	switch a {
	case r.cfg.Gateway4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dst.Port()), kindLocal
	case r.cfg.Gateway6:
		return netip.AddrPortFrom(netip.IPv6Loopback(), dst.Port()), kindLocal
	case r.cfg.DNS4, r.cfg.DNS6:
		return dst, kindDNS
	}
	if r.cfg.Near4.Contains(a) || r.cfg.Near6.Contains(a) {
		return dst, kindNothing
	}
	return dst, kindWorld
}
