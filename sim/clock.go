package sim

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/link/impair"
)

// Epoch is the wall clock's time at the beginning of every simulation.
var Epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Clock is virtual time, which begins at 0 and moves from one timer to the next.
// It serves as the [impair.Clock] of links, and through [Clock.Stack] as the
// clock of a stack. It is not safe for concurrent use.
type Clock struct {
	now   time.Duration
	seq   uint64
	heap  []*Timer
	fired uint64
}

// Timer calls a function at a time.
type Timer struct {
	c     *Clock
	at    time.Duration
	seq   uint64
	index int // in the heap, -1 if it is not set
	f     func()
}

var (
	_ impair.Clock = (*Clock)(nil)
	_ impair.Timer = (*Timer)(nil)
	_ tcpip.Clock  = (*stackClock)(nil)
)

// Now is the time since the simulation began.
func (c *Clock) Now() time.Duration { return c.now }

// NewTimer makes a timer, not set, that calls f. It never fails.
func (c *Clock) NewTimer(f func()) (impair.Timer, error) { return c.timer(f), nil }

func (c *Clock) timer(f func()) *Timer { return &Timer{c: c, index: -1, f: f} }

// At has f called once at a time, at once if that is past.
func (c *Clock) At(at time.Duration, f func()) *Timer {
	t := c.timer(f)
	t.Set(at)
	return t
}

// Set sets the timer to a time, in place of what was set before.
func (t *Timer) Set(at time.Duration) {
	c := t.c
	c.seq++
	t.at, t.seq = max(at, c.now), c.seq
	if t.index < 0 {
		t.index = len(c.heap)
		c.heap = append(c.heap, t)
		c.up(t.index)
		return
	}
	i := t.index
	if c.up(i); t.index == i {
		c.down(i)
	}
}

// Stop has the timer not fire. It reports whether it would have.
func (t *Timer) Stop() bool {
	if t.index < 0 {
		return false
	}
	t.c.remove(t.index)
	return true
}

// Close is Stop.
func (t *Timer) Close() { t.Stop() }

// before is the order of the heap, four children to a node.
func (t *Timer) before(u *Timer) bool {
	return t.at < u.at || t.at == u.at && t.seq < u.seq
}

func (c *Clock) up(i int) {
	h := c.heap
	t := h[i]
	for i > 0 {
		p := (i - 1) / 4
		if !t.before(h[p]) {
			break
		}
		h[i] = h[p]
		h[i].index = i
		i = p
	}
	h[i] = t
	t.index = i
}

func (c *Clock) down(i int) {
	h := c.heap
	t := h[i]
	for {
		least := i*4 + 1
		if least >= len(h) {
			break
		}
		for k := least + 1; k < min(i*4+5, len(h)); k++ {
			if h[k].before(h[least]) {
				least = k
			}
		}
		if !h[least].before(t) {
			break
		}
		h[i] = h[least]
		h[i].index = i
		i = least
	}
	h[i] = t
	t.index = i
}

func (c *Clock) remove(i int) {
	h := c.heap
	n := len(h) - 1
	h[i].index = -1
	last := h[n]
	h[n] = nil
	c.heap = h[:n]
	if i == n {
		return
	}
	c.heap[i] = last
	last.index = i
	if c.up(i); last.index == i {
		c.down(i)
	}
}

// step moves time to the next timer, if that is no later than until, and fires
// it. It reports false if there is none.
func (c *Clock) step(until time.Duration) bool {
	if len(c.heap) == 0 || c.heap[0].at > until {
		return false
	}
	t := c.heap[0]
	c.remove(0)
	c.now = t.at
	c.fired++
	t.f()
	return true
}

// Stack is the clock of a stack. settle, which may be nil, is called after each
// of the stack's timers.
func (c *Clock) Stack(settle func()) tcpip.Clock {
	return &stackClock{c: c, settle: settle}
}

// stackClock is a stack's clock. Looking at it changes nothing: a run that is
// watched is the same run.
type stackClock struct {
	c      *Clock
	settle func()
}

// Now is the wall clock, which began at Epoch.
func (s *stackClock) Now() time.Time { return Epoch.Add(s.c.now) }

// NowMonotonic is the time since the simulation began, and a second: the zero
// value means "never" to some.
func (s *stackClock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(time.Second + s.c.now)
}

// AfterFunc has f called d from now.
func (s *stackClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := stackTimer{s.c.timer(nil)}
	t.t.f = f
	if settle := s.settle; settle != nil {
		t.t.f = func() { f(); settle() }
	}
	t.Reset(d)
	return t
}

// stackTimer is a Timer as netstack has it.
type stackTimer struct{ t *Timer }

func (t stackTimer) Stop() bool            { return t.t.Stop() }
func (t stackTimer) Reset(d time.Duration) { t.t.Set(t.t.c.now + max(d, 0)) }
