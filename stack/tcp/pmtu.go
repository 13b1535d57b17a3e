package tcp

import "time"

// mtuState is what is known of the path's MTU.
type mtuState struct {
	full    int           // the payload of a full segment as the interface allows
	guessed bool          // a black hole was believed to be met
	next    time.Duration // when the larger size is tried again
	wait    time.Duration // between tries
}

func (m *mtuState) init(c *Conn) { m.full = c.snd.mss }

// A larger size is tried again soon after a black hole was guessed, and ten
// minutes after an ICMP error (RFC 1191 6.3).
const (
	mtuProbeSoon  = 5 * time.Second
	mtuProbeLater = 10 * time.Minute
)

// leastPathMTU is the least path MTU that is believed: Linux's min_pmtu for
// IPv4, and RFC 8200 5 for IPv6.
const leastPathMTU4, leastPathMTU6 = 552, 1280

// PacketTooBig is an ICMP error: a packet with the sequence number was larger
// than mtu bytes (RFC 1191 3, RFC 8201 4). One that is not in flight is a
// forgery (RFC 5927 7.2).
func (c *Conn) PacketTooBig(mtu int, seq Seq) {
	if c.state == Closed || !seq.AtOrAfter(c.snd.una) || !seq.Before(c.snd.nxt) {
		return
	}
	least := leastPathMTU4
	if c.path.IPHeader > 20 {
		least = leastPathMTU6
	}
	c.reducePath(max(mtu, least))
	c.mtu.wait = mtuProbeLater
	c.mtu.next = c.now() + mtuProbeLater
	c.finish()
}

// SetMTU takes a path MTU that was learned elsewhere.
func (c *Conn) SetMTU(mtu int) {
	if mtu > 0 && mtu < c.path.MTU {
		c.reducePath(mtu)
		c.finish()
	}
}

// reducePath makes segments smaller and sends those again that were too large,
// which says nothing of congestion (RFC 1191 6.5).
func (c *Conn) reducePath(mtu int) {
	if mtu >= c.path.MTU || c.cc == nil {
		c.path.MTU = min(c.path.MTU, mtu)
		return
	}
	old := c.snd.mss
	c.path.MTU = mtu
	c.setMSS()
	if c.snd.mss >= old {
		return
	}
	for i := range c.sb.size() {
		if r := c.sb.at(i); r.len() > c.snd.mss {
			c.sb.markLost(i)
		}
	}
	c.refreshWindow()
	c.win.Cwnd = max(c.win.Cwnd, c.snd.mss)
}

// Timeouts of full segments may be a black hole: a router that drops what is
// too large and does not say so (RFC 2923 2.1, RFC 8899 4.3). After some,
// segments become smaller, as in Linux's tcp_mtu_probing = 1.
const (
	blackHoleRetries = 3
	blackHoleBase    = 1024 // bytes of payload (Linux's tcp_base_mss)
	blackHoleFloor   = 512
)

// blackHole is called at every timeout.
func (c *Conn) blackHole() {
	if !c.cfg.MTUProbing || c.probe.retries < blackHoleRetries || c.snd.mss <= blackHoleFloor {
		return
	}
	if r := c.sb.at(0); r.len() < c.snd.mss {
		return
	}
	mss := min(blackHoleBase, c.snd.mss/2)
	if !c.mtu.guessed {
		mss = min(blackHoleBase, c.snd.mss)
	}
	c.mtu.guessed = true
	c.mtu.wait = mtuProbeSoon
	c.mtu.next = c.now() + mtuProbeSoon
	c.reducePath(c.path.MTU - (c.snd.mss - max(mss, blackHoleFloor)))
}

// Probing upwards (RFC 4821 7, RFC 8899 5.3): a segment of the full size, with
// data that is due anyway. Its loss says nothing of congestion (RFC 4821 7.4).

// probeDue says whether a probe may go out now: n bytes are to be sent.
func (m *mtuState) probeDue(c *Conn, n int) bool {
	return c.snd.mss < m.full && n >= m.full && c.cfg.MTUProbing && c.ca == CAOpen && c.room() >= m.full && c.now() >= m.next
}

// probe sends one.
func (m *mtuState) probe(c *Conn) {
	m.next = c.now() + m.wait
	m.wait = min(2*m.wait, mtuProbeLater)
	mss := c.snd.mss
	c.snd.mss = m.full // one segment, not to be cut
	c.sendData(m.full, false)
	c.snd.mss = mss
	c.sb.at(c.sb.size() - 1).flags |= recProbe
}

// confirmed notes that a probe arrived.
func (m *mtuState) confirmed(c *Conn, n int) {
	if n != m.full || c.snd.mss >= n {
		return
	}
	c.path.MTU += n - c.snd.mss
	c.setMSS()
	m.guessed = false
}
