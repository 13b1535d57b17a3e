package tcp_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// server is a listener and what came to it.
type server struct {
	cfg     *tcp.Config
	clock   *tcptest.Clock
	backlog tcp.Backlog
	half    map[uint16]*tcptest.Host // by the peer's port
	ready   map[uint16]*tcptest.Host
	open    map[uint16]*tcptest.Host // accepted
	last    map[uint16]tcp.Segment   // sent to that port
}

var (
	serverAddr = netip.MustParseAddrPort("10.0.0.1:80")
	peerAddr   = netip.MustParseAddr("10.0.0.2")
)

func (v *server) sent(port uint16) func(*tcp.Segment) {
	return func(s *tcp.Segment) { v.last[port] = *s }
}

// input is a segment from a port.
func (v *server) input(s *tcp.Segment) {
	port := s.SrcPort
	remote := netip.AddrPortFrom(peerAddr, port)
	for _, m := range []map[uint16]*tcptest.Host{v.half, v.ready, v.open} {
		if h := m[port]; h != nil && h.State() != tcp.Closed {
			h.Refuse = v.backlog.Full()
			h.Input(s)
			v.sort()
			return
		}
	}
	switch {
	case s.Flags&(tcp.SYN|tcp.ACK|tcp.RST) == tcp.SYN:
		switch v.backlog.OnSYN(v.cfg) {
		case tcp.TakeSYN:
			h := tcptest.NewHost(v.clock, v.cfg, v.sent(port))
			v.half[port] = h
			v.backlog.Half++
			h.OpenPassive(s, tcp.InitialSeq(v.cfg, serverAddr, remote, v.clock.Now()), tcptest.Path)
		case tcp.CookieSYN:
			var r tcp.Segment
			tcp.MakeCookie(v.cfg, s, serverAddr, remote, tcptest.Path, v.clock.Now(), &r)
			v.last[port] = r
		}
	case s.Flags&tcp.ACK != 0 && tcp.CookieValid(v.cfg, s, serverAddr, remote, v.clock.Now()):
		h := tcptest.NewHost(v.clock, v.cfg, v.sent(port))
		if !h.OpenCookie(s, serverAddr, remote, tcptest.Path) {
			return
		}
		h.Refuse = v.backlog.Full()
		h.Input(s)
		if h.State() == tcp.SynReceived {
			h.Abandon()
			return
		}
		v.half[port] = h
		v.backlog.Half++
	}
	v.sort()
}

// sort moves connections to the queue of their state.
func (v *server) sort() {
	for port, h := range v.half {
		if h.State() == tcp.SynReceived {
			continue
		}
		delete(v.half, port)
		v.backlog.Half--
		if h.State() == tcp.Closed {
			continue
		}
		if v.ready[port] == nil { // else one that has ended gives its place
			v.backlog.Ready++
		}
		v.ready[port] = h
	}
}

// check says what is wrong.
func (v *server) check() error {
	if v.backlog.Half != len(v.half) || v.backlog.Ready != len(v.ready) {
		return fmt.Errorf("%+v with %d and %d connections", v.backlog, len(v.half), len(v.ready))
	}
	if v.backlog.Half > max(v.backlog.Limit, 1)+1 || v.backlog.Ready > v.backlog.Limit+1 {
		return fmt.Errorf("more than the backlog: %+v", v.backlog)
	}
	for _, m := range []map[uint16]*tcptest.Host{v.half, v.ready, v.open} {
		for port, h := range m {
			if err := h.Check(); err != nil {
				return fmt.Errorf("port %d, %v: %w", port, h.State(), err)
			}
		}
	}
	return nil
}

func fuzzListener(b []byte) error {
	in := &tape{b}
	cfg := tcp.NewConfig()
	cfg.SYNCookies, cfg.Timestamps = in.next() < 160, in.next() < 128
	v := &server{
		cfg: cfg, clock: tcptest.NewClock(), backlog: tcp.Backlog{Limit: in.next() & 3},
		half: map[uint16]*tcptest.Host{}, ready: map[uint16]*tcptest.Host{}, open: map[uint16]*tcptest.Host{}, last: map[uint16]tcp.Segment{},
	}
	for len(in.b) > 0 {
		switch op := in.next(); {
		case op < 220:
			v.input(v.segment(in))
		case op < 235:
			for port := range uint16(8) {
				if h := v.ready[port]; h != nil {
					delete(v.ready, port)
					v.backlog.Ready--
					if old := v.open[port]; old != nil {
						old.Abort()
					}
					v.open[port] = h
					break
				}
			}
		case op < 240:
			if h := v.open[uint16(in.next()&7)]; h != nil {
				h.Close()
			}
		default:
			v.clock.Run(time.Duration(in.next()) * 100 * time.Millisecond)
			v.sort()
		}
		if err := v.check(); err != nil {
			return err
		}
	}
	v.clock.Run(5 * time.Minute)
	v.sort()
	if v.backlog.Half != 0 {
		return fmt.Errorf("%d handshakes never ended", v.backlog.Half)
	}
	return nil
}

// segment is one of a handshake more often than not.
func (v *server) segment(in *tape) *tcp.Segment {
	port := uint16(in.next() & 7)
	last := v.last[port]
	s := &tcp.Segment{SrcPort: port, DstPort: 80, Window: 65535, Seq: tcp.Seq(port) << 20}
	switch in.next() & 7 {
	case 0, 1, 2:
		s.Flags = tcp.SYN
		s.Options = tcp.Options{Has: tcp.HasMSS | tcp.HasSACKPermitted, MSS: uint16(in.next() * 8)}
		if in.next() < 128 {
			s.Options.Has |= tcp.HasTimestamps
			s.Options.TSVal = uint32(in.next())
		}
	case 3, 4, 5:
		s.Flags, s.Seq, s.Ack = tcp.ACK, last.Ack, last.End()
		if last.Options.Has&tcp.HasTimestamps != 0 {
			s.Options.Has |= tcp.HasTimestamps
			s.Options.TSVal, s.Options.TSEcr = last.Options.TSEcr+1, last.Options.TSVal
		}
		if in.next() < 40 {
			s.Flags |= tcp.FIN
		}
	case 6:
		s.Flags, s.Seq = tcp.RST, last.Ack
	default:
		s.Flags, s.Seq, s.Ack = tcp.Flags(in.next()), last.Ack.Add(in.next()-100), last.End().Add(in.next()-100)
	}
	return tcptest.Copy(s)
}
