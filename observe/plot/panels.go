package plot

import (
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// exported is a series as it goes into a CSV file.
type exported struct {
	run, conn, series, unit string
	points                  []xy // seconds, unit
}

// maker makes the panels.
type maker struct {
	*Picture
	size    size
	palette palette
	x       unit
}

// panels makes the panels that are asked for, or for which there is something
// to show.
func (p *Picture) panels() ([]*panel, error) {
	z, err := parseSize(p.opts.Size)
	if err != nil {
		return nil, err
	}
	pal, err := paletteOf(p.opts.Palette)
	if err != nil {
		return nil, err
	}
	m := &maker{Picture: p, size: z, palette: pal, x: timeUnit(float64(max(p.to, -p.from)))}
	asked := p.opts.Kinds
	if len(asked) == 0 {
		asked = p.defaultKinds()
	}
	makers := map[string]func() *panel{
		Seq: m.seqPanel, Cwnd: m.cwndPanel, RTT: m.rttPanel, Throughput: m.throughputPanel, Queue: m.queuePanel,
	}
	var out []*panel
	for _, k := range kinds {
		if !slices.Contains(asked, k) {
			continue
		}
		pan := makers[k]()
		if pan == nil {
			return nil, fmt.Errorf("the files hold nothing for a panel of kind %s%s", k, missing[k])
		}
		pan.kind = k
		out = append(out, pan)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the files hold nothing to draw")
	}
	return out, nil
}

// missing says where the data of a kind would come from.
var missing = map[string]string{
	Seq:   ": no segments with data",
	RTT:   ": no data that was acknowledged",
	Queue: ": queues are in the tcp-log of a run with --impair",
}

// defaultKinds are what the files hold.
func (p *Picture) defaultKinds() []string {
	var out []string
	segments, cc, rtt := false, false, false
	for _, c := range p.curves {
		segments = segments || c.flow().payload > 0
		cc = cc || c.track.info.cc
		rtt = rtt || c.hasRTT()
	}
	if segments && len(p.curves) == 1 {
		out = append(out, Seq)
	}
	if cc {
		out = append(out, Cwnd)
	}
	if rtt {
		out = append(out, RTT)
	}
	if segments {
		out = append(out, Throughput)
	}
	if len(p.queues) > 0 {
		out = append(out, Queue)
	}
	return out
}

// scaled are points in time since a file's zero, in the axis' unit; the values
// are divided.
func (m *maker) scaled(points []Point, zero int64, div float64) []xy {
	out := make([]xy, len(points))
	for i, p := range points {
		out[i] = xy{float64(p.T-zero) / m.x.div, p.V / div}
	}
	return out
}

func (m *maker) end() float64 { return float64(m.to) / m.x.div }

// colour is a curve's; a lone curve has its panel's own.
func (m *maker) colour(i int) color.Color { return m.palette.curves[i%len(m.palette.curves)] }

func (m *maker) line(c color.Color, dash int) draw.LineStyle {
	return draw.LineStyle{Color: c, Width: m.size.line, Dashes: dashes(dash, m.size.line*1.4)}
}

// lineEntry is a legend's line.
func lineEntry(name string, st draw.LineStyle) entry {
	return entry{name, func(c draw.Canvas, x0, x1, y vg.Length) {
		c.StrokeLine2(st, x0, y, x1, y)
	}}
}

// glyphEntry is a legend's mark.
func glyphEntry(name string, g glyphs) entry {
	return entry{name, func(c draw.Canvas, x0, x1, y vg.Length) {
		g.points, g.label = []xy{{float64(x0+x1) / 2, float64(y)}}, nil
		g.plot(c, func(v float64) vg.Length { return vg.Length(v) }, func(v float64) vg.Length { return vg.Length(v) })
	}}
}

// curveLegend tells the curves apart, if there are several.
func (p *Picture) curveLegend(pal palette, z size) []entry {
	m := &maker{Picture: p, size: z, palette: pal}
	var out []entry
	if len(p.curves) < 2 {
		return nil
	}
	for i, c := range p.curves {
		st, g := m.line(m.colour(i), 0), m.curveGlyph(i)
		e := glyphEntry(c.label, g)
		mark := e.swatch
		e.swatch = func(c draw.Canvas, x0, x1, y vg.Length) {
			c.StrokeLine2(st, x0, y, x1, y)
			mark(c, x0, x1, y)
		}
		out = append(out, e)
	}
	return out
}

// curveGlyph is the mark of a curve among several.
func (m *maker) curveGlyph(i int) glyphs {
	n := len(curveShapes)
	return glyphs{shape: curveShapes[i%n], radius: 2.1 * m.size.line, fill: i%n != 5,
		style: draw.LineStyle{Color: m.colour(i), Width: m.size.line}}
}

// marked are a line's layers: the line, and where there are several curves its
// marks, evenly along the panel, so that no colour is needed to follow it.
func (m *maker) marked(i int, l polyline) []layer {
	layers := []layer{l}
	if len(m.curves) < 2 || len(l.points) == 0 {
		return layers
	}
	g := m.curveGlyph(i)
	lo, hi := float64(m.from)/m.x.div, m.end()
	const marks = 9
	k := 0
	for j := range marks {
		x := lo + (hi-lo)*(float64(j)+0.15+0.7*float64(i)/float64(len(m.curves)))/marks
		for k < len(l.points) && l.points[k].x <= x {
			k++
		}
		if k == 0 || k == len(l.points) && x > max(l.until, l.points[k-1].x) {
			continue
		}
		y := l.points[k-1].y
		if k < len(l.points) && !l.step {
			a, b := l.points[k-1], l.points[k]
			y += (b.y - a.y) * (x - a.x) / max(b.x-a.x, 1e-12)
		}
		g.points = append(g.points, xy{x, y})
	}
	return append(layers, g)
}

// greatest is the greatest value of points.
func greatest(points []Point) float64 {
	v := 0.0
	for _, p := range points {
		v = max(v, p.V)
	}
	return v
}

func (m *maker) exportTo(pan *panel, run *run, conn, series, unit string, points []xy) {
	e := exported{run: run.label, conn: conn, series: series, unit: unit}
	for _, p := range points {
		e.points = append(e.points, xy{p.x * m.x.div / 1e9, p.y})
	}
	pan.exported = append(pan.exported, e)
}

// bytesLabel names an axis of bytes.
func bytesLabel(what string, u unit) string { return fmt.Sprintf("%s (%sB)", what, u.prefix) }

// ceiling leaves some room above the greatest value.
func ceiling(v float64) float64 {
	if v <= 0 || math.IsNaN(v) {
		return 1
	}
	return v * 1.06
}
