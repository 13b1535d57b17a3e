package tcp

// undo is what is needed to take back a reduction of the window, if what was
// retransmitted turns out not to have been lost: by D-SACK (RFC 3708), or by the
// echoed timestamp (Eifel, RFC 3522). The response is RFC 4015's.
type undo struct {
	undoOn        bool
	undoAny       bool // something was retransmitted
	undoRetrans   int  // bytes retransmitted, less those that came twice
	priorCwnd     int
	priorSsthresh int
	retransStamp  uint32 // our timestamp at the first retransmission; 0: none
	lastResent    uint32 // and at the last
}

func (c *Conn) undoBegin(reduced bool) {
	u := &c.recovery.undo
	u.retransStamp, u.undoRetrans, u.undoAny = 0, 0, false
	if u.undoOn = !reduced; u.undoOn {
		u.priorCwnd, u.priorSsthresh = c.win.Cwnd, c.win.Ssthresh
	}
}

func (c *Conn) undoForget() { c.recovery.undoOn = false }

// spurious says whether nothing was lost in this recovery.
func (c *Conn) spurious(a *Ack) bool {
	u := &c.recovery.undo
	if !u.undoOn || !u.undoAny {
		return false
	}
	if u.undoRetrans <= 0 { // D-SACK tells that all of it came twice
		return true
	}
	return a.Acked > 0 && a.hasEcho && u.retransStamp != 0 && int32(a.echo-u.retransStamp) < 0
}

// tryUndo takes the reduction back if it was for nothing.
func (c *Conn) tryUndo(a *Ack) bool {
	if !c.spurious(a) {
		return false
	}
	c.undoAll()
	return true
}

func (c *Conn) undoAll() {
	u := &c.recovery.undo
	c.sb.unmarkLost()
	c.win.Cwnd = max(c.win.Cwnd, u.priorCwnd)
	c.win.Ssthresh = max(c.win.Ssthresh, u.priorSsthresh)
	c.cc.OnEvent(&c.win, EventUndo)
	u.undoOn, u.retransStamp = false, 0
	c.recovery.frtoOn, c.recovery.frtoNew = false, false
	c.recovery.dupSacked, c.recovery.dupAcks = 0, 0
	c.probe.backoff = 0
	c.setCA(CAOpen)
}

// frto is the detection of spurious timeouts (RFC 5682 3.1): after the first
// retransmission, new data rather than further ones, to see what the
// acknowledgments are of.
type frto struct {
	frtoOn  bool
	frtoNew bool // step 2b: new data goes out before further retransmissions
}

func (c *Conn) frtoBegin(first bool) {
	f := &c.recovery.frto
	f.frtoNew = false
	f.frtoOn = c.cfg.FRTO && first && c.probe.retries <= 1 && c.agreed&HasSACKPermitted != 0
}

// frtoOnAck is steps 2 and 3 (RFC 5682 3.1, with SACK). It says whether the
// timeout was found to be spurious.
func (c *Conn) frtoOnAck(a *Ack) bool {
	f := &c.recovery.frto
	if !f.frtoOn {
		return false
	}
	// Something that was never retransmitted has arrived: what was taken for
	// lost was only late.
	if a.original && c.recovery.undoOn {
		c.undoAll()
		return true
	}
	switch {
	case a.Duplicate || a.sackedUp: // step 2a, 3a: it was lost
		f.frtoOn, f.frtoNew = false, false
	case a.Acked == 0:
	case !f.frtoNew && c.snd.una.Before(c.recovery.high) && c.sb.sacked == 0 && c.canSendNew():
		f.frtoNew = true
	default: // step 2b without anything to send, or step 3 did not tell
		f.frtoOn, f.frtoNew = false, false
	}
	return false
}

// canSendNew says whether there is new data that the peer's window lets out.
func (c *Conn) canSendNew() bool {
	return c.unsent() > 0 && c.snd.una.Add(c.snd.wnd).After(c.snd.nxt)
}
