package tcp

// newSegment begins a segment in the connection's scratch.
func (c *Conn) newSegment(seq Seq, f Flags) *Segment {
	s := &c.seg
	data := s.Data[:0]
	*s = Segment{SrcPort: c.LocalPort, DstPort: c.RemotePort, Seq: seq, Flags: f, Data: data}
	return s
}

// acknowledge adds what every segment of a synchronized connection has: the
// acknowledgment, the window and the options.
func (c *Conn) acknowledge(s *Segment) {
	s.Flags |= ACK
	s.Ack = c.rcv.nxt
	s.Window = c.selectWindow()
	c.ackOptions(s)
}

func (c *Conn) ackOptions(s *Segment) {
	o := &s.Options
	room := 4
	if c.agreed&HasTimestamps != 0 {
		o.Has |= HasTimestamps
		o.TSVal, o.TSEcr = c.tsNow(), c.ts.recent
		room = 3
	}
	if r := &c.rcv.ooo; c.agreed&HasSACKPermitted != 0 && (r.nRecent > 0 || r.dsack.Start != r.dsack.End) {
		r.blocks(o, room)
	}
}

// emit hands a segment out.
func (c *Conn) emit(s *Segment) {
	n := 1
	if s.DataLen > c.snd.mss {
		s.MSS = c.snd.mss
		n = (s.DataLen + s.MSS - 1) / s.MSS
	}
	c.segs.out += uint32(n)
	c.env.Send(s)
	clear(s.Data)
}

// sentAck notes that everything received is acknowledged.
func (c *Conn) sentAck() {
	c.rcv.ackNow, c.rcv.ackDue = false, false
	c.stop(timerAck)
	if c.ackp != nil {
		c.ackp.OnAckSent()
	}
}

// sendAck sends an acknowledgment.
func (c *Conn) sendAck() {
	if c.state == SynSent || c.state == Closed {
		return
	}
	seq := c.snd.nxt
	if c.state == SynReceived {
		seq = c.snd.iss.Add(1)
	} else if edge := c.snd.una.Add(c.snd.wnd); seq.Sub(edge) >= 1<<c.rcv.scale {
		seq = edge // the peer took its window back: what is beyond it is not acceptable (Linux's tcp_acceptable_seq)
	}
	s := c.newSegment(seq, 0)
	c.acknowledge(s)
	c.ecn.mark(s, false)
	c.emit(s)
	c.sentAck()
}

// sendAckOf sends an acknowledgment of ack, for policies that do not just
// acknowledge everything.
func (c *Conn) sendAckOf(ack Seq) {
	s := c.newSegment(c.snd.nxt, 0)
	c.acknowledge(s)
	s.Ack = ack
	c.rcv.wup = minSeq(ack, c.rcv.nxt)
	if d := c.rcv.nxt.Sub(c.rcv.wup); d > 0 { // the same right edge
		c.rcv.wnd += d
		s.Window = uint16(min(c.rcv.wnd>>c.rcv.scale, 65535))
		c.rcv.wnd = int(s.Window) << c.rcv.scale
	}
	c.ecn.mark(s, false)
	c.emit(s)
	if ack.AtOrAfter(c.rcv.nxt) {
		c.sentAck()
	}
}

// flushAck sends the acknowledgment that is due, if no segment carried it.
func (c *Conn) flushAck() {
	if c.rcv.ackNow && c.state != Closed {
		c.sendAck()
	}
}

// sendData sends n new bytes.
func (c *Conn) sendData(n int, fin bool) {
	snd := &c.snd
	now := c.now()
	s := c.newSegment(snd.nxt, 0)
	c.acknowledge(s)
	s.Data = snd.buf.chunks(s.Data, snd.nxt, n)
	s.DataLen = n
	if n > 0 && n == c.unsent() {
		s.Flags |= PSH
	}
	if fin {
		s.Flags |= FIN
		snd.finSent = true
	}
	c.markUrgent(s)
	c.ecn.mark(s, n > 0)
	if n%snd.mss != 0 {
		snd.lastPartial = snd.nxt.Add(n)
	}
	idle := c.sb.empty()
	r := c.sb.add(snd.nxt, s.End(), now)
	c.rate.onSend(c, r, now)
	snd.nxt = s.End()
	snd.lastData = now
	c.segs.dataOut++
	c.segs.bytesSent += uint64(n)
	c.recovery.prr.out += n
	c.pace.sent(c, n)
	if c.held.on && c.held.start == s.Seq {
		clear(s.Data)
	} else {
		c.emit(s)
		c.sentAck()
	}
	if idle || !c.isSet(timerRTO) {
		c.restartRTO()
	}
	c.scheduleTLP(true)
}

// retransmit sends record i again.
func (c *Conn) retransmit(i int) {
	now := c.now()
	r := c.sb.at(i)
	n := r.len()
	c.held.on = c.held.on && r.start != c.held.start
	s := c.newSegment(r.start, 0)
	s.Retransmit = true
	c.acknowledge(s)
	if r.end.After(c.snd.buf.end()) && c.snd.finSent {
		s.Flags |= FIN
		n--
	}
	s.Data = c.snd.buf.chunks(s.Data, r.start, n)
	s.DataLen = n
	if n > 0 && r.end.AtOrAfter(c.snd.buf.end()) {
		s.Flags |= PSH
	}
	c.markUrgent(s)
	c.ecn.mark(s, false)
	if r.flags&recRetrans == 0 {
		c.sb.retrans += r.len()
	}
	r.flags = r.flags&^recAppLimited | recRetrans | everRetrans
	r.sent = now
	c.rate.onSend(c, r, now)
	c.noteRetransmission(r)
	c.recovery.prr.out += r.len()
	c.pace.sent(c, n)
	c.emit(s)
	c.sentAck()
	if !c.isSet(timerRTO) {
		c.restartRTO()
	}
}

// noteRetransmission counts it, also for the detection of spurious ones.
func (c *Conn) noteRetransmission(r *record) {
	segs := uint32(max((r.len()+c.snd.mss-1)/c.snd.mss, 1))
	c.segs.retrans += segs
	c.segs.bytesRetrans += uint64(r.len())
	c.cfg.Counters.Retransmits.Add(uint64(segs))
	u := &c.recovery
	if u.undoOn {
		u.undoRetrans += r.len()
		u.undoAny = true
	}
	u.lastResent = c.tsNow()
	if u.retransStamp == 0 {
		u.retransStamp = u.lastResent
	}
}

// sendReset sends RST with the numbers given.
func (c *Conn) sendReset(seq, ack Seq, f Flags) {
	s := c.newSegment(seq, f)
	s.Ack = ack
	c.emit(s)
}
