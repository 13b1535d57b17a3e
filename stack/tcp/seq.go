package tcp

// Seq is a sequence number; arithmetic is modulo 2^32 (RFC 9293 3.4).
type Seq uint32

// Before says whether a comes before b, within half of the space.
func (a Seq) Before(b Seq) bool { return int32(a-b) < 0 }

// After says whether a comes after b.
func (a Seq) After(b Seq) bool { return int32(a-b) > 0 }

// AtOrBefore says whether a is b or comes before it.
func (a Seq) AtOrBefore(b Seq) bool { return int32(a-b) <= 0 }

// AtOrAfter says whether a is b or comes after it.
func (a Seq) AtOrAfter(b Seq) bool { return int32(a-b) >= 0 }

// Add is a moved on by n bytes.
func (a Seq) Add(n int) Seq { return a + Seq(uint32(n)) }

// Sub is the distance from b to a in bytes, negative if a is before b.
func (a Seq) Sub(b Seq) int { return int(int32(a - b)) }

// In says whether a is in the window of n bytes from first.
func (a Seq) In(first Seq, n int) bool { return int64(uint32(a-first)) < int64(n) }

func maxSeq(a, b Seq) Seq {
	if a.After(b) {
		return a
	}
	return b
}

func minSeq(a, b Seq) Seq {
	if a.Before(b) {
		return a
	}
	return b
}

// Range is the sequence numbers from Start up to End, End not included.
type Range struct{ Start, End Seq }

// Len is how many they are.
func (r Range) Len() int { return r.End.Sub(r.Start) }
