package impair

import "time"

// queue is a queue's discipline. It drops, and marks, through its Core.
type queue interface {
	push(now time.Duration, p *Packet)
	// pop is the next packet to be serialised. It is nil when the queue is
	// empty, or has become so by dropping.
	pop(now time.Duration) *Packet
	take() *Packet // any packet, without a decision; nil when empty
	len() int
	bytes() int
}

func newQueue(c *Core, q Queue, seed uint64) queue {
	q = q.withDefaults()
	t := tail{c: c, packets: q.Packets, limit: q.Bytes}
	switch q.Kind {
	case RED:
		return newRED(t, q, seed)
	case CoDel:
		return &codelQueue{tail: t, params: newCodelParams(c, q)}
	case FQCoDel:
		return newFQCoDel(c, q, seed)
	}
	return &t
}

// tail is a drop-tail queue.
type tail struct {
	fifo
	c              *Core
	packets, limit int // most packets, most bytes; 0 is no limit
}

func (t *tail) full(p *Packet) bool {
	return t.packets > 0 && t.n >= t.packets || t.limit > 0 && t.fifo.bytes+p.size > t.limit
}

func (t *tail) push(_ time.Duration, p *Packet) {
	if t.full(p) {
		t.c.drop(p, &t.c.stats.DropsQueue)
		return
	}
	t.fifo.push(p)
}

func (t *tail) pop(time.Duration) *Packet { return t.fifo.pop() }
func (t *tail) take() *Packet             { return t.fifo.pop() }
func (t *tail) len() int                  { return t.n }
func (t *tail) bytes() int                { return t.fifo.bytes }

// red is Random Early Detection (Floyd and Jacobson 1993, figure 2), with the
// "gentle" slope between Max and 2*Max, where the original drops everything.
type red struct {
	tail
	rnd       stream
	ecn       bool
	min, max  float64
	p, weight float64
	inBytes   bool
	mtu       float64
	typical   time.Duration // of serialising a packet of the MTU

	avg   float64
	count int           // packets since the last drop, -1 outside of the slope
	idle  time.Duration // since when the queue is empty, if it is
}

func newRED(t tail, q Queue, seed uint64) *red {
	s := &t.c.spec
	return &red{
		tail: t, rnd: newStream(seed, streamRED), ecn: s.ECN,
		min: float64(q.Min), max: float64(q.Max), p: q.P, weight: q.Weight,
		inBytes: q.Bytes > 0, mtu: float64(t.c.frame), typical: t.c.server.typical(t.c.frame), count: -1,
	}
}

func (r *red) push(now time.Duration, p *Packet) {
	r.average(now)
	switch r.verdict(p) {
	case redDrop:
		r.c.drop(p, &r.c.stats.DropsEarly)
		return
	case redMark:
		if !r.ecn || !r.c.mark(p) {
			r.c.drop(p, &r.c.stats.DropsEarly)
			return
		}
	}
	r.tail.push(now, p)
}

// average takes the queue's length into the average. While the queue was empty
// it counts as if so many packets had met it empty as could have been sent.
func (r *red) average(now time.Duration) {
	if r.n == 0 {
		m := int64(0)
		if r.typical > 0 {
			m = int64((now - r.idle) / r.typical)
		}
		r.avg = float64(r.avg * power(1-r.weight, m))
		r.idle = now
		return
	}
	q := float64(r.n)
	if r.inBytes {
		q = float64(r.fifo.bytes)
	}
	r.avg = float64(r.avg*(1-r.weight)) + float64(q*r.weight)
}

type redVerdict int

const (
	redPass redVerdict = iota
	redMark            // or drop
	redDrop
)

func (r *red) verdict(p *Packet) redVerdict {
	var pb float64
	v := redMark
	switch {
	case r.avg < r.min:
		r.count = -1
		return redPass
	case r.avg < r.max:
		pb = float64(r.p * (r.avg - r.min) / (r.max - r.min))
	case r.avg < 2*r.max:
		pb = r.p + float64((1-r.p)*(r.avg-r.max)/r.max)
		v = redDrop // RFC 3168 7: beyond the upper threshold, dropping
	default:
		r.count = 0
		return redDrop
	}
	if r.inBytes {
		pb = float64(pb * float64(p.size) / r.mtu)
	}
	// Uniform, not geometric, distances between drops.
	r.count++
	pa := 1.0
	if d := 1 - float64(float64(r.count)*pb); d > 0 {
		pa = pb / d
	}
	if !r.rnd.chance(pa) {
		return redPass
	}
	r.count = 0
	return v
}

func (r *red) pop(now time.Duration) *Packet {
	p := r.fifo.pop()
	if r.n == 0 {
		r.idle = now
	}
	return p
}
