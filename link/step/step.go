// Package step is a link around a link that can be stopped and let go on, as a
// whole or by single packets, like a program in a debugger.
//
// While a link is paused, what is sent and what arrives waits in two queues.
// Packets still to be cut (GSO) are cut when they begin to wait, so that a step
// is one packet of the wire. The queues are bounded; what finds one full is
// dropped, and counted. Time goes on meanwhile: the stacks on both sides run
// their timers, and send again what they miss.
//
// The wrapper stands between the stack and any impairments, so that what passes
// it is what the stack says and hears.
package step

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alptrace/alptrace/link"
)

// Direction is a direction of a link.
type Direction int

// The directions, as the link's user sees them.
const (
	In Direction = iota
	Out
)

// Options of a link; the zero value works.
type Options struct {
	// Limit is how many packets wait at most, each way; 0 is DefaultLimit.
	Limit int
	// Passed is told of packets as they pass, before their receiver has them;
	// they are valid only during the call. It must not block, nor call the
	// Link. nil is nobody.
	Passed func(d Direction, pkts []link.Packet)
}

// DefaultLimit is how many packets wait each way at most, unless told otherwise.
const DefaultLimit = 1000

// maxBytes bounds the memory of what waits, each way.
const maxBytes = 16 << 20

// Link is a link that can be paused.
type Link struct {
	link.Link
	opts Options
	ways [2]way
	open atomic.Bool // outbound, nothing waits: Send need not look further

	mu     sync.Mutex
	paused bool
	closed bool
	cut    []byte
}

// way is one direction; Link.mu guards it.
type way struct {
	deliver func(pkts []link.Packet) (int, error)
	busy    bool     // somebody delivers
	queue   []packet // from head on
	head    int
	bytes   int
	dropped uint64
}

// packet is one that waits.
type packet struct {
	data []byte
	off  link.Offload
}

func (w *way) waiting() int { return len(w.queue) - w.head }

// push lets a packet wait if there is room.
func (w *way) push(p packet, limit int) {
	if w.waiting() >= limit || w.bytes+len(p.data) > maxBytes {
		w.dropped++
		return
	}
	if w.head > limit { // as many again have left
		n := copy(w.queue, w.queue[w.head:])
		clear(w.queue[n:])
		w.queue, w.head = w.queue[:n], 0
	}
	w.queue = append(w.queue, p)
	w.bytes += len(p.data)
}

// pop takes the first packet; there is one.
func (w *way) pop() packet {
	p := w.queue[w.head]
	w.queue[w.head] = packet{}
	w.bytes -= len(p.data)
	if w.head++; w.head == len(w.queue) {
		w.queue, w.head = w.queue[:0], 0
	}
	return p
}

var _ link.Link = (*Link)(nil)

// Wrap makes l a link that can be paused. Closing the returned link closes l,
// and loses what waits.
func Wrap(l link.Link, opts Options) *Link {
	if opts.Limit <= 0 {
		opts.Limit = DefaultLimit
	}
	s := &Link{Link: l, opts: opts}
	s.ways[Out].deliver = l.Send
	s.open.Store(true)
	return s
}

// Unwrap is the link underneath.
func (l *Link) Unwrap() link.Link { return l.Link }

// Send sends packets, or lets them wait: then that they were taken says nothing
// of their fate. Of a closed link they are refused, with net.ErrClosed.
func (l *Link) Send(pkts []link.Packet) (int, error) {
	if l.open.Load() {
		l.passed(Out, pkts)
		return l.Link.Send(pkts)
	}
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return 0, net.ErrClosed
	case l.open.Load(): // just resumed
		l.mu.Unlock()
		l.passed(Out, pkts)
		return l.Link.Send(pkts)
	}
	defer l.mu.Unlock()
	l.hold(&l.ways[Out], pkts)
	return len(pkts), nil
}

// Start begins delivery.
func (l *Link) Start(recv func(pkts []link.Packet)) error {
	w := &l.ways[In]
	l.mu.Lock()
	if w.deliver != nil {
		l.mu.Unlock()
		return errors.New("step: already started")
	}
	w.deliver = func(pkts []link.Packet) (int, error) { recv(pkts); return len(pkts), nil }
	l.mu.Unlock()
	return l.Link.Start(l.arrive)
}

// arrive delivers packets, or lets them wait. One goroutine delivers at a time.
func (l *Link) arrive(pkts []link.Packet) {
	w := &l.ways[In]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.paused || w.busy || w.waiting() > 0 {
		l.hold(w, pkts)
		return
	}
	w.busy = true
	l.mu.Unlock()
	l.passed(In, pkts)
	_, _ = w.deliver(pkts)
	l.mu.Lock()
	w.busy = false
	l.drain(w, In) // what came meanwhile
}

func (l *Link) passed(d Direction, pkts []link.Packet) {
	if l.opts.Passed != nil {
		l.opts.Passed(d, pkts)
	}
}

// hold lets packets wait. l.mu is held.
func (l *Link) hold(w *way, pkts []link.Packet) {
	for i := range pkts {
		p := &pkts[i]
		if w.waiting() >= l.opts.Limit {
			w.dropped++
			continue
		}
		whole := p.AppendTo(make([]byte, 0, p.Len()))
		if p.GSO == link.GSONone {
			w.push(packet{whole, p.Offload}, l.opts.Limit)
			continue
		}
		var err error
		l.cut, err = link.Segment(l.cut, whole, p.Offload, l.Medium(), l.MTU(), func(seg []byte) {
			w.push(packet{append([]byte(nil), seg...), link.Offload{CsumValid: true}}, l.opts.Limit)
		})
		if err != nil { // malformed: as it is
			w.push(packet{whole, p.Offload}, l.opts.Limit)
		}
	}
}

// Pause stops the link.
func (l *Link) Pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = true
	l.open.Store(false)
}

// Resume lets everything pass again, beginning with what waits, in order.
func (l *Link) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = false
	l.drain(&l.ways[In], In)
	l.drain(&l.ways[Out], Out)
}

// drain delivers what waits until the link is paused or nothing does. l.mu is
// held, but not while delivering.
func (l *Link) drain(w *way, d Direction) {
	for !l.paused && !l.closed && !w.busy && w.waiting() > 0 {
		l.deliver(w, d)
	}
	if d == Out && !l.paused && !l.closed && !w.busy {
		l.open.Store(true)
	}
}

// deliver delivers the first packet that waits. l.mu is held, but not while
// delivering.
func (l *Link) deliver(w *way, d Direction) {
	p := w.pop()
	one := []link.Packet{{Bufs: [][]byte{p.data}, Offload: p.off}}
	w.busy = true
	l.mu.Unlock()
	l.passed(d, one)
	_, _ = w.deliver(one)
	l.mu.Lock()
	w.busy = false
}

// Step lets the next packet of one direction pass, and Drop throws it away.
// They report false if none waits.
func (l *Link) Step(d Direction) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.ways[d]
	if l.closed || w.busy || w.deliver == nil || w.waiting() == 0 {
		return false
	}
	l.deliver(w, d)
	l.drain(w, d) // resumed meanwhile
	return true
}

// Drop throws the next packet of one direction away; see [Link.Step].
func (l *Link) Drop(d Direction) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.ways[d]
	if w.waiting() == 0 {
		return false
	}
	w.pop()
	w.dropped++
	return true
}

// State is what a link does.
type State struct {
	Paused  bool
	Waiting [2]int    // packets, by Direction
	Dropped [2]uint64 // for want of room, and by Drop
	Limit   int       // of Waiting
}

// State is what the link does now.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := State{Paused: l.paused, Limit: l.opts.Limit}
	for d := range l.ways {
		s.Waiting[d], s.Dropped[d] = l.ways[d].waiting(), l.ways[d].dropped
	}
	return s
}

// Next calls f with the packet that the next Step of a direction would let
// pass. It is valid only during the call. Next reports false if none waits.
func (l *Link) Next(d Direction, f func(data []byte)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.ways[d]
	if w.waiting() == 0 {
		return false
	}
	f(w.queue[w.head].data)
	return true
}

// Drain waits until what was sent has passed, or ctx is done.
func (l *Link) Drain(ctx context.Context) error {
	for !l.open.Load() {
		l.mu.Lock()
		w := &l.ways[Out]
		done := l.closed || w.waiting() == 0 && !w.busy
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// Close loses what waits, and closes the link underneath.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	l.open.Store(false)
	for d := range l.ways {
		w := &l.ways[d]
		w.queue, w.head, w.bytes = nil, 0, 0
	}
	l.mu.Unlock()
	return l.Link.Close()
}
