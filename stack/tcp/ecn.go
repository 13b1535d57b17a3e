package tcp

// ecnState is the state of ECN (RFC 3168 6.1).
type ecnState struct {
	on      bool // agreed
	echo    bool // ECE goes out until CWR comes in
	sendCWR bool // the next new data has CWR
	// marks since the last acknowledgment, for policies
	ceBytes, ceEvents uint32
}

// markSYN sets the flags of a SYN or SYN-ACK (6.1.1). A SYN that is sent again
// asks no more (6.1.1.1).
func (e *ecnState) markSYN(c *Conn, s *Segment) {
	switch {
	case s.Flags&ACK == 0:
		if c.cfg.ECN == ECNOn && c.probe.retries == 0 {
			s.Flags |= ECE | CWR
		}
	case e.on:
		s.Flags |= ECE
	}
}

// takeSYN is the arrival of a SYN that asks for ECN.
func (e *ecnState) takeSYN(c *Conn, s *Segment) {
	e.on = c.cfg.ECN != ECNOff && s.Flags&(ECE|CWR) == ECE|CWR
}

// takeSYNAck is the arrival of the answer.
func (e *ecnState) takeSYNAck(c *Conn, s *Segment) {
	e.on = c.cfg.ECN == ECNOn && c.probe.retries == 0 && s.Flags&(ECE|CWR) == ECE
}

// receive is the arrival of a segment with data (6.1.3).
func (e *ecnState) receive(c *Conn, s *Segment) {
	if !e.on {
		return
	}
	if o, ok := c.cc.(CEEchoer); ok && o.EchoesCE() {
		e.receiveExact(c, s)
		return
	}
	if s.Flags&CWR != 0 {
		e.echo = false
	}
	if s.ECN == CE {
		e.ceEvents++
		e.ceBytes += uint32(s.DataLen)
		if !e.echo {
			e.echo = true
			c.rcv.ackNow = true
		}
	}
}

// receiveExact is RFC 8257 3.2: when marks begin or end, what came before is
// acknowledged first, so that each acknowledgment speaks for what it covers.
func (e *ecnState) receiveExact(c *Conn, s *Segment) {
	ce := s.ECN == CE
	if ce {
		e.ceEvents++
		e.ceBytes += uint32(s.DataLen)
	}
	if ce != e.echo {
		if c.rcv.ackDue {
			c.sendAck()
		}
		e.echo = ce
	}
}

// mark sets the flags and the codepoint of a segment that goes out. Only new
// data carries a codepoint of ECN (6.1.4, 6.1.5).
func (e *ecnState) mark(s *Segment, newData bool) {
	if !e.on {
		return
	}
	if e.echo {
		s.Flags |= ECE
	}
	if newData {
		s.ECN = ECT0
		if e.sendCWR {
			s.Flags |= CWR
			e.sendCWR = false
		}
	}
}
