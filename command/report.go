package command

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/tracer"
)

// report prints the table of --stats.
func report(w io.Writer, s *tracer.Stats, t *tracer.Tracer, n *network) {
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "trapped call\tcount\tmedian\tp99\t")
	var total uint64
	for _, k := range s.Kinds() {
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t\n", k.Name, k.Count, duration(k.Median), duration(k.P99))
		total += k.Count
	}
	fmt.Fprintf(tw, "total\t%d\t\t\t\n", total)
	tw.Flush()
	fmt.Fprintln(w)

	st := n.engine.Stats()
	tw = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, in, out string) { fmt.Fprintf(tw, "%s\t%s\t%s\t\n", name, in, out) }
	row(n.describe(), "in", "out")
	in, out := t.Bytes()
	row("program", size(in), size(out))
	row("link", size(st.BytesIn), size(st.BytesOut))
	row("packets", fmt.Sprint(st.PacketsIn), fmt.Sprint(st.PacketsOut))
	row("retransmissions", "", fmt.Sprint(st.Retransmissions))
	row("sockets", fmt.Sprint(st.Sockets), "")
	if n.impair != nil {
		suffered(n.impair.Stats(impair.In), n.impair.Stats(impair.Out), row)
	}
	tw.Flush()
}

// suffered has row called with what an impaired link has done to packets; with
// that which few links do only if it has been done.
func suffered(in, out impair.Stats, row func(name, in, out string)) {
	for _, k := range []struct {
		name   string
		always bool
		of     func(s *impair.Stats) uint64
	}{
		{"impaired: lost", true, func(s *impair.Stats) uint64 { return s.DropsLoss }},
		{"while down", false, func(s *impair.Stats) uint64 { return s.DropsDown }},
		{"dropped, queue full", true, func(s *impair.Stats) uint64 { return s.DropsQueue }},
		{"dropped early", true, func(s *impair.Stats) uint64 { return s.DropsEarly }},
		{"marked", true, func(s *impair.Stats) uint64 { return s.Marks }},
		{"duplicated", false, func(s *impair.Stats) uint64 { return s.Duplicated }},
		{"corrupted", false, func(s *impair.Stats) uint64 { return s.Corrupted }},
		{"reordered", false, func(s *impair.Stats) uint64 { return s.Reordered }},
		{"refused by the link", false, func(s *impair.Stats) uint64 { return s.DropsRefused }},
		{"malformed, out of memory", false, func(s *impair.Stats) uint64 { return s.DropsMalformed + s.DropsMemory }},
		{"still queued", true, func(s *impair.Stats) uint64 { return uint64(s.QueueLen) }},
		{"still on the way", false, func(s *impair.Stats) uint64 { return uint64(s.InFlight) }},
	} {
		if a, b := k.of(&in), k.of(&out); k.always || a != 0 || b != 0 {
			row(k.name, fmt.Sprint(a), fmt.Sprint(b))
		}
	}
}

// duration is d with three digits and a unit.
func duration(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%.1f us", float64(d)/float64(time.Microsecond))
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// size is a number of bytes with a binary unit.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= 1024 && unit < 6 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTPE"[unit])
}
