package sim

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// maxRows is how many flows the table has one by one; of more, it has those that
// failed, and the sum.
const maxRows = 40

// WriteText writes the result as tables for people. The error is that of w.
func (r *Result) WriteText(w io.Writer) error {
	var b bytes.Buffer
	r.flowTable(&b)
	b.WriteByte('\n')
	r.linkTable(&b)
	fmt.Fprintf(&b, "\nseed %d, %s of virtual time in %s: %s times as fast; %d packets, %s/s\nhash %s\n",
		r.Seed, span(r.Duration), span(r.Wall), digits(r.SpeedUp()),
		r.Packets, si(float64(r.Packets)/max(r.Wall, 1e-9)), r.Hash)
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Result) flowTable(w io.Writer) {
	t := newTable(w, "flow", "kind", "goodput", "received", "resent", "lost", "RTT", "min", "max", "ended after", "")
	var sum FlowResult
	var resent, done uint64
	for i := range r.Flows {
		f := &r.Flows[i]
		sum.Goodput += f.Goodput
		sum.Received += f.Received + f.Returned
		resent += f.Retransmissions
		if f.Done {
			done++
		}
		if len(r.Flows) <= maxRows || f.Error != "" || f.Corrupt != "" {
			t.row(f.row()...)
		}
	}
	if len(r.Flows) > 1 {
		t.row(fmt.Sprintf("all %d", len(r.Flows)), "", si(sum.Goodput)+"bit/s", si(float64(sum.Received))+"B",
			fmt.Sprint(resent), "", "", "", "", fmt.Sprintf("%d ended", done), "")
	}
	t.flush()
}

// row is a flow's line.
func (f *FlowResult) row() []string {
	lost, resent, after, note := "", fmt.Sprint(f.Retransmissions), "", f.Error
	if isDatagram(f.Kind) {
		lost, resent = fmt.Sprint(f.MessagesSent-f.MessagesReceived), ""
	}
	if f.Corrupt != "" {
		note = strings.TrimPrefix(note+"; CORRUPT: "+f.Corrupt, "; ")
	}
	if f.Done {
		after = span(f.Completion)
	}
	received := f.Received
	if f.Kind == "reqresp" {
		received = f.Returned
	}
	x := f.RTT
	switch {
	case f.Kind == "reqresp" && f.Latency != nil:
		note = strings.TrimPrefix(fmt.Sprintf("%s; %d answers, latency %s, 99%% %s", note, f.MessagesReceived, span(f.Latency.Median), span(f.Latency.P99)), "; ")
	case f.Kind == "onoff" && f.Latency != nil:
		note = strings.TrimPrefix(fmt.Sprintf("%s; delay %s, 99%% %s", note, span(f.Latency.Median), span(f.Latency.P99)), "; ")
	}
	row := []string{f.Name, f.Kind, si(f.Goodput) + "bit/s", si(float64(received)) + "B", resent, lost}
	if x == nil {
		return append(row, "", "", "", after, note)
	}
	return append(row, span(x.Mean), span(x.Min), span(x.Max), after, note)
}

func (r *Result) linkTable(w io.Writer) {
	t := newTable(w, "link", "from", "to", "carried", "of its rate", "packets", "queue dropped", "lost", "marked", "")
	for _, l := range r.Links {
		for i := range l.Ways {
			y := &l.Ways[i]
			used, note := "", ""
			if y.Utilisation > 0 {
				used = fmt.Sprintf("%.1f%%", 100*y.Utilisation)
			}
			for _, n := range []struct {
				count uint64
				what  string
			}{{y.Duplicated, "duplicated"}, {y.Corrupted, "corrupted"}, {y.Reordered, "reordered"}} {
				if n.count > 0 {
					note += fmt.Sprintf("%d %s ", n.count, n.what)
				}
			}
			t.row(l.Name, y.From, y.To, si(y.Throughput)+"bit/s", used, fmt.Sprint(y.Packets),
				fmt.Sprint(y.Drops.Queue+y.Drops.Early), fmt.Sprint(y.Drops.Loss+y.Drops.Down+y.Drops.Memory+y.Drops.Broken),
				fmt.Sprint(y.Marks), note)
		}
	}
	t.flush()
}

// table is columns: the first ones, names, to the left, numbers to the right.
type table struct{ tw *tabwriter.Writer }

func newTable(w io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(head...)
	return t
}

func (t *table) row(cells ...string) {
	fmt.Fprintln(t.tw, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

func (t *table) flush() { t.tw.Flush() }

// digits is a number with three significant digits, and no exponent.
func digits(x float64) string {
	switch a := math.Abs(x); {
	case a == 0:
		return "0"
	case a < 10:
		return fmt.Sprintf("%.2f", x)
	case a < 100:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// si is a number with the prefix of its size.
func si(x float64) string {
	for _, p := range []struct {
		unit float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= p.unit {
			return digits(x/p.unit) + " " + p.name
		}
	}
	return digits(x) + " "
}

// span is a time in seconds, in its unit.
func span(s float64) string {
	d := time.Duration(s * 1e9)
	switch {
	case d == 0:
		return "0"
	case d < time.Millisecond:
		return digits(s*1e6) + " us"
	case d < time.Second:
		return digits(s*1e3) + " ms"
	}
	return digits(s) + " s"
}
