package tcp

import "time"

// output sends what may be sent: what was lost first, then what is new.
func (c *Conn) output() {
	switch c.state {
	case Established, CloseWait, FinWait1, Closing, LastAck:
	default:
		return
	}
	if c.sb.lost == 0 && c.unsent() == 0 && (!c.snd.finQueued || c.snd.finSent) {
		c.win.limited = false
		return
	}
	c.refreshWindow()
	c.restartAfterIdle()
	for c.pace.ready(c) {
		if c.sb.lost > 0 && !c.recovery.frtoNew && c.retransmitLost() {
			continue
		}
		if !c.sendNew() {
			break
		}
	}
	c.win.sent(c)
	c.armProbe()
}

// pipe is what is in the network: RFC 6675's estimate, or, without SACK, one
// that takes each duplicate ACK for a segment that has left it.
func (c *Conn) pipe() int { return max(c.sb.pipe()-c.recovery.dupSacked, 0) }

// room is how much the congestion window lets go out now.
func (c *Conn) room() int { return c.win.Cwnd - c.pipe() }

// burst is the largest segment to hand out at once: about a millisecond of the
// rate, two segments at least.
func (c *Conn) burst() int {
	mss := c.snd.mss
	if c.path.GSOMax <= mss || c.snd.urgent { // the pointer is each segment's own
		return mss
	}
	most := c.path.GSOMax / mss * mss
	if r := c.win.paceRate; r > 0 {
		most = min(most, max(int(r/1000)/mss, 2)*mss)
	}
	return max(most, mss)
}

// fit cuts n to what the congestion window has room for: whole segments, or
// nothing. Into an idle network one segment always goes.
func (c *Conn) fit(n int) int {
	mss := c.snd.mss
	room := c.room()
	if room < min(mss, n) {
		if c.pipe() > 0 {
			return 0
		}
		return min(n, mss)
	}
	if n > room {
		n = max(room/mss, 1) * mss
	}
	return min(n, c.burst())
}

// retransmitLost sends the next piece that is believed to be lost and has not
// been sent again (RFC 6675 4, NextSeg rule 1).
func (c *Conn) retransmitLost() bool {
	for i := c.sb.find(c.sb.lostHint); i < c.sb.size(); i++ {
		r := c.sb.at(i)
		if r.flags&(recLost|recRetrans|recSacked) != recLost {
			continue
		}
		c.sb.lostHint = r.start
		n := c.fit(r.len())
		if n == 0 {
			c.win.limited = true
			return false
		}
		if edge := c.snd.una.Add(c.snd.wnd); r.end.After(edge) && i > 0 && r.start.Add(n).After(edge) {
			return false // the peer took its window back
		}
		if n < r.len() {
			c.sb.split(i, r.start.Add(n))
		}
		c.retransmit(i)
		return true
	}
	c.sb.lostHint = c.snd.nxt
	return false
}

// retransmitHead sends the first segment in flight again, whatever the windows
// say.
func (c *Conn) retransmitHead() {
	if c.sb.empty() {
		return
	}
	if r := c.sb.at(0); r.len() > c.snd.mss {
		c.sb.split(0, r.start.Add(c.snd.mss))
	}
	c.retransmit(0)
}

// sendNew sends a segment of what has never been sent, if the windows, Nagle's
// algorithm and the avoidance of silly windows let it.
func (c *Conn) sendNew() bool {
	s := &c.snd
	if s.finSent {
		return false
	}
	avail, mss := c.unsent(), s.mss
	fin := s.finQueued
	if avail == 0 && !fin {
		return false
	}
	left := s.una.Add(s.wnd).Sub(s.nxt)
	n := min(avail, left)
	if n < 0 || n == 0 && avail > 0 {
		return false // a zero window
	}
	if c.mtu.probeDue(c, n) {
		c.mtu.probe(c)
		return true
	}
	if n < mss && !c.mayBeSmall(n, avail) {
		return false
	}
	if n > 0 {
		want := n
		if n = c.fit(n); n == 0 {
			c.win.limited = true
			return false
		}
		if n < want {
			c.win.limited = n < c.burst()
			n = max(n/mss, 1) * mss
		} else if rest := n % mss; n > mss && rest > 0 && (n < avail || !c.mayBeSmall(rest, rest)) {
			n -= rest
		}
		n = min(n, want)
	}
	withFIN := fin && n == avail && left > n
	if n == 0 && !withFIN {
		return false
	}
	if c.withhold(n, avail) {
		n, withFIN = mss, false
	}
	c.sendData(n, withFIN)
	return true
}

// mayBeSmall says whether a segment of n bytes, less than the MSS, may be sent
// now: the sender's avoidance of silly windows (RFC 9293 3.8.6.2.1) and Nagle's
// algorithm (3.7.4) in Minshall's form: one small segment may be in flight.
func (c *Conn) mayBeSmall(n, avail int) bool {
	if n < avail { // the window cuts it
		return n >= c.snd.maxWnd/2 || c.probe.override
	}
	switch {
	case c.opt.noDelay && !c.opt.cork, c.snd.finQueued, c.probe.flushCork, c.snd.urgent:
		return true
	case c.opt.cork:
		if !c.isSet(timerCork) && n > 0 {
			c.set(timerCork, corkTime)
		}
		return false
	}
	return !c.snd.lastPartial.After(c.snd.una)
}

// corkTime is how long TCP_CORK keeps a partial segment back (tcp(7)).
const corkTime = 200 * time.Millisecond

// restartAfterIdle shrinks a window that has not been used for an RTO
// (RFC 5681 4.1).
func (c *Conn) restartAfterIdle() {
	if !c.sb.empty() || c.snd.lastData == 0 {
		return
	}
	idle, rto := c.now()-c.snd.lastData, c.baseRTO()
	if idle <= rto || c.unsent() == 0 {
		return
	}
	restart := min(c.cfg.InitialWindow*c.snd.mss, c.win.Cwnd)
	for ; idle > rto && c.win.Cwnd > restart && !c.ownsWindow(); idle -= rto {
		c.win.Cwnd = max(c.win.Cwnd/2, restart)
	}
	c.cc.OnEvent(&c.win, EventIdle)
	c.snd.lastData = c.now()
}

// SetNoDelay is TCP_NODELAY: no Nagle's algorithm, and what it keeps goes out.
func (c *Conn) SetNoDelay(on bool) {
	c.opt.noDelay = on
	if on {
		c.flushSmall()
	}
}

// SetCork is TCP_CORK: only full segments, for 200 ms; what is kept goes out
// when it is turned off.
func (c *Conn) SetCork(on bool) {
	was := c.opt.cork
	c.opt.cork = on
	if was && !on {
		c.stop(timerCork)
		c.flushSmall()
	}
}

func (c *Conn) flushSmall() {
	if c.state == Closed {
		return
	}
	c.probe.flushCork = true
	c.finish()
}
