package tcp

import "slices"

// reassembly has what was received out of order (RFC 9293 3.10.7.4, seventh),
// and what is to be said of it with SACK.
type reassembly struct {
	pieces []piece // by sequence number, not overlapping
	spans  []Range // the ranges that they make, not touching each other
	bytes  int     // payload
	memory int     // payload and overhead
	// recent has the spans by how recently they changed: a sequence number of
	// each, the latest first (RFC 2018 4, rule b).
	recent  [4]Seq
	nRecent int
	dsack   Range // to be reported once (RFC 2883 4); empty: none
}

// piece is the payload of a segment, or of a part of one.
type piece struct {
	start, end Seq
	data       []Chunk
}

// pieceOverhead is what a piece costs beside its payload, bytes.
const pieceOverhead = 512

func (r *reassembly) empty() bool { return len(r.pieces) == 0 }

// insert keeps the payload of a segment that does not begin at RCV.NXT. What
// is there already is trimmed off; if all of it is, that is a duplicate.
func (r *reassembly) insert(s *Segment) {
	in := Range{s.Seq, s.Seq.Add(s.DataLen)}
	i, _ := slices.BinarySearchFunc(r.pieces, in.Start, func(p piece, q Seq) int { return p.end.Sub(q) })
	if i < len(r.pieces) && r.pieces[i].end == in.Start {
		i++
	}
	if i < len(r.pieces) && r.pieces[i].start.AtOrBefore(s.Seq) {
		p := &r.pieces[i]
		r.duplicate(Range{in.Start, minSeq(in.End, p.end)})
		if p.end.AtOrAfter(in.End) {
			r.touch(in)
			return
		}
		s.trimFront(p.end.Sub(s.Seq))
		i++
	}
	// Pieces that lie within the new one give way, one that it overlaps keeps
	// what it has.
	j := i
	for j < len(r.pieces) && r.pieces[j].end.AtOrBefore(in.End) {
		p := &r.pieces[j]
		r.duplicate(Range{p.start, p.end})
		r.bytes -= p.end.Sub(p.start)
		r.memory -= p.end.Sub(p.start) + pieceOverhead
		releaseAll(p.data)
		j++
	}
	if j < len(r.pieces) && r.pieces[j].start.Before(in.End) {
		r.duplicate(Range{r.pieces[j].start, in.End})
		s.trimTo(r.pieces[j].start.Sub(s.Seq))
	}
	n := s.DataLen
	r.pieces = slices.Replace(r.pieces, i, j, piece{s.Seq, s.Seq.Add(n), s.take()})
	r.bytes += n
	r.memory += n + pieceOverhead
	r.touch(in)
}

// take moves the payload out of the segment.
func (s *Segment) take() []Chunk {
	d := slices.Clone(s.Data)
	s.Data, s.DataLen = nil, 0
	return d
}

func (r *reassembly) duplicate(d Range) {
	if r.dsack.Start == r.dsack.End {
		r.dsack = d
	}
}

// touch merges a range into the spans and makes it the latest.
func (r *reassembly) touch(in Range) {
	i, _ := slices.BinarySearchFunc(r.spans, in.Start, func(s Range, q Seq) int { return s.End.Sub(q) })
	j := i
	for j < len(r.spans) && r.spans[j].Start.AtOrBefore(in.End) {
		in.Start = minSeq(in.Start, r.spans[j].Start)
		in.End = maxSeq(in.End, r.spans[j].End)
		j++
	}
	r.spans = slices.Replace(r.spans, i, j, in)
	// The others keep their order.
	list := [5]Seq{in.Start}
	n := 1
	for _, q := range r.recent[:r.nRecent] {
		if n < len(r.recent) && !(q.AtOrAfter(in.Start) && q.Before(in.End)) {
			list[n] = q
			n++
		}
	}
	r.nRecent = copy(r.recent[:], list[:n])
}

// next takes the piece that begins at or before nxt, if there is one; ok is
// false if there is none. What of it is below nxt is trimmed.
func (r *reassembly) next(nxt Seq) (p piece, ok bool) {
	for len(r.pieces) > 0 && r.pieces[0].start.AtOrBefore(nxt) {
		p = r.pieces[0]
		r.pieces = slices.Delete(r.pieces, 0, 1)
		n := p.end.Sub(p.start)
		r.bytes -= n
		r.memory -= n + pieceOverhead
		if p.end.AtOrBefore(nxt) {
			r.duplicate(Range{p.start, p.end})
			releaseAll(p.data)
			continue
		}
		if p.start.Before(nxt) {
			s := Segment{Seq: p.start, Data: p.data, DataLen: n}
			s.trimFront(nxt.Sub(p.start))
			p.start, p.data = s.Seq, s.Data
		}
		return p, true
	}
	return piece{}, false
}

// drop forgets the spans below nxt.
func (r *reassembly) drop(nxt Seq) {
	for len(r.spans) > 0 && r.spans[0].End.AtOrBefore(nxt) {
		r.spans = slices.Delete(r.spans, 0, 1)
	}
	if len(r.spans) == 0 {
		r.nRecent = 0
	}
	if len(r.pieces) == 0 && cap(r.pieces) > 0 {
		r.pieces, r.spans = nil, nil
	}
}

// prune discards the highest piece, for want of memory.
func (r *reassembly) prune() {
	k := len(r.pieces) - 1
	p := r.pieces[k]
	r.bytes -= p.end.Sub(p.start)
	r.memory -= p.end.Sub(p.start) + pieceOverhead
	releaseAll(p.data)
	r.pieces = slices.Delete(r.pieces, k, k+1)
	if s := &r.spans[len(r.spans)-1]; s.Start.AtOrAfter(p.start) {
		r.spans = r.spans[:len(r.spans)-1]
	} else {
		s.End = p.start
	}
}

// blocks fills in the SACK blocks of an acknowledgment, at most room of them
// (RFC 2018 4; the first is a D-SACK if there is one, RFC 2883 4).
func (r *reassembly) blocks(o *Options, room int) {
	o.NSACK = 0
	add := func(b Range) {
		if int(o.NSACK) < room {
			o.SACK[o.NSACK] = b
			o.NSACK++
		}
	}
	if r.dsack.Start != r.dsack.End {
		add(r.dsack)
		r.dsack = Range{}
	}
	for _, q := range r.recent[:r.nRecent] {
		i, _ := slices.BinarySearchFunc(r.spans, q, func(s Range, q Seq) int { return s.End.Sub(q) })
		if i < len(r.spans) && r.spans[i].End == q {
			i++
		}
		if i < len(r.spans) && q.AtOrAfter(r.spans[i].Start) {
			add(r.spans[i])
		}
	}
}

// reset gives all memory back.
func (r *reassembly) reset() {
	for _, p := range r.pieces {
		releaseAll(p.data)
	}
	*r = reassembly{}
}
