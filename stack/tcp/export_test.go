package tcp

import "fmt"

// Check says what is wrong with the connection's state, if anything is.
func (c *Conn) Check() error {
	if c.state == Closed || c.state == SynSent || c.state == SynReceived || c.state == TimeWait {
		return nil
	}
	s := &c.snd
	if s.una.After(s.nxt) {
		return fmt.Errorf("SND.UNA %d is above SND.NXT %d", s.una, s.nxt)
	}
	var sacked, lost, retrans int
	at := s.una
	for i := range c.sb.size() {
		r := c.sb.at(i)
		if r.start != at || !r.start.Before(r.end) {
			return fmt.Errorf("record %d is %d to %d, want from %d", i, r.start, r.end, at)
		}
		at = r.end
		switch {
		case r.flags&recSacked != 0:
			sacked += r.len()
		case r.flags&recLost != 0:
			lost += r.len()
		}
		if r.flags&recRetrans != 0 {
			retrans += r.len()
		}
	}
	if !c.sb.empty() && at != s.nxt {
		return fmt.Errorf("records end at %d, SND.NXT is %d", at, s.nxt)
	}
	if sacked != c.sb.sacked || lost != c.sb.lost || retrans != c.sb.retrans {
		return fmt.Errorf("sacked %d, lost %d, retransmitted %d; counted %d, %d, %d", sacked, lost, retrans, c.sb.sacked, c.sb.lost, c.sb.retrans)
	}
	if c.sb.size() > maxRecords+8 {
		return fmt.Errorf("%d records", c.sb.size())
	}
	if !c.sb.empty() && !c.isSet(timerRTO) {
		return fmt.Errorf("data is in flight and the retransmission timer is off")
	}
	if c.sb.empty() && c.unsent() > 0 && !c.isSet(timerProbe) && !c.isSet(timerPace) && !c.isSet(timerCork) {
		return fmt.Errorf("%d bytes wait to be sent and no timer is set", c.unsent())
	}
	if c.win.Cwnd < s.mss {
		return fmt.Errorf("cwnd is %d, mss %d", c.win.Cwnd, s.mss)
	}
	q := &c.rcv.ooo
	if q.memory > max(c.rcv.bufSize, minRecvMemory) {
		return fmt.Errorf("%d bytes of memory out of order", q.memory)
	}
	n := 0
	for i, p := range q.pieces {
		n += p.end.Sub(p.start)
		if i > 0 && q.pieces[i-1].end.After(p.start) {
			return fmt.Errorf("pieces overlap")
		}
	}
	if n != q.bytes {
		return fmt.Errorf("%d bytes out of order, counted %d", n, q.bytes)
	}
	for i, r := range q.spans {
		if i > 0 && q.spans[i-1].End.AtOrAfter(r.Start) {
			return fmt.Errorf("spans touch")
		}
	}
	if c.rcv.buf.n > c.rcv.bufSize+maxBlock {
		return fmt.Errorf("%d bytes wait to be read in a buffer of %d", c.rcv.buf.n, c.rcv.bufSize)
	}
	return nil
}
