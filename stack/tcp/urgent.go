package tcp

// Urgent data (RFC 9293 3.8.5): one byte, as sockets have it, with the pointer
// after it (RFC 6093 3.1).

// oobState is the state of the byte received out of band.
type oobState uint8

const (
	oobNone oobState = iota
	oobExpected
	oobReady
	oobRead
)

// WriteUrgent sends what src has, its last byte as urgent.
func (c *Conn) WriteUrgent(src Source) int {
	if !c.CanWrite() {
		return 0
	}
	n := c.snd.buf.write(src, c.Room(), c.env.Alloc)
	if n > 0 {
		c.snd.up, c.snd.urgent = c.snd.buf.end(), true
		c.finish()
	}
	return n
}

// markUrgent sets the urgent pointer of a segment that goes out before the
// urgent data has been sent, or with it.
func (c *Conn) markUrgent(s *Segment) {
	if !c.snd.urgent {
		return
	}
	if d := c.snd.up.Sub(s.Seq); d > 0 && d <= 65535 {
		s.Flags |= URG
		s.Urgent = uint16(d)
	}
	if c.snd.una.AtOrAfter(c.snd.up) {
		c.snd.urgent = false
	}
}

// inputUrgent is 3.10.7.4, sixth.
func (c *Conn) inputUrgent(s *Segment) {
	if s.Flags&URG == 0 || s.Urgent == 0 {
		return
	}
	switch c.state {
	case Established, FinWait1, FinWait2:
	default:
		return
	}
	up := s.Seq.Add(int(s.Urgent))
	if c.rcv.urgent && up.AtOrBefore(c.rcv.up) || up.AtOrBefore(c.rcv.nxt) {
		return
	}
	c.rcv.up, c.rcv.urgent = up, true
	c.rcv.oob = oobExpected
	c.env.Wake()
}

// Urgent says whether urgent data is ahead that has not been read, and where it
// ends, in bytes from the next that is read.
func (c *Conn) Urgent() (ahead int, pending bool) {
	if !c.rcv.urgent {
		return 0, false
	}
	ahead = c.rcv.up.Sub(c.rcv.nxt.Add(-c.rcv.buf.n))
	return ahead, ahead > 0
}
