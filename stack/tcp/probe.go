package tcp

import (
	"time"

	"golang.org/x/sys/unix"
)

// probeState is about a peer that does not answer: retransmissions, zero
// windows, keep-alives.
type probeState struct {
	since    time.Duration // when what is not acknowledged was sent; 0: nothing is due
	retries  int
	backoff  int
	keepSent int
	heard    time.Duration
	// The next output may send small segments: TCP_CORK's time is over, or
	// that of the silly window's avoidance.
	flushCork, override bool
}

// armProbe starts probing when the window keeps back what there is to be sent,
// and nothing is in flight whose acknowledgment would open it (RFC 9293
// 3.8.6.1; the override timer of 3.8.6.2.1 is the same).
func (c *Conn) armProbe() {
	if !c.sb.empty() || c.isSet(timerProbe) || c.isSet(timerPace) || c.isSet(timerCork) {
		return
	}
	if c.unsent() == 0 && (!c.snd.finQueued || c.snd.finSent) {
		return
	}
	c.set(timerProbe, c.rtoValue())
	if c.probe.since == 0 {
		c.probe.since = max(c.now(), 1)
	}
}

func (c *Conn) onProbeTimer() {
	if !c.sb.empty() || c.unsent() == 0 && (!c.snd.finQueued || c.snd.finSent) {
		return
	}
	if c.snd.una.Add(c.snd.wnd).After(c.snd.nxt) {
		c.probe.override = true // finish sends what the window lets
		return
	}
	timeout := c.opt.userTimeout
	switch {
	case timeout > 0 && c.now()-c.probe.since >= timeout,
		c.probe.retries >= c.cfg.Retries,
		c.orphan && c.probe.retries >= 8:
		c.abandon(unix.ETIMEDOUT)
		return
	}
	c.probe.retries++
	c.probe.backoff++
	c.sendProbe()
	c.set(timerProbe, c.rtoValue())
}

// answered notes that the peer answers: as long as it does, a zero window may
// last for ever (RFC 9293 3.8.6.1, MUST-36).
func (p *probeState) answered(c *Conn) {
	if c.isSet(timerProbe) {
		p.retries = 0
		if c.opt.userTimeout > 0 && c.snd.wnd > 0 {
			p.since = 0
		}
	}
}

// sendProbe sends a segment that is not acceptable, for below the window, and
// so draws an acknowledgment (RFC 9293 3.8.4, and Linux's choice for 3.8.6.1).
func (c *Conn) sendProbe() {
	s := c.newSegment(c.snd.una.Add(-1), 0)
	c.acknowledge(s)
	c.emit(s)
	c.sentAck()
}

// Keep-alives (RFC 9293 3.8.4).

// SetKeepAlive is SO_KEEPALIVE.
func (c *Conn) SetKeepAlive(on bool) {
	c.opt.keepAlive = on
	c.probe.keepSent = 0
	switch {
	case !on:
		c.stop(timerKeep)
	case c.state != Closed && c.state != SynSent && c.state != TimeWait:
		c.set(timerKeep, c.opt.keepIdle)
		c.rearm()
	}
}

// SetKeepIdle is TCP_KEEPIDLE, SetKeepInterval TCP_KEEPINTVL, SetKeepCount
// TCP_KEEPCNT.
func (c *Conn) SetKeepIdle(d time.Duration) {
	c.opt.keepIdle = d
	if c.opt.keepAlive {
		c.SetKeepAlive(true)
	}
}

// SetKeepInterval sets the time between keep-alives.
func (c *Conn) SetKeepInterval(d time.Duration) { c.opt.keepInterval = d }

// SetKeepCount sets how many keep-alives go unanswered before the end.
func (c *Conn) SetKeepCount(n int) { c.opt.keepCount = n }

func (c *Conn) onKeepTimer() {
	switch c.state {
	case Closed, SynSent, SynReceived, TimeWait:
		return
	}
	if !c.sb.empty() || c.unsent() > 0 { // the other timers are at work
		c.set(timerKeep, c.opt.keepIdle)
		return
	}
	u := c.opt.userTimeout
	silent := c.opt.keepIdle + time.Duration(c.probe.keepSent)*c.opt.keepInterval
	if u > 0 && silent >= u && c.probe.keepSent > 0 || u == 0 && c.probe.keepSent >= c.opt.keepCount {
		c.abandon(unix.ETIMEDOUT)
		return
	}
	c.probe.keepSent++
	c.sendProbe()
	c.set(timerKeep, c.opt.keepInterval)
}
