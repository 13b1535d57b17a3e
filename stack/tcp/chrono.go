package tcp

import "time"

// chrono is what keeps the sender from sending more, and for how long
// (tcpi_busy_time, tcpi_rwnd_limited and tcpi_sndbuf_limited of Linux's
// tcp_info).
type chrono struct {
	kind  limit
	since time.Duration
	spent [numLimits]time.Duration
}

// limit is what a sender is limited by.
type limit uint8

const (
	idle          limit = iota // there is nothing to send
	netLimited                 // the network: data is in flight
	windowLimited              // the peer's window
	bufferLimited              // the user would write more than the send buffer takes
	numLimits
)

// follow notes what the connection is limited by from now on.
func (t *chrono) follow(c *Conn) {
	kind := idle
	switch {
	case c.state == SynSent || c.state == SynReceived || c.state == Closed:
	case c.unsent() > 0 && c.snd.una.Add(c.snd.wnd).Sub(c.snd.nxt) < min(c.unsent(), c.snd.mss):
		kind = windowLimited
	case !c.sb.empty() && c.unsent() == 0 && c.wantOut:
		kind = bufferLimited
	case !c.sb.empty() || c.unsent() > 0:
		kind = netLimited
	}
	if kind == t.kind {
		return
	}
	now := c.now()
	t.spent[t.kind] += now - t.since
	t.kind, t.since = kind, now
}

// total is the time spent so far in a state.
func (t *chrono) total(kind limit, now time.Duration) time.Duration {
	d := t.spent[kind]
	if kind == t.kind {
		d += now - t.since
	}
	return d
}

// backedOff counts a retransmission timeout (tcpi_total_rto and what follows
// it).
func (c *Conn) backedOff() {
	c.segs.timeouts++
	if c.segs.rtoSince == 0 {
		c.segs.rtoRecoveries++
		c.segs.rtoSince = max(c.now(), 1)
	}
}

// resumed ends the time that began with the first timeout in a row.
func (c *Conn) resumed() {
	if c.segs.rtoSince != 0 {
		c.segs.rtoTime += c.now() - c.segs.rtoSince
		c.segs.rtoSince = 0
	}
}

// noteOrder counts what was delivered after something that was sent later
// (tcpi_reord_seen).
func (c *Conn) noteOrder(r *record) {
	switch n := &c.segs; {
	case n.fack == 0 || r.end.After(n.fack):
		n.fack = r.end
	case r.flags&everRetrans == 0:
		n.reordSeen++
	}
}

// Timers that a user may set for one connection.

// SetMaxRTO is TCP_RTO_MAX_MS, SetMinRTO TCP_RTO_MIN_US; 0 for the stack's.
func (c *Conn) SetMaxRTO(d time.Duration) { c.opt.maxRTO = d }

// SetMinRTO is TCP_RTO_MIN_US.
func (c *Conn) SetMinRTO(d time.Duration) { c.opt.minRTO = d }

// SetMaxDelayedAck is TCP_DELACK_MAX_US; 0 for the stack's.
func (c *Conn) SetMaxDelayedAck(d time.Duration) { c.opt.maxDelack = d }

func (c *Conn) maxRTO() time.Duration { return orElse(c.opt.maxRTO, c.cfg.MaxRTO) }

func orElse(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}
