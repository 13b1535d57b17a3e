package tcp

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the MSS (RFC 9293 3.7.1, and Linux's TCP_MIN_MSS).
const (
	defaultMSS4 = 536
	defaultMSS6 = 1220
	minMSS      = 88
)

// Connect is an active open (RFC 9293 3.10.1). iss is the initial sequence
// number.
func (c *Conn) Connect(local, remote uint16, iss Seq, p Path) {
	c.begin(local, remote, iss, p)
	c.state = SynSent
	c.sendSYN()
	c.finish()
}

// OpenPassive is the arrival of a SYN in state LISTEN (RFC 9293 3.10.7.2). The
// segment's own payload is not taken, the peer sends it again.
func (c *Conn) OpenPassive(syn *Segment, iss Seq, p Path) {
	c.OpenPassiveFrom(netip.Addr{}, false, syn, iss, p)
}

// OpenPassiveFrom is OpenPassive of a SYN of a client, whose payload is taken if
// it comes by Fast Open and room says that there may be one more such.
func (c *Conn) OpenPassiveFrom(client netip.Addr, room bool, syn *Segment, iss Seq, p Path) {
	c.begin(syn.DstPort, syn.SrcPort, iss, p)
	c.passive = true
	c.state = SynReceived
	c.segs.in++
	c.takeSYN(syn)
	c.ecn.takeSYN(c, syn)
	c.rcv.wnd = min(c.windowSpace(), 65535)
	open := c.fastOpenAccept(syn, client, room)
	c.sendSYN()
	if open {
		c.openEarly()
	}
	syn.drop()
	c.finish()
}

// begin sets the connection up.
func (c *Conn) begin(local, remote uint16, iss Seq, p Path) {
	c.LocalPort, c.RemotePort = local, remote
	c.path = p
	c.err, c.softErr = 0, 0
	s := &c.snd
	s.iss, s.una, s.nxt, s.up, s.lastPartial = iss, iss, iss, iss, iss
	s.buf.start = iss.Add(1)
	c.ts.offset = tsOffset(c.cfg, iss)
	c.rcv.advMSS = c.advertisedMSS()
	c.rcv.scale = c.chooseScale()
	c.snd.mss = min(c.rcv.advMSS, defaultMSS4)
	c.rto = rtoEstimators.make(c.cfg.RTO)
	c.probe.since = 0
}

// advertisedMSS is the MSS to announce: what fits the interface (RFC 6691).
func (c *Conn) advertisedMSS() int {
	mss := c.path.MTU - c.path.IPHeader - HeaderLen
	if c.opt.maxSeg > 0 {
		mss = min(mss, c.opt.maxSeg)
	}
	return min(max(mss, minMSS), 65535)
}

// chooseScale is the shift count to announce: enough for the largest window
// that the receive buffer may grow to (RFC 7323 2.3).
func (c *Conn) chooseScale() uint8 {
	if !c.cfg.WindowScaling {
		return 0
	}
	most := max(c.cfg.MaxRecvBuffer, c.rcv.bufSize)
	if c.opt.rcvLocked {
		most = c.rcv.bufSize
	}
	var n uint8
	for n < maxWScale && most>>n > 65535 {
		n++
	}
	return n
}

// sendSYN sends SYN, or SYN and ACK.
func (c *Conn) sendSYN() {
	s := c.newSegment(c.snd.iss, SYN)
	o := &s.Options
	o.Has, o.MSS = HasMSS, uint16(c.rcv.advMSS)
	offer := c.offers()
	if c.state != SynSent {
		s.Flags |= ACK
		s.Ack = c.rcv.nxt
		offer = c.agreed
	}
	o.Has |= offer
	if offer&HasWScale != 0 {
		o.WScale = c.rcv.scale
	}
	if offer&HasTimestamps != 0 {
		o.TSVal, o.TSEcr = c.tsNow(), 0
		if c.state != SynSent {
			o.TSEcr = c.ts.recent
		}
	}
	c.ecn.markSYN(c, s)
	c.fastOpenSYN(s)
	c.rcv.wnd = min(c.windowSpace(), 65535)
	s.Window = uint16(c.rcv.wnd)
	if c.sb.empty() {
		c.sb.add(c.snd.iss, c.snd.iss.Add(1), c.now())
		c.snd.nxt = c.snd.iss.Add(1)
		c.restartRTO()
	}
	c.rcv.wup = c.rcv.nxt
	s.Retransmit = c.probe.retries > 0
	c.emit(s)
}

// offers are the options that a SYN asks for.
func (c *Conn) offers() OptionSet {
	var o OptionSet
	if c.cfg.SACK {
		o |= HasSACKPermitted
	}
	if c.cfg.Timestamps {
		o |= HasTimestamps
	}
	if c.cfg.WindowScaling {
		o |= HasWScale
	}
	return o
}

func (c *Conn) retransmitSYN() {
	c.segs.retrans++
	c.cfg.Counters.Retransmits.Add(1)
	r := c.sb.at(0)
	r.sent = c.now()
	r.flags |= everRetrans
	c.sendSYN()
}

// takeSYN takes the peer's SYN: its sequence number and options.
func (c *Conn) takeSYN(s *Segment) {
	c.rcv.irs = s.Seq
	c.rcv.nxt = s.Seq.Add(1)
	c.rcv.wup, c.rcv.up = c.rcv.nxt, c.rcv.nxt
	o := &s.Options
	c.peerMSS = defaultMSS4
	if c.path.IPHeader > 20 {
		c.peerMSS = defaultMSS6
	}
	if o.Has&HasMSS != 0 {
		c.peerMSS = max(o.MSS, minMSS)
	}
	c.agreed = c.offers() & o.Has
	if c.agreed&HasWScale != 0 {
		c.snd.scale = o.WScale
	} else {
		c.rcv.scale = 0
	}
	if c.agreed&HasTimestamps != 0 {
		c.ts.recent, c.ts.recentAt = o.TSVal, c.now()
	}
	c.setMSS()
	c.rcv.mss = min(c.rcv.advMSS, defaultMSS4)
	c.snd.wnd = int(s.Window) // of a SYN it is not scaled
	c.snd.maxWnd = max(c.snd.maxWnd, c.snd.wnd)
	c.snd.wl1, c.snd.wl2 = s.Seq, s.Ack
}

// setMSS gives the payload of a full segment: what the peer takes and the path
// carries, less the options that every segment has (RFC 6691).
func (c *Conn) setMSS() {
	mss := min(int(c.peerMSS), c.path.MTU-c.path.IPHeader-HeaderLen)
	if c.opt.maxSeg > 0 {
		mss = min(mss, c.opt.maxSeg)
	}
	if c.agreed&HasTimestamps != 0 {
		mss -= 12
	}
	c.snd.mss = max(mss, minMSS-maxOptions)
	c.win.MSS = c.snd.mss
}

// establish enters ESTABLISHED. The handshake's round trip is the first sample
// of RTT.
func (c *Conn) establish() {
	retried := c.probe.retries > 0
	c.initPolicies()
	c.state = Established
	c.progress()
	c.rcv.tune.init(c)
	c.mtu.init(c)
	c.initCwnd(retried)
	if !c.opt.sndLocked { // room for two initial windows
		c.snd.bufSize = max(c.snd.bufSize, min(2*c.win.Cwnd*3/2, c.cfg.MaxSendBuffer))
	}
	if c.opt.keepAlive {
		c.set(timerKeep, c.opt.keepIdle)
	}
	c.env.Wake()
}

func (c *Conn) initPolicies() {
	c.cc = congestionControls.make(c.opt.cc)
	c.ackp = ackPolicies.make(c.cfg.AckPolicy)
	c.pacer = pacers.make(c.cfg.Pacer)
	c.checker = ackCheckers.make(c.cfg.AckChecker)
	name := c.cfg.Recovery
	if c.agreed&HasSACKPermitted == 0 {
		name = "newreno"
	}
	c.detector = lossDetectors.make(name)
	c.ackp.Init(c.acker())
}

// initCwnd is the initial window (RFC 6928 2; RFC 5681 3.1 where the SYN was
// lost).
func (c *Conn) initCwnd(retried bool) {
	mss := c.snd.mss
	w := &c.win
	w.MSS = mss
	w.Cwnd = min(c.cfg.InitialWindow*mss, max(2*mss, c.cfg.InitialWindow*1460))
	if retried && c.sb.synRetried {
		w.Cwnd = mss
	}
	w.Ssthresh = InfiniteSsthresh
	w.Now, w.SRTT = c.now(), c.rto.SRTT()
	w.random = sipHash(c.cfg.Secret, binary.LittleEndian.AppendUint32(nil, uint32(c.snd.iss)))
	c.cc.Init(w)
}

// SetCongestionControl is TCP_CONGESTION; ENOENT if there is none of that name.
func (c *Conn) SetCongestionControl(name string) unix.Errno {
	f, ok := congestionControls.find(name)
	if !ok {
		return unix.ENOENT
	}
	if c.opt.cc == name {
		return 0
	}
	c.opt.cc = name
	if c.cc != nil {
		c.cc = f()
		c.win.PacingRate = 0
		c.refreshWindow()
		c.cc.Init(&c.win)
	}
	return 0
}

// CongestionControlName is the name of the congestion control in use.
func (c *Conn) CongestionControlName() string { return c.opt.cc }

// handshakeRTT takes the sample that the acknowledgment of our SYN is.
func (c *Conn) handshakeRTT(r *record) {
	if r.flags&everRetrans != 0 {
		c.sb.synRetried = true
		return // Karn's algorithm
	}
	c.rttSample(max(c.now()-r.sent, time.Microsecond))
}
