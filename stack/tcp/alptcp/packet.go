package alptcp

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack/tcp"
)

// parse makes a segment of a packet that was received. With payload the
// segment owns what it refers to.
func parse(pkt *stack.PacketBuffer, s *tcp.Segment, payload bool) bool {
	hdr := pkt.TransportHeader().Slice()
	if _, ok := tcp.ParseHeader(hdr, s); !ok {
		return false
	}
	size := pkt.Data().Size()
	if !pkt.RXChecksumValidated {
		net := pkt.Network()
		x := header.PseudoHeaderChecksum(number, net.SourceAddress(), net.DestinationAddress(), uint16(len(hdr)+size))
		x = checksum.Combine(x, pkt.Data().Checksum())
		if checksum.Checksum(hdr, x) != 0xffff {
			return false
		}
	}
	s.ECN = ecnOf(pkt.NetworkHeader().Slice())
	s.DataLen = size
	if payload && size > 0 {
		b := pkt.Data().ToBuffer()
		list := b.AsViewList()
		for v := list.Front(); v != nil; {
			next := v.Next()
			if v.Size() > 0 {
				s.Data = append(s.Data, tcp.Chunk{B: v.AsSlice(), Owner: v})
			}
			v = next
		}
	}
	return true
}

// ecnOf is the ECN field of an IP header.
func ecnOf(ip []byte) tcp.ECN {
	if len(ip) < 2 {
		return tcp.NotECT
	}
	if ip[0]>>4 == 6 {
		return tcp.ECN(ip[1] >> 4 & 3)
	}
	return tcp.ECN(ip[1] & 3)
}

// outgoing is how segments of a connection leave.
type outgoing struct {
	route  *stack.Route
	counts *tcpip.TCPStats
	ttl    uint8
	tos    uint8
	df     bool
}

// send sends a segment, cut into packets where nobody below does that.
func (o *outgoing) send(s *tcp.Segment) {
	if s.MSS > 0 && s.DataLen > s.MSS && !o.route.HasHostGSOCapability() && o.route.Loop()&stack.PacketLoop == 0 {
		o.cut(s)
		return
	}
	var payload buffer.Buffer
	for _, c := range s.Data {
		appendChunk(&payload, c)
	}
	o.packet(s, payload)
}

// appendChunk appends memory of a View that others use as well.
func appendChunk(b *buffer.Buffer, c tcp.Chunk) {
	v := view(c)
	if v == nil {
		_ = b.Append(buffer.NewViewWithData(c.B))
		return
	}
	// c.B ends somewhere in the View's memory and has the capacity of the
	// rest of it: that tells where it begins.
	off := v.Size() - cap(c.B)
	w := v.Clone()
	w.TrimFront(off)
	w.CapLength(len(c.B))
	_ = b.Append(w)
}

// cut sends a segment as several of its MSS.
func (o *outgoing) cut(s *tcp.Segment) {
	chunks, left := s.Data, s.DataLen
	part := *s
	for left > 0 {
		n := min(left, s.MSS)
		var payload buffer.Buffer
		for need := n; need > 0; {
			c := &chunks[0]
			k := min(need, len(c.B))
			appendChunk(&payload, tcp.Chunk{B: c.B[:k], Owner: c.Owner})
			c.B = c.B[k:]
			need -= k
			if len(c.B) == 0 {
				chunks = chunks[1:]
			}
		}
		left -= n
		part.DataLen = n
		part.Flags = s.Flags
		if left > 0 {
			part.Flags &^= tcp.FIN | tcp.PSH
		}
		o.packet(&part, payload)
		part.Seq = part.Seq.Add(n)
		s.Flags &^= tcp.CWR
		if part.Urgent > 0 {
			part.Urgent -= min(part.Urgent, uint16(n))
		}
	}
}

const checksumOffset = 16 // of a TCP header

// packet sends one packet, which the link may cut.
func (o *outgoing) packet(s *tcp.Segment, payload buffer.Buffer) {
	r := o.route
	n := s.HeaderLen()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: n + int(r.MaxHeaderLength()),
		Payload:            payload,
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = number
	hdr := pkt.TransportHeader().Push(n)
	s.PutHeader(hdr)
	x := r.PseudoHeaderChecksum(number, uint16(n+s.DataLen))
	switch {
	case r.HasHostGSOCapability():
		g := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: checksumOffset, L3HdrLen: header.IPv4MinimumSize, MaxSize: r.GSOMaxSize()}
		if r.NetProto() == header.IPv6ProtocolNumber {
			g.Type, g.L3HdrLen = stack.GSOTCPv6, header.IPv6MinimumSize
		}
		g.MSS = uint16(min(s.MSS, 65535))
		if g.MSS == 0 {
			g.MSS = uint16(max(s.DataLen, 1))
		}
		pkt.GSOOptions = g
		binary.BigEndian.PutUint16(hdr[checksumOffset:], x)
	case r.RequiresTXTransportChecksum():
		x = checksum.Combine(x, pkt.Data().Checksum())
		binary.BigEndian.PutUint16(hdr[checksumOffset:], ^checksum.Checksum(hdr, x))
	}
	if s.DataLen > s.MSS && s.MSS > 0 && pkt.GSOOptions.Type == stack.GSONone {
		pkt.GSOOptions.Type = stack.GSOGvisor // large, and not to be fragmented
	}
	if err := r.WritePacket(stack.NetworkHeaderParams{Protocol: number, TTL: o.ttl, TOS: o.tos&^3 | uint8(s.ECN), DF: o.df}, pkt); err != nil {
		o.counts.SegmentSendErrors.Increment()
		return
	}
	o.counts.SegmentsSent.Increment()
	if s.Retransmit {
		o.counts.Retransmits.Increment()
	}
	if s.Flags&tcp.RST != 0 {
		o.counts.ResetsSent.Increment()
	}
}
