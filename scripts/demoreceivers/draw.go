package main

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// drawing is a picture of transfers: a panel for each sender, in it a line for
// each receiver.
type drawing struct {
	out  string
	most float64 // s
}

// Okabe and Ito's colours (2008), which can be told apart with any colour vision.
var colours = []color.Color{
	color.RGBA{0, 0, 0, 255}, color.RGBA{0xe6, 0x9f, 0, 255}, color.RGBA{0, 0x9e, 0x73, 255},
	color.RGBA{0xcc, 0x79, 0xa7, 255}, color.RGBA{0, 0x72, 0xb2, 255},
}

var dashes = [][]vg.Length{nil, {6, 2}, {2, 2}, {8, 2, 2, 2}, {4, 3}}

const (
	panelWidth = 7.5 * vg.Centimeter
	height     = 8 * vg.Centimeter
)

// run takes words without "=", which begin a panel, and FILE=LABEL, lines of it.
func (d *drawing) run(args []string) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	var panels []*plot.Plot
	lines := 0
	var end, top float64
	for _, a := range args {
		file, label, isLine := strings.Cut(a, "=")
		if !isLine {
			p := plot.New()
			p.Title.Text = a
			p.Title.Padding = vg.Points(4)
			p.X.Label.Text, p.Y.Label.Text = "time since the SYN, s", "received in order, MB"
			p.Legend.Top, p.Legend.Left = true, true
			p.Legend.Padding, p.Legend.XOffs = vg.Points(2), vg.Points(4)
			p.Legend.TextStyle.Font.Size = vg.Points(9)
			p.Add(plotter.NewGrid())
			panels = append(panels, p)
			lines = 0
			continue
		}
		if len(panels) == 0 {
			return errors.New("draw: a panel's name comes first")
		}
		points, err := sequence(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		l, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		l.StepStyle = plotter.PostStep
		l.Color, l.Width, l.Dashes = colours[lines%len(colours)], vg.Points(1.4), dashes[lines%len(dashes)]
		lines++
		p := panels[len(panels)-1]
		p.Add(l)
		p.Legend.Add(label, l)
		last := points[len(points)-1]
		end, top = max(end, last.X), max(top, last.Y)
	}
	if d.most > 0 {
		end = min(end, d.most)
	}
	for i, p := range panels {
		if i > 0 { // the lines are the same in all
			p.Legend = plot.NewLegend()
			p.Y.Label.Text = ""
		}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, end*1.02, 0, top*1.04
	}
	return d.write(panels)
}

func (d *drawing) write(panels []*plot.Plot) error {
	w := panelWidth * vg.Length(len(panels))
	var c vg.CanvasSizer
	var to io.WriterTo
	if strings.HasSuffix(d.out, ".png") {
		i := vgimg.NewWith(vgimg.UseWH(w, height), vgimg.UseDPI(150))
		c, to = i, vgimg.PngCanvas{Canvas: i}
	} else {
		s := vgsvg.New(w, height)
		c, to = s, s
	}
	tiles := draw.Tiles{Rows: 1, Cols: len(panels), PadX: 12, PadLeft: 6, PadRight: 10, PadTop: 6, PadBottom: 4}
	canvases := plot.Align([][]*plot.Plot{panels}, tiles, draw.New(c))
	for i, p := range panels {
		p.Draw(canvases[0][i])
	}
	f, err := os.Create(d.out)
	if err != nil {
		return err
	}
	_, err = to.WriteTo(f)
	return errors.Join(err, f.Close())
}

// sequence is how much of the largest answer of port 80 had arrived without a gap,
// over time. The capture is the receiver's.
func sequence(file string) (plotter.XYs, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		return nil, err
	}
	var xy plotter.XYs
	var begin time.Time
	var first uint32 // sequence number of the first byte
	got := newRanges()
	for {
		data, ci, err := r.ReadPacketData()
		if err != nil {
			break // the end, or a capture that was cut off
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.Lazy)
		t, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		switch {
		case t.DstPort == 80 && t.SYN && begin.IsZero():
			begin = ci.Timestamp
			xy = append(xy, plotter.XY{})
		case t.SrcPort == 80 && t.SYN:
			first = t.Seq + 1
		case t.SrcPort == 80 && len(t.Payload) > 0:
			if n, more := got.add(int(t.Seq-first), len(t.Payload)); more {
				xy = append(xy, plotter.XY{X: ci.Timestamp.Sub(begin).Seconds(), Y: float64(n) * 1e-6})
			}
		}
	}
	xy = thin(xy)
	if len(xy) < 2 {
		return nil, errors.New("no transfer in it")
	}
	return xy, nil
}

// thin leaves out what a step of a quarter of a percent of the height hides.
func thin(xy plotter.XYs) plotter.XYs {
	if len(xy) == 0 {
		return nil
	}
	out, last := xy[:1:1], xy[len(xy)-1]
	for i, p := range xy[1:] {
		gap := i+2 < len(xy) && xy[i+2].X-p.X > last.X/400
		if p.Y-out[len(out)-1].Y > last.Y/400 || gap || p == last {
			out = append(out, p)
		}
	}
	return out
}

// ranges has what arrived out of order: lengths by where they begin.
type ranges struct {
	next int
	ooo  map[int]int
}

func newRanges() *ranges { return &ranges{ooo: make(map[int]int)} }

// add notes n bytes at a place, and gives how many have arrived without a gap.
func (r *ranges) add(at, n int) (next int, more bool) {
	if at > r.next {
		r.ooo[at] = max(r.ooo[at], n)
		return r.next, false
	}
	before := r.next
	r.next = max(r.next, at+n)
	for again := true; again; {
		again = false
		for at, n := range r.ooo {
			if at <= r.next {
				r.next = max(r.next, at+n)
				delete(r.ooo, at)
				again = true
			}
		}
	}
	return r.next, r.next > before
}
