package plot

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
)

// palette are the colours of a picture. All differ in lightness as well as in
// hue; dashes and marks tell apart what colours do in print without them.
type palette struct {
	curves                          []color.Color
	data, ack, wnd, sack, retx, ooo color.Color
	ink, faint, grid                color.Color
}

func rgb(v uint32) color.Color {
	return color.RGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 0xff}
}

func rgbs(vs ...uint32) (out []color.Color) {
	for _, v := range vs {
		out = append(out, rgb(v))
	}
	return out
}

// paletteNames are all palettes; the first is the default.
var paletteNames = []string{"okabe-ito", "tol-bright", "gray"}

// paletteOf gives a palette by its name.
func paletteOf(name string) (palette, error) {
	base := palette{ink: rgb(0x1a1a1a), faint: rgb(0x666666), grid: rgb(0xe3e3e3)}
	switch name {
	case "", "okabe-ito": // Okabe and Ito 2008, without the yellow that print loses
		base.curves = rgbs(0x0072b2, 0xe69f00, 0x009e73, 0xcc79a7, 0x56b4e9, 0x000000)
		base.data, base.ack, base.wnd = rgb(0x000000), rgb(0x009e73), rgb(0x0072b2)
		base.sack, base.retx, base.ooo = rgb(0xcc79a7), rgb(0xd55e00), rgb(0xe69f00)
	case "tol-bright": // Paul Tol's bright scheme, SRON/EPS/TN/09-002
		base.curves = rgbs(0x4477aa, 0xccbb44, 0x228833, 0xaa3377, 0x66ccee, 0x333333)
		base.data, base.ack, base.wnd = rgb(0x222222), rgb(0x228833), rgb(0x4477aa)
		base.sack, base.retx, base.ooo = rgb(0xaa3377), rgb(0xee6677), rgb(0xccbb44)
	case "gray":
		base.curves = rgbs(0x000000, 0x777777, 0x444444, 0xa0a0a0, 0x222222, 0x888888)
		base.data, base.ack, base.wnd = rgb(0x333333), rgb(0x777777), rgb(0x999999)
		base.sack, base.retx, base.ooo = rgb(0xaaaaaa), rgb(0x000000), rgb(0x555555)
	default:
		return base, fmt.Errorf("no palette %q: there are %s", name, strings.Join(paletteNames, ", "))
	}
	return base, nil
}

// dashes are the lines of the series of a panel: solid first.
func dashes(i int, width vg.Length) []vg.Length {
	patterns := [][]vg.Length{nil, {5, 2.5}, {1.5, 1.8}, {6, 2, 1.5, 2}}
	var out []vg.Length
	for _, d := range patterns[i%len(patterns)] {
		out = append(out, d*width)
	}
	return out
}

// niceStep is the least of 1, 2, 5 times a power of ten that is not below v.
func niceStep(v float64) float64 {
	if v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// unit is a prefix by which an axis' values are divided.
type unit struct {
	div    float64
	prefix string
}

// siUnit is the prefix with which the greatest value has at most four digits
// before the point.
func siUnit(highest float64) unit {
	for _, u := range []unit{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if highest >= 1.5*u.div {
			return u
		}
	}
	return unit{1, ""}
}

// timeUnit is the unit of times up to highest, ns.
func timeUnit(highest float64) unit {
	for _, u := range []unit{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if highest >= 1.5*u.div {
			return u
		}
	}
	return unit{1e3, "µs"}
}

// ticks marks an axis at multiples of 1, 2, 5 times a power of ten, at most
// about count of them, with smaller ones between.
type ticks struct{ count float64 }

var _ gonum.Ticker = ticks{}

// Ticks is of gonum's Ticker.
func (t ticks) Ticks(lo, hi float64) []gonum.Tick {
	step := niceStep((hi - lo) / max(t.count, 2))
	decimals := max(0, int(math.Ceil(-math.Log10(step)-1e-9)))
	var out []gonum.Tick
	first := math.Ceil(lo/step - 1e-9)
	for k := 0.0; k < 200 && (first+k)*step <= hi+step*1e-9; k++ {
		v := (first + k) * step
		if math.Abs(v) < step/1e6 {
			v = 0
		}
		out = append(out, gonum.Tick{Value: v, Label: strings.Replace(strconv.FormatFloat(v, 'f', decimals, 64), "-", "\u2212", 1)})
	}
	parts := 2.0
	if m := step / math.Pow(10, math.Floor(math.Log10(step)+1e-9)); m > 4 {
		parts = 5
	}
	small := step / parts
	first = math.Ceil(lo/small - 1e-9)
	for k := 0.0; k < 1000 && (first+k)*small <= hi+small*1e-9; k++ {
		v := (first + k) * small
		if !slices.ContainsFunc(out, func(o gonum.Tick) bool { return math.Abs(o.Value-v) < small/10 }) {
			out = append(out, gonum.Tick{Value: v})
		}
	}
	return out
}
