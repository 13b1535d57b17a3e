package tcp

import "time"

// tlp is the state of tail loss probes (RFC 8985 7.1).
type tlp struct {
	on      bool // a probe is under way
	resent  bool // TLP.is_retrans
	dsacked bool
	end     Seq // TLP.end_seq
}

// tlpLeast is the least time to a probe, beside the round trip.
const tlpLeast = 2 * time.Millisecond

// scheduleTLP sets the timer of a probe (7.2) if one may be sent, after data was
// sent or acknowledged.
func (c *Conn) scheduleTLP(progress bool) {
	r := &c.recovery
	if r.reordering {
		return
	}
	if !c.cfg.TLP || c.fast.early || c.agreed&HasSACKPermitted == 0 || c.ca != CAOpen || r.tlp.on || c.sb.empty() || c.sb.sacked > 0 || c.probe.retries > 0 {
		c.stopTLP()
		return
	}
	if !progress {
		return
	}
	pto := time.Second
	if srtt := c.rto.SRTT(); srtt > 0 {
		pto = 2*srtt + tlpLeast
		if c.sb.bytes() <= c.snd.mss { // the peer may delay its acknowledgment
			pto = 2*srtt + c.cfg.DelayedAckMax
		}
	}
	at := c.now() + pto
	if rto := c.timers[timerRTO]; at >= rto { // the timeout comes first
		c.stopTLP()
		return
	}
	c.timers[timerLoss] = at
}

func (c *Conn) stopTLP() {
	if !c.recovery.reordering {
		c.stop(timerLoss)
	}
}

// sendTLP sends a probe (7.3): new data if there is some and the peer has room,
// else the last segment again.
func (c *Conn) sendTLP() {
	p := &c.recovery.tlp
	if p.on || c.ca != CAOpen {
		return
	}
	s := &c.snd
	n := min(c.unsent(), s.mss, s.una.Add(s.wnd).Sub(s.nxt))
	p.resent = n <= 0
	if n > 0 {
		c.sendData(n, false)
	} else {
		i := c.sb.size() - 1
		if r := c.sb.at(i); r.len() > s.mss {
			c.sb.split(i, r.end.Add(-s.mss))
			i++
		}
		c.retransmit(i)
	}
	p.on, p.dsacked, p.end = true, false, s.nxt
	c.stopTLP()
	c.restartRTO()
}

// tlpOnAck finds out whether the probe has repaired a loss (7.4.2), which is a
// sign of congestion as any other.
func (c *Conn) tlpOnAck(a *Ack) {
	p := &c.recovery.tlp
	if !p.on || a.Una.Before(p.end) {
		return
	}
	switch {
	case !p.resent, p.dsacked:
	case a.Una.After(p.end):
		if c.ca < CACWR {
			c.undoForget()
			c.cc.OnEvent(&c.win, EventLoss)
			c.clampSsthresh()
			if !c.ownsWindow() {
				c.win.Cwnd = min(c.win.Cwnd, c.win.Ssthresh)
			}
			c.cc.OnEvent(&c.win, EventRecovered)
		}
	case a.Acked > 0 || a.sackedUp || !a.Duplicate:
		return // wait for the duplicate that tells of two arrivals
	}
	p.on = false
}
