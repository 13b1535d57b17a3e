package tcp

import "golang.org/x/sys/unix"

// Input is SEGMENT ARRIVES (RFC 9293 3.10.7). The segment's payload belongs to
// the connection from here on. In CLOSED nothing happens; who has no connection
// for a segment answers with ResetFor.
func (c *Conn) Input(s *Segment) {
	c.segs.in += uint32(max(s.Merged, 1))
	switch c.state {
	case Closed, Listen:
	case SynSent:
		c.inputSynSent(s)
	case TimeWait:
		c.inputTimeWait(s)
	default:
		c.inputSynchronized(s)
	}
	s.drop()
	if c.state != Closed {
		c.finish()
	}
}

// inputSynSent is 3.10.7.3.
func (c *Conn) inputSynSent(s *Segment) {
	acked := s.Flags&ACK != 0
	if acked && (s.Ack.AtOrBefore(c.snd.iss) || s.Ack.After(c.snd.nxt)) { // first
		if s.Flags&RST == 0 {
			c.sendReset(s.Ack, 0, RST)
		}
		return
	}
	if s.Flags&RST != 0 { // second
		if acked {
			c.end(unix.ECONNREFUSED)
		}
		return
	}
	if s.Flags&SYN == 0 { // fifth
		return
	}
	c.takeSYN(s) // fourth
	if acked {
		if c.agreed&HasTimestamps != 0 && s.Options.TSEcr != 0 && int32(c.tsNow()-s.Options.TSEcr) < 0 {
			c.sendReset(s.Ack, 0, RST) // the echo of a timestamp that we never sent
			return
		}
		c.ecn.takeSYNAck(c, s)
		c.handshakeRTT(c.sb.at(0))
		c.fastOpenAnswer(s)
		c.snd.una = s.Ack
		c.sb.reset()
		c.stop(timerRTO)
		c.establish()
		if c.snd.finQueued { // closed while the SYN with data was under way
			c.setState(FinWait1)
		}
		c.rcv.ackNow = true
		s.Seq = s.Seq.Add(1)
		s.Flags &^= SYN
		c.segmentText(s)
		return
	}
	// Simultaneous open (3.5): the same SYN, now with an acknowledgment.
	c.ecn.takeSYN(c, s)
	c.setState(SynReceived)
	c.sendSYN()
}

// inputTimeWait is 3.10.7.4 for TIME-WAIT. A SYN that may begin the connection
// anew is the affair of whoever owns the connection; see Reusable.
func (c *Conn) inputTimeWait(s *Segment) {
	if s.Flags&RST != 0 {
		if s.Seq == c.rcv.nxt {
			c.end(0)
		}
		return
	}
	if c.agreed&HasTimestamps != 0 && s.Options.Has&HasTimestamps != 0 && c.pawsReject(s) {
		c.answerUnacceptable(s)
		return
	}
	if s.Flags&SYN != 0 {
		c.challenge()
		return
	}
	if s.Flags&FIN != 0 { // the peer did not get our acknowledgment
		c.set(timerState, c.cfg.TimeWait)
		c.sendAck()
		return
	}
	if s.DataLen > 0 || !c.acceptable(s) {
		c.answerUnacceptable(s)
	}
}

// Reusable says whether a SYN may end the TIME-WAIT that the connection is in,
// to begin a new one (RFC 6191 2, RFC 9293 3.6.1 and MAY-2).
func (c *Conn) Reusable(s *Segment) bool {
	if c.state != TimeWait || s.Flags&(SYN|ACK|RST|FIN) != SYN {
		return false
	}
	if c.agreed&HasTimestamps != 0 && s.Options.Has&HasTimestamps != 0 {
		if d := int32(s.Options.TSVal - c.ts.recent); d != 0 {
			return d > 0
		}
	}
	return s.Seq.After(c.rcv.nxt)
}

// inputSynchronized is 3.10.7.4.
func (c *Conn) inputSynchronized(s *Segment) {
	// PAWS comes before the rest (RFC 7323 5.3).
	if c.agreed&HasTimestamps != 0 && s.Flags&RST == 0 {
		if s.Options.Has&HasTimestamps == 0 {
			if s.Flags&SYN == 0 {
				return // 3.2: silently
			}
		} else if c.pawsReject(s) && !(s.Flags&SYN != 0 && c.state == SynReceived) {
			c.noteDuplicate(s)
			c.answerUnacceptable(s)
			return
		}
	}
	// A peer that did not get our SYN-ACK sends its SYN again.
	if c.state == SynReceived && s.Flags&(SYN|RST) == SYN && s.Seq == c.rcv.irs {
		if s.Flags&ACK == 0 || !c.ackInRange(s) {
			c.sendSYN()
			return
		}
		s.Seq = s.Seq.Add(1) // simultaneous open: the peer's SYN-ACK
		s.Flags &^= SYN
		s.Window >>= c.snd.scale // it is not scaled (RFC 7323 2.2)
	}
	if c.fast.early {
		if s.Flags&(SYN|ACK|RST) == SYN && s.Seq == c.rcv.irs {
			c.answerSYN()
			return
		}
		c.fast.early = s.Flags&ACK == 0 || !s.Ack.After(c.snd.iss)
	}
	// First: the sequence number.
	if !c.acceptable(s) {
		if s.Flags&RST == 0 {
			c.noteDuplicate(s)
			c.answerUnacceptable(s)
		}
		return
	}
	// Second: RST (RFC 5961 3.2).
	if s.Flags&RST != 0 {
		c.inputReset(s)
		return
	}
	// Fourth: SYN (RFC 5961 4.2).
	if s.Flags&SYN != 0 {
		c.challenge()
		return
	}
	// Fifth: ACK.
	if s.Flags&ACK == 0 || !c.inputAck(s) || c.state == Closed {
		return
	}
	c.touch()
	c.inputUrgent(s) // sixth
	c.segmentText(s) // seventh and eighth
}

// acceptable is the test of the sequence number (3.10.7.4, first). What ends at
// or after the last acknowledgment sent is acceptable, even if it lies below
// RCV.NXT: a pure acknowledgment that was overtaken still counts, and so does
// that of a retransmission whose first copy arrived.
func (c *Conn) acceptable(s *Segment) bool {
	return s.End().AtOrAfter(c.rcv.wup) && s.Seq.AtOrBefore(c.rcv.nxt.Add(c.offered()))
}

// inputReset is RST in the window: exact, it ends the connection, else it is
// challenged (RFC 5961 3.2).
func (c *Conn) inputReset(s *Segment) {
	if s.Seq != c.rcv.nxt {
		c.challenge()
		return
	}
	switch c.state {
	case SynReceived:
		if c.passive {
			c.end(unix.ECONNRESET)
		} else {
			c.end(unix.ECONNREFUSED)
		}
	case Closing, LastAck:
		c.end(0)
	default:
		c.end(unix.ECONNRESET)
	}
}

// touch notes that the peer is alive.
func (c *Conn) touch() {
	c.probe.heard = c.now()
	if c.opt.keepAlive && c.isSet(timerKeep) {
		c.probe.keepSent = 0
		c.timers[timerKeep] = c.now() + c.opt.keepIdle
	}
}

// ResetFor is the answer to a segment that no connection takes (3.10.7.1); ok is
// false if there is none.
func ResetFor(s *Segment, reset *Segment) (ok bool) {
	if s.Flags&RST != 0 {
		return false
	}
	*reset = Segment{SrcPort: s.DstPort, DstPort: s.SrcPort, Flags: RST}
	if s.Flags&ACK != 0 {
		reset.Seq = s.Ack
	} else {
		reset.Flags |= ACK
		reset.Ack = s.End()
	}
	return true
}
