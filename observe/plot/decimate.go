package plot

import "math"

// columns is into how many parts of the shown time a series is divided, more
// than a printed picture resolves.
const columns = 2048

// Point is a value at a time.
type Point struct {
	T int64   // ns since the picture's zero
	V float64 // in the unit of its series
}

// window is the shown time, ns since 1970, [from, to].
type window struct{ from, to int64 }

func (w window) has(t int64) bool { return w.from <= t && t <= w.to }

// column is which part of the window t is in; t is within.
func (w window) column(t int64) int {
	span := w.to - w.from + 1
	return min(int(float64(t-w.from)/float64(span)*columns), columns-1) // floats may round up
}

// line is a series of values. In each column it keeps the first, the least, the
// greatest and the last, from which the same pixels are drawn as from all
// (M4: Jugel et al., VLDB 2014).
type line struct {
	w       window
	cols    []*m4
	before  *Point // the last one before the window: a step's value at its edge
	highest float64
}

type m4 [4]Point // first, least, greatest, last

func newLine(w window) *line { return &line{w: w} }

// add puts in a value at t, ns since 1970.
func (l *line) add(t int64, v float64) {
	p := Point{t, v}
	if t < l.w.from {
		l.before = &p
		return
	}
	if t > l.w.to {
		return
	}
	l.highest = max(l.highest, v)
	if l.cols == nil {
		l.cols = make([]*m4, columns)
	}
	c := l.w.column(t)
	m := l.cols[c]
	if m == nil {
		l.cols[c] = &m4{p, p, p, p}
		return
	}
	if v < m[1].V {
		m[1] = p
	}
	if v > m[2].V {
		m[2] = p
	}
	m[3] = p
}

// points are what is to be drawn, in order of time, T since 1970.
func (l *line) points() []Point {
	var out []Point
	if l.before != nil {
		out = append(out, Point{l.w.from, l.before.V})
	}
	for _, m := range l.cols {
		if m == nil {
			continue
		}
		if m[1].T > m[2].T {
			m[1], m[2] = m[2], m[1]
		}
		for i, p := range m {
			if i == 0 || p != m[i-1] {
				out = append(out, p)
			}
		}
	}
	return out
}

// Bar is a range of sequence numbers at a time.
type Bar struct {
	T      int64
	Lo, Hi float64
}

// bars are ranges at a time. In each column those that touch are joined, and
// at most maxRanges kept apart, of which a printed picture shows no more.
type bars struct {
	w    window
	cols []*barColumn
}

type barColumn struct {
	t      int64
	ranges intervals
}

const maxRanges = 64

func newBars(w window) *bars { return &bars{w: w} }

func (b *bars) add(t int64, lo, hi uint64) {
	if !b.w.has(t) {
		return
	}
	if b.cols == nil {
		b.cols = make([]*barColumn, columns)
	}
	c := b.w.column(t)
	col := b.cols[c]
	if col == nil {
		col = &barColumn{t: t}
		b.cols[c] = col
	}
	col.ranges.add(lo, hi)
	if len(col.ranges) > maxRanges {
		col.ranges.joinNearest()
	}
}

// joinNearest joins the two neighbours with the least between them.
func (s *intervals) joinNearest() {
	v := *s
	best, gap := 1, uint64(math.MaxUint64)
	for i := 1; i < len(v); i++ {
		if g := v[i].lo - v[i-1].hi; g < gap {
			best, gap = i, g
		}
	}
	v[best-1].hi = v[best].hi
	*s = append(v[:best], v[best+1:]...)
}

func (b *bars) list() []Bar {
	var out []Bar
	for _, col := range b.cols {
		if col == nil {
			continue
		}
		for _, r := range col.ranges {
			out = append(out, Bar{col.t, float64(r.lo), float64(r.hi)})
		}
	}
	return out
}

// dots are a scatter. Of those in one column that differ by less than a
// quarter percent, one is kept.
type dots struct {
	w    window
	seen map[dotCell]bool
	list []Point
}

type dotCell struct{ column, value int32 }

func newDots(w window) *dots { return &dots{w: w, seen: make(map[dotCell]bool)} }

func (d *dots) add(t int64, v float64) {
	if !d.w.has(t) || v <= 0 {
		return
	}
	cell := dotCell{int32(d.w.column(t)), int32(math.Log(v) * 400)}
	if !d.seen[cell] {
		d.seen[cell] = true
		d.list = append(d.list, Point{t, v})
	}
}
