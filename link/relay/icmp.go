package relay

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// defaultTTL is the TTL and hop limit of what the relay itself sends.
const defaultTTL = 64

// quote is the beginning of a packet of the near stack's, as an ICMP error
// about it quotes it: the IP header and what follows, maxQuote bytes at most.
type quote []byte

// maxQuote takes an IPv6 header and a TCP header with all its options; RFC 792
// demands 8 bytes after the IP header.
const maxQuote = header.IPv6MinimumSize + header.TCPHeaderMaximumSize

func quoteOf(pkt *stack.PacketBuffer) quote {
	return appendQuote(make(quote, 0, maxQuote), pkt)
}

func appendQuote(q quote, pkt *stack.PacketBuffer) quote {
	q = append(q, pkt.NetworkHeader().Slice()...)
	q = append(q, pkt.TransportHeader().Slice()...)
	return q[:min(len(q), maxQuote)]
}

// source is the near stack's address in the quoted packet.
func (q quote) source() tcpip.Address {
	if header.IPVersion(q) == header.IPv4Version {
		return header.IPv4(q).SourceAddress()
	}
	return header.IPv6(q).SourceAddress()
}

// icmpCode translates an errno of the host's socket to a Destination
// Unreachable code (RFC 792 and RFC 1812, 5.2.7.1; RFC 4443, 3.1), by the table
// that Linux uses the other way round (icmp(7), errors).
func icmpCode(errno unix.Errno, is4 bool) byte {
	type codes struct{ v4, v6 byte }
	var c codes
	switch errno {
	case unix.ECONNREFUSED:
		c = codes{byte(header.ICMPv4PortUnreachable), byte(header.ICMPv6PortUnreachable)}
	case unix.EHOSTUNREACH, unix.EHOSTDOWN:
		c = codes{byte(header.ICMPv4HostUnreachable), byte(header.ICMPv6AddressUnreachable)}
	case unix.ENOPROTOOPT:
		c = codes{byte(header.ICMPv4ProtoUnreachable), byte(header.ICMPv6PortUnreachable)}
	case unix.EACCES, unix.EPERM:
		const communicationProhibited = 13 // RFC 1812
		c = codes{communicationProhibited, byte(header.ICMPv6Prohibited)}
	default:
		c = codes{byte(header.ICMPv4NetUnreachable), byte(header.ICMPv6NetworkUnreachable)}
	}
	if is4 {
		return c.v4
	}
	return c.v6
}

// unreachable sends the near stack a Destination Unreachable about the packet
// that q quotes: from dst if dst itself refused it, else from the gateway.
func (r *Relay) unreachable(dst netip.Addr, q quote, errno unix.Errno) {
	is4 := dst.Is4()
	from := r.cfg.Gateway6
	if is4 {
		from = r.cfg.Gateway4
	}
	if errno == unix.ECONNREFUSED || errno == unix.ENOPROTOOPT {
		from = dst
	}
	b := make([]byte, header.ICMPv4MinimumSize+len(q))
	copy(b[header.ICMPv4MinimumSize:], q)
	if is4 {
		h := header.ICMPv4(b)
		h.SetType(header.ICMPv4DstUnreachable)
		h.SetCode(header.ICMPv4Code(icmpCode(errno, true)))
	} else {
		h := header.ICMPv6(b)
		h.SetType(header.ICMPv6DstUnreachable)
		h.SetCode(header.ICMPv6Code(icmpCode(errno, false)))
	}
	r.stats.icmpErrors.Add(1)
	r.writeICMP(from, q.source(), b)
}

// writeICMP sends an ICMP message to the near stack. It computes the checksum.
func (r *Relay) writeICMP(from netip.Addr, to tcpip.Address, msg []byte) {
	src := tcpipAddr(from)
	proto := header.ICMPv4ProtocolNumber
	if from.Is4() {
		h := header.ICMPv4(msg)
		h.SetChecksum(0)
		h.SetChecksum(^checksum.Checksum(msg, 0))
	} else {
		proto = header.ICMPv6ProtocolNumber
		h := header.ICMPv6(msg)
		h.SetChecksum(0)
		h.SetChecksum(^checksum.Checksum(msg, header.PseudoHeaderChecksum(proto, src, to, uint16(len(msg)))))
	}
	r.write(from, to, proto, msg[:header.ICMPv4MinimumSize], msg[header.ICMPv4MinimumSize:])
}

// write sends the near stack one packet, in fragments if need be. It copies the
// payload.
func (r *Relay) write(from netip.Addr, to tcpip.Address, proto tcpip.TransportProtocolNumber, hdr, payload []byte) {
	rt, err := r.far.FindRoute(farNIC, tcpipAddr(from), to, protoOf(from), false)
	if err != nil {
		r.log.Debug("relay: no route to the near stack", "from", from, "to", to, "err", err.String())
		return
	}
	defer rt.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(rt.MaxHeaderLength()) + len(hdr),
		Payload:            buffer.MakeWithData(payload),
	})
	defer pkt.DecRef()
	copy(pkt.TransportHeader().Push(len(hdr)), hdr)
	pkt.TransportProtocolNumber = proto
	if err := rt.WritePacket(stack.NetworkHeaderParams{Protocol: proto, TTL: defaultTTL}, pkt); err != nil {
		r.stats.dropped.Add(1)
		r.log.Debug("relay: not delivered to the near stack", "from", from, "to", to, "err", err.String())
	}
}
