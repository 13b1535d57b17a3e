package main

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"runtime"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Measures of the picture, in points.
const (
	pageWidth   = 860
	margin      = 26
	barHeight   = 11
	barStep     = 19
	labelWidth  = 190
	panelHead   = 40
	panelGap    = 20
	columnGap   = 40
	valueSpace  = 74 // right of the longest bar, for its value
	headHeight  = 64
	footHeight  = 40
	columnWidth = (pageWidth - 2*margin - columnGap) / 2
)

var (
	ink      = color.RGBA{R: 0x22, G: 0x2a, B: 0x35, A: 0xff}
	faint    = color.RGBA{R: 0x6b, G: 0x76, B: 0x84, A: 0xff}
	grid     = color.RGBA{R: 0xdd, G: 0xe2, B: 0xe8, A: 0xff}
	metColor = color.RGBA{R: 0x2f, G: 0x7f, B: 0xb5, A: 0xff}
	missed   = color.RGBA{R: 0xd0, G: 0x6a, B: 0x3a, A: 0xff}
	untested = color.RGBA{R: 0x8f, G: 0xb4, B: 0xcc, A: 0xff}
	target   = color.RGBA{R: 0x1c, G: 0x8a, B: 0x4d, A: 0xff}
)

// panel is a part of the picture: bars on one scale.
type panel struct {
	title string
	ids   []string // the rows it shows
	one   bool     // draw the line of the kernel, at 1
}

// columns are the panels, left and right.
func columns() [2][]panel {
	return [2][]panel{
		{
			{"Throughput, as a part of the kernel's: more is better",
				[]string{"bulk/send", "bulk/receive", "conn/client-1", "conn/server-1", "conn/client-4", "conn/server-4"}, true},
			{"Datagrams, as a part of the kernel's: more is better",
				[]string{"udp/send-64", "udp/send-1400", "udp/sendto-64", "udp/sendto-1400",
					"udp/recv-64", "udp/recv-1400", "udp/recvfrom-64", "udp/recvfrom-1400"}, true},
		},
		{
			{"Round trip, in times the kernel's: less is better", []string{"rtt/p50", "rtt/p99"}, true},
			{"Start-up over plain exec: less is better", []string{"startup"}, false},
			{"Added to a call that is not trapped: less is better", []string{"call/getppid", "call/read"}, false},
			{"Added to a call that is trapped: less is better", []string{"call/getsockname"}, false},
			{"Memory of an idle connection: less is better", []string{"idle/memory"}, false},
			{"Connections held and served at once: more is better", []string{"idle/served"}, false},
		},
	}
}

// pen draws text and lines on the canvas.
type pen struct {
	c     draw.Canvas
	fonts *font.Cache
	plain text.Handler
}

// writePicture draws the rows as bars against their targets, as SVG.
func writePicture(rows []row, w io.Writer) error {
	byID := make(map[string]*row, len(rows))
	for i := range rows {
		byID[rows[i].id] = &rows[i]
	}
	height := 0.0
	var shown [2][]panel
	for i, column := range columns() {
		h := 0.0
		for _, p := range column {
			p.ids = present(p.ids, byID)
			if len(p.ids) > 0 {
				shown[i] = append(shown[i], p)
				h += p.height()
			}
		}
		height = max(height, h)
	}
	height += headHeight + footHeight
	canvas := vgsvg.New(pageWidth, vg.Length(height))
	fonts := font.NewCache(liberation.Collection())
	p := &pen{c: draw.New(canvas), fonts: fonts, plain: text.Plain{Fonts: fonts}}
	p.box(0, 0, pageWidth, height, color.White)
	top := height - margin
	p.text(margin, top-6, 17, true, 0, ink, "alptrace against the kernel's own stack")
	p.text(margin, top-24, 10, false, 0, faint, fmt.Sprintf(
		"same programs, same two namespaces, in turn: alptrace over TUN, the kernel over veth; Linux %s, %d CPUs",
		release(), runtime.NumCPU()))
	for i, column := range shown {
		x := margin + float64(i)*(columnWidth+columnGap)
		y := height - headHeight
		for _, pan := range column {
			p.panel(pan, byID, x, y)
			y -= pan.height()
		}
	}
	p.legend(margin, margin-8)
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Viewers without the font are to fall back to one of the same widths.
	named := bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arimo,Arial,Helvetica,sans-serif"))
	_, err := w.Write(named)
	return err
}

func present(ids []string, byID map[string]*row) []string {
	var kept []string
	for _, id := range ids {
		if byID[id] != nil {
			kept = append(kept, id)
		}
	}
	return kept
}

func (p panel) height() float64 { return panelHead + float64(len(p.ids))*barStep + panelGap/2 }

// panel draws one panel with its top left corner at (x, y).
func (p *pen) panel(pan panel, byID map[string]*row, x, y float64) {
	p.text(x, y-16, 11, true, 0, ink, pan.title)
	y -= panelHead - 8
	left := x + labelWidth
	width := float64(columnWidth - labelWidth - valueSpace)
	most := 0.0
	for _, id := range pan.ids {
		r := byID[id]
		most = max(most, r.target)
		for _, v := range r.figures() {
			most = max(most, v)
		}
	}
	if pan.one {
		most = max(most, 1)
	}
	scale := width / max(most, math.SmallestNonzeroFloat64)
	bottom := y - float64(len(pan.ids))*barStep
	p.line(left, bottom, left, y, 0.8, grid)
	if pan.one {
		p.line(left+scale, bottom, left+scale, y, 0.8, faint)
		p.text(left+scale, y+1, 8, false, -0.5, faint, "kernel")
	}
	for _, id := range pan.ids {
		p.bar(byID[id], left, y-barStep/2, scale)
		y -= barStep
	}
}

// bar draws a row: its label, bar, spread, target and value, around the height y.
func (p *pen) bar(r *row, left, y, scale float64) {
	p.text(left-8, y-3, 9.5, false, -1, ink, r.label)
	if r.Err != nil {
		p.text(left+6, y-3, 9.5, true, 0, missed, "failed")
		return
	}
	fill := untested
	switch {
	case r.target != 0 && r.passed():
		fill = metColor
	case r.target != 0:
		fill = missed
	}
	v := max(r.figure(), 0)
	p.box(left, y-barHeight/2, v*scale, barHeight, fill)
	end := v
	least, most := v, v
	for _, f := range r.figures() {
		least, most = min(least, f), max(most, f)
	}
	if most > least {
		p.line(left+max(least, 0)*scale, y, left+most*scale, y, 1, ink)
		end = most
	}
	if r.target != 0 {
		x := left + r.target*scale
		p.line(x, y-barStep/2+1, x, y+barStep/2-1, 2, target)
		if end < r.target && (r.target-end)*scale < valueSpace/2 {
			end = r.target
		}
	}
	p.text(left+end*scale+6, y-3, 9.5, true, 0, ink, r.show(r.figure()))
}

// legend explains the colours.
func (p *pen) legend(x, y float64) {
	for _, k := range []struct {
		fill color.Color
		text string
	}{{metColor, "meets its target"}, {missed, "misses it"}, {untested, "has none"}} {
		p.box(x, y, 18, 8, k.fill)
		p.text(x+24, y+0.5, 9, false, 0, faint, k.text)
		x += 110
	}
	p.line(x+4, y-2, x+4, y+10, 2, target)
	p.text(x+12, y+0.5, 9, false, 0, faint, "target")
	x += 80
	p.line(x, y+4, x+18, y+4, 1, ink)
	p.text(x+24, y+0.5, 9, false, 0, faint, "least and greatest repetition")
}

// text writes s with its baseline at y; align is 0 for left, -0.5 for centred,
// -1 for right of x.
func (p *pen) text(x, y, size float64, bold bool, align float64, c color.Color, s string) {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: font.Length(size)}
	if bold {
		f.Weight = xfont.WeightBold
	}
	p.c.FillText(draw.TextStyle{Color: c, Font: f, XAlign: text.XAlignment(align), Handler: p.plain},
		vg.Point{X: vg.Length(x), Y: vg.Length(y)}, s)
}

func (p *pen) box(x, y, w, h float64, c color.Color) {
	p.c.SetColor(c)
	p.c.Fill(vg.Rectangle{
		Min: vg.Point{X: vg.Length(x), Y: vg.Length(y)},
		Max: vg.Point{X: vg.Length(x + w), Y: vg.Length(y + h)},
	}.Path())
}

func (p *pen) line(x0, y0, x1, y1, width float64, c color.Color) {
	p.c.StrokeLine2(draw.LineStyle{Color: c, Width: vg.Length(width)},
		vg.Length(x0), vg.Length(y0), vg.Length(x1), vg.Length(y1))
}
