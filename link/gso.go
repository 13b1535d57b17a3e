package link

import "encoding/binary"

// TCP flags.
const (
	flagFIN = 0x01
	flagPSH = 0x08
	flagACK = 0x10
	flagCWR = 0x80
)

// AppendTo appends the packet's bytes to b.
func (p *Packet) AppendTo(b []byte) []byte {
	for _, s := range p.Bufs {
		b = append(b, s...)
	}
	return b
}

// Complete finishes in pkt the checksum that o leaves open, as a link without
// checksum offload must before it sends the packet, and clears o.NeedsCsum.
// It does nothing if no checksum is open. Of a packet to be segmented it makes
// one valid large packet, as a capture shows it. Errors: ErrVnetCsum; those of
// [Segment] for a packet to be segmented.
func Complete(pkt []byte, o *Offload, m Medium) error {
	if !o.NeedsCsum {
		return nil
	}
	if err := checkCsum(pkt, o, m); err != nil {
		return err
	}
	start := int(o.CsumStart)
	at, pseudo := pkt[start+int(o.CsumOffset):], uint16(0)
	if o.GSO != GSONone {
		// Not every sender counts the whole length in the pseudo header of a
		// packet that no wire will see: begin anew.
		h, err := gsoHeader(pkt, o, m)
		if err != nil {
			return err
		}
		at[0], at[1] = 0, 0
		pseudo = pseudoSum(pkt[h.ip:], len(pkt)-start)
	}
	putChecksum(at, Checksum(pkt[start:], pseudo))
	o.NeedsCsum, o.CsumValid = false, true
	return nil
}

// putChecksum stores the complement of sum. Zero means "no checksum" in UDP
// (RFC 768) and is stored as its equal, 0xffff.
func putChecksum(b []byte, sum uint16) {
	c := ^sum
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b, c)
}

// Segment cuts the packet pkt, whose o.GSO is GSOTCP4 or GSOTCP6, into TCP
// segments as a network card does (TSO), and calls emit with each, whole and
// with right checksums. A segment carries at most o.GSOSize bytes, fewer if mtu
// (the largest network-layer packet, bytes; 0: no limit) asks for it.
// IPv4 identification and TCP sequence numbers count up; FIN and PSH stay on
// the last segment only (they end the data), CWR on the first only
// (RFC 3168 6.1.2: once for each window).
//
// A packet without GSO has its checksum completed in place and is emitted.
//
// Segments are built in buf, which is grown if need be and returned for the
// next call; what emit gets is valid only during its call.
// Errors: ErrShort, ErrNotIP, ErrVnetCsum, ErrVnetGSO, ErrOversized; nothing
// has been emitted then.
func Segment(buf, pkt []byte, o Offload, m Medium, mtu int, emit func(seg []byte)) ([]byte, error) {
	if o.GSO == GSONone {
		if err := Complete(pkt, &o, m); err != nil {
			return buf, err
		}
		emit(pkt)
		return buf, nil
	}
	h, err := gsoHeader(pkt, &o, m)
	if err != nil {
		return buf, err
	}
	mss := int(o.GSOSize)
	if mtu > 0 {
		mss = min(mss, mtu-(h.payload-h.ip))
		if mss <= 0 {
			return buf, ErrVnetGSO
		}
	}
	if cap(buf) < h.payload+mss {
		buf = make([]byte, h.payload+mss)
	}
	seq := binary.BigEndian.Uint32(pkt[h.tcp+4:])
	data := pkt[h.payload:]
	for i, at := 0, 0; at < len(data); i, at = i+1, at+mss {
		end := min(at+mss, len(data))
		seg := append(append(buf[:0], pkt[:h.payload]...), data[at:end]...)
		flags := &seg[h.tcp+13]
		if at > 0 {
			*flags &^= flagCWR
		}
		if end < len(data) {
			*flags &^= flagFIN | flagPSH
		}
		binary.BigEndian.PutUint32(seg[h.tcp+4:], seq+uint32(at))
		h.finish(seg, i)
		emit(seg)
	}
	return buf, nil
}

// finish sets the lengths, the identification and the checksums of seg, the
// i-th segment.
func (h *headers) finish(seg []byte, i int) {
	ip, tcp := seg[h.ip:], seg[h.tcp:]
	if h.v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ip6Len))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(i))
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^Checksum(ip[:h.tcp-h.ip], 0))
	}
	binary.BigEndian.PutUint16(tcp[16:], 0)
	putChecksum(tcp[16:], Checksum(tcp, pseudoSum(ip, len(tcp))))
}
