package relay

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// udpPublish is a published UDP port. Each peer of the host gets a port of the
// gateway, its own number if that is free, so that the near stack can answer it.
type udpPublish struct {
	r    *Relay
	conn *net.UDPConn
	port uint16

	mu    sync.Mutex
	peers map[netip.AddrPort]*udpSession
}

func newUDPPublish(r *Relay, c *net.UDPConn, port uint16) *udpPublish {
	return &udpPublish{r: r, conn: c, port: port, peers: make(map[netip.AddrPort]*udpSession)}
}

// receive passes datagrams of the host's peers to the near stack.
func (p *udpPublish) receive() {
	buf := make([]byte, maxDatagram)
	for {
		n, peer, err := p.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an answer
		}
		if s := p.session(peer); s != nil {
			s.set(p.r.table.now())
			p.r.writeUDP(s.key, buf[:n])
		}
	}
}

// session finds or makes the session of a peer; nil if there is no room.
func (p *udpPublish) session(peer netip.AddrPort) *udpSession {
	p.mu.Lock()
	s := p.peers[peer]
	p.mu.Unlock()
	if s != nil {
		return s
	}
	near, gw := p.r.nearFor(peer.Addr(), p.port)
	s = &udpSession{p: p, peer: peer}
	s.set(p.r.table.now())
	port := peer.Port()
	for range 64 {
		s.key = flowKey{near: near, far: netip.AddrPortFrom(gw, port)}
		if port != 0 && p.r.table.put(s.key, s) {
			p.mu.Lock()
			p.peers[peer] = s
			p.mu.Unlock()
			p.r.stats.udpIn.begin()
			p.r.log.Debug("relay: flow begins", "proto", "udp", "from", peer, "near", near)
			return s
		}
		port = uint16(1024 + rand.IntN(65536-1024))
	}
	p.r.log.Debug("relay: no port for a peer", "from", peer)
	return nil
}

// udpSession is what a udpPublish has with one peer.
type udpSession struct {
	stamp
	p    *udpPublish
	key  flowKey
	peer netip.AddrPort
}

func (s *udpSession) timeout() time.Duration { return s.p.r.cfg.UDPTimeout }

// send answers the peer. A full socket buffer makes the write wait, which it
// does for microseconds at most, and not at all on loopback.
func (s *udpSession) send(payload []byte, _ quote) {
	s.set(s.p.r.table.now())
	if _, err := s.p.conn.WriteToUDPAddrPort(payload, s.peer); err != nil {
		s.p.r.log.Debug("relay: not sent", "proto", "udp", "to", s.peer, "err", err)
	}
}

func (s *udpSession) close() {
	s.p.mu.Lock()
	if s.p.peers[s.peer] == s {
		delete(s.p.peers, s.peer)
	}
	s.p.mu.Unlock()
	s.p.r.stats.udpIn.end()
}
