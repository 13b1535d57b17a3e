package plot

import (
	"encoding/csv"
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"
	"time"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/alptrace/alptrace/observe/tcplog"
)

// cwndPanel has cwnd, ssthresh and bytes in flight of a log; of a capture, what
// its packets show: the bytes that are sent and not acknowledged.
func (m *maker) cwndPanel() *panel {
	type part struct {
		name string
		of   func(c *curve) *line
		dash int
	}
	log := []part{
		{"cwnd", func(c *curve) *line { return c.track.log.cwnd }, 0},
		{"ssthresh", func(c *curve) *line { return c.track.log.ssthresh }, 1},
		{"in flight", func(c *curve) *line { return c.track.log.flight }, 2},
	}
	packets := []part{{"unacknowledged", func(c *curve) *line { return c.flow().flight }, 0}}
	parts := func(c *curve) []part {
		if c.track.info.cc {
			return log
		}
		return packets
	}
	highest, threshold := 0.0, 0.0
	for _, c := range m.curves {
		for _, s := range parts(c) {
			if g := greatest(s.of(c).points()); s.name == "ssthresh" {
				threshold = max(threshold, g)
			} else {
				highest = max(highest, g)
			}
		}
	}
	if highest == 0 {
		return nil
	}
	// An ssthresh that is as good as none would leave no room for the rest.
	if threshold < 2.5*highest {
		highest = max(highest, threshold)
	}
	u := siUnit(highest)
	pan := &panel{label: bytesLabel("Window", u), hi: ceiling(highest) / u.div}
	named := make(map[string]bool)
	var events [2]glyphs
	for i, c := range m.curves {
		for j, s := range parts(c) {
			points := m.scaled(s.of(c).points(), c.run.zero, u.div)
			if len(points) == 0 {
				continue
			}
			col := m.palette.ink
			if len(m.curves) > 1 {
				col = m.colour(i)
			} else if len(log) == len(parts(c)) {
				col = m.palette.curves[[]int{0, 1, 2}[j]]
			}
			st := m.line(col, s.dash)
			if s.name == "in flight" {
				st.Width *= 0.8
			}
			l := polyline{points: points, step: true, style: st}
			if s.dash == 0 {
				pan.layers = append(pan.layers, m.marked(i, l)...)
			} else {
				pan.layers = append([]layer{l}, pan.layers...)
			}
			if !named[s.name] && (len(m.curves) == 1 || len(parts(c)) > 1) {
				if len(m.curves) > 1 {
					st.Color = m.palette.ink
				}
				pan.legend = append(pan.legend, lineEntry(s.name, st))
			}
			named[s.name] = true
			m.exportTo(pan, c.run, c.label, s.name, "B", times(points, u.div))
		}
		for _, k := range c.track.log.marks {
			e := &events[0]
			if k.What == tcplog.EvRTO {
				e = &events[1]
			}
			e.points = append(e.points, xy{float64(k.T-c.run.zero) / m.x.div, k.V / u.div})
		}
	}
	for i, name := range []string{"fast retransmit", "RTO"} {
		if n := len(events[i].points); n > 0 {
			g := &events[i]
			g.shape, g.radius = []shape{pointer, cross}[i], 2.4*m.size.line
			g.style = draw.LineStyle{Color: m.palette.retx, Width: 1.2 * m.size.line}
			pan.layers = append(pan.layers, *g)
			pan.legend = append(pan.legend, glyphEntry(fmt.Sprintf("%s (%s)", name, grouped(n)), *g))
		}
	}
	if len(pan.legend) == 0 {
		pan.legend = append(pan.legend, lineEntry("unacknowledged", m.line(m.palette.ink, 0)))
	}
	return pan
}

// times gives points with their values multiplied.
func times(points []xy, f float64) []xy {
	out := make([]xy, len(points))
	for i, p := range points {
		out[i] = xy{p.x, p.y * f}
	}
	return out
}

func (c *curve) hasRTT() bool {
	return len(c.flow().rtt.list) > 0 || len(c.track.log.srtt.points()) > 0
}

// rttPanel has a dot for each sample that the packets give, and the log's SRTT.
func (m *maker) rttPanel() *panel {
	highest := 0.0
	for _, c := range m.curves {
		highest = max(highest, greatest(c.flow().rtt.list), greatest(c.track.log.srtt.points()))
	}
	if highest == 0 {
		return nil
	}
	u := timeUnit(highest)
	pan := &panel{label: "Round-trip time (" + u.prefix + ")", hi: ceiling(highest) / u.div}
	samples, srtt := false, false
	var above []layer
	for i, c := range m.curves {
		col := m.palette.curves[0]
		if len(m.curves) > 1 {
			col = m.colour(i)
		}
		if points := m.scaled(c.flow().rtt.list, c.run.zero, u.div); len(points) > 0 {
			samples = true
			g := m.sampleGlyph(i)
			g.points = points
			pan.layers = append(pan.layers, g)
			m.exportTo(pan, c.run, c.label, "sample", "s", times(points, u.div/1e9))
		}
		if points := m.scaled(c.track.log.srtt.points(), c.run.zero, u.div); len(points) > 0 {
			srtt = true
			if len(m.curves) == 1 {
				col = m.palette.retx
			}
			above = append(above, m.marked(i, polyline{points: points, step: true, style: m.line(col, 0)})...)
			m.exportTo(pan, c.run, c.label, "srtt", "s", times(points, u.div/1e9))
		}
	}
	pan.layers = append(pan.layers, above...)
	if samples {
		g := m.sampleGlyph(0)
		if len(m.curves) > 1 {
			g.style.Color = m.palette.ink
		}
		e := glyphEntry("sample", g)
		one := e.swatch
		e.swatch = func(c draw.Canvas, x0, x1, y vg.Length) {
			for i, dy := range []vg.Length{1, -1, 1} {
				x := x0 + (x1-x0)*(vg.Length(i)+0.5)/3
				one(c, x, x, y+dy*m.size.line)
			}
		}
		pan.legend = append(pan.legend, e)
	}
	if srtt {
		col := m.palette.retx
		if len(m.curves) > 1 {
			col = m.palette.ink
		}
		pan.legend = append(pan.legend, lineEntry("SRTT", m.line(col, 0)))
	}
	return pan
}

// sampleGlyph is a curve's dot: of several curves, each has a shape.
func (m *maker) sampleGlyph(i int) glyphs {
	if len(m.curves) == 1 {
		return glyphs{shape: dot, radius: 0.7 * m.size.line, style: draw.LineStyle{Color: m.palette.curves[0], Width: 1.4 * m.size.line}}
	}
	g := m.curveGlyph(i)
	g.radius *= 0.6
	g.style.Width *= 0.7
	return g
}

// throughputPanel has what the packets take at the IP layer in each bin, and
// the payload that was acknowledged in it, each byte once.
func (m *maker) throughputPanel() *panel {
	rate := func(bins []float64) []float64 { // in bit/s, to the end of the window
		n := int((m.to-m.from)/m.bin) + 1
		out := make([]float64, n)
		for i := range min(n, len(bins)) {
			out[i] = bins[i] * 8e9 / float64(m.bin)
		}
		return out
	}
	highest := 0.0
	for _, c := range m.curves {
		for _, bins := range [][]float64{c.flow().throughput, c.flow().goodp} {
			for _, v := range rate(bins) {
				highest = max(highest, v)
			}
		}
	}
	if highest == 0 {
		return nil
	}
	u := siUnit(highest)
	pan := &panel{label: "Throughput (" + u.prefix + "bit/s)", hi: ceiling(highest) / u.div}
	for i, c := range m.curves {
		var lines [2]polyline
		for j, bins := range [][]float64{c.flow().throughput, c.flow().goodp} {
			values := rate(bins)
			// The last bin is as long as the window lets it be.
			if rest := (m.to - m.from) % m.bin; len(values) > 1 && rest < m.bin/2 {
				values = values[:len(values)-1]
			}
			col, dash := m.palette.curves[0], 1
			if j == 1 {
				dash = 0
				col = m.palette.curves[1]
			}
			if len(m.curves) > 1 {
				col = m.colour(i)
			}
			l := polyline{step: true, style: m.line(col, dash), until: m.end()}
			for k, v := range values {
				l.points = append(l.points, xy{float64(m.from+int64(k)*m.bin) / m.x.div, v / u.div})
			}
			lines[j] = l
			m.exportTo(pan, c.run, c.label, []string{"throughput", "goodput"}[j], "bit/s", times(l.points, u.div))
		}
		pan.layers = append(pan.layers, lines[0])
		pan.layers = append(pan.layers, m.marked(i, lines[1])...)
		if i == 0 {
			for j, name := range []string{fmt.Sprintf("throughput, %v bins", time.Duration(m.bin)), "goodput"} {
				st := lines[j].style
				if len(m.curves) > 1 {
					st.Color = m.palette.ink
				}
				pan.legend = append(pan.legend, lineEntry(name, st))
			}
		}
	}
	return pan
}

// queuePanel has the length of impaired links' queues, and what they dropped.
func (m *maker) queuePanel() *panel {
	if len(m.queues) == 0 {
		return nil
	}
	highest := 1.0
	for _, q := range m.queues {
		highest = max(highest, greatest(q.length.points()))
	}
	u := unit{1, ""}
	if highest >= 1e5 {
		u = siUnit(highest)
	}
	label := "Queue (packets)"
	if u.div > 1 {
		label = "Queue (" + u.prefix + " packets)"
	}
	pan := &panel{label: label, hi: math.Max(ceiling(highest), highest+1) / u.div}
	var all [3]glyphs
	var total [3]uint64
	for i, q := range m.queues {
		points := m.scaled(q.length.points(), q.run.zero, u.div)
		st := m.line(m.colour(i), i)
		pan.layers = append(pan.layers, polyline{points: points, step: true, style: st, until: 0})
		pan.legend = append(pan.legend, lineEntry(q.label, st))
		m.exportTo(pan, q.run, q.label, "length", "packets", times(points, u.div))
		for j, name := range queueEvents {
			total[j] += q.total[j]
			var out []xy
			for _, k := range q.marks {
				if k.What == name {
					x := float64(k.T-q.run.zero) / m.x.div
					all[j].points = append(all[j].points, xy{x, k.V / u.div})
					out = append(out, xy{x, float64(k.N)})
				}
			}
			if len(out) > 0 {
				m.exportTo(pan, q.run, q.label, name, "packets", out)
			}
		}
	}
	shapes := []shape{cross, diamond, circle}
	colours := []color.Color{m.palette.retx, m.palette.ack, m.palette.ink}
	for j := range all {
		if len(all[j].points) == 0 {
			continue
		}
		g := &all[j]
		g.shape, g.radius = shapes[j], 2.2*m.size.line
		g.style = draw.LineStyle{Color: colours[j], Width: m.size.line}
		pan.layers = append(pan.layers, *g)
		pan.legend = append(pan.legend, glyphEntry(fmt.Sprintf("%s (%s)", queueEvents[j], grouped(int(total[j]))), *g))
	}
	return pan
}

// writeCSV writes what the panels draw: a line for each point.
func (p *Picture) writeCSV(w io.Writer, panels []*panel) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"kind", "file", "connection", "series", "time_s", "value", "unit"}}
	for _, pan := range panels {
		for _, e := range pan.exported {
			for _, pt := range e.points {
				rows = append(rows, []string{pan.kind, e.run, e.conn, e.series,
					strconv.FormatFloat(pt.x, 'f', 9, 64), strconv.FormatFloat(pt.y, 'g', -1, 64), e.unit})
			}
		}
	}
	return out.WriteAll(rows)
}
