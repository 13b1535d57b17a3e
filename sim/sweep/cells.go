package sweep

import (
	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/sim"
)

// cells is the result of a simulation as columns: hash, the totals, each flow, each
// direction of each link that does something to packets. docs/sweep.md lists them.
func cells(lab *topo.Lab, r *sim.Result) []Cell {
	l := []Cell{{"hash", TextValue(r.Hash)}}
	l = append(l, totals(r)...)
	for _, f := range r.Flows {
		l = append(l, flowCells("flow."+f.Name+".", f)...)
	}
	for i, k := range r.Links {
		if !lab.Links[i].Impaired() {
			continue
		}
		l = append(l, wayCells("link."+k.Name+".ab.", k.Ways[0], lab.Links[i].AB)...)
		l = append(l, wayCells("link."+k.Name+".ba.", k.Ways[1], lab.Links[i].BA)...)
	}
	return l
}

// totals are sums over flows and links, and Jain's index of the flows' goodputs,
// (sum x)^2 / (n sum x^2): 1 where all are equal, 1/n where one has all.
func totals(r *sim.Result) []Cell {
	var goodput, squares, last float64
	var retransmissions, drops, done uint64
	for _, f := range r.Flows {
		goodput += f.Goodput
		squares += f.Goodput * f.Goodput
		retransmissions += f.Retransmissions
		if f.Done {
			done++
		}
		last = max(last, f.Start+f.Completion)
	}
	for _, k := range r.Links {
		drops += k.Ways[0].Drops.Total() + k.Ways[1].Drops.Total()
	}
	var fairness, completion Value
	if squares > 0 {
		fairness = FloatValue(goodput * goodput / (float64(len(r.Flows)) * squares))
	}
	if done > 0 && done == uint64(len(r.Flows)) {
		completion = FloatValue(last)
	}
	return []Cell{
		{"total.goodput_bps", FloatValue(goodput)},
		{"total.fairness", fairness},
		{"total.retransmissions", count(retransmissions)},
		{"total.drops", count(drops)},
		{"total.flows", IntValue(int64(len(r.Flows)))},
		{"total.flows_done", count(done)},
		{"total.completion_s", completion},
		{"total.packets", count(r.Packets)},
		{"total.duration_s", FloatValue(r.Duration)},
	}
}

// flowCells are a flow's columns.
func flowCells(prefix string, f sim.FlowResult) []Cell {
	l := []Cell{
		{"goodput_bps", FloatValue(f.Goodput)},
		{"retransmissions", count(f.Retransmissions)},
		{"completion_s", Value{}},
		{"received_bytes", IntValue(f.Received + f.Returned)},
	}
	if f.Done {
		l[2].Value = FloatValue(f.Completion)
	}
	l = append(l, spreadCells("rtt", f.RTT)...)
	if f.Kind != "bulk" {
		l = append(l, spreadCells("latency", f.Latency)...)
		l = append(l,
			Cell{"messages_sent", IntValue(f.MessagesSent)},
			Cell{"messages_received", IntValue(f.MessagesReceived)})
	}
	failure := Cell{Name: "error"}
	if f.Error != "" {
		failure.Value = TextValue(f.Error)
	}
	return prefixed(prefix, append(l, failure))
}

// spreadCells are the mean and the 99th percentile of a time, Null if it has no samples.
func spreadCells(name string, s *sim.Spread) []Cell {
	l := []Cell{{name + "_mean_s", Value{}}, {name + "_p99_s", Value{}}}
	if s != nil {
		l[0].Value, l[1].Value = FloatValue(s.Mean), FloatValue(s.P99)
	}
	return l
}

// wayCells are the columns of one direction of a link.
func wayCells(prefix string, w sim.WayResult, spec impair.Spec) []Cell {
	var utilisation Value
	if spec.Rate > 0 {
		utilisation = FloatValue(w.Utilisation)
	}
	return prefixed(prefix, []Cell{
		{"throughput_bps", FloatValue(w.Throughput)},
		{"utilisation", utilisation},
		{"packets", count(w.Packets)},
		{"drops", count(w.Drops.Total())},
		{"drops_queue", count(w.Drops.Queue + w.Drops.Early)},
		{"drops_loss", count(w.Drops.Loss + w.Drops.Down)},
		{"marks", count(w.Marks)},
	})
}

func count(n uint64) Value { return IntValue(int64(n)) }

func prefixed(prefix string, l []Cell) []Cell {
	for i := range l {
		l[i].Name = prefix + l[i].Name
	}
	return l
}

// traceFile is the file of a rate that varies, or "".
func traceFile(s impair.Spec) string {
	if s.Trace == nil {
		return ""
	}
	return s.Trace.File
}
