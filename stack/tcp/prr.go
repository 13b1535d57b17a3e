package tcp

// prr is proportional rate reduction (RFC 6937, with the SafeACK heuristic of
// its successor, RFC 9937): during recovery the window goes from what was in
// flight down to ssthresh, evenly over a round trip.
type prr struct {
	delivered int // prr_delivered: bytes delivered since the beginning
	out       int // prr_out: bytes sent since
	from      int // RecoverFS: bytes in flight at the beginning
}

func (c *Conn) prrBegin() {
	c.recovery.prr = prr{from: max(c.sb.bytes(), 1)}
}

func (c *Conn) prrOnAck(a *Ack) {
	p := &c.recovery.prr
	mss := c.snd.mss
	p.delivered += a.Delivered
	pipe, target := c.pipe(), c.win.Ssthresh
	var n int
	if pipe > target {
		n = (p.delivered*target+p.from-1)/p.from - p.out
	} else {
		n = max(p.delivered-p.out, a.Delivered)
		if a.Acked > 0 && a.Lost == 0 { // SafeACK
			n += mss
		}
		n = min(n, target-pipe)
	}
	// Fast retransmit, and NewReno's of a partial acknowledgment (RFC 6582 3.2).
	if p.out == 0 || a.Acked > 0 && c.agreed&HasSACKPermitted == 0 {
		n = max(n, mss)
	}
	c.win.Cwnd = max(pipe+max(n, 0), mss)
}
