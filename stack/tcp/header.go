package tcp

import "encoding/binary"

// HeaderLen is the length of a header without options, bytes.
const HeaderLen = 20

// MaxHeaderLen is the length of the longest header.
const MaxHeaderLen = HeaderLen + maxOptions

// ParseHeader reads a header with its options into s, all but the payload, and
// gives its length. ok is false if b is no header. The checksum is the caller's
// affair. s.Options.FastOpen refers to b.
func ParseHeader(b []byte, s *Segment) (n int, ok bool) {
	if len(b) < HeaderLen {
		return 0, false
	}
	n = int(b[12]>>4) * 4
	if n < HeaderLen || n > len(b) {
		return 0, false
	}
	be := binary.BigEndian
	s.SrcPort, s.DstPort = be.Uint16(b), be.Uint16(b[2:])
	s.Seq, s.Ack = Seq(be.Uint32(b[4:])), Seq(be.Uint32(b[8:]))
	s.Flags = Flags(b[13])
	s.Window, s.Urgent = be.Uint16(b[14:]), be.Uint16(b[18:])
	ParseOptions(b[HeaderLen:n], &s.Options)
	return n, true
}

// HeaderLen is the length of the segment's header with options, bytes.
func (s *Segment) HeaderLen() int { return HeaderLen + s.Options.Len() }

// PutHeader writes the header to b, which has room for HeaderLen bytes. The
// checksum is 0.
func (s *Segment) PutHeader(b []byte) {
	be := binary.BigEndian
	n := s.HeaderLen()
	be.PutUint16(b, s.SrcPort)
	be.PutUint16(b[2:], s.DstPort)
	be.PutUint32(b[4:], uint32(s.Seq))
	be.PutUint32(b[8:], uint32(s.Ack))
	b[12], b[13] = byte(n/4)<<4, byte(s.Flags)
	be.PutUint16(b[14:], s.Window)
	b[16], b[17] = 0, 0
	be.PutUint16(b[18:], s.Urgent)
	s.Options.Put(b[HeaderLen:n])
}
