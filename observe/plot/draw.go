package plot

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgpdf"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The formats of Write.
const (
	SVG = "svg"
	PNG = "png" // 300 dots per inch
	PDF = "pdf" // with its fonts
	CSV = "csv" // the numbers that the others draw
)

// CheckFormat refuses what is no format.
func CheckFormat(format string) error {
	formats := []string{SVG, PNG, PDF, CSV}
	if !slices.Contains(formats, format) {
		return fmt.Errorf("no format %q: there are %s", format, strings.Join(formats, ", "))
	}
	return nil
}

// Write draws the picture.
func (p *Picture) Write(w io.Writer, format string) error {
	if err := CheckFormat(format); err != nil {
		return err
	}
	panels, err := p.panels()
	if err != nil {
		return err
	}
	if format == CSV {
		return p.writeCSV(w, panels)
	}
	s, err := p.newSheet(panels)
	if err != nil {
		return err
	}
	switch format {
	case SVG:
		c := vgsvg.New(s.size.width, s.size.height)
		s.draw(draw.New(c))
		var b bytes.Buffer
		if _, err := c.WriteTo(&b); err != nil {
			return err
		}
		// Viewers without the font are to take one of the same widths.
		_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"),
			[]byte("font-family:Liberation Sans,Arimo,Arial,Helvetica,sans-serif")))
		return err
	case PDF:
		c := vgpdf.New(s.size.width, s.size.height)
		s.draw(draw.New(c))
		_, err := c.WriteTo(w)
		return err
	}
	c := vgimg.NewWith(vgimg.UseWH(s.size.width, s.size.height), vgimg.UseDPI(300))
	s.draw(draw.New(c))
	_, err = vgimg.PngCanvas{Canvas: c}.WriteTo(w)
	return err
}

// layer is something in a panel. x and y are in the panel's units.
type layer interface {
	plot(c draw.Canvas, x, y func(float64) vg.Length)
}

// entry is one of a legend.
type entry struct {
	text   string
	swatch func(c draw.Canvas, x0, x1, y vg.Length)
}

// panel is one diagram.
type panel struct {
	kind     string
	label    string // of its y axis
	lo, hi   float64
	layers   []layer
	legend   []entry
	exported []exported
}

// sheet is the picture's layout.
type sheet struct {
	size    size
	palette palette
	title   string
	xLabel  string
	xlo     float64
	xhi     float64
	panels  []*panel
	legend  []entry // of the whole
	fonts   *font.Cache
}

func (p *Picture) newSheet(panels []*panel) (*sheet, error) {
	z, err := parseSize(p.opts.Size)
	if err != nil {
		return nil, err
	}
	pal, err := paletteOf(p.opts.Palette)
	if err != nil {
		return nil, err
	}
	u := timeUnit(float64(max(p.to, -p.from)))
	s := &sheet{
		size: z, palette: pal, title: p.opts.Title, panels: panels,
		xLabel: "Time (" + u.prefix + ")", xlo: float64(p.from) / u.div, xhi: float64(p.to) / u.div,
		fonts: fontCache(),
	}
	s.legend = p.curveLegend(pal, z)
	if z.height == 0 {
		s.size.height = s.headHeight() + 2.6*z.font
		for _, pan := range panels {
			s.size.height += z.panel + s.legendHeight(pan.legend)
		}
	}
	return s, nil
}

func (s *sheet) style(size vg.Length, c color.Color) text.Style { return textStyle(s.fonts, size, c) }

func fontCache() *font.Cache { return font.NewCache(liberation.Collection()) }

func textStyle(fonts *font.Cache, size vg.Length, c color.Color) text.Style {
	return text.Style{
		Color: c, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size},
		XAlign: text.XLeft, YAlign: text.YCenter, Handler: text.Plain{Fonts: fonts},
	}
}

// Measures, in font sizes.
const (
	rowHeight   = 1.45 // of a legend
	swatchWidth = 2.2
	entryGap    = 1.3
	sideMargin  = 0.6
)

// flowed are the entries of a legend in rows of at most the picture's width.
func (s *sheet) flowed(entries []entry) [][]entry {
	var rows [][]entry
	room := s.size.width * 0.86
	x := vg.Length(0)
	for _, e := range entries {
		w := s.entryWidth(e)
		if len(rows) == 0 || x+w > room {
			rows = append(rows, nil)
			x = 0
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], e)
		x += w
	}
	return rows
}

func (s *sheet) entryWidth(e entry) vg.Length {
	return s.style(s.size.font, nil).Width(e.text) + (swatchWidth+0.4+entryGap)*s.size.font
}

func (s *sheet) legendHeight(entries []entry) vg.Length {
	return (rowHeight*vg.Length(len(s.flowed(entries))) + 0.6) * s.size.font
}

func (s *sheet) headHeight() vg.Length {
	h := 0.4 * s.size.font
	if s.title != "" {
		h += 2 * s.size.font
	}
	if len(s.legend) > 0 {
		h += s.legendHeight(s.legend)
	}
	return h
}

func (s *sheet) draw(c draw.Canvas) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	f := s.size.font
	plots := make([]*gonum.Plot, len(s.panels))
	heads := make([]vg.Length, len(s.panels))
	free := c.Max.Y - c.Min.Y - s.headHeight()
	for i, pan := range s.panels {
		heads[i] = s.legendHeight(pan.legend)
		free -= heads[i]
	}
	// The lowest panel has the label of the time axis besides.
	extra := 1.3 * f
	each := (free - extra) / vg.Length(len(s.panels))
	left := vg.Length(0)
	for i, pan := range s.panels {
		plots[i] = s.gonumPlot(pan, each, i == len(s.panels)-1)
		left = max(left, plots[i].DataCanvas(c).Min.X-c.Min.X)
	}
	top := c.Max.Y - 0.4*f
	if s.title != "" {
		st := s.style(f*1.2, s.palette.ink)
		st.XAlign = text.XCenter
		c.FillText(st, vg.Point{X: (c.Min.X + left + c.Max.X) / 2, Y: top - 0.9*f}, s.title)
		top -= 2 * f
	}
	if len(s.legend) > 0 {
		s.drawLegend(c, s.legend, left, top)
		top -= s.legendHeight(s.legend)
	}
	for i, pan := range s.panels {
		s.drawLegend(c, pan.legend, left, top)
		top -= heads[i]
		h := each
		if i == len(s.panels)-1 {
			h += extra
		}
		at := c
		at.Rectangle = vg.Rectangle{
			Min: vg.Point{X: c.Min.X, Y: top - h}, Max: vg.Point{X: c.Max.X - sideMargin*f, Y: top}}
		at.Min.X += left - (plots[i].DataCanvas(at).Min.X - at.Min.X)
		plots[i].Draw(at)
		top -= h
	}
}

func (s *sheet) drawLegend(c draw.Canvas, entries []entry, left, top vg.Length) {
	f := s.size.font
	st := s.style(f, s.palette.ink)
	for i, row := range s.flowed(entries) {
		x, y := left, top-(rowHeight*(vg.Length(i)+0.5)+0.3)*f
		for _, e := range row {
			e.swatch(c, x, x+swatchWidth*f, y)
			c.FillText(st, vg.Point{X: x + (swatchWidth+0.4)*f, Y: y}, e.text)
			x += s.entryWidth(e)
		}
	}
}

// gonumPlot is the axes of a panel of a height, with its layers.
func (s *sheet) gonumPlot(pan *panel, height vg.Length, lowest bool) *gonum.Plot {
	f := s.size.font
	p := gonum.New()
	p.BackgroundColor = color.Transparent
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = s.xlo, s.xhi, pan.lo, pan.hi
	p.Y.Label.Text = pan.label
	if lowest {
		p.X.Label.Text = s.xLabel
	}
	for _, a := range []*gonum.Axis{&p.X, &p.Y} {
		label, tick := s.style(f, s.palette.ink), s.style(f*0.92, s.palette.ink)
		label.XAlign, label.YAlign = a.Label.TextStyle.XAlign, a.Label.TextStyle.YAlign
		label.Rotation = a.Label.TextStyle.Rotation
		tick.XAlign, tick.YAlign = a.Tick.Label.XAlign, a.Tick.Label.YAlign
		a.Label.TextStyle, a.Tick.Label = label, tick
		a.Label.Padding = 0.25 * f
		a.Padding = 0
		a.LineStyle = draw.LineStyle{Color: s.palette.ink, Width: s.size.line * 0.7}
		a.Tick.LineStyle, a.Tick.Length = a.LineStyle, 0.45*f
	}
	p.X.Tick.Marker = ticks{count: float64(s.size.width / (5.5 * f))}
	p.Y.Tick.Marker = ticks{count: float64(height / (2.6 * f))}
	p.Add(gridLayer{s})
	for _, l := range pan.layers {
		p.Add(gonumLayer{l})
	}
	return p
}

// gonumLayer is a layer as gonum's Plotter.
type gonumLayer struct{ layer }

// Plot is of gonum's Plotter.
func (l gonumLayer) Plot(c draw.Canvas, p *gonum.Plot) {
	x, y := p.Transforms(&c)
	l.plot(c, x, y)
}

// gridLayer are the lines at the labelled ticks.
type gridLayer struct{ s *sheet }

// Plot is of gonum's Plotter.
func (g gridLayer) Plot(c draw.Canvas, p *gonum.Plot) {
	x, y := p.Transforms(&c)
	var path vg.Path
	for _, t := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
		if t.Label != "" {
			path.Move(vg.Point{X: x(t.Value), Y: c.Min.Y})
			path.Line(vg.Point{X: x(t.Value), Y: c.Max.Y})
		}
	}
	for _, t := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if t.Label != "" {
			path.Move(vg.Point{X: c.Min.X, Y: y(t.Value)})
			path.Line(vg.Point{X: c.Max.X, Y: y(t.Value)})
		}
	}
	c.SetLineStyle(draw.LineStyle{Color: g.s.palette.grid, Width: 0.4})
	c.Stroke(path)
}

// xy is a point in a panel's units.
type xy struct{ x, y float64 }

// polyline is a line through points, or steps.
type polyline struct {
	points []xy
	step   bool
	style  draw.LineStyle
	until  float64 // steps: how far the last one reaches
}

func (l polyline) plot(c draw.Canvas, x, y func(float64) vg.Length) {
	var pts []vg.Point
	add := func(px, py vg.Length) {
		// What is less than a fiftieth of a point from the last is not seen.
		if n := len(pts); n > 0 && math.Abs(float64(pts[n-1].X-px))+math.Abs(float64(pts[n-1].Y-py)) < 0.02 {
			return
		}
		// Nor is the middle of three in a row.
		if n := len(pts); n > 1 && (pts[n-1].Y == py && pts[n-2].Y == py || pts[n-1].X == px && pts[n-2].X == px && (pts[n-1].Y-pts[n-2].Y)*(py-pts[n-1].Y) > 0) {
			pts[n-1] = vg.Point{X: px, Y: py}
			return
		}
		pts = append(pts, vg.Point{X: px, Y: py})
	}
	for i, p := range l.points {
		if l.step && i > 0 {
			add(x(p.x), y(l.points[i-1].y))
		}
		add(x(p.x), y(p.y))
	}
	if n := len(l.points); l.step && n > 0 && l.until > l.points[n-1].x {
		add(x(l.until), y(l.points[n-1].y))
	}
	c.StrokeLines(l.style, c.ClipLinesXY(pts)...)
}

// vbars are vertical bars, seen however low.
type vbars struct {
	bars  []rangeAt
	style draw.LineStyle
	least vg.Length // a bar's height
}

type rangeAt struct{ x, lo, hi float64 }

func (l vbars) plot(c draw.Canvas, x, y func(float64) vg.Length) {
	var path vg.Path
	drawn := make(map[[3]int]bool)
	for _, b := range l.bars {
		px, lo, hi := x(b.x), y(b.lo), y(b.hi)
		if px < c.Min.X-0.01 || px > c.Max.X+0.01 || hi < c.Min.Y || lo > c.Max.Y {
			continue
		}
		if hi-lo < l.least {
			mid := (hi + lo) / 2
			lo, hi = mid-l.least/2, mid+l.least/2
		}
		lo, hi = max(lo, c.Min.Y), min(hi, c.Max.Y)
		cell := [3]int{int(px * 8), int(lo * 8), int(hi * 8)}
		if drawn[cell] {
			continue
		}
		drawn[cell] = true
		path.Move(vg.Point{X: px, Y: lo})
		path.Line(vg.Point{X: px, Y: hi})
	}
	if len(path) > 0 {
		c.SetLineStyle(l.style)
		c.Stroke(path)
	}
}

// glyphs are marks of a shape. Of those in the same place, to an eighth of a
// point, one is drawn.
type glyphs struct {
	points []xy
	shape  shape
	radius vg.Length
	style  draw.LineStyle
	fill   bool
	label  []string // beside the marks; nil: none
	text   text.Style
}

func (l glyphs) plot(c draw.Canvas, x, y func(float64) vg.Length) {
	var path vg.Path
	drawn := make(map[[2]int]bool)
	var lastText vg.Rectangle
	for i, p := range l.points {
		at := vg.Point{X: x(p.x), Y: y(p.y)}
		if !within(c, at) {
			continue
		}
		cell := [2]int{int(at.X * 8), int(at.Y * 8)}
		if drawn[cell] {
			continue
		}
		drawn[cell] = true
		l.shape(&path, at, l.radius)
		if l.label == nil {
			continue
		}
		if box := labelBox(c, l.text, at, l.label[i], l.radius); !meet(box, lastText) {
			lastText = box
			c.SetColor(color.NRGBA{R: 255, G: 255, B: 255, A: 200})
			c.Fill(box.Path())
			c.FillText(l.text, vg.Point{X: box.Min.X, Y: (box.Min.Y + box.Max.Y) / 2}, l.label[i])
		}
	}
	if len(path) == 0 {
		return
	}
	c.SetLineStyle(l.style)
	if l.fill {
		c.Fill(path)
		return
	}
	c.Stroke(path)
}

// labelBox is where a mark's label goes: above it and to the right, or where
// that is outside, below or to the left.
func labelBox(c draw.Canvas, st text.Style, at vg.Point, label string, r vg.Length) vg.Rectangle {
	w, h := st.Width(label), st.Font.Size
	lo := vg.Point{X: at.X + r*0.8, Y: at.Y + r*1.5}
	if lo.X+w > c.Max.X {
		lo.X = at.X - r*0.8 - w
	}
	if lo.Y+h > c.Max.Y || lo.X < at.X {
		lo.Y = at.Y - r*2.5 - h
	}
	return vg.Rectangle{Min: lo, Max: vg.Point{X: lo.X + w, Y: lo.Y + h}}
}

func meet(a, b vg.Rectangle) bool {
	return a.Min.X < b.Max.X && b.Min.X < a.Max.X && a.Min.Y < b.Max.Y && b.Min.Y < a.Max.Y
}

func within(c draw.Canvas, p vg.Point) bool {
	const slack = 0.01
	return p.X >= c.Min.X-slack && p.X <= c.Max.X+slack && p.Y >= c.Min.Y-slack && p.Y <= c.Max.Y+slack
}

// shape adds one mark to a path.
type shape func(p *vg.Path, at vg.Point, r vg.Length)

func polygon(corners ...vg.Point) shape {
	return func(p *vg.Path, at vg.Point, r vg.Length) {
		for i, q := range corners {
			pt := vg.Point{X: at.X + q.X*r, Y: at.Y + q.Y*r}
			if i == 0 {
				p.Move(pt)
			} else {
				p.Line(pt)
			}
		}
		p.Close()
	}
}

// The shapes. A dot is a stroke as long as it is wide, which takes the fewest
// bytes.
var (
	square   = polygon(vg.Point{X: -0.85, Y: -0.85}, vg.Point{X: 0.85, Y: -0.85}, vg.Point{X: 0.85, Y: 0.85}, vg.Point{X: -0.85, Y: 0.85})
	diamond  = polygon(vg.Point{X: -1.1}, vg.Point{Y: -1.1}, vg.Point{X: 1.1}, vg.Point{Y: 1.1})
	triangle = polygon(vg.Point{X: -1, Y: -0.7}, vg.Point{X: 1, Y: -0.7}, vg.Point{Y: 1.1})
	pointer  = polygon(vg.Point{X: -1, Y: 0.7}, vg.Point{X: 1, Y: 0.7}, vg.Point{Y: -1.1})
)

func dot(p *vg.Path, at vg.Point, r vg.Length) {
	p.Move(vg.Point{X: at.X - r, Y: at.Y})
	p.Line(vg.Point{X: at.X + r, Y: at.Y})
}

func cross(p *vg.Path, at vg.Point, r vg.Length) {
	p.Move(vg.Point{X: at.X - r, Y: at.Y - r})
	p.Line(vg.Point{X: at.X + r, Y: at.Y + r})
	p.Move(vg.Point{X: at.X - r, Y: at.Y + r})
	p.Line(vg.Point{X: at.X + r, Y: at.Y - r})
}

func circle(p *vg.Path, at vg.Point, r vg.Length) {
	p.Move(vg.Point{X: at.X + r, Y: at.Y})
	p.Arc(at, r, 0, 2*math.Pi)
	p.Close()
}

var curveShapes = []shape{circle, square, triangle, diamond, pointer, cross}
