package tcp

import "strings"

// Flags are the control bits of a header (RFC 9293 3.1).
type Flags uint8

// The control bits.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// String writes the flags as tcpdump does: "S" SYN, "." ACK, "E" ECE, "W" CWR.
func (f Flags) String() string {
	var b strings.Builder
	for i, c := range []byte("FSRP.UEW") {
		if f&(1<<i) != 0 {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ECN is the ECN field of an IP header (RFC 3168 5).
type ECN uint8

// The codepoints of ECN.
const (
	NotECT ECN = iota
	ECT1
	ECT0
	CE
)

// Segment is a segment, received or to be sent.
type Segment struct {
	SrcPort, DstPort uint16
	Seq, Ack         Seq
	Flags            Flags
	Window           uint16 // as in the header, not scaled
	Urgent           uint16
	ECN              ECN // of the IP packet
	Options          Options

	// Data is the payload, DataLen its length in bytes.
	Data    []Chunk
	DataLen int

	// MSS, where DataLen is larger, is how many bytes of payload each of the
	// segments has into which this one is to be cut on its way out.
	MSS int
	// Retransmit says that some of it was sent before.
	Retransmit bool
	// Merged is, of a received segment, how many packets the layers below have
	// made one of; 0 is 1.
	Merged int
}

// Len is how much sequence space the segment takes (SEG.LEN).
func (s *Segment) Len() int {
	n := s.DataLen
	if s.Flags&SYN != 0 {
		n++
	}
	if s.Flags&FIN != 0 {
		n++
	}
	return n
}

// End is the sequence number after the segment.
func (s *Segment) End() Seq { return s.Seq.Add(s.Len()) }

// Chunk is a piece of memory with payload. Owner, if any, is told when the Conn
// has no use for it any more.
type Chunk struct {
	B     []byte
	Owner Owner
}

// Owner has memory that chunks are made of.
type Owner interface{ Release() }

func (c *Chunk) release() {
	if c.Owner != nil {
		c.Owner.Release()
	}
	*c = Chunk{}
}

func releaseAll(cs []Chunk) {
	for i := range cs {
		cs[i].release()
	}
}

// trimFront takes n bytes off the front of the payload and moves Seq on.
func (s *Segment) trimFront(n int) {
	s.Seq = s.Seq.Add(n)
	s.DataLen -= n
	for n > 0 {
		c := &s.Data[0]
		if n < len(c.B) {
			c.B = c.B[n:]
			return
		}
		n -= len(c.B)
		c.release()
		s.Data = s.Data[1:]
	}
}

// trimTo leaves n bytes of payload and takes FIN off if any were cut.
func (s *Segment) trimTo(n int) {
	if n >= s.DataLen {
		return
	}
	s.Flags &^= FIN | PSH
	s.DataLen = n
	for i := range s.Data {
		if c := &s.Data[i]; n < len(c.B) {
			c.B = c.B[:n]
			if n == 0 {
				releaseAll(s.Data[i:])
				s.Data = s.Data[:i]
			} else {
				releaseAll(s.Data[i+1:])
				s.Data = s.Data[:i+1]
			}
			return
		}
		n -= len(s.Data[i].B)
		if n == 0 {
			releaseAll(s.Data[i+1:])
			s.Data = s.Data[:i+1]
			return
		}
	}
}

// drop gives the payload's memory back.
func (s *Segment) drop() {
	releaseAll(s.Data)
	s.Data, s.DataLen = nil, 0
}
