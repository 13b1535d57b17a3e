package tcp

import (
	"time"

	"golang.org/x/sys/unix"
)

// Ack is what an acknowledgment says, as congestion controls and loss detectors
// are told. Amounts are in bytes.
type Ack struct {
	Acked     int           // cumulatively acknowledged, new
	Delivered int           // acknowledged or SACKed, new
	Lost      int           // found to be lost with this acknowledgment
	InFlight  int           // before it
	RTT       time.Duration // by the newest of what it acknowledges; 0: none
	ECE       bool          // the peer saw congestion
	Duplicate bool          // RFC 5681 2
	Una, Nxt  Seq           // after it
	Rate      RateSample

	prevUna  Seq
	rttFirst time.Duration // by the oldest of what it acknowledges
	rttSACK  time.Duration // by the oldest of what it SACKs
	resent   bool          // it acknowledges something that was retransmitted
	original bool          // something from before the last recovery, never retransmitted, was delivered
	sackedUp bool          // something was SACKed
	echo     uint32        // TSecr
	hasEcho  bool
}

// ackInRange says whether the segment acknowledges something new.
func (c *Conn) ackInRange(s *Segment) bool {
	return s.Ack.After(c.snd.una) && s.Ack.AtOrBefore(c.snd.nxt)
}

// inputAck is 3.10.7.4, fifth. It says whether to go on with the segment.
func (c *Conn) inputAck(s *Segment) bool {
	if c.state == SynReceived {
		if !c.ackInRange(s) {
			c.sendReset(s.Ack, 0, RST)
			return false
		}
		if !c.acceptedBy(s) {
			return false
		}
		c.handshakeRTT(c.sb.at(0))
		if !c.finishHandshake(s) {
			return false
		}
	}
	switch {
	case s.Ack.After(c.snd.nxt):
		c.challenge()
		return false
	case s.Ack.Before(c.snd.una.Add(-c.snd.maxWnd)): // RFC 5961 5.2
		c.challenge()
		return false
	}
	if !c.believed(s) {
		return false
	}
	c.takeTimestamp(s)
	c.processAck(s)
	c.stateAfterAck()
	return c.state != Closed
}

// acceptedBy says whether the queue of the listener has room, and what
// TCP_DEFER_ACCEPT waits for has come.
func (c *Conn) acceptedBy(s *Segment) bool {
	if !c.passive {
		return true
	}
	if c.opt.deferAccept > 0 && s.DataLen == 0 && s.Flags&FIN == 0 && c.now()-c.sb.at(0).sent < c.opt.deferAccept {
		return false
	}
	return c.env.Admit()
}

// finishHandshake leaves SYN-RECEIVED.
func (c *Conn) finishHandshake(s *Segment) bool {
	c.snd.una = c.snd.iss.Add(1)
	c.sb.reset()
	c.stop(timerRTO)
	c.snd.wnd = int(s.Window) << c.snd.scale
	c.snd.maxWnd = max(c.snd.maxWnd, c.snd.wnd)
	c.snd.wl1, c.snd.wl2 = s.Seq, s.Ack
	c.establish()
	if c.snd.finSent || c.snd.finQueued { // closed before it was established
		c.setState(FinWait1)
	}
	return true
}

// updateWindow takes the send window (3.10.7.4) and says whether it changed.
func (c *Conn) updateWindow(s *Segment) bool {
	w := int(s.Window) << c.snd.scale
	n := &c.snd
	newer := n.wl1.Before(s.Seq) || n.wl1 == s.Seq && n.wl2.AtOrBefore(s.Ack)
	if !newer && !(s.Ack.After(n.una) || s.Ack == n.una && w > n.wnd) {
		return false
	}
	if !newer && s.Ack.Before(n.wl2) {
		return false
	}
	changed := w != n.wnd
	n.wnd, n.wl1, n.wl2 = w, s.Seq, s.Ack
	n.maxWnd = max(n.maxWnd, w)
	return changed
}

// processAck takes the acknowledgment.
func (c *Conn) processAck(s *Segment) {
	a := &c.ack
	*a = Ack{InFlight: c.pipe(), prevUna: c.snd.una, ECE: c.ecn.on && s.Flags&ECE != 0}
	if c.agreed&HasTimestamps != 0 && s.Options.Has&HasTimestamps != 0 && s.Options.TSEcr != 0 {
		a.echo, a.hasEcho = s.Options.TSEcr, true
	}
	changed := false
	if s.Ack.AtOrAfter(c.snd.una) {
		changed = c.updateWindow(s)
	}
	now := c.now()
	got := func(r *record) { c.delivered(r, a, now) }
	acked := func(r *record) {
		a.resent = a.resent || r.flags&everRetrans != 0
		if r.flags&recSacked == 0 {
			got(r)
		}
	}
	if s.Ack.After(c.snd.una) {
		a.Acked = s.Ack.Sub(c.snd.una)
		c.segs.bytesAcked += uint64(a.Acked)
		c.sb.ackTo(s.Ack, acked)
		if a.resent {
			a.rttFirst, a.RTT = 0, 0 // which of them it answers is not known
		} else {
			a.rttFirst = a.rttSACK
		}
		a.rttSACK = 0
		c.snd.una = s.Ack
		c.progress()
		c.snd.buf.release(s.Ack)
		c.madeRoom()
	}
	if s.Options.NSACK > 0 && c.agreed&HasSACKPermitted != 0 {
		c.takeSACK(s, a, got)
	}
	a.Una, a.Nxt = c.snd.una, c.snd.nxt
	a.Duplicate = s.Ack == c.snd.una && a.Acked == 0 && s.DataLen == 0 && s.Flags&FIN == 0 && !changed && !c.sb.empty()
	c.sampleRTT(s, a)
	c.rate.onAck(c, a, now)
	c.recoverOnAck(a)
	if a.Acked > 0 {
		c.sb.forget()
		c.restartRTO()
	}
	c.scheduleTLP(a.Acked > 0 || a.Delivered > 0)
	if c.snd.wnd > 0 && c.isSet(timerProbe) {
		c.stop(timerProbe)
		c.progress()
	}
	if s.Ack == c.snd.una && s.DataLen == 0 {
		c.probe.answered(c)
	}
}

// delivered is told of every record that the peer has got.
func (c *Conn) delivered(r *record, a *Ack, now time.Duration) {
	n := r.len()
	a.Delivered += n
	segs := uint32(max((n+c.snd.mss-1)/max(c.snd.mss, 1), 1))
	c.segs.delivered += segs
	if a.ECE {
		c.segs.deliveredCE += segs
	}
	c.rate.delivered += uint64(n)
	if r.flags&everRetrans == 0 && r.start.Before(c.recovery.high) {
		a.original = true
	}
	if r.flags&(everRetrans|recLost) == 0 {
		a.RTT = max(now-r.sent, 1)
		if a.rttSACK == 0 {
			a.rttSACK = a.RTT
		}
	}
	c.noteOrder(r)
	c.rate.take(r)
	c.detector.Delivered(r.view(), now)
	if r.flags&recProbe != 0 {
		c.mtu.confirmed(c, n)
	}
}

// takeSACK takes the SACK blocks (RFC 2018 5.1). The first may be a D-SACK
// (RFC 2883 4): below the acknowledgment, or within the second.
func (c *Conn) takeSACK(s *Segment, a *Ack, got func(*record)) {
	blocks := s.Options.SACK[:s.Options.NSACK]
	if d := blocks[0]; d.Start.Before(d.End) &&
		(d.End.AtOrBefore(s.Ack) || len(blocks) > 1 && d.Start.AtOrAfter(blocks[1].Start) && d.End.AtOrBefore(blocks[1].End)) {
		blocks = blocks[1:]
		if d.Len() <= c.snd.maxWnd && d.End.AtOrBefore(c.snd.nxt) {
			c.noteDSACK(d)
		}
	}
	before := a.Delivered
	for _, r := range blocks {
		if !r.Start.Before(r.End) || r.End.After(c.snd.nxt) || r.End.AtOrBefore(c.snd.una) {
			continue
		}
		r.Start = maxSeq(r.Start, c.snd.una)
		c.sb.sack(r, got)
	}
	a.sackedUp = a.Delivered > before
}

// sampleRTT feeds the RTO estimator: by what was acknowledged and never
// retransmitted (Karn's algorithm, RFC 6298 3), else by the echoed timestamp.
func (c *Conn) sampleRTT(s *Segment, a *Ack) {
	switch {
	case a.rttFirst > 0:
		c.rttSample(a.rttFirst)
	case a.rttSACK > 0:
		c.rttSample(a.rttSACK)
	case a.Acked > 0 && a.hasEcho && !(a.resent && int32(a.echo-c.recovery.lastResent) < 0):
		// An echo from before the last retransmission answers something whose
		// acknowledgment was lost.
		if d := c.echoedRTT(s); d > 0 {
			c.rttSample(d)
		}
	}
}

func (c *Conn) rttSample(d time.Duration) {
	c.rto.Sample(d, c.now())
	c.probe.backoff = 0
	c.win.addRTT(d, c.now())
}

// madeRoom wakes the user if it waits for room in the send buffer, and lets
// the buffer grow with the window.
func (c *Conn) madeRoom() {
	if !c.opt.sndLocked {
		if want := min(3*c.win.Cwnd, c.cfg.MaxSendBuffer); want > c.snd.bufSize && c.snd.buf.len() > c.snd.bufSize/3 {
			c.snd.bufSize = want
		}
	}
	if c.wantOut && c.Writable() {
		c.wantOut = false
		c.env.Wake()
	}
}

// stateAfterAck makes the changes of state that the acknowledgment of our FIN
// makes (3.10.7.4, fifth).
func (c *Conn) stateAfterAck() {
	if !c.snd.finSent || c.snd.una != c.snd.nxt {
		return
	}
	switch c.state {
	case FinWait1:
		c.setState(FinWait2)
		c.env.Wake()
		if c.orphan {
			c.orphanFinWait2()
		}
	case Closing:
		c.enterTimeWait()
	case LastAck:
		c.end(0)
	}
}

// SoftError notes an ICMP error that does not end an established connection;
// one that is being made it ends (RFC 9293 3.9.2.2).
func (c *Conn) SoftError(err unix.Errno) {
	switch c.state {
	case SynSent, SynReceived:
		c.end(err)
		c.finish()
	default:
		c.softErr = err
	}
}
