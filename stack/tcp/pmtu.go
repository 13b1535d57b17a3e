package tcp

// mtuState is what is known of the path's MTU.
type mtuState struct {
	full   int // the payload of a full segment as the interface allows
	probed bool
}

func (m *mtuState) init(c *Conn) { m.full = c.snd.mss }

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
	if !c.mtu.probed {
		mss = min(blackHoleBase, c.snd.mss)
	}
	c.mtu.probed = true
	c.reducePath(c.path.MTU - (c.snd.mss - max(mss, blackHoleFloor)))
}

// confirmed notes that a probe arrived.
func (m *mtuState) confirmed(*Conn, int) {}
