package enginetest

import (
	"bytes"
	"math/rand"
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func datagramScenes() []scene {
	return []scene{
		{"Datagram/Fresh", datagramFresh},
		{"Datagram/Boundaries", datagramBoundaries},
		{"Datagram/TooLong", datagramTooLong},
		{"Datagram/Connect", datagramConnect},
		{"Datagram/ConnectFilters", datagramConnectFilters},
		{"Datagram/Disconnect", datagramDisconnect},
		{"Datagram/Refused", datagramRefused},
		{"Datagram/PortZero", datagramPortZero},
		{"Datagram/Shutdown", datagramShutdown},
		{"Datagram/Overflow", datagramOverflow},
		{"Datagram/Broadcast", datagramBroadcast},
		{"Datagram/Reuse", datagramReuse},
	}
}

// bound makes a datagram socket bound on B.
func (f *fixture) bound() *sock {
	f.Helper()
	s := f.dgram(f.B)
	f.must("bind", s.Bind(stack.Addr{IP: f.ipB}), 0)
	return s
}

func datagramFresh(f *fixture) {
	s := f.dgram(f.A)
	s.maskNow("fresh", unix.POLLOUT)
	if a := s.LocalAddr(); a.Port != 0 || specified(a) {
		f.Errorf("getsockname is %v", a)
	}
	_, errno := s.PeerAddr()
	f.expect("getpeername", errno, unix.ENOTCONN)
	f.expect("recv", s.Recv(new(stack.Message)), unix.EAGAIN)
	f.expect("recv error", s.RecvError(new(stack.Message)), unix.EAGAIN)
	f.expect("send", s.send([]byte("x")), unix.EDESTADDRREQ)
	f.expect("send of nothing", s.send(nil), unix.EDESTADDRREQ)
	f.expect("listen", s.Listen(1), unix.EOPNOTSUPP)
	_, errno = s.Accept()
	f.expect("accept", errno, unix.EOPNOTSUPP)
	f.expect("shutdown", s.Shutdown(unix.SHUT_RDWR), unix.ENOTCONN)
	f.expect("SO_ERROR", s.TakeError(), 0)
	if in, out := s.Queued(); in != 0 || out != 0 {
		f.Errorf("queued are %d, %d", in, out)
	}
}

func datagramBoundaries(f *fixture) {
	a, b := f.dgram(f.A), f.bound()
	data := make([]byte, 65507)
	rand.New(rand.NewSource(1)).Read(data)
	for _, n := range []int{0, 1, 512, 1400, 1473, 9000, 65507} {
		f.must("send", a.sendTo(data[:n], b.LocalAddr()), 0)
		b.until(unix.POLLIN)
		b.maskNow("one datagram", unix.POLLIN|unix.POLLOUT)
		if in, _ := b.Queued(); in != n {
			f.Errorf("%d bytes queued, want %d", in, n)
		}
		m := b.recv()
		if !bytes.Equal(m.Data, data[:n]) || m.Flags != 0 {
			f.Fatalf("datagram of %d: %d bytes, flags %#x", n, len(m.Data), m.Flags)
		}
		if !m.HasAddr || m.Addr.IP != f.ipA || m.Addr.Port != a.LocalAddr().Port {
			f.Errorf("datagram of %d is from %v, sent by %v", n, m.Addr, a.LocalAddr())
		}
		b.maskNow("received", unix.POLLOUT)
	}
	if p := a.LocalAddr(); p.Port == 0 || specified(p) {
		f.Errorf("sending bound to %v", p)
	}
	// Two that wait are two.
	f.must("send", a.sendTo([]byte("one"), b.LocalAddr()), 0)
	f.must("send", a.sendTo([]byte("three"), b.LocalAddr()), 0)
	if m := b.recv(); string(m.Data) != "one" {
		f.Errorf("first is %q", m.Data)
	}
	if m := b.recv(); string(m.Data) != "three" {
		f.Errorf("second is %q", m.Data)
	}
	f.expect("recv after the last", b.Recv(new(stack.Message)), unix.EAGAIN)
	// A message that comes with room for more is overwritten, not extended.
	m := &stack.Message{Data: []byte("old old old"), Control: []byte("old")}
	f.must("send", a.sendTo([]byte("new"), b.LocalAddr()), 0)
	b.until(unix.POLLIN)
	f.must("recv", b.Recv(m), 0)
	if string(m.Data) != "new" || len(m.Control) != 0 {
		f.Errorf("received %q, control %q", m.Data, m.Control)
	}
}

// datagramTooLong: 65535 less the headers is the most.
func datagramTooLong(f *fixture) {
	a, b := f.dgram(f.A), f.bound()
	limit := 65535 - 20 - 8
	if f.family == unix.AF_INET6 {
		limit = 65535 - 8 // the payload length does not count the IPv6 header
	}
	f.expect("send of the most", a.sendTo(make([]byte, limit), b.LocalAddr()), 0)
	if m := b.recv(); len(m.Data) != limit {
		f.Errorf("%d bytes of %d", len(m.Data), limit)
	}
	f.expect("send of one more", a.sendTo(make([]byte, limit+1), b.LocalAddr()), unix.EMSGSIZE)
	f.expect("send of 65536", a.sendTo(make([]byte, 65536), b.LocalAddr()), unix.EMSGSIZE)
}

func datagramConnect(f *fixture) {
	a, b, c := f.dgram(f.A), f.bound(), f.bound()
	f.must("connect", a.Connect(b.LocalAddr()), 0)
	a.maskNow("connected", unix.POLLOUT)
	if p, errno := a.PeerAddr(); errno != 0 || p != b.LocalAddr() {
		f.Errorf("getpeername is %v, %v", p, errno)
	}
	if l := a.LocalAddr(); l.IP != f.ipA || l.Port == 0 {
		f.Errorf("getsockname is %v", l)
	}
	f.must("send", a.send([]byte("to b")), 0)
	if m := b.recv(); string(m.Data) != "to b" || m.Addr != a.LocalAddr() {
		f.Errorf("b received %q from %v", m.Data, m.Addr)
	}
	// An address overrides the peer for one message.
	f.must("send to c", a.sendTo([]byte("to c"), c.LocalAddr()), 0)
	if m := c.recv(); string(m.Data) != "to c" {
		f.Errorf("c received %q", m.Data)
	}
	// A second connect changes the peer.
	f.must("connect to c", a.Connect(c.LocalAddr()), 0)
	f.must("send", a.send([]byte("to c")), 0)
	c.recv()
}

// datagramConnectFilters: only the peer is heard.
func datagramConnectFilters(f *fixture) {
	a, b, c := f.dgram(f.A), f.bound(), f.bound()
	f.must("connect", a.Connect(b.LocalAddr()), 0)
	f.must("stranger's send", c.sendTo([]byte("stranger"), a.LocalAddr()), 0)
	f.must("peer's send", b.sendTo([]byte("peer"), a.LocalAddr()), 0)
	if m := a.recv(); string(m.Data) != "peer" {
		f.Errorf("received %q", m.Data)
	}
	f.expect("recv", a.Recv(new(stack.Message)), unix.EAGAIN)
}

func datagramDisconnect(f *fixture) {
	b := f.bound()
	a := f.dgram(f.A)
	f.expect("disconnect a fresh socket", a.Disconnect(), 0)
	f.must("connect", a.Connect(b.LocalAddr()), 0)
	f.must("disconnect", a.Disconnect(), 0)
	_, errno := a.PeerAddr()
	f.expect("getpeername", errno, unix.ENOTCONN)
	if l := a.LocalAddr(); l.Port != 0 || specified(l) {
		f.Errorf("getsockname after disconnect is %v, want nothing", l)
	}
	f.expect("send", a.send([]byte("x")), unix.EDESTADDRREQ)
	f.must("connect again", a.Connect(b.LocalAddr()), 0)
	f.must("send", a.send([]byte("x")), 0)
	b.recv()

	// What was bound stays bound, but a port of the system's choice is lost.
	for _, port := range []uint16{0, f.dead(unix.SOCK_DGRAM).Port} {
		a = f.dgram(f.A)
		bound := stack.Addr{IP: f.ipA, Port: port}
		f.must("bind", a.Bind(bound), 0)
		f.must("connect", a.Connect(b.LocalAddr()), 0)
		f.must("disconnect", a.Disconnect(), 0)
		if l := a.LocalAddr(); l != bound {
			f.Errorf("getsockname after disconnect is %v, bound to %v", l, bound)
		}
	}
}

// datagramRefused: the port unreachable of a connected socket's datagram is
// the error of its next call (RFC 1122, 4.1.3.3).
func datagramRefused(f *fixture) {
	for _, by := range []struct {
		name string
		take func(*sock) stack.Errno
	}{
		{"SO_ERROR", (*sock).TakeError},
		{"recv", func(s *sock) stack.Errno { return s.Recv(new(stack.Message)) }},
		{"send", func(s *sock) stack.Errno { return s.send([]byte("y")) }},
	} {
		a := f.dgram(f.A)
		f.must("connect", a.Connect(f.dead(unix.SOCK_DGRAM)), 0)
		f.must("send", a.send([]byte("x")), 0)
		a.until(unix.POLLERR)
		a.maskNow("refused", unix.POLLOUT|unix.POLLERR)
		f.expect("error by "+by.name, by.take(a), unix.ECONNREFUSED)
		a.mask("error taken", unix.POLLOUT)
	}
	// One that is not connected hears nothing.
	a := f.dgram(f.A)
	f.must("send", a.sendTo([]byte("x"), f.dead(unix.SOCK_DGRAM)), 0)
	time.Sleep(50 * time.Millisecond)
	a.maskNow("not connected", unix.POLLOUT)
}

func datagramPortZero(f *fixture) {
	a := f.dgram(f.A)
	f.expect("send to port 0", a.sendTo([]byte("x"), stack.Addr{IP: f.ipB}), unix.EINVAL)
}

func datagramShutdown(f *fixture) {
	a, b := f.dgram(f.A), f.bound()
	f.must("connect", a.Connect(b.LocalAddr()), 0)
	f.must("SHUT_WR", a.Shutdown(unix.SHUT_WR), 0)
	f.expect("send after SHUT_WR", a.send([]byte("x")), unix.EPIPE)
	f.must("send to a", b.sendTo([]byte("in"), a.LocalAddr()), 0)
	if m := a.recv(); string(m.Data) != "in" {
		f.Errorf("received %q", m.Data)
	}
	f.must("SHUT_RD", a.Shutdown(unix.SHUT_RD), 0)
	a.mask("after both", unix.POLLIN|unix.POLLOUT|unix.POLLHUP|unix.POLLRDHUP)
}

// datagramOverflow: what does not fit the receive buffer is dropped, the first
// stay, and the sender does not notice.
func datagramOverflow(f *fixture) {
	a, b := f.dgram(f.A), f.bound()
	f.must("SO_RCVBUF", b.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 8192), 0)
	for i := range 64 {
		if errno := a.sendTo(append([]byte{byte(i)}, make([]byte, 1000)...), b.LocalAddr()); errno != 0 && errno != unix.EAGAIN {
			f.Fatal("send:", errno)
		}
	}
	time.Sleep(50 * time.Millisecond)
	n := 0
	for m := new(stack.Message); b.Recv(m) == 0; n++ {
		if int(m.Data[0]) != n {
			f.Fatalf("datagram %d is number %d", n, m.Data[0])
		}
	}
	if n == 0 || n == 64 {
		f.Errorf("%d of 64 datagrams are in a receive buffer of 16 KiB", n)
	}
}

func datagramBroadcast(f *fixture) {
	if f.family != unix.AF_INET || !f.Broadcast.IsValid() {
		f.Skip("no broadcast address")
	}
	a := f.dgram(f.A)
	to := stack.Addr{IP: f.Broadcast, Port: 9}
	f.expect("send without SO_BROADCAST", a.sendTo([]byte("x"), to), unix.EACCES)
	f.expect("connect without SO_BROADCAST", a.Connect(to), unix.EACCES)
	f.must("SO_BROADCAST", a.setInt(unix.SOL_SOCKET, unix.SO_BROADCAST, 1), 0)
	f.expect("send with SO_BROADCAST", a.sendTo([]byte("x"), to), 0)
}

// datagramReuse: of sockets with SO_REUSEPORT on one port each datagram goes
// to one, and a flow always to the same.
func datagramReuse(f *fixture) {
	var socks []*sock
	addr := stack.Addr{IP: f.ipB}
	for range 2 {
		s := f.dgram(f.B)
		f.must("SO_REUSEPORT", s.setInt(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), 0)
		f.must("bind", s.Bind(addr), 0)
		addr = s.LocalAddr()
		socks = append(socks, s)
	}
	a := f.dgram(f.A)
	for range 8 {
		f.must("send", a.sendTo([]byte("x"), addr), 0)
	}
	time.Sleep(50 * time.Millisecond)
	count := [2]int{}
	for i, s := range socks {
		for s.Recv(new(stack.Message)) == 0 {
			count[i]++
		}
	}
	if count != [2]int{8, 0} && count != [2]int{0, 8} {
		f.Errorf("datagrams of one flow went %v", count)
	}
}
