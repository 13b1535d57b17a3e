package plot

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot/vg"
)

// The kinds of panel.
const (
	Seq        = "seq"        // time-sequence graph
	Cwnd       = "cwnd"       // cwnd, ssthresh, bytes in flight
	RTT        = "rtt"        // round-trip times
	Throughput = "throughput" // and goodput
	Queue      = "queue"      // of impaired links
)

// kinds are all kinds, in the order in which their panels stand.
var kinds = []string{Seq, Cwnd, RTT, Throughput, Queue}

// The ways to lay several files on one time axis.
const (
	AlignAuto  = "auto"  // AlignClock if the files' times overlap, else AlignStart
	AlignStart = "start" // each file begins at 0
	AlignClock = "clock" // the earliest begins at 0
)

// Options are what to draw and how; the zero value works.
type Options struct {
	Kinds    []string      // panels; none: what the files hold
	From, To time.Duration // the shown time; To 0: to the end
	Conns    []string      // which connections: an index, ADDR:PORT, :PORT, ADDR or PROG; none: the largest
	Labels   []string      // of the files, in their order; none: their names
	Title    string
	Size     string        // column, page (default), slide, or WIDTHxHEIGHT as 12cmx8cm
	Palette  string        // okabe-ito (default), tol-bright, gray
	Bin      time.Duration // of throughput; 0: about 1/120 of the shown time
	Reverse  bool          // the direction with less data in place of that with more
	Align    string        // AlignAuto (default), ...
}

// check completes o and refuses what makes no sense.
func (o *Options) check() error {
	for _, k := range o.Kinds {
		if !slices.Contains(kinds, k) {
			return fmt.Errorf("no kind %q: there are %s", k, strings.Join(kinds, ", "))
		}
	}
	if o.Align == "" {
		o.Align = AlignAuto
	}
	if !slices.Contains([]string{AlignAuto, AlignStart, AlignClock}, o.Align) {
		return fmt.Errorf("no alignment %q: there are auto, start, clock", o.Align)
	}
	if o.To != 0 && o.To <= o.From {
		return fmt.Errorf("nothing is between %v and %v", o.From, o.To)
	}
	if o.Bin < 0 || o.Bin > 0 && o.Bin < time.Microsecond {
		return fmt.Errorf("bins of %v: at least 1µs", o.Bin)
	}
	if _, err := parseSize(o.Size); err != nil {
		return err
	}
	_, err := paletteOf(o.Palette)
	return err
}

// size is the picture's and its text's.
type size struct {
	width, height vg.Length // height 0: panel for each
	panel         vg.Length
	font          vg.Length
	line          vg.Length
}

// The presets, as papers have their columns.
var sizes = map[string]size{
	"column": {width: 3.45 * vg.Inch, panel: 1.75 * vg.Inch, font: 7.5, line: 0.7},
	"page":   {width: 7.16 * vg.Inch, panel: 2.2 * vg.Inch, font: 8.5, line: 0.8},
	"slide":  {width: 10 * vg.Inch, height: 5.625 * vg.Inch, font: 14, line: 1.5},
}

var sizeForm = regexp.MustCompile(`^([0-9.]+)(cm|mm|in|pt)x([0-9.]+)(cm|mm|in|pt)$`)

func parseSize(s string) (size, error) {
	if s == "" {
		s = "page"
	}
	if z, ok := sizes[s]; ok {
		return z, nil
	}
	refused := fmt.Errorf("no size %q: column (3.45in), page (7.16in), slide, or WIDTHxHEIGHT as 12cmx8cm (cm, mm, in, pt), from 2in to 60in", s)
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return size{}, refused
	}
	var l [2]vg.Length
	for i := range l {
		v, err := strconv.ParseFloat(m[1+2*i], 64)
		if err != nil {
			return size{}, refused
		}
		l[i] = vg.Length(v) * map[string]vg.Length{"cm": vg.Centimeter, "mm": vg.Millimeter, "in": vg.Inch, "pt": 1}[m[2+2*i]]
		if l[i] < 2*vg.Inch*vg.Length(1-i)+vg.Inch*vg.Length(i) || l[i] > 60*vg.Inch {
			return size{}, refused
		}
	}
	z := size{width: l[0], height: l[1], font: 7.5, line: 0.7}
	switch {
	case l[0] > 9*vg.Inch:
		z.font, z.line = 14, 1.5
	case l[0] > 5*vg.Inch:
		z.font, z.line = 8.5, 0.8
	}
	return z, nil
}
