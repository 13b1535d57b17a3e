package tcp

import "time"

// The receive window (RFC 9293 3.8.6.2.2, RFC 7323 2).

// windowCapacity is the largest window that the receive buffer allows: half of
// it, the rest is for what segments take beside their payload (Linux's
// net.ipv4.tcp_adv_win_scale).
func (c *Conn) windowCapacity() int {
	n := c.rcv.bufSize / 2
	if k := c.opt.windowClamp; k > 0 {
		n = min(n, k)
	}
	return n
}

// windowSpace is the room for what comes after RCV.NXT.
func (c *Conn) windowSpace() int { return max(c.windowCapacity()-c.rcv.buf.n, 0) }

// offered is what is left of the window that the peer was told.
func (c *Conn) offered() int { return max(c.rcv.wup.Add(c.rcv.wnd).Sub(c.rcv.nxt), 0) }

// selectWindow is the window field of the next segment. The right edge moves by
// at least a segment or half of the buffer (receiver's silly window avoidance,
// MUST-39), and never to the left (SHLD-14).
func (c *Conn) selectWindow() uint16 {
	space, old := c.windowSpace(), c.offered()
	if space < old || space-old < min(c.windowCapacity()/2, c.rcv.advMSS) {
		space = old
	}
	w := space >> c.rcv.scale
	if w<<c.rcv.scale < old {
		w++
	}
	w = min(w, 65535)
	c.rcv.wnd = w << c.rcv.scale
	c.rcv.wup = c.rcv.nxt
	return uint16(w)
}

// windowUpdateDue says whether reading has made so much room that the peer is
// to be told at once: the window can be twice what is left of it (Linux's
// tcp_cleanup_rbuf).
func (c *Conn) windowUpdateDue() bool {
	space, old := c.windowSpace(), c.offered()
	return space >= 2*old && space-old >= min(c.windowCapacity()/2, c.rcv.advMSS)
}

// tuning is the automatic sizing of the receive buffer: it holds twice of what
// the user read in the last round trip (Fisk and Feng, "Dynamic Right-Sizing in
// TCP", 2001; Linux's tcp_rcv_space_adjust).
type tuning struct {
	rtt    time.Duration // as the receiver sees it
	since  time.Duration
	copied int // bytes since then
	space  int // bytes in the round trip before
}

func (t *tuning) init(c *Conn) {
	t.since = c.now()
	t.space = min(c.offered(), c.cfg.InitialWindow*c.rcv.advMSS)
}

// arrival estimates the round-trip time by the echo of timestamps.
func (t *tuning) arrival(c *Conn, s *Segment) {
	d := c.echoedRTT(s)
	if d == 0 {
		d = c.win.SRTT
	}
	switch {
	case d == 0:
	case t.rtt == 0 || d < t.rtt:
		t.rtt = d
	default:
		t.rtt += (d - t.rtt) / 8
	}
}

// read counts what the user read, and lets the buffer grow.
func (t *tuning) read(c *Conn, n int) {
	t.copied += n
	now := c.now()
	if t.rtt == 0 || now-t.since < t.rtt {
		return
	}
	if t.copied > t.space {
		if !c.opt.rcvLocked {
			want := 2*t.copied + 16*c.rcv.advMSS
			if t.space > 0 { // what the sender's slow start will add meanwhile
				want += 2 * want * min(t.copied-t.space, t.space) / t.space
			}
			c.rcv.bufSize = max(c.rcv.bufSize, min(2*want, c.cfg.MaxRecvBuffer))
		}
		t.space = t.copied
	}
	t.copied, t.since = 0, now
}
