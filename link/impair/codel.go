package impair

import (
	"math"
	"time"
)

// codelParams are common to all CoDel queues of a Core.
type codelParams struct {
	c                *Core
	target, interval time.Duration
	mtu              int // bytes
	ecn              bool
}

func newCodelParams(c *Core, q Queue) codelParams {
	return codelParams{c: c, target: q.Target, interval: q.Interval, mtu: c.frame, ecn: c.spec.ECN}
}

// codel is the state of one CoDel queue, named as in RFC 8289 5.3.
type codel struct {
	firstAbove time.Duration // when the sojourn time will have been above target for an interval
	above      bool          // firstAbove counts
	dropNext   time.Duration
	count      int // drops since entering the drop state
	lastCount  int // count when it was entered
	dropping   bool
}

// controlLaw is the time of the next drop (RFC 8289 5.5).
func (p *codelParams) controlLaw(t time.Duration, count int) time.Duration {
	return t + time.Duration(float64(p.interval)/math.Sqrt(float64(count)))
}

// dodequeue takes one packet off, and says whether it may be dropped: the
// sojourn time has been above target for at least an interval (RFC 8289 5.6).
func (s *codel) dodequeue(now time.Duration, f *fifo, p *codelParams) (*Packet, bool) {
	pkt := f.pop()
	if pkt == nil {
		s.above = false
		return nil, false
	}
	switch {
	case now-pkt.queued < p.target || f.bytes <= p.mtu:
		s.above = false
	case !s.above:
		s.above, s.firstAbove = true, now+p.interval
	default:
		return pkt, now >= s.firstAbove
	}
	return pkt, false
}

// pop is the next packet of f to be sent, nil if there is none left (RFC 8289
// 5.5). A marked packet counts as a drop and is sent.
func (s *codel) pop(now time.Duration, f *fifo, p *codelParams) *Packet {
	pkt, ok := s.dodequeue(now, f, p)
	switch {
	case s.dropping && !ok:
		s.dropping = false
	case s.dropping:
		for s.dropping && now >= s.dropNext {
			s.count++
			if p.mark(pkt) {
				s.dropNext = p.controlLaw(s.dropNext, s.count)
				break
			}
			p.c.drop(pkt, &p.c.stats.DropsEarly)
			if pkt, ok = s.dodequeue(now, f, p); !ok {
				s.dropping = false
			} else {
				s.dropNext = p.controlLaw(s.dropNext, s.count)
			}
		}
	case ok:
		if !p.mark(pkt) {
			p.c.drop(pkt, &p.c.stats.DropsEarly)
			pkt, _ = s.dodequeue(now, f, p)
		}
		s.dropping = true
		// If the last drop state is not long over, its rate of drops is a good
		// one to begin with.
		delta := s.count - s.lastCount
		s.count = 1
		if delta > 1 && now-s.dropNext < 16*p.interval {
			s.count = delta
		}
		s.dropNext = p.controlLaw(now, s.count)
		s.lastCount = s.count
	}
	return pkt
}

func (p *codelParams) mark(pkt *Packet) bool { return p.ecn && p.c.mark(pkt) }

// codelQueue is CoDel over one queue, with a limit.
type codelQueue struct {
	tail
	state  codel
	params codelParams
}

func (q *codelQueue) push(now time.Duration, p *Packet) {
	p.queued = now
	q.tail.push(now, p)
}

func (q *codelQueue) pop(now time.Duration) *Packet { return q.state.pop(now, &q.fifo, &q.params) }

// fqCodel is FQ-CoDel (RFC 8290): a CoDel queue for each flow, served in turn,
// those that just became busy first.
type fqCodel struct {
	params   codelParams
	limit    int // packets, of all flows together
	quantum  int // bytes
	seed     uint64
	flows    []flow
	new, old flowList
	n, sum   int // packets, bytes
}

// flow is one queue.
type flow struct {
	fifo
	codel
	credits int
	listed  bool
	next    *flow
}

type flowList struct{ head, tail *flow }

func (l *flowList) push(f *flow) {
	f.next = nil
	if l.tail == nil {
		l.head = f
	} else {
		l.tail.next = f
	}
	l.tail = f
}

func (l *flowList) pop() {
	f := l.head
	l.head, f.next = f.next, nil
	if l.head == nil {
		l.tail = nil
	}
}

func newFQCoDel(c *Core, q Queue, seed uint64) *fqCodel {
	s := newStream(seed, streamFlows)
	return &fqCodel{
		params: newCodelParams(c, q), limit: q.Packets, quantum: q.Quantum,
		seed: s.pcg.Uint64(), flows: make([]flow, q.Flows),
	}
}

// push classifies a packet (RFC 8290 4.1).
func (q *fqCodel) push(now time.Duration, p *Packet) {
	c := q.params.c
	f := &q.flows[flowHash(p.Data, c.medium, q.seed)%uint64(len(q.flows))]
	p.queued = now
	f.push(p)
	q.n++
	q.sum += p.size
	if !f.listed {
		f.listed = true
		f.credits = q.quantum
		q.new.push(f)
	}
	if q.n > q.limit {
		q.shed()
	}
}

// shed drops half of the fattest flow's packets, from its head, at most 64
// (RFC 8290 4.1).
func (q *fqCodel) shed() {
	fat := &q.flows[0]
	for i := range q.flows {
		if f := &q.flows[i]; f.bytes > fat.bytes {
			fat = f
		}
	}
	for range min(max(fat.n/2, 1), 64) {
		p := fat.fifo.pop()
		q.n--
		q.sum -= p.size
		q.params.c.drop(p, &q.params.c.stats.DropsQueue)
	}
}

// pop serves the next flow in turn (RFC 8290 4.2).
func (q *fqCodel) pop(now time.Duration) *Packet {
	for {
		l := &q.new
		if l.head == nil {
			if l = &q.old; l.head == nil {
				return nil
			}
		}
		f := l.head
		if f.credits <= 0 {
			f.credits += q.quantum
			l.pop()
			q.old.push(f)
			continue
		}
		n, sum := f.n, f.bytes
		p := f.codel.pop(now, &f.fifo, &q.params)
		q.n -= n - f.n
		q.sum -= sum - f.bytes
		if p != nil {
			f.credits -= p.size
			return p
		}
		l.pop()
		if l == &q.new && q.old.head != nil {
			q.old.push(f) // or a flow could stay new for ever
			continue
		}
		f.listed = false
	}
}

func (q *fqCodel) take() *Packet {
	for i := range q.flows {
		if p := q.flows[i].fifo.pop(); p != nil {
			q.n--
			q.sum -= p.size
			return p
		}
	}
	return nil
}

func (q *fqCodel) len() int   { return q.n }
func (q *fqCodel) bytes() int { return q.sum }
