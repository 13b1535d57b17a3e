package tcp

import "golang.org/x/sys/unix"

// Arrival is a segment with data, as ACK policies are told.
type Arrival struct {
	Len        int  // bytes of payload that were new
	Packets    int  // that it was on the wire, as far as known
	OutOfOrder bool // there is a gap before it, or it filled one, or it was a duplicate
	Push       bool
	FIN        bool
	CE         bool // it met congestion (RFC 3168)
	From       Seq  // RCV.NXT before it
}

// segmentText is 3.10.7.4, seventh and eighth: text and FIN.
func (c *Conn) segmentText(s *Segment) {
	switch c.state {
	case Established, FinWait1, FinWait2:
	default: // a FIN has been received: there can be no more text
		if s.Len() > 0 {
			c.noteDuplicate(s)
			c.rcv.ackNow = true
		}
		return
	}
	if s.DataLen == 0 && s.Flags&FIN == 0 {
		return
	}
	in := Arrival{Packets: max(s.Merged, 1), Push: s.Flags&PSH != 0, FIN: s.Flags&FIN != 0, CE: s.ECN == CE, From: c.rcv.nxt}
	c.ecn.receive(c, s)
	if s.Seq.Before(c.rcv.nxt) {
		end := minSeq(s.Seq.Add(s.DataLen), c.rcv.nxt)
		c.rcv.ooo.duplicate(Range{s.Seq, end})
		in.OutOfOrder = true
		s.trimFront(end.Sub(s.Seq))
	}
	if c.orphan && s.DataLen > 0 { // nobody will read it (RFC 1122 4.2.2.13)
		c.sendReset(c.snd.nxt, 0, RST)
		c.end(unix.ECONNRESET)
		return
	}
	if room := c.rcv.nxt.Add(c.offered()).Sub(s.Seq); s.DataLen > room {
		s.trimTo(max(room, 0))
		in.OutOfOrder = true // it is to be told the window
		if s.DataLen == 0 {
			c.rcv.ackNow = true
			return
		}
	}
	if s.Flags&FIN != 0 && !c.rcv.finKnown {
		c.rcv.finKnown, c.rcv.fin = true, s.Seq.Add(s.DataLen)
	}
	in.Len = s.DataLen
	c.measureMSS(s)
	if s.Merged == 0 && c.rcv.mss > 0 { // the layers below may have merged it
		in.Packets = max((s.DataLen+c.rcv.mss-1)/c.rcv.mss, 1)
	}
	c.rcv.tune.arrival(c, s)
	if s.Seq == c.rcv.nxt {
		c.takeInOrder(s, &in)
	} else {
		in.OutOfOrder = true
		if s.DataLen > 0 {
			c.takeOutOfOrder(s)
		}
	}
	if c.rcv.finKnown && c.rcv.nxt == c.rcv.fin && !c.finRcvd {
		c.inputFIN()
	}
	c.ackp.OnData(c.acker(), in)
}

// takeInOrder appends the payload, and what waited for it.
func (c *Conn) takeInOrder(s *Segment, in *Arrival) {
	c.segs.dataIn++
	r := &c.rcv
	if n := s.DataLen; n > 0 {
		r.nxt = r.nxt.Add(n)
		c.segs.bytesIn += uint64(n)
		r.prevData, r.lastData = r.lastData, c.now()
		r.buf.append(s.Data)
		s.Data, s.DataLen = nil, 0
	}
	if !r.ooo.empty() {
		in.OutOfOrder = true
		for {
			p, ok := r.ooo.next(r.nxt)
			if !ok {
				break
			}
			n := p.end.Sub(p.start)
			r.nxt = r.nxt.Add(n)
			c.segs.bytesIn += uint64(n)
			r.buf.append(p.data)
		}
		r.ooo.drop(r.nxt)
	}
	c.env.Wake()
}

// takeOutOfOrder keeps the payload for later, within the memory that the
// receive buffer is.
func (c *Conn) takeOutOfOrder(s *Segment) {
	r := &c.rcv
	c.segs.dataIn++
	c.segs.outOfOrder++
	r.ooo.insert(s)
	for r.ooo.memory > max(r.bufSize, minRecvMemory) && !r.ooo.empty() {
		r.ooo.prune()
	}
}

const minRecvMemory = 16384

// inputFIN is the FIN in its place (3.10.7.4, eighth).
func (c *Conn) inputFIN() {
	c.rcv.nxt = c.rcv.nxt.Add(1)
	c.finRcvd = true
	c.rcv.ackNow = true
	c.rcv.ooo.reset()
	switch c.state {
	case Established:
		c.setState(CloseWait)
	case FinWait1:
		// Our FIN is not acknowledged, or the state would be FIN-WAIT-2.
		c.setState(Closing)
	case FinWait2:
		c.enterTimeWait()
	}
	c.env.Wake()
}

// measureMSS estimates the size of the peer's segments, for the decision when
// two of them have come.
func (c *Conn) measureMSS(s *Segment) {
	if n := min(s.DataLen, c.rcv.advMSS); n > c.rcv.mss || s.Flags&PSH == 0 && n >= minMSS {
		c.rcv.mss = n
	}
}

// noteDuplicate notes a segment whose text was received before, to be reported
// by D-SACK (RFC 2883 4).
func (c *Conn) noteDuplicate(s *Segment) {
	if s.DataLen > 0 && s.End().AtOrBefore(c.rcv.nxt) && c.agreed&HasSACKPermitted != 0 {
		c.rcv.ooo.duplicate(Range{s.Seq, s.Seq.Add(s.DataLen)})
		c.segs.dataIn++
	}
}
