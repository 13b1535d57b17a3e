package tcp

import "time"

func init() {
	RegisterAckPolicy("optimistic", func() AckPolicy { return &optimisticAck{} })
}

// optimisticAck is optimistic acknowledging (Savage et al., 1999, 2.3): it
// acknowledges what is still on its way, so that the sender believes in a
// shorter round trip. It acknowledges as far ahead as data came in the last
// round trip, for so much has been sent when the acknowledgment arrives.
//
// What is lost after it was acknowledged is lost for good, since the sender
// forgets it. The gap is filled with zeros: what the program reads is corrupt. It
// misbehaves; use it where the sender is yours.
type optimisticAck struct {
	acked Seq // the highest that was acknowledged
	begun bool

	since      time.Duration // when the round trip began
	count      int           // bytes in it
	last       int           // bytes in the one before
	beyond     int           // segments that came after a gap
	nextWanted Seq
}

func (o *optimisticAck) Init(*Acker) {}

func (o *optimisticAck) OnAckSent() {}

// OnTimeout: nothing came for a while. What was acknowledged may never have
// been sent; the acknowledgment that follows is an honest one.
func (o *optimisticAck) OnTimeout() { o.begun = false }

func (o *optimisticAck) OnData(a *Acker, in Arrival) {
	o.conceal(a)
	next := a.Next()
	if !o.begun || next.After(o.acked) {
		o.begun, o.acked = true, in.From
	}
	now, rtt := a.Clock(), a.RTT()
	o.count += in.Len
	if rtt > 0 && now-o.since >= rtt {
		o.last, o.count, o.since = o.count, 0, now
	}
	if in.FIN || in.Len == 0 {
		a.Now()
		return
	}
	step := max(a.MSS(), 1)
	to := next.Add(min(max(o.last, o.count), a.Window()))
	if rtt == 0 {
		to = next
	}
	for o.acked.Add(step).AtOrBefore(to) {
		o.acked = o.acked.Add(step)
		a.Send(o.acked)
	}
	a.After(max(2*rtt, a.DelayedAckMin()))
}

// conceal fills a gap that nobody will send again.
func (o *optimisticAck) conceal(a *Acker) {
	gap := a.Gap()
	if gap == 0 || a.Next() != o.nextWanted {
		o.beyond, o.nextWanted = 0, a.Next()
	}
	if gap == 0 || !a.Next().Add(gap).AtOrBefore(o.acked) {
		return
	}
	if o.beyond++; o.beyond >= dupThresh { // not only overtaken
		o.beyond = 0
		a.Forge()
	}
}

// RTT is the round-trip time as the receiver sees it, 0 if it is not known.
func (a *Acker) RTT() time.Duration { return a.c.rcv.tune.rtt }

// Gap is how many bytes are missing before the first that came out of order, 0
// if nothing did.
func (a *Acker) Gap() int {
	r := &a.c.rcv
	switch {
	case !r.ooo.empty():
		return r.ooo.pieces[0].start.Sub(r.nxt)
	case r.finKnown && !a.c.finRcvd:
		return r.fin.Sub(r.nxt)
	}
	return 0
}

// Forge takes the gap for zeros that were received.
func (a *Acker) Forge() {
	c := a.c
	if n := a.Gap(); n > 0 {
		c.takeInOrder(&Segment{Seq: c.rcv.nxt, Data: []Chunk{{B: make([]byte, n)}}, DataLen: n}, &Arrival{})
		if c.rcv.finKnown && c.rcv.nxt == c.rcv.fin && !c.finRcvd {
			c.inputFIN()
		}
	}
}
