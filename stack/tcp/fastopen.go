package tcp

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

// TCP Fast Open (RFC 7413): a SYN with data, for a server that has given this
// host a cookie before.

// fastOpen is a connection's part.
type fastOpen struct {
	peer    netip.Addr // of an active open that uses it
	waits   bool       // the SYN goes with the first data
	ask     bool       // the SYN asks for a cookie
	cookie  []byte     // of the SYN, or of the SYN-ACK
	carried int        // bytes of data in the SYN
	// early says that a passive open was done by a SYN with a good cookie, whose
	// SYN-ACK has not been acknowledged.
	early bool
}

// fastOpenCookieLen is the length of the cookies that are made, bytes.
const fastOpenCookieLen = 8

// maxFastOpenCookies bounds what a stack remembers of servers.
const maxFastOpenCookies = 512

// fastOpenCache has the cookies of servers (RFC 7413 4.1.3).
type fastOpenCache struct {
	mu sync.Mutex
	m  map[netip.Addr]fastOpenServer
}

type fastOpenServer struct {
	cookie []byte
	mss    int // that the server announced
}

func (f *fastOpenCache) find(a netip.Addr) (fastOpenServer, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.m[a.Unmap()]
	return s, ok
}

// learn keeps a server's cookie; nil forgets it.
func (f *fastOpenCache) learn(a netip.Addr, cookie []byte, mss int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a = a.Unmap()
	if len(cookie) == 0 {
		delete(f.m, a)
		return
	}
	if f.m == nil {
		f.m = make(map[netip.Addr]fastOpenServer)
	}
	if _, known := f.m[a]; !known && len(f.m) >= maxFastOpenCookies {
		for old := range f.m { // any will do
			delete(f.m, old)
			break
		}
	}
	f.m[a] = fastOpenServer{append([]byte(nil), cookie...), mss}
}

// SetFastOpenConnect is TCP_FASTOPEN_CONNECT.
func (c *Conn) SetFastOpenConnect(on bool) { c.opt.fastOpenConnect = on }

// SetFastOpen is TCP_FASTOPEN of a listener: how many connections may be open
// whose handshake has not ended; 0 for no Fast Open.
func (c *Conn) SetFastOpen(n int) { c.opt.fastOpenQueue = n }

// FastOpen is what SetFastOpen set.
func (c *Conn) FastOpen() int { return c.opt.fastOpenQueue }

// FastOpenPending says whether the connection was opened by a SYN with data and
// its handshake has not ended; a listener limits their number (RFC 7413 5.1).
func (c *Conn) FastOpenPending() bool { return c.fast.early && c.state != Closed }

// FastOpenWaits says whether the SYN waits for the first data.
func (c *Conn) FastOpenWaits() bool { return c.fast.waits && c.state == SynSent }

// FastOpening says whether the connection is one whose SYN has data, or waits for
// it: the user may take it for one that is open.
func (c *Conn) FastOpening() bool {
	return c.state == SynSent && (c.fast.waits || c.fast.carried > 0)
}

// ConnectTo is Connect to a peer of which a cookie may be known: if the user has
// asked for Fast Open, the SYN then goes with the first data.
func (c *Conn) ConnectTo(peer netip.Addr, local, remote uint16, iss Seq, p Path) {
	c.fast = fastOpen{}
	if !c.opt.fastOpenConnect {
		c.Connect(local, remote, iss, p)
		return
	}
	c.fast.peer = peer
	server, ok := c.cfg.fastOpen.find(peer)
	if !ok {
		c.fast.ask = true
		c.Connect(local, remote, iss, p)
		return
	}
	c.begin(local, remote, iss, p)
	c.state = SynSent
	c.fast.cookie, c.fast.waits = server.cookie, true
	c.peerMSS = uint16(min(server.mss, 65535))
}

// sendWaiting sends the SYN that waited for data, with as much as fits a
// segment (RFC 7413 4.2.1).
func (c *Conn) sendWaiting() {
	c.fast.waits = false
	c.fast.carried = min(c.snd.buf.len(), max(min(int(c.peerMSS), c.rcv.advMSS)-maxOptions, 0))
	c.snd.mss = max(c.snd.mss, c.fast.carried) // a SYN is one packet
	c.sendSYN()
	c.snd.nxt = c.snd.nxt.Add(c.fast.carried)
	c.segs.dataOut++
	c.segs.bytesSent += uint64(c.fast.carried)
}

// fastOpenSYN adds what a SYN or SYN-ACK has of Fast Open. One that is sent
// again has nothing: something on the way may not like it (RFC 7413 4.1.3.1,
// 7.1).
func (c *Conn) fastOpenSYN(s *Segment) {
	f := &c.fast
	switch {
	case c.state != SynSent:
		if len(f.cookie) > 0 {
			s.Options.Has |= HasFastOpen
			s.Options.FastOpen = f.cookie
		}
		return
	case c.probe.retries > 0:
		if f.carried > 0 {
			c.cfg.fastOpen.learn(f.peer, nil, 0)
		}
		return
	case f.ask:
		s.Options.Has |= HasFastOpen
	case f.carried > 0:
		s.Options.Has |= HasFastOpen
		s.Options.FastOpen = f.cookie
		s.Data = c.snd.buf.chunks(s.Data, s.Seq.Add(1), f.carried)
		s.DataLen = f.carried
	}
}

// fastOpenAnswer takes what the SYN-ACK says (4.1.3): a cookie to keep, and how
// much of the data was accepted. The rest is sent as if it never had been.
func (c *Conn) fastOpenAnswer(s *Segment) {
	f := &c.fast
	if !f.peer.IsValid() {
		return
	}
	refused := f.carried > 0 && s.Ack == c.snd.iss.Add(1)
	switch {
	case s.Options.Has&HasFastOpen != 0 && len(s.Options.FastOpen) > 0:
		c.cfg.fastOpen.learn(f.peer, s.Options.FastOpen, int(c.peerMSS))
	case refused:
		c.cfg.fastOpen.learn(f.peer, nil, 0)
	}
	if n := s.Ack.Sub(c.snd.iss.Add(1)); n > 0 {
		c.segs.bytesAcked += uint64(n)
		c.snd.buf.release(s.Ack)
	}
	c.snd.nxt = s.Ack
	c.segs.retrans += b2u(refused)
	f.cookie = nil
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// fastOpenCookie is the cookie of a client (4.1.2).
func (c *Conn) fastOpenCookie(client netip.Addr) []byte {
	a := client.As16()
	return binary.BigEndian.AppendUint64(nil, sipHash([2]uint64{^c.cfg.Secret[0], c.cfg.Secret[1]}, a[:]))
}

// fastOpenAccept looks at the option of a SYN that opens the connection
// (4.1.2, 4.2.2): with a good cookie, and if the listener has room, its data is
// taken and the connection is open before the handshake has ended.
func (c *Conn) fastOpenAccept(syn *Segment, client netip.Addr, room bool) (open bool) {
	if c.opt.fastOpenQueue == 0 || syn.Options.Has&HasFastOpen == 0 {
		return false
	}
	want := c.fastOpenCookie(client)
	if string(syn.Options.FastOpen) != string(want) {
		c.fast.cookie = want
		return false
	}
	if !room || syn.DataLen == 0 || syn.DataLen > c.offered() || syn.Flags&FIN != 0 || !c.env.Admit() {
		return false
	}
	c.rcv.nxt = c.rcv.nxt.Add(syn.DataLen)
	c.segs.dataIn++
	c.segs.bytesIn += uint64(syn.DataLen)
	c.rcv.lastData = c.now()
	c.rcv.buf.append(syn.Data)
	syn.Data, syn.DataLen = nil, 0
	return true
}

// openEarly makes the connection one that can be used; the SYN-ACK has been
// sent. Until it is acknowledged it stays the first thing in flight.
func (c *Conn) openEarly() {
	c.fast.early = true
	c.establish()
}

// answerSYN sends the SYN-ACK of a connection that is open early again.
func (c *Conn) answerSYN() {
	c.segs.retrans++
	c.sb.at(0).flags |= everRetrans
	c.sendSYN()
}
