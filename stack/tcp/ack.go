package tcp

import "time"

// AckPolicy decides when received data is acknowledged. One belongs to one
// connection.
type AckPolicy interface {
	Init(a *Acker)
	// OnData follows every segment with data or FIN. It calls methods of a:
	// Now, After, or Send for acknowledgments out of the ordinary.
	OnData(a *Acker, in Arrival)
	// OnAckSent is told that a segment has acknowledged everything, OnTimeout
	// that a delayed acknowledgment is due.
	OnAckSent()
	OnTimeout()
}

var ackPolicies = registry[AckPolicy]{kind: "ACK policy"}

// RegisterAckPolicy makes an ACK policy known under a name, for package
// initialization.
func RegisterAckPolicy(name string, f func() AckPolicy) { ackPolicies.add(name, f) }

// AckPolicies are their names.
func AckPolicies() []string { return ackPolicies.names() }

// Acker is what an AckPolicy works with.
type Acker struct{ c *Conn }

func (c *Conn) acker() *Acker {
	c.views.acker.c = c
	return &c.views.acker
}

// Now asks for an acknowledgment as soon as the segment in hand is dealt with;
// data that goes out then carries it.
func (a *Acker) Now() { a.c.rcv.ackNow = true }

// After asks for one after a time, if nothing else carries it until then.
func (a *Acker) After(d time.Duration) {
	c := a.c
	c.rcv.ackDue = true
	if at := c.now() + d; at < c.timers[timerAck] {
		c.timers[timerAck] = at
	}
}

// Send sends an acknowledgment of ack at once, whatever has been received.
func (a *Acker) Send(ack Seq) { a.c.sendAckOf(ack) }

// Next is RCV.NXT, Unacked how much of what came before is not acknowledged.
func (a *Acker) Next() Seq { return a.c.rcv.nxt }

// Unacked is how many bytes were received and not acknowledged.
func (a *Acker) Unacked() int { return a.c.rcv.nxt.Sub(a.c.rcv.wup) }

// MSS estimates the payload of the peer's full segments, bytes.
func (a *Acker) MSS() int { return a.c.rcv.mss }

// Window is how much the peer may send, bytes.
func (a *Acker) Window() int { return a.c.offered() }

// Quick says whether TCP_QUICKACK is set.
func (a *Acker) Quick() bool { return a.c.opt.quickAck }

// Clock is the time.
func (a *Acker) Clock() time.Duration { return a.c.now() }

// Conversing says whether data went out after the last came in: then more may
// follow soon, and carry the acknowledgment.
func (a *Acker) Conversing() bool {
	return a.c.snd.lastData != 0 && a.c.snd.lastData >= a.c.rcv.prevData
}

// DelayedAckMin and DelayedAckMax bound the delay of an acknowledgment.
func (a *Acker) DelayedAckMin() time.Duration {
	return min(a.c.cfg.DelayedAckMin, a.DelayedAckMax())
}

// DelayedAckMax is the longest delay.
func (a *Acker) DelayedAckMax() time.Duration {
	return orElse(a.c.opt.maxDelack, a.c.cfg.DelayedAckMax)
}

func init() {
	RegisterAckPolicy("delayed", func() AckPolicy { return &delayedAck{} })
	RegisterAckPolicy("every", func() AckPolicy { return everyAck{} })
}

// delayedAck is the policy of RFC 9293 3.8.6.3 and RFC 5681 4.2: every second
// full segment at once, others after a delay, what tells of a gap at once. At
// the beginning every segment is acknowledged, so that the peer's slow start is
// not slower still (Linux's quick ACKs).
type delayedAck struct {
	quick int // segments to be acknowledged at once
}

// maxQuick is how many segments are acknowledged at once in the beginning.
const maxQuick = 16

func (d *delayedAck) Init(a *Acker) {
	d.quick = min(max(a.Window()/(2*max(a.MSS(), 1)), 2), maxQuick)
}

func (d *delayedAck) OnData(a *Acker, in Arrival) {
	switch {
	case in.OutOfOrder, in.FIN, in.Packets > 1, a.Unacked() >= 2*a.MSS(), a.Unacked() > a.MSS() && !in.Push:
		a.Now()
	case a.Quick(), d.quick > 0 && !a.Conversing():
		d.quick = max(d.quick-1, 0)
		a.Now()
	default:
		a.After(a.DelayedAckMin())
	}
}

func (d *delayedAck) OnAckSent() {}

func (d *delayedAck) OnTimeout() {}

// everyAck acknowledges every segment at once.
type everyAck struct{}

func (everyAck) Init(*Acker)                {}
func (everyAck) OnData(a *Acker, _ Arrival) { a.Now() }
func (everyAck) OnAckSent()                 {}
func (everyAck) OnTimeout()                 {}

// SetQuickAck is TCP_QUICKACK.
func (c *Conn) SetQuickAck(on bool) {
	c.opt.quickAck = on
	if on && c.rcv.ackDue {
		c.rcv.ackNow = true
		c.finish()
	}
}
