package relay

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// udpPublish is a published UDP port. Each peer of the host gets a port of the
// gateway, its own number if that is free, so that the near stack can answer it.
type udpPublish struct {
	r    *Relay
	conn *net.UDPConn
	rc   syscall.RawConn
	port uint16

	mu    sync.Mutex
	peers map[udpPath]*udpSession
}

// udpPath is between whom a published port's datagrams go: an answer must come
// from the address that was asked, of which the host may have many.
type udpPath struct {
	peer  netip.AddrPort
	local netip.Addr // not valid if the socket is bound to one address
}

func newUDPPublish(r *Relay, c *net.UDPConn, port uint16) (*udpPublish, error) {
	p := &udpPublish{r: r, conn: c, port: port, peers: make(map[udpPath]*udpSession)}
	var err error
	if p.rc, err = c.SyscallConn(); err != nil {
		return nil, err
	}
	bound := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	if !bound.IsUnspecified() {
		return p, nil
	}
	cerr := p.rc.Control(func(fd uintptr) {
		if bound.Is4() {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	return p, errors.Join(cerr, err)
}

// receive passes datagrams of the host's peers to the near stack.
func (p *udpPublish) receive() {
	buf := make([]byte, maxDatagram)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	for {
		n, oobn, _, peer, err := p.conn.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an answer
		}
		if s := p.session(udpPath{peer, localOf(oob[:oobn])}); s != nil {
			s.set(p.r.table.now())
			p.r.writeUDP(s.key, buf[:n])
		}
	}
}

// localOf is the address that a datagram was sent to, if oob says it (ip(7),
// IP_PKTINFO; ipv6(7), IPV6_PKTINFO).
func localOf(oob []byte) netip.Addr {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[8:12])) // ipi_addr
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data[:16])) // ipi6_addr
		}
	}
	return netip.Addr{}
}

// session finds or makes the session of a path; nil if there is no room.
func (p *udpPublish) session(path udpPath) *udpSession {
	p.mu.Lock()
	s := p.peers[path]
	p.mu.Unlock()
	if s != nil {
		return s
	}
	near, gw := p.r.nearFor(path.peer.Addr(), p.port)
	s = newUDPSession(p, path)
	port := path.peer.Port()
	for range 64 {
		s.key = flowKey{near: near, far: netip.AddrPortFrom(gw, port)}
		if port != 0 && p.enter(s) {
			p.r.log.Debug("relay: flow begins", "proto", "udp", "from", path.peer, "near", near)
			return s
		}
		port = uint16(1024 + rand.IntN(65536-1024))
	}
	p.r.log.Debug("relay: no port for a peer", "from", path.peer)
	return nil
}

func (p *udpPublish) enter(s *udpSession) bool {
	p.mu.Lock()
	p.peers[s.path] = s
	p.mu.Unlock()
	p.r.stats.udpIn.open.Add(1)
	if p.r.table.put(s.key, s) {
		p.r.stats.udpIn.total.Add(1)
		return true
	}
	s.close()
	return false
}

// udpSession is what a udpPublish has with one peer.
type udpSession struct {
	stamp
	p    *udpPublish
	key  flowKey
	path udpPath
	to   unix.Sockaddr
	oob  []byte // the source address, as ancillary data
}

func newUDPSession(p *udpPublish, path udpPath) *udpSession {
	s := &udpSession{p: p, path: path}
	s.set(p.r.table.now())
	peer := path.peer
	if peer.Addr().Is4() {
		s.to = &unix.SockaddrInet4{Port: int(peer.Port()), Addr: peer.Addr().As4()}
	} else {
		sa := &unix.SockaddrInet6{Port: int(peer.Port()), Addr: peer.Addr().As16()}
		if ifi, err := net.InterfaceByName(peer.Addr().Zone()); err == nil {
			sa.ZoneId = uint32(ifi.Index)
		}
		s.to = sa
	}
	switch {
	case path.local.Is4():
		s.oob = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: path.local.As4()})
	case path.local.Is6():
		s.oob = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: path.local.As16()})
	}
	return s
}

func (s *udpSession) timeout() time.Duration { return s.p.r.cfg.UDPTimeout }

// send answers the peer.
func (s *udpSession) send(payload []byte, _ quote) {
	s.set(s.p.r.table.now())
	var err error
	closed := s.p.rc.Write(func(fd uintptr) bool {
		_, err = unix.SendmsgN(int(fd), payload, s.oob, s.to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return true
	})
	if closed == nil && err != nil {
		s.p.r.log.Debug("relay: not sent", "proto", "udp", "to", s.path.peer, "err", err)
	}
}

func (s *udpSession) close() {
	s.p.mu.Lock()
	if s.p.peers[s.path] == s {
		delete(s.p.peers, s.path)
	}
	s.p.mu.Unlock()
	s.p.r.stats.udpIn.end()
}
