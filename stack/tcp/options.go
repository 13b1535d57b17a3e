package tcp

import "encoding/binary"

// Options are the options of a header that the stack knows.
type Options struct {
	Has      OptionSet
	WScale   uint8  // shift count, at most 14 (RFC 7323 2.3)
	NSACK    uint8  // how many of SACK are used
	MSS      uint16 // bytes
	TSVal    uint32
	TSEcr    uint32
	SACK     [4]Range
	FastOpen []byte // the cookie; empty to ask for one (RFC 7413 4.1.1)
}

// OptionSet says which options there are.
type OptionSet uint8

// The options.
const (
	HasMSS OptionSet = 1 << iota
	HasWScale
	HasSACKPermitted
	HasTimestamps
	HasFastOpen
)

// Option kinds (IANA, TCP Option Kind Numbers).
const (
	kindEnd           = 0
	kindNop           = 1
	kindMSS           = 2
	kindWScale        = 3
	kindSACKPermitted = 4
	kindSACK          = 5
	kindTimestamps    = 8
	kindFastOpen      = 34
)

// maxWScale is the largest shift count (RFC 7323 2.3).
const maxWScale = 14

// maxOptions is the room for options in a header, bytes.
const maxOptions = 40

// ParseOptions reads the options of a header. Those that it does not know, and
// those of a wrong length, are skipped (RFC 9293 3.2, MUST-6 and MUST-7);
// parsing ends where a length makes no sense.
func ParseOptions(b []byte, o *Options) {
	*o = Options{}
	for len(b) > 0 {
		switch b[0] {
		case kindEnd:
			return
		case kindNop:
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return
		}
		o.parse(b[0], b[2:b[1]])
		b = b[b[1]:]
	}
}

func (o *Options) parse(kind byte, v []byte) {
	switch {
	case kind == kindMSS && len(v) == 2:
		o.Has |= HasMSS
		o.MSS = binary.BigEndian.Uint16(v)
	case kind == kindWScale && len(v) == 1:
		o.Has |= HasWScale
		o.WScale = min(v[0], maxWScale)
	case kind == kindSACKPermitted && len(v) == 0:
		o.Has |= HasSACKPermitted
	case kind == kindTimestamps && len(v) == 8:
		o.Has |= HasTimestamps
		o.TSVal = binary.BigEndian.Uint32(v)
		o.TSEcr = binary.BigEndian.Uint32(v[4:])
	case kind == kindSACK && len(v)%8 == 0 && len(v) > 0 && len(v) <= 32:
		o.NSACK = 0
		for ; len(v) > 0; v = v[8:] {
			o.SACK[o.NSACK] = Range{Seq(binary.BigEndian.Uint32(v)), Seq(binary.BigEndian.Uint32(v[4:]))}
			o.NSACK++
		}
	case kind == kindFastOpen && (len(v) == 0 || len(v) >= 4 && len(v) <= 16 && len(v)%2 == 0):
		o.Has |= HasFastOpen
		o.FastOpen = v
	}
}

// Len is how many bytes the options take, padding included.
func (o *Options) Len() int {
	n := 0
	if o.Has&HasMSS != 0 {
		n += 4
	}
	if o.Has&HasTimestamps != 0 {
		n += 12
	} else if o.Has&HasSACKPermitted != 0 {
		n += 4
	}
	if o.Has&HasWScale != 0 {
		n += 4
	}
	if o.NSACK > 0 {
		n += 4 + 8*int(o.NSACK)
	}
	if o.Has&HasFastOpen != 0 {
		n += (2 + len(o.FastOpen) + 3) &^ 3
	}
	return n
}

// Put writes the options to b, which has room for Len bytes, in Linux's order,
// aligned to 4 bytes.
func (o *Options) Put(b []byte) {
	be := binary.BigEndian
	if o.Has&HasMSS != 0 {
		b[0], b[1] = kindMSS, 4
		be.PutUint16(b[2:], o.MSS)
		b = b[4:]
	}
	if o.Has&HasTimestamps != 0 {
		b[0], b[1] = kindNop, kindNop
		if o.Has&HasSACKPermitted != 0 {
			b[0], b[1] = kindSACKPermitted, 2
		}
		b[2], b[3] = kindTimestamps, 10
		be.PutUint32(b[4:], o.TSVal)
		be.PutUint32(b[8:], o.TSEcr)
		b = b[12:]
	} else if o.Has&HasSACKPermitted != 0 {
		b[0], b[1], b[2], b[3] = kindNop, kindNop, kindSACKPermitted, 2
		b = b[4:]
	}
	if o.Has&HasWScale != 0 {
		b[0], b[1], b[2], b[3] = kindNop, kindWScale, 3, o.WScale
		b = b[4:]
	}
	if n := int(o.NSACK); n > 0 {
		b[0], b[1], b[2], b[3] = kindNop, kindNop, kindSACK, byte(2+8*n)
		b = b[4:]
		for _, r := range o.SACK[:n] {
			be.PutUint32(b, uint32(r.Start))
			be.PutUint32(b[4:], uint32(r.End))
			b = b[8:]
		}
	}
	if o.Has&HasFastOpen != 0 {
		n := 2 + len(o.FastOpen)
		b[0], b[1] = kindFastOpen, byte(n)
		copy(b[2:], o.FastOpen)
		for ; n%4 != 0; n++ {
			b[n] = kindNop
		}
	}
}
