package tcp

import (
	"time"

	"golang.org/x/sys/unix"
)

// timer is one of a connection's timers.
type timer int

const (
	timerRTO   timer = iota // retransmission timeout; SYN and FIN too
	timerLoss               // RACK's reordering window, or a tail loss probe
	timerProbe              // zero window (persist)
	timerAck                // delayed acknowledgment
	timerKeep               // keep-alive
	timerState              // TIME-WAIT, FIN-WAIT-2
	timerPace               // pacing
	timerCork               // what TCP_CORK keeps back goes out after 200 ms
	numTimers
)

func (c *Conn) set(t timer, after time.Duration) { c.timers[t] = c.now() + after }
func (c *Conn) stop(t timer)                     { c.timers[t] = Never }
func (c *Conn) isSet(t timer) bool               { return c.timers[t] != Never }

// rearm asks for a call at the next expiry. A call that comes too early costs
// less than moving it with every segment, so it is only ever moved forward.
func (c *Conn) rearm() {
	next := Never
	for _, t := range c.timers {
		next = min(next, t)
	}
	if next < c.armed || next == Never && c.armed != Never && c.state == Closed {
		c.armed = next
		c.env.SetTimer(next)
	}
}

// Timer serves the timers that have expired.
func (c *Conn) Timer() {
	now := c.now()
	if now < c.armed {
		return
	}
	c.armed = Never
	for t := range numTimers {
		if c.timers[t] > now {
			continue
		}
		c.timers[t] = Never
		switch t {
		case timerRTO:
			c.onRTO()
		case timerLoss:
			c.onLossTimer()
		case timerProbe:
			c.onProbeTimer()
		case timerAck:
			if c.rcv.ackDue {
				c.rcv.ackNow = true
				c.ackp.OnTimeout()
			}
		case timerKeep:
			c.onKeepTimer()
		case timerState:
			c.end(0)
		case timerPace:
		case timerCork:
			c.probe.flushCork = true
		}
		if c.state == Closed {
			break
		}
	}
	c.finish()
}

// The retransmission timer (RFC 6298 5).

// restartRTO is rules 5.1 and 5.3: it runs while anything is in flight.
func (c *Conn) restartRTO() {
	if c.sb.empty() {
		c.stop(timerRTO)
		return
	}
	c.set(timerRTO, c.rtoValue())
}

// rtoValue is RTO with its backoff (5.5), bounded by the user timeout.
func (c *Conn) rtoValue() time.Duration {
	d := c.baseRTO() << min(c.probe.backoff, 20)
	d = min(d, c.maxRTO())
	if u := c.opt.userTimeout; u > 0 && c.probe.since != 0 {
		if left := c.probe.since + u - c.now(); left < d {
			d = max(left, time.Millisecond)
		}
	}
	return d
}

func (c *Conn) baseRTO() time.Duration {
	if c.state == SynSent || c.state == SynReceived {
		return min(c.cfg.InitialRTO, c.maxRTO())
	}
	rto := max(c.rto.RTO(), c.cfg.MinRTO)
	if least := c.opt.minRTO; least > 0 && c.rto.SRTT() > 0 { // in place of the estimator's own floor
		rto = c.rto.SRTT() + max(4*c.rto.RTTVar(), least)
	}
	return min(rto, c.maxRTO())
}

// onRTO is rules 5.4 to 5.7.
func (c *Conn) onRTO() {
	if c.sb.empty() {
		return
	}
	now := c.now()
	if c.probe.since == 0 {
		c.probe.since = c.sb.at(0).sent
	}
	if c.gaveUp(now) {
		err := unix.ETIMEDOUT
		if c.softErr != 0 {
			err = c.softErr
		}
		c.abandon(err)
		return
	}
	c.cfg.Counters.Timeouts.Add(1)
	c.backedOff()
	c.probe.retries++
	if c.probe.backoff < 255 {
		c.probe.backoff++
	}
	switch c.state {
	case SynSent, SynReceived:
		c.retransmitSYN()
	default:
		if c.fast.early {
			c.answerSYN()
		} else if c.snd.wnd == 0 {
			// The peer has taken its window back: a probe (RFC 9293 3.8.6.1).
			c.sb.loseHead(c.snd.mss)
			c.retransmitHead()
		} else {
			c.blackHole()
			c.enterLoss()
		}
	}
	c.set(timerRTO, c.rtoValue())
}

// gaveUp says whether it is time to give the connection up (RFC 9293 3.8.3).
func (c *Conn) gaveUp(now time.Duration) bool {
	if u := c.opt.userTimeout; u > 0 && c.state != SynSent && c.state != SynReceived {
		return now-c.probe.since >= u
	}
	limit := c.cfg.Retries
	switch c.state {
	case SynSent:
		limit = c.opt.synRetries
	case SynReceived:
		limit = c.cfg.SYNAckRetries
	}
	return c.probe.retries >= limit
}

// progress notes that the peer acknowledged something.
func (c *Conn) progress() {
	c.probe.retries, c.probe.backoff, c.probe.since = 0, 0, 0
	c.softErr = 0
	c.resumed()
}
