package plot

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"
)

// List writes a table of the files' connections: what --conn may name, and what
// a picture would show of them. Options.Conns, From and To choose as they do
// for a picture; by default all connections are listed.
func List(w io.Writer, paths []string, opts Options) (warnings []string, err error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	p := &Picture{opts: opts}
	if err := p.firstPass(paths); err != nil {
		return nil, err
	}
	p.align()
	chosen := make([][]*connInfo, len(p.runs))
	for i, r := range p.runs {
		chosen[i] = r.index.conns
	}
	if len(opts.Conns) > 0 {
		if chosen, err = p.choose(); err != nil {
			return nil, err
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "conn\tfrom\tto\tstart\tduration\tpackets\tbytes\tacked\tretransmitted\tout of order\tRTT min\tmean\tmax\tsamples\t")
	for i, r := range p.runs {
		if len(p.runs) > 1 {
			fmt.Fprintf(t, "%s:\t\t\t\t\t\t\t\t\t\t\t\t\t\t\n", r.label)
		}
		if err := listRun(t, r, chosen[i]); err != nil {
			return nil, err
		}
	}
	return p.Warnings, t.Flush()
}

// listRun follows each connection, but keeps none of its series.
func listRun(t io.Writer, r *run, chosen []*connInfo) error {
	tracks := make([]*tracker, len(r.index.conns)+1)
	for _, c := range chosen {
		tracks[c.index] = newTracker(c, window{math.MaxInt64, math.MaxInt64}, 1)
	}
	d := newDemux()
	if n, err := scan(r.open, func(ev *event) {
		if c := d.of(ev); c != nil && c.index < len(tracks) && tracks[c.index] != nil {
			tracks[c.index].take(ev)
		}
	}); err != nil && n.packets+n.records == 0 {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	for _, c := range chosen {
		for dir, ends := range [2][2]string{{c.a.String(), c.b.String()}, {c.b.String(), c.a.String()}} {
			f := tracks[c.index].flow[dir]
			index := fmt.Sprint(c.index)
			if dir == 1 {
				index = ""
			}
			if f.packets == 0 {
				continue
			}
			s := f.rttStats
			mean := time.Duration(0)
			if s.N > 0 {
				mean = s.Sum / time.Duration(s.N)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%d\t\n", index, ends[0], ends[1],
				seconds(c.first-r.zero), seconds(c.last-c.first), f.packets, f.payload, f.acked, f.retxN, f.oooN,
				ms(s.Min), ms(mean), ms(s.Max), s.N)
		}
	}
	return nil
}

func seconds(ns int64) string { return fmt.Sprintf("%.6fs", float64(ns)/1e9) }

func ms(d time.Duration) string { return fmt.Sprintf("%.6fms", float64(d)/1e6) }
