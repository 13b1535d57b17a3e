// Package explore tries a stack on random networks. [Random] makes a scenario from
// a seed: hosts, routers and a switch, impaired links, traffic. [Check] simulates
// it and looks at what must hold whatever the network does:
//
//   - no panic
//   - no byte is lost, changed, invented or out of order for the program
//   - once the network has recovered, every flow ends
//   - packets are conserved on every link, and none is left when all is over
//   - no queue is longer than its limit
//
// [Shrink] makes of a scenario that fails the smallest that still fails in the
// same way, and [Scenario.Test] prints it as a Go test.
package explore

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/observe/tcplog"
	"github.com/alptrace/alptrace/sim"
)

// Patience is how long after the network's recovery all flows must have ended, in
// virtual time: more than Linux's longest retransmission timeout, 120 s, a few
// times.
const Patience = 10 * time.Minute

// Invariant is what was violated.
type Invariant string

// The invariants.
const (
	Panic    Invariant = "panic"
	Intact   Invariant = "bytes arrive intact and in order"
	Ends     Invariant = "flows end when the network has recovered"
	Conserve Invariant = "packets are conserved"
	Bounded  Invariant = "queues are bounded"
	Same     Invariant = "the same seed gives the same packets"
)

// Failure is a violation.
type Failure struct {
	Invariant Invariant
	Detail    string
}

// Error is one line, and the stack of a panic.
func (f *Failure) Error() string { return fmt.Sprintf("violated: %s: %s", f.Invariant, f.Detail) }

// Options say how to check.
type Options struct {
	// Sim has the engine under test; the default is netstack.
	Sim sim.Options
	// Twice runs everything twice, and compares.
	Twice bool
}

// Check simulates a lab file. Its duration is how long its impairments last; then
// the network recovers: links lose nothing more. A *[Failure] is a violation, any
// other error one of the file.
func Check(file string, o Options) error {
	hash, err := check(file, o)
	if err != nil || !o.Twice {
		return err
	}
	again, err := check(file, o)
	if err == nil && again != hash {
		err = &Failure{Same, hash + " and " + again}
	}
	return err
}

func check(file string, o Options) (hash string, err error) {
	lab, err := topo.Parse("scenario.toml", []byte(file), nil)
	if err != nil {
		return "", err
	}
	w := &watch{limit: make(map[string]int)}
	for _, l := range lab.Links {
		w.limit[l.Name+".a"], w.limit[l.Name+".b"] = limit(l.AB), limit(l.BA)
	}
	o.Sim.Queues = w
	s, err := sim.Load(lab, o.Sim)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	res, err := run(s, lab)
	if err != nil {
		return "", err
	}
	if w.failure != nil {
		return "", w.failure
	}
	return res.Hash, judge(res)
}

// limit is that of a queue, in packets; 0 is none that can be checked so.
func limit(s impair.Spec) int {
	if s.Rate == 0 || s.Queue.Bytes > 0 {
		return 0
	}
	switch {
	case s.Queue.Packets > 0:
		return s.Queue.Packets
	case s.Queue.Kind == impair.FQCoDel:
		return 10240
	}
	return 1000
}

// watch is a sim.QueueWriter that looks at the queues' lengths.
type watch struct {
	limit   map[string]int
	failure *Failure
}

// Write looks at a record.
func (w *watch) Write(r *tcplog.Record) {
	if most := w.limit[r.Link]; most > 0 && r.Pkts > uint64(most) && w.failure == nil {
		w.failure = &Failure{Bounded, fmt.Sprintf("%d packets wait in %s, which holds %d", r.Pkts, r.Link, most)}
	}
}

// run simulates until all has ended, with a recovery in between.
func run(s *sim.Sim, lab *topo.Lab) (*sim.Result, error) {
	step := func(until time.Duration) (*sim.Result, error) {
		res, err := s.Run(until)
		var p *sim.PanicError
		if errors.As(err, &p) {
			return nil, &Failure{Panic, fmt.Sprintf("%v\n%s", p, p.Stack)}
		}
		return res, err
	}
	if _, err := step(lab.Duration); err != nil {
		return nil, err
	}
	for i, l := range lab.Links {
		for end, spec := range []impair.Spec{l.AB, l.BA} {
			if err := s.Wires()[i].Set(end, recovered(spec)); err != nil {
				return nil, err
			}
		}
	}
	return step(lab.Duration + Patience)
}

// recovered is a link that only takes its time.
func recovered(s impair.Spec) impair.Spec {
	return impair.Spec{Delay: s.Delay, Rate: s.Rate, Queue: s.Queue, MTU: s.MTU, Seed: s.Seed}
}

// judge looks at what came out.
func judge(r *sim.Result) error {
	for _, f := range r.Flows {
		if f.Corrupt != "" {
			return &Failure{Intact, f.Name + ": " + f.Corrupt}
		}
	}
	for _, l := range r.Links {
		for _, y := range l.Ways {
			in, out := y.Offered+y.Duplicated, y.Packets+y.Drops.Total()+y.Outstanding
			if in != out {
				return &Failure{Conserve, fmt.Sprintf("%s from %s: %d packets in, %d out", l.Name, y.From, in, out)}
			}
		}
	}
	for _, f := range r.Flows {
		switch {
		case f.Error != "":
			return &Failure{Ends, f.Name + ": " + f.Error}
		case !f.Done:
			return &Failure{Ends, fmt.Sprintf("%s: %d bytes sent, %d received, %d returned", f.Name, f.Sent, f.Received, f.Returned)}
		}
	}
	for _, l := range r.Links {
		if n := l.Ways[0].Outstanding + l.Ways[1].Outstanding; n > 0 {
			return &Failure{Conserve, fmt.Sprintf("%d packets are left in %s when all is over", n, l.Name)}
		}
	}
	return nil
}

// Test prints the scenario as a Go test, with what it violates as a comment.
func (s *Scenario) Test(why error) string {
	first, _, _ := strings.Cut(fmt.Sprint(why), "\n")
	return fmt.Sprintf("// %s\nfunc TestScenario%d(t *testing.T) {\n\terr := explore.Check(`\n%s`, explore.Options{})\n\tif err != nil {\n\t\tt.Fatal(err)\n\t}\n}\n",
		first, s.Seed, s.Lab())
}
