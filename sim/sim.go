package sim

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/netstack"
)

// Sim is a network in virtual time. It belongs to one goroutine.
type Sim struct {
	seed  uint64
	clock *Clock
	trail *trail
	opts  Options

	wires   []*Wire
	hosts   []*Host
	routers []*Router
	byName  map[string]*Host
	closers []func() error

	flows     []*flow
	open      int // flows that are to end and have not
	listeners map[listenKey]*listener
	ready     []*task
	lab       *topo.Lab
	queues    *queueLog
	began     time.Time // of Run, real
	spent     time.Duration
}

// Options say how to simulate; the zero value works.
type Options struct {
	// Engine makes the engine of a host, or of a router that is one; nil is
	// [Netstack].
	Engine func(name string, cfg netstack.Config) (stack.Engine, error)
	// Wrap puts a link around each end of each wire before a node gets it, as
	// a capture does. nil: none.
	Wrap func(end *End, node *topo.Node) (link.Link, error)
	// Queues receives what waits in the links' queues; nil: nobody asks.
	Queues QueueWriter
	// Ready is called with each host when it has its engine; nil: not.
	Ready func(h *Host) error
	// Sample is how often connections are asked for their round trip time,
	// and queues for their length; 0 is 10 ms.
	Sample time.Duration
}

// Netstack is the default engine.
func Netstack(_ string, cfg netstack.Config) (stack.Engine, error) { return netstack.New(cfg) }

// New makes an empty simulation, at time 0. Most load a lab ([Load]); New is for
// tests of links and stacks that build a network of their own with [Sim.Wire]
// and [Sim.Host].
func New(seed uint64) *Sim { return newSim(seed, Options{}) }

func newSim(seed uint64, o Options) *Sim {
	if o.Engine == nil {
		o.Engine = Netstack
	}
	if o.Sample == 0 {
		o.Sample = 10 * time.Millisecond
	}
	return &Sim{
		seed: seed, clock: &Clock{}, trail: newTrail(), opts: o,
		byName: make(map[string]*Host), listeners: make(map[listenKey]*listener),
	}
}

// Clock is the simulation's time.
func (s *Sim) Clock() *Clock { return s.clock }

// Host is a node with an engine.
type Host struct {
	Name   string
	Engine stack.Engine
	sim    *Sim
	settle func() // of the engine; nil: nothing of it is left to happen
}

// Host makes a host. cfg has its links; its clock, its randomness and Lockstep
// are set here.
func (s *Sim) Host(name string, cfg netstack.Config) (*Host, error) {
	if s.byName[name] != nil {
		return nil, fmt.Errorf("host %s: there is one already", name)
	}
	h := &Host{Name: name, sim: s}
	cfg.Clock = s.clock.Stack(h.settled)
	cfg.Rand = newRandom(s.seed, "host", name)
	cfg.Lockstep = true
	e, err := s.opts.Engine(name, cfg)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	h.Engine = e
	if l, ok := e.(interface{ Settle() }); ok {
		h.settle = l.Settle
	}
	s.hosts = append(s.hosts, h)
	s.byName[name] = h
	s.closers = append(s.closers, e.Close)
	if s.opts.Ready != nil {
		if err := s.opts.Ready(h); err != nil {
			return nil, fmt.Errorf("host %s: %w", name, err)
		}
	}
	h.settled()
	return h, nil
}

// Find is the host of a name, or nil.
func (s *Sim) Find(name string) *Host { return s.byName[name] }

// settled returns when the engine has done what follows from what happened.
func (h *Host) settled() {
	if h.settle != nil {
		h.settle()
	}
}

// task is a socket of a built-in program, run when its readiness may have
// changed.
type task struct {
	host   *Host
	queued bool
	run    func()
}

// wake is for stack.Endpoint.Notify.
func (t *task) wake() {
	if !t.queued {
		t.queued = true
		t.host.sim.ready = append(t.host.sim.ready, t)
	}
}

// drain runs the programs that have been woken.
func (s *Sim) drain() {
	for i := 0; i < len(s.ready); i++ {
		t := s.ready[i]
		t.queued = false
		t.run()
		t.host.settled()
	}
	clear(s.ready)
	s.ready = s.ready[:0]
}

// PanicError is a panic of the stack, or of anything else in a simulation.
type PanicError struct {
	At    time.Duration // virtual
	Value any
	Stack []byte
}

// Error is one line; the stack is in Stack.
func (p *PanicError) Error() string { return fmt.Sprintf("panic at %v: %v", p.At, p.Value) }

// Run runs the simulation until the time since its beginning, and tells what
// came out. until 0 is the lab's duration; without one, the run ends when all
// flows have. It may be called again with a later time. A panic on the
// simulation's goroutine is a [PanicError].
func (s *Sim) Run(until time.Duration) (res *Result, err error) {
	if until == 0 && s.lab != nil {
		until = s.lab.Duration
	}
	last := until
	if until == 0 {
		if s.open == 0 || s.open < len(s.flows) {
			return nil, errors.New("the run needs a duration: it has traffic that does not end by itself")
		}
		last = never
	}
	defer func() {
		if v := recover(); v != nil {
			res, err = nil, &PanicError{s.clock.now, v, debug.Stack()}
		}
	}()
	s.began = time.Now()
	s.drain()
	for (until != 0 || s.open > 0) && s.clock.step(last) {
		if len(s.ready) > 0 {
			s.drain()
		}
	}
	if until != 0 {
		s.clock.now = max(s.clock.now, until)
	} else if s.open > 0 {
		err = fmt.Errorf("%d flows have not ended, and nothing is left to happen", s.open)
	}
	s.spent += time.Since(s.began)
	return s.result(), err
}

// Close ends the engines.
func (s *Sim) Close() error {
	var errs []error
	for _, f := range s.closers {
		errs = append(errs, f())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// hardwareAddr is the address of an end of a wire: locally administered.
func hardwareAddr(wire, end int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0, byte(wire >> 16), byte(wire >> 8), byte(wire), byte(end + 1)}
}
