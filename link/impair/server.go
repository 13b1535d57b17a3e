package impair

import (
	"math"
	"time"
)

// never is later than any time.
const never = time.Duration(math.MaxInt64)

// server is the line behind the queue.
type server interface {
	// arrive is called before a packet joins the queue, after serve: what an
	// idle line could have sent is gone.
	arrive(now time.Duration)
	// serve sends what can be sent until now.
	serve(now time.Duration, c *Core)
	// next is when serve will have something to do, if the queue is not empty.
	next() time.Duration
	// idle reports that no packet is being serialised in parts.
	idle() bool
	// typical is the time that n bytes take.
	typical(n int) time.Duration
}

// constant is a line with a rate.
type constant struct {
	rate int64         // bit/s
	free time.Duration // when the packet on the line will have left it
	rest int64         // of free, 1/rate nanoseconds
}

func (l *constant) arrive(now time.Duration) {
	if l.free < now {
		l.free, l.rest = now, 0
	}
}

func (l *constant) serve(now time.Duration, c *Core) {
	for l.free <= now {
		p := c.queue.pop(l.free)
		if p == nil {
			return
		}
		t := int64(p.size)*8*int64(time.Second) + l.rest
		l.free += time.Duration(t / l.rate)
		l.rest = t % l.rate
		c.transmit(l.free, p)
	}
}

func (l *constant) next() time.Duration { return l.free }
func (l *constant) idle() bool          { return true }
func (l *constant) typical(n int) time.Duration {
	return time.Duration(int64(n) * 8 * int64(time.Second) / l.rate)
}

// traced is a line with the opportunities of a trace.
type traced struct {
	trace *Trace
	start time.Duration
	n     int64   // the next opportunity
	p     *Packet // sent in part
	left  int     // bytes of it to be sent
}

func (l *traced) arrive(now time.Duration) {
	l.n = max(l.n, l.trace.after(now-l.start))
}

func (l *traced) serve(now time.Duration, c *Core) {
	for l.p != nil || c.queue.len() > 0 {
		at := l.next()
		if at > now {
			return
		}
		l.n++
		for room := OpportunityBytes; room > 0; {
			if l.p == nil {
				if l.p = c.queue.pop(at); l.p == nil {
					break
				}
				off, _ := netOffset(l.p.Data, c.medium)
				l.left = len(l.p.Data) - off + tunHeader + c.spec.Overhead
			}
			sent := min(room, l.left)
			room -= sent
			if l.left -= sent; l.left == 0 {
				p := l.p
				l.p = nil
				c.transmit(at, p)
			}
		}
	}
}

func (l *traced) next() time.Duration { return l.start + l.trace.opportunity(l.n) }
func (l *traced) idle() bool          { return l.p == nil }
func (l *traced) typical(n int) time.Duration {
	return time.Duration(float64(n) * 8 / l.trace.Rate() * float64(time.Second))
}
