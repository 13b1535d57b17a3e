package impair

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/alptrace/alptrace/link"
)

// Config says how to impair a link.
type Config struct {
	In, Out Spec // what is received, what is sent
	// Clock is where time comes from; nil is [RealClock].
	Clock Clock
	// Live wraps a direction even if its Spec is zero, for [Link.Set].
	Live bool
}

// Link is a link whose packets suffer.
type Link struct {
	link.Link
	mtu     int
	live    bool
	clock   Clock
	timer   Timer // nil if nothing is ever late
	in, out *way  // nil: untouched

	mu     sync.Mutex    // guards the Cores too
	armed  time.Duration // when the timer will call, never if it will not
	closed bool
}

// way is one direction.
type way struct {
	core    *Core
	deliver func(pkts []link.Packet) (int, error)
	busy    bool // somebody delivers; guarded by Link.mu, as is core

	// Of whoever delivers.
	run  []*Packet
	bufs [][]byte
	pkts []link.Packet
}

// batch is the most packets taken out at once, maxPieces the most that one
// coalesced packet has.
const batch, maxPieces = 128, 60

var _ link.Link = (*Link)(nil)

// Wrap impairs l. If cfg asks for nothing it is l itself, which then costs
// nothing more. The seeds of the two directions are made to differ, so that one
// Spec for both does not lose the same packets in both.
//
// The MTU is the smallest of the link's own and those that the Specs name. If
// they name none, and that of l is larger than any Ethernet's, as where packets
// never see a wire, it is 1500 bytes: a network that loses 1% of 64 KiB packets
// is not like any.
//
// Closing the returned link closes l, and loses what is on the way; see
// [Link.Drain]. Errors are those of a contradictory Spec, and of
// timerfd_create(2).
func Wrap(l link.Link, cfg Config) (link.Link, error) {
	for _, s := range []struct {
		name string
		Spec
	}{{"in", cfg.In}, {"out", cfg.Out}} {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("impair %s, %s: %w", l.Name(), s.name, err)
		}
	}
	if cfg.In.IsZero() && cfg.Out.IsZero() && !cfg.Live {
		return l, nil
	}
	w := &Link{Link: l, mtu: cfg.mtu(l.MTU()), live: cfg.Live, clock: cfg.Clock, armed: never}
	if w.clock == nil {
		w.clock = RealClock()
	}
	var err error
	if w.in, err = w.newWay(cfg.In, seedIn, cfg.Live); err != nil {
		return nil, err
	}
	if w.out, err = w.newWay(cfg.Out, seedOut, cfg.Live); err != nil {
		return nil, err
	}
	if w.out != nil {
		w.out.deliver = l.Send
	}
	if cfg.Live || cfg.In.late() || cfg.Out.late() {
		if w.timer, err = w.clock.NewTimer(w.expire); err != nil {
			return nil, fmt.Errorf("impair %s: %w", l.Name(), err)
		}
	}
	return w, nil
}

// The MTU of Ethernet, and the largest in use.
const ethernetMTU, jumboMTU = 1500, 9216

// mtu is the MTU of an impaired link.
func (c *Config) mtu(own int) int {
	named := min(c.In.MTU, c.Out.MTU)
	if named == 0 {
		named = max(c.In.MTU, c.Out.MTU)
	}
	switch {
	case named != 0:
		return min(own, named)
	case own > jumboMTU:
		return ethernetMTU
	}
	return own
}

// MTU is the largest network-layer packet, bytes; see [Wrap].
func (l *Link) MTU() int { return l.mtu }

// What the directions add to a seed.
const seedOut, seedIn = 0, 0x5851f42d4c957f2d

var salts = [...]uint64{In: seedIn, Out: seedOut}

// late reports whether packets do not leave at once.
func (s *Spec) late() bool { return s.Delay != 0 || s.Jitter != 0 || s.limited() }

func (l *Link) newWay(s Spec, salt uint64, live bool) (*way, error) {
	if s.IsZero() && !live {
		return nil, nil
	}
	s.Seed += salt
	c, err := NewCore(s, l.Medium(), l.mtu, l.clock.Now())
	if err != nil {
		return nil, err
	}
	return &way{core: c}, nil
}

// Unwrap is the link underneath.
func (l *Link) Unwrap() link.Link { return l.Link }

// Send takes packets in. That they were taken says nothing of their fate; only
// of a closed link they are refused, with net.ErrClosed.
func (l *Link) Send(pkts []link.Packet) (int, error) {
	if l.out == nil {
		return l.Link.Send(pkts)
	}
	if !l.push(l.out, pkts) {
		return 0, net.ErrClosed
	}
	return len(pkts), nil
}

// Start begins delivery.
func (l *Link) Start(recv func(pkts []link.Packet)) error {
	if l.in == nil {
		return l.Link.Start(recv)
	}
	l.mu.Lock()
	if l.in.deliver != nil {
		l.mu.Unlock()
		return errors.New("impair: already started")
	}
	l.in.deliver = func(pkts []link.Packet) (int, error) { recv(pkts); return len(pkts), nil }
	l.mu.Unlock()
	return l.Link.Start(func(pkts []link.Packet) { l.push(l.in, pkts) })
}

// push takes packets in, delivers what is due and sees to the rest. It reports
// false when the link is closed.
func (l *Link) push(w *way, pkts []link.Packet) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	now := l.clock.Now()
	for i := range pkts {
		w.core.Push(now, &pkts[i])
	}
	// A sender is not made to deliver for others for long.
	rounds := 1
	if l.timer == nil {
		rounds = -1
	}
	l.flush(w, now, rounds)
	l.arm()
	return true
}

// expire is the timer's function.
func (l *Link) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = never
	for _, w := range []*way{l.in, l.out} {
		if w != nil {
			l.flush(w, l.clock.Now(), -1)
		}
	}
	l.arm()
}

// flush delivers what is due, in so many batches, or all. If somebody already
// delivers, that one will. l.mu is held, but not while delivering.
func (l *Link) flush(w *way, now time.Duration, rounds int) {
	if w.busy || w.deliver == nil {
		return
	}
	w.busy = true
	for ; rounds != 0 && !l.closed; rounds-- {
		if !w.fill(now) {
			break
		}
		l.mu.Unlock()
		sent, _ := w.deliver(w.pkts) // the sender is far away and does not hear of it
		l.mu.Lock()
		if lost := len(w.pkts) - sent; lost > 0 {
			w.core.refused(min(lost, len(w.run)))
		}
		for _, p := range w.run {
			w.core.Free(p)
		}
		now = l.clock.Now()
	}
	w.busy = false
}

// fill takes a batch of what is due, and coalesces it.
func (w *way) fill(now time.Duration) bool {
	w.run, w.bufs, w.pkts = w.run[:0], w.bufs[:0], w.pkts[:0]
	for len(w.run) < batch {
		p := w.core.Pop(now)
		if p == nil {
			break
		}
		w.run = append(w.run, p)
	}
	for i := 0; i < len(w.run); {
		n := 1
		for i+n < len(w.run) && n < maxPieces && mergeable(w.run[i+n-1], w.run[i+n]) {
			n++
		}
		o, from := w.run[i].Offload, len(w.bufs)
		if n == 1 {
			w.bufs = append(w.bufs, w.run[i].Data)
		} else {
			w.bufs, o = merge(w.run[i:i+n], w.bufs)
		}
		w.pkts = append(w.pkts, link.Packet{Bufs: w.bufs[from:len(w.bufs):len(w.bufs)], Offload: o})
		i += n
	}
	return len(w.run) > 0
}

// arm sets the timer for the next packet that nobody is about to deliver; l.mu
// is held. A timer that is set for earlier calls in vain, once.
func (l *Link) arm() {
	if l.timer == nil || l.closed {
		return
	}
	at := never
	for _, w := range []*way{l.in, l.out} {
		if w != nil && !w.busy && w.deliver != nil {
			if t, ok := w.core.Next(); ok {
				at = min(at, t)
			}
		}
	}
	if at < l.armed {
		l.armed = at
		l.timer.Set(at)
	}
}

// Direction is a direction of a link.
type Direction int

// The directions, as the link's user sees them.
const (
	In Direction = iota
	Out
)

func (l *Link) way(d Direction) *way {
	if d == In {
		return l.in
	}
	return l.out
}

// Set changes the network while it is used; see [Core.Set]. The link must have
// been made with Config.Live. The MTU stays as it is.
func (l *Link) Set(d Direction, s Spec) error {
	w := l.way(d)
	if !l.live {
		return errors.New("impair: the link was not made to be changed")
	}
	s.Seed += salts[d]
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := w.core.Set(l.clock.Now(), s); err != nil {
		return err
	}
	l.arm()
	return nil
}

// Spec is what a direction is like now; zero if it is not impaired.
func (l *Link) Spec(d Direction) Spec {
	w := l.way(d)
	if w == nil {
		return Spec{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := w.core.Spec()
	s.Seed -= salts[d]
	return s
}

// Stats are the counts of a direction, all 0 if it is not impaired.
func (l *Link) Stats(d Direction) Stats {
	w := l.way(d)
	if w == nil {
		return Stats{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return w.core.Stats(l.clock.Now())
}

// Drain waits until what was sent has left, or ctx is done. It is for real
// time only.
func (l *Link) Drain(ctx context.Context) error {
	for l.out != nil {
		l.mu.Lock()
		at, more := l.out.core.Next()
		more = more || l.out.busy
		wait := at - l.clock.Now()
		closed := l.closed
		l.mu.Unlock()
		if !more || closed {
			return nil
		}
		t := time.NewTimer(min(max(wait, time.Millisecond), 50*time.Millisecond))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}

// Close ends delivery, loses what is on the way, and closes the link
// underneath.
func (l *Link) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if l.timer != nil && !closed {
		l.timer.Close()
	}
	return l.Link.Close()
}
