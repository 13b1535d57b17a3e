package plot

import (
	"fmt"
	"math"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// extent is the least and the greatest of what was put in.
type extent struct{ lo, hi float64 }

func newExtent() extent { return extent{math.Inf(1), math.Inf(-1)} }

func (e *extent) put(v ...float64) {
	for _, v := range v {
		e.lo, e.hi = min(e.lo, v), max(e.hi, v)
	}
}

// seqPanel is the time-sequence graph, after tcptrace's: a bar for each
// segment of data, the line of acknowledgments below, the line of the window
// above, selective acknowledgments between.
func (m *maker) seqPanel() *panel {
	span, wnd := newExtent(), newExtent()
	segments := false
	for _, c := range m.curves {
		f := c.flow()
		segments = segments || f.payload > 0
		for _, list := range [][]Bar{f.data.list(), f.retxMarks} {
			for _, b := range list {
				span.put(b.Lo, b.Hi)
			}
		}
		for _, p := range f.ack.points() {
			span.put(p.V)
		}
		for _, p := range f.wnd.points() {
			wnd.put(p.V)
		}
	}
	if !segments || math.IsInf(span.lo, 0) {
		return nil
	}
	if span.hi == span.lo {
		span.hi++
	}
	// A window far above the data would leave no room for them.
	height := span.hi - span.lo
	wndShown := wnd.lo < span.hi+height
	if wndShown {
		span.hi = max(span.hi, min(wnd.hi, span.hi+height/2))
	}
	u := siUnit(span.hi)
	pan := &panel{label: bytesLabel("Sequence number", u)}
	margin := 0.04 * (span.hi - span.lo)
	pan.lo, pan.hi = (span.lo-margin)/u.div, (span.hi+margin)/u.div
	if span.lo <= 1 {
		pan.lo = -margin / u.div
	}
	s := seqDrawing{m: m, u: u, wnd: wndShown && len(m.curves) == 1}
	for i, c := range m.curves {
		s.curve(pan, i, c)
	}
	pan.layers = append(pan.layers, s.sack...)
	pan.layers = append(pan.layers, s.lines...)
	pan.layers = append(pan.layers, s.data...)
	pan.layers = append(pan.layers, s.above...)
	s.legend(pan)
	return pan
}

// seqDrawing gathers the layers, lower ones first.
type seqDrawing struct {
	m                         *maker
	u                         unit
	wnd                       bool
	sack, lines, data, above  []layer
	nSack, nRetx, nOOO, nMark int
	drewWnd                   bool
}

func (s *seqDrawing) scaledBars(list []Bar, zero int64) []rangeAt {
	out := make([]rangeAt, len(list))
	for i, b := range list {
		out[i] = rangeAt{float64(b.T-zero) / s.m.x.div, b.Lo / s.u.div, b.Hi / s.u.div}
	}
	return out
}

// styles of a curve's parts: the lone one has a colour for each.
func (s *seqDrawing) dataStyle(i int) draw.LineStyle {
	st := s.m.line(s.m.palette.data, 0)
	st.Width *= 0.9
	if len(s.m.curves) > 1 {
		st.Color = s.m.colour(i)
	}
	return st
}

func (s *seqDrawing) ackStyle(i int) draw.LineStyle {
	st := s.m.line(s.m.palette.ack, 0)
	if len(s.m.curves) > 1 {
		st.Color, st.Width = s.m.colour(i), s.m.size.line*0.6
	}
	return st
}

func (s *seqDrawing) wndStyle() draw.LineStyle { return s.m.line(s.m.palette.wnd, 1) }

func (s *seqDrawing) sackStyle() draw.LineStyle {
	return draw.LineStyle{Color: s.m.palette.sack, Width: s.m.size.line * 0.9}
}

func (s *seqDrawing) retxGlyph() glyphs {
	return glyphs{shape: cross, radius: 2.2 * s.m.size.line, style: draw.LineStyle{Color: s.m.palette.retx, Width: s.m.size.line * 1.1}}
}

func (s *seqDrawing) oooGlyph() glyphs {
	return glyphs{shape: circle, radius: 2 * s.m.size.line, style: draw.LineStyle{Color: s.m.palette.ooo, Width: s.m.size.line}}
}

func (s *seqDrawing) curve(pan *panel, i int, c *curve) {
	m, f, zero := s.m, c.flow(), c.run.zero
	export := func(series string, points []xy) {
		for j := range points {
			points[j].y *= s.u.div
		}
		m.exportTo(pan, c.run, c.label, series, "B", points)
	}
	sacks := f.sack.list()
	s.nSack += len(sacks)
	s.sack = append(s.sack, vbars{s.scaledBars(sacks, zero), s.sackStyle(), m.size.line})
	if points := f.wnd.points(); s.wnd && len(points) > 0 {
		s.drewWnd = true
		l := polyline{points: m.scaled(points, zero, s.u.div), step: true, style: s.wndStyle()}
		s.lines = append(s.lines, l)
		export("window", append([]xy(nil), l.points...))
	}
	acks := polyline{points: m.scaled(f.ack.points(), zero, s.u.div), step: true, style: s.ackStyle(i)}
	s.lines = append(s.lines, m.marked(i, acks)...)
	export("ack", append([]xy(nil), acks.points...))

	data := s.scaledBars(f.data.list(), zero)
	s.data = append(s.data, vbars{data, s.dataStyle(i), m.size.line})
	again := s.scaledBars(f.retxMarks, zero)
	s.nRetx += len(again)
	g := s.retxGlyph()
	bar := draw.LineStyle{Color: m.palette.retx, Width: m.size.line * 1.1}
	for _, b := range again {
		g.points = append(g.points, xy{b.x, (b.lo + b.hi) / 2})
	}
	s.above = append(s.above, vbars{again, bar, 1.2 * m.size.line}, g)
	export("retransmission", append([]xy(nil), g.points...))
	s.nOOO += len(f.ooo)
	o := s.oooGlyph()
	for _, b := range s.scaledBars(f.ooo, zero) {
		o.points = append(o.points, xy{b.x, (b.lo + b.hi) / 2})
	}
	s.above = append(s.above, o)
	export("out of order", append([]xy(nil), o.points...))

	ends := glyphs{shape: diamond, radius: 2 * m.size.line, fill: true, style: draw.LineStyle{Color: m.palette.ink}}
	ends.text = textStyle(fontCache(), m.size.font*0.8, m.palette.ink)
	for _, k := range f.marks {
		s.nMark++
		ends.points = append(ends.points, xy{float64(k.T-zero) / m.x.div, k.V / s.u.div})
		ends.label = append(ends.label, k.What)
	}
	s.above = append(s.above, ends)
	for j, p := range ends.points {
		export(ends.label[j], []xy{p})
	}
}

func (s *seqDrawing) legend(pan *panel) {
	m := s.m
	if len(m.curves) == 1 {
		st := s.dataStyle(0)
		pan.legend = append(pan.legend, entry{"data", func(c draw.Canvas, x0, x1, y vg.Length) {
			for i := range 5 {
				x := x0 + (x1-x0)*vg.Length(i+1)/6
				mid := y + vg.Length(i-2)*m.size.line
				c.StrokeLine2(st, x, mid-2*m.size.line, x, mid+2*m.size.line)
			}
		}}, lineEntry("ACK", s.ackStyle(0)))
		if s.drewWnd {
			pan.legend = append(pan.legend, lineEntry("window", s.wndStyle()))
		}
	}
	if s.nSack > 0 {
		st := s.sackStyle()
		pan.legend = append(pan.legend, entry{"SACK", func(c draw.Canvas, x0, x1, y vg.Length) {
			for i := range 5 {
				x := x0 + (x1-x0)*vg.Length(i+1)/6
				c.StrokeLine2(st, x, y-3*m.size.line, x, y+3*m.size.line)
			}
		}})
	}
	if s.nRetx > 0 {
		pan.legend = append(pan.legend, glyphEntry(plural(s.nRetx, "retransmission"), s.retxGlyph()))
	}
	if s.nOOO > 0 {
		pan.legend = append(pan.legend, glyphEntry(fmt.Sprintf("%s out of order", grouped(s.nOOO)), s.oooGlyph()))
	}
}

// plural is a count of something, as "1,234 losses".
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(n) + " " + what
}

// grouped is n with its digits in threes.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
