package tcp

import (
	"time"

	"golang.org/x/sys/unix"
)

// Info is what TCP_INFO shows (struct tcp_info, linux/tcp.h); amounts of data
// are in bytes here, the windows too.
type Info struct {
	State                                State
	CA                                   CAState
	Retransmits, Probes, Backoff         int
	Timestamps, SACK, WScale, ECN, ECNOn bool
	SndScale, RcvScale                   uint8
	AppLimited                           bool

	RTO, ATO, SRTT, RTTVar, MinRTT, RcvRTT       time.Duration
	SndMSS, RcvMSS, AdvMSS, PMTU                 int
	Outstanding, SACKed, Lost, Retrans, Pipe     int
	Cwnd, Ssthresh, SndWnd, RcvWnd, RcvSpace     int
	NotSent, Unacked, RcvOutOfOrder              int
	PacingRate, MaxPacing, DeliveryRate          uint64
	LastDataSent, LastDataRecv, LastAckRecv      time.Duration // ago
	SegsIn, SegsOut, DataSegsIn, DataSegsOut     uint32
	TotalRetrans, DSACKDups, ReordSeen, Timeouts uint32
	BytesAcked, BytesReceived, BytesSent         uint64
	BytesRetrans, Delivered                      uint64
	// In packets: delivered, and of them those with CE echoed; received out of order.
	DeliveredSegs, DeliveredCE, OutOfOrderSegs uint32
	// What the sender was limited by, and for how long.
	Busy, WindowLimited, BufferLimited time.Duration
	RTORecoveries                      uint32
	RTOTime                            time.Duration
	Una, Nxt, RcvNxt                   Seq
}

// Info gives the connection's state.
func (c *Conn) Info() Info {
	now := c.now()
	i := Info{
		State: c.state, CA: c.ca, Retransmits: c.probe.retries, Probes: c.probe.keepSent, Backoff: c.probe.backoff,
		Timestamps: c.agreed&HasTimestamps != 0, SACK: c.agreed&HasSACKPermitted != 0, WScale: c.agreed&HasWScale != 0,
		ECN: c.ecn.on, ECNOn: c.ecn.ceEvents > 0, SndScale: c.snd.scale, RcvScale: c.rcv.scale,
		MinRTT: c.win.MinRTT, RcvRTT: c.rcv.tune.rtt, ATO: c.cfg.DelayedAckMin,
		SndMSS: c.snd.mss, RcvMSS: c.rcv.mss, AdvMSS: c.rcv.advMSS, PMTU: c.path.MTU,
		Outstanding: c.sb.bytes(), SACKed: c.sb.sacked + c.recovery.dupSacked, Lost: c.sb.lost, Retrans: c.sb.retrans, Pipe: c.pipe(),
		Cwnd: c.win.Cwnd, Ssthresh: c.win.Ssthresh, SndWnd: c.snd.wnd, RcvWnd: c.offered(), RcvSpace: c.rcv.tune.space,
		NotSent: c.unsent(), Unacked: c.snd.buf.len(), RcvOutOfOrder: c.rcv.ooo.bytes,
		PacingRate: c.pace.rate, MaxPacing: c.opt.maxPacing, DeliveryRate: c.rate.latest, AppLimited: c.rate.appLimited > 0,
		SegsIn: c.segs.in, SegsOut: c.segs.out, DataSegsIn: c.segs.dataIn, DataSegsOut: c.segs.dataOut,
		TotalRetrans: c.segs.retrans, DSACKDups: c.segs.dsackDups, ReordSeen: c.segs.reordSeen, Timeouts: c.segs.timeouts,
		BytesAcked: c.segs.bytesAcked, BytesReceived: c.segs.bytesIn, BytesSent: c.segs.bytesSent,
		BytesRetrans: c.segs.bytesRetrans, Delivered: c.rate.delivered,
		Una: c.snd.una, Nxt: c.snd.nxt, RcvNxt: c.rcv.nxt,
	}
	if c.rto != nil {
		i.RTO, i.SRTT, i.RTTVar = min(c.baseRTO()<<min(c.probe.backoff, 20), c.maxRTO()), c.rto.SRTT(), c.rto.RTTVar()
	}
	ago := func(t time.Duration) time.Duration {
		if t == 0 {
			return 0
		}
		return now - t
	}
	i.LastDataSent, i.LastDataRecv, i.LastAckRecv = ago(c.snd.lastData), ago(c.rcv.lastData), ago(c.probe.heard)
	i.DeliveredSegs, i.DeliveredCE, i.OutOfOrderSegs = c.segs.delivered, c.segs.deliveredCE, c.segs.outOfOrder
	i.WindowLimited, i.BufferLimited = c.chrono.total(windowLimited, now), c.chrono.total(bufferLimited, now)
	i.Busy = c.chrono.total(netLimited, now) + i.WindowLimited + i.BufferLimited
	i.RTORecoveries, i.RTOTime = c.segs.rtoRecoveries, c.segs.rtoTime
	if c.segs.rtoSince != 0 {
		i.RTOTime += now - c.segs.rtoSince
	}
	return i
}

// Options of the user that need no more than to be known.

// SetUserTimeout is TCP_USER_TIMEOUT (RFC 5482); 0 for none.
func (c *Conn) SetUserTimeout(d time.Duration) { c.opt.userTimeout = d }

// SetMaxSeg is TCP_MAXSEG, bytes; 0 for what the path carries.
func (c *Conn) SetMaxSeg(n int) {
	c.opt.maxSeg = n
	if c.cc != nil {
		c.setMSS()
	}
}

// SetWindowClamp is TCP_WINDOW_CLAMP, bytes; 0 for none.
func (c *Conn) SetWindowClamp(n int) { c.opt.windowClamp = n }

// SetSYNRetries is TCP_SYNCNT.
func (c *Conn) SetSYNRetries(n int) { c.opt.synRetries = n }

// SetDeferAccept is TCP_DEFER_ACCEPT of the listener.
func (c *Conn) SetDeferAccept(d time.Duration) { c.opt.deferAccept = d }

// SetNotSentLowat is TCP_NOTSENT_LOWAT, bytes; 0 for none.
func (c *Conn) SetNotSentLowat(n int) { c.opt.notSentLowat = n }

// SetSendBuffer sets the size of the send buffer, bytes; locked, it does not
// grow by itself.
func (c *Conn) SetSendBuffer(n int, locked bool) {
	c.snd.bufSize = n
	c.opt.sndLocked = c.opt.sndLocked || locked
	if c.wantOut && c.Writable() {
		c.wantOut = false
		c.env.Wake()
	}
}

// SendBuffer is its size.
func (c *Conn) SendBuffer() int { return c.snd.bufSize }

// SetRecvBuffer sets the size of the receive buffer, bytes, half of which is
// window; locked, it does not grow by itself.
func (c *Conn) SetRecvBuffer(n int, locked bool) {
	c.rcv.bufSize = n
	c.opt.rcvLocked = c.opt.rcvLocked || locked
}

// RecvBuffer is its size.
func (c *Conn) RecvBuffer() int { return c.rcv.bufSize }

// Inherit takes over what was set on a listening socket.
func (c *Conn) Inherit(from *Conn) {
	c.opt = from.opt
	c.snd.bufSize, c.rcv.bufSize = from.snd.bufSize, from.rcv.bufSize
}

// SoftErr is an ICMP error that has not ended the connection; it is cleared.
func (c *Conn) SoftErr() unix.Errno {
	err := c.softErr
	c.softErr = 0
	return err
}
