// Package tcptest drives connections of package tcp in virtual time: two of them
// back to back over a pipe that delays, loses, reorders and marks (Pair), or one
// against a script of segments (Script).
package tcptest

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
)

// Clock is virtual time with the events that are to come.
type Clock struct {
	now    time.Duration
	serial uint64
	events events
}

// NewClock begins at one second: at 0 nothing has happened yet.
func NewClock() *Clock { return &Clock{now: time.Second} }

// Now is the time.
func (c *Clock) Now() time.Duration { return c.now }

// At calls f at a time, after what was asked for before at the same time.
func (c *Clock) At(t time.Duration, f func()) {
	c.serial++
	heap.Push(&c.events, event{max(t, c.now), c.serial, f})
}

// After calls f after a time.
func (c *Clock) After(d time.Duration, f func()) { c.At(c.now+d, f) }

// Step serves the next event, if it is not after end.
func (c *Clock) Step(end time.Duration) bool {
	if len(c.events) == 0 || c.events[0].at > end {
		return false
	}
	e := heap.Pop(&c.events).(event)
	c.now = e.at
	e.f()
	return true
}

// Run serves events for a time.
func (c *Clock) Run(d time.Duration) {
	end := c.now + d
	for c.Step(end) {
	}
	c.now = end
}

// RunUntil serves events until done says so, for at most d; it says whether it
// did.
func (c *Clock) RunUntil(d time.Duration, done func() bool) bool {
	end := c.now + d
	for !done() {
		if !c.Step(end) {
			c.now = end
			return done()
		}
	}
	return true
}

type event struct {
	at     time.Duration
	serial uint64
	f      func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].serial < e[j].serial
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// Host is one end: a connection and its environment.
type Host struct {
	*tcp.Conn
	Clock *Clock
	// Out takes what the connection sends: copies.
	Out func(*tcp.Segment)
	// Refuse lets Admit say no.
	Refuse bool
	// Wakes counts wake-ups; OnWake, if set, follows each.
	Wakes  int
	OnWake func()

	timer uint64
}

var _ tcp.Env = (*Host)(nil)

// NewHost makes an end with a connection in state CLOSED.
func NewHost(clock *Clock, cfg *tcp.Config, out func(*tcp.Segment)) *Host {
	h := &Host{Clock: clock, Out: out}
	h.Conn = tcp.New(cfg, h)
	return h
}

// Now implements tcp.Env.
func (h *Host) Now() time.Duration { return h.Clock.Now() }

// Send implements tcp.Env.
func (h *Host) Send(s *tcp.Segment) { h.Out(Copy(s)) }

// SetTimer implements tcp.Env.
func (h *Host) SetTimer(at time.Duration) {
	h.timer++
	if at == tcp.Never {
		return
	}
	mine := h.timer
	h.Clock.At(at, func() {
		if h.timer == mine {
			h.Timer()
		}
	})
}

// Alloc implements tcp.Env.
func (h *Host) Alloc(n int) tcp.Chunk { return tcp.Chunk{B: make([]byte, n)} }

// Wake implements tcp.Env.
func (h *Host) Wake() {
	h.Wakes++
	if h.OnWake != nil {
		h.OnWake()
	}
}

// Admit implements tcp.Env.
func (h *Host) Admit() bool { return !h.Refuse }

// Copy is a copy of a segment that has gone over the wire: header and payload
// are written out and read again.
func Copy(s *tcp.Segment) *tcp.Segment {
	b := make([]byte, s.HeaderLen())
	s.PutHeader(b)
	var c tcp.Segment
	if _, ok := tcp.ParseHeader(b, &c); !ok {
		panic("tcptest: a header that cannot be read was sent")
	}
	c.ECN, c.DataLen, c.MSS = s.ECN, s.DataLen, s.MSS
	if s.DataLen > 0 {
		c.Data = []tcp.Chunk{{B: Payload(s)}}
	}
	return &c
}

// Payload is a segment's payload in one piece.
func Payload(s *tcp.Segment) []byte {
	var p []byte
	for _, d := range s.Data {
		p = append(p, d.B...)
	}
	return p
}

// Cut is what a segment is on the wire: one for each MSS.
func Cut(s *tcp.Segment) []*tcp.Segment {
	if s.MSS == 0 || s.DataLen <= s.MSS {
		return []*tcp.Segment{s}
	}
	var list []*tcp.Segment
	p := Payload(s)
	for off := 0; off < len(p); off += s.MSS {
		end := min(off+s.MSS, len(p))
		c := *s
		c.Seq = s.Seq.Add(off)
		c.Data, c.DataLen, c.MSS = []tcp.Chunk{{B: p[off:end]}}, end-off, 0
		if end < len(p) {
			c.Flags &^= tcp.FIN | tcp.PSH
		}
		if off > 0 {
			c.Flags &^= tcp.CWR
		}
		list = append(list, &c)
	}
	return list
}

// Wire is one direction of a pipe.
type Wire struct {
	Delay  time.Duration
	Jitter time.Duration // added to it, uniformly; packets overtake
	Rate   int           // bytes a second; 0: infinite
	Queue  int           // packets that wait for the rate; 0: any number
	Mark   int           // packets that wait from which on ECN marks; 0: none
	Loss   float64       // probability
	Dup    float64
	// Filter, if set, says whether a packet passes.
	Filter func(*tcp.Segment) bool

	Sent, Lost, Marked int
	busy               time.Duration
	waiting            int
}

// Pair is two hosts and the pipe between them.
type Pair struct {
	*Clock
	A, B   *Host
	AB, BA *Wire
	Rand   *rand.Rand
	// Accept, if set, gets what arrives at B while it is CLOSED.
	Accept func(*Host, *tcp.Segment)
	// Tap, if set, sees every packet that is sent; from is "A" or "B".
	Tap func(from string, s *tcp.Segment)
}

// headers is what a packet takes beside its payload, bytes.
const headers = 40

// NewPair makes two connections in state CLOSED, with 10 ms of delay each way.
func NewPair(seed uint64, a, b *tcp.Config) *Pair {
	p := &Pair{
		Clock: NewClock(), Rand: rand.New(rand.NewPCG(seed, 1)),
		AB: &Wire{Delay: 10 * time.Millisecond}, BA: &Wire{Delay: 10 * time.Millisecond},
	}
	p.connect(a, b)
	return p
}

func (p *Pair) connect(a, b *tcp.Config) {
	p.A = NewHost(p.Clock, a, func(s *tcp.Segment) { p.send("A", p.AB, func() *Host { return p.B }, s) })
	p.B = NewHost(p.Clock, b, func(s *tcp.Segment) { p.send("B", p.BA, func() *Host { return p.A }, s) })
}

// Path is the way of the pairs: Ethernet's MTU, and segments up to 64 KiB.
var Path = tcp.Path{MTU: 1500, IPHeader: 20, GSOMax: 65000}

// Open opens a connection from A to B, which answers the first SYN. It does not
// wait.
func (p *Pair) Open() { p.A.Connect(1000, 80, 100, Path) }

func (p *Pair) send(from string, w *Wire, to func() *Host, s *tcp.Segment) {
	for _, s := range Cut(s) {
		w.Sent++
		if p.Tap != nil {
			p.Tap(from, s)
		}
		if w.Filter != nil && !w.Filter(s) || p.Rand.Float64() < w.Loss || w.Queue > 0 && w.waiting >= w.Queue {
			w.Lost++
			continue
		}
		if w.Mark > 0 && w.waiting >= w.Mark && s.ECN != tcp.NotECT {
			s.ECN = tcp.CE
			w.Marked++
		}
		n := 1
		if p.Rand.Float64() < w.Dup {
			n = 2
		}
		for range n {
			p.carry(w, to, s)
		}
	}
}

func (p *Pair) carry(w *Wire, to func() *Host, s *tcp.Segment) {
	at := p.Now()
	if w.Rate > 0 {
		w.busy = max(w.busy, at) + time.Duration(float64(s.DataLen+headers)/float64(w.Rate)*1e9)
		at = w.busy
		w.waiting++
		p.At(at, func() { w.waiting-- })
	}
	at += w.Delay
	if w.Jitter > 0 {
		at += time.Duration(p.Rand.Int64N(int64(w.Jitter)))
	}
	p.At(at, func() { p.arrive(to(), Copy(s)) })
}

// arrive gives a packet to a host: to its connection, or, as a listener would,
// to one that it opens.
func (p *Pair) arrive(h *Host, s *tcp.Segment) {
	if h.State() == tcp.Closed {
		if h == p.B && h.LocalPort == 0 && p.Accept != nil {
			p.Accept(h, s)
			return
		}
		if h == p.B && h.LocalPort == 0 && s.Flags&(tcp.SYN|tcp.ACK|tcp.RST) == tcp.SYN {
			h.OpenPassive(s, 5000, Path)
			return
		}
		var r tcp.Segment
		if tcp.ResetFor(s, &r) {
			h.Out(Copy(&r))
		}
		return
	}
	h.Input(s)
}
