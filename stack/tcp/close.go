package tcp

import (
	"time"

	"golang.org/x/sys/unix"
)

// Shutdown closes the sending half (CLOSE of RFC 9293 3.10.4, MUST-12): what
// was written is delivered, then FIN.
func (c *Conn) Shutdown() {
	switch c.state {
	case SynReceived, Established:
		c.snd.finQueued = true
		if c.state == Established {
			c.setState(FinWait1)
		}
	case CloseWait:
		c.snd.finQueued = true
		c.setState(LastAck)
	case SynSent:
		if c.fast.carried > 0 {
			c.snd.finQueued = true
		} else {
			c.end(0)
		}
	}
	c.finish()
}

// Close is CLOSE of a user that will not read any more: FIN, or RST if there is
// something that it has not read (RFC 1122 4.2.2.13, RFC 2525 2.17).
func (c *Conn) Close() {
	if c.orphan {
		return
	}
	c.orphan = true
	if c.rcv.buf.n > 0 && c.state != Closed && c.state != SynSent {
		c.sendReset(c.snd.nxt, c.rcv.nxt, RST|ACK)
		c.end(0)
		c.finish()
		return
	}
	c.rcv.buf.reset()
	c.Shutdown()
	if c.state == FinWait2 {
		c.orphanFinWait2()
	}
	c.finish()
}

// Abort is ABORT (RFC 9293 3.10.5): RST, and nothing is delivered any more.
func (c *Conn) Abort() {
	switch c.state {
	case SynReceived, Established, FinWait1, FinWait2, CloseWait:
		c.sendReset(c.snd.nxt, c.rcv.nxt, RST|ACK)
	}
	c.orphan = true
	c.end(0)
	c.rcv.buf.reset()
	c.finish()
}

// orphanFinWait2 bounds FIN-WAIT-2 of a connection that nobody has open: the
// peer may never close (RFC 9293 3.6; Linux's tcp_fin_timeout, TCP_LINGER2).
func (c *Conn) orphanFinWait2() {
	if c.opt.finTimeout < 0 {
		c.sendReset(c.snd.nxt, c.rcv.nxt, RST|ACK)
		c.end(0)
		return
	}
	c.set(timerState, c.opt.finTimeout)
}

// enterTimeWait is TIME-WAIT for 2 MSL (RFC 9293 3.6.1).
func (c *Conn) enterTimeWait() {
	c.setState(TimeWait)
	c.stopTimers()
	c.set(timerState, c.cfg.TimeWait)
	c.releaseSending()
	c.rcv.ooo.reset()
	c.env.Wake()
}

func (c *Conn) stopTimers() {
	for i := range c.timers {
		c.timers[i] = Never
	}
}

// releaseSending gives back what only a sender needs.
func (c *Conn) releaseSending() {
	c.snd.buf.reset(c.snd.nxt)
	c.sb = scoreboard{}
	c.seg = Segment{}
}

// end enters CLOSED, with the reason for the user; 0 if all is well. What was
// received can still be read.
func (c *Conn) end(err unix.Errno) {
	if c.state == Closed {
		return
	}
	c.err = err
	c.state = Closed
	c.stopTimers()
	c.releaseSending()
	c.rcv.ooo.reset()
	c.rcv.ackNow, c.rcv.ackDue = false, false
	if c.orphan {
		c.rcv.buf.reset()
	}
	c.env.Wake()
}

// abandon gives the connection up after too many attempts; a peer that is
// there after all is told.
func (c *Conn) abandon(err unix.Errno) {
	if c.state != SynSent && c.state != SynReceived {
		c.sendReset(c.snd.nxt, c.rcv.nxt, RST|ACK)
	}
	c.end(err)
}

// SetFINTimeout is TCP_LINGER2; negative for no FIN-WAIT-2 at all.
func (c *Conn) SetFINTimeout(d time.Duration) {
	if d == 0 {
		d = c.cfg.FINTimeout
	}
	c.opt.finTimeout = d
}

// Abandon ends the connection without a word to the peer.
func (c *Conn) Abandon() {
	c.orphan = true
	c.end(0)
	c.finish()
}
