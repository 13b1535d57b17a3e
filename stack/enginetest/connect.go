package enginetest

import (
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// broken is the mask of a stream that has failed.
const broken = unix.POLLIN | unix.POLLOUT | unix.POLLERR | unix.POLLHUP | unix.POLLRDHUP

func connectScenes() []scene {
	return []scene{
		{"Connect/Fresh", connectFresh},
		{"Connect/States", connectStates},
		{"Connect/Pending", connectPending},
		{"Connect/Refused", connectRefused},
		{"Connect/RefusedThenAgain", connectRefusedThenAgain},
		{"Connect/Unspecified", connectUnspecified},
		{"Connect/WrongFamily", connectWrongFamily},
		{"Connect/Disconnect", connectDisconnect},
		{"Connect/DisconnectPending", connectDisconnectPending},
		{"Connect/Bound", connectBound},
		{"Connect/Self", connectSelf},
	}
}

// connectFresh: a stream that nothing has been done with.
func connectFresh(f *fixture) {
	s := f.stream(f.A)
	s.maskNow("fresh", unix.POLLOUT|unix.POLLHUP)
	if a := s.LocalAddr(); a.Port != 0 || specified(a) {
		f.Errorf("getsockname is %v", a)
	}
	_, errno := s.PeerAddr()
	f.expect("getpeername", errno, unix.ENOTCONN)
	_, errno = s.readErr()
	f.expect("read", errno, unix.ENOTCONN)
	src := from([]byte("x"))
	_, errno = s.WriteFrom(src)
	f.expect("write", errno, unix.EPIPE)
	if src.Len() != 1 {
		f.Error("write took a byte that it cannot send")
	}
	_, errno = s.Accept()
	f.expect("accept", errno, unix.EINVAL)
	for how := unix.SHUT_RD; how <= unix.SHUT_RDWR; how++ {
		f.expect("shutdown", s.Shutdown(how), unix.ENOTCONN)
	}
	f.expect("shutdown 3", s.Shutdown(3), unix.EINVAL)
	f.expect("SO_ERROR", s.TakeError(), 0)
	if in, out := s.Queued(); in != 0 || out != 0 {
		f.Errorf("queued are %d, %d", in, out)
	}
	f.expect("disconnect", s.Disconnect(), 0)
}

// specified reports whether an address has an IP that is not all zero.
func specified(a stack.Addr) bool { return a.IP.IsValid() && !a.IP.IsUnspecified() }

// connectStates: a connection from its beginning until EISCONN.
func connectStates(f *fixture) {
	l := f.listener(8)
	c := f.stream(f.A)
	f.expect("connect", c.Connect(l.LocalAddr()), unix.EINPROGRESS)
	c.until(unix.POLLOUT)
	c.maskNow("connected", unix.POLLOUT)
	f.expect("SO_ERROR", c.TakeError(), 0)
	f.expect("second connect", c.Connect(l.LocalAddr()), 0)
	f.expect("third connect", c.Connect(l.LocalAddr()), unix.EISCONN)
	f.expect("listen while connected", c.Listen(1), unix.EINVAL)
	f.expect("bind while connected", c.Bind(stack.Addr{IP: f.ipA}), unix.EINVAL)
	_, errno := c.Accept()
	f.expect("accept while connected", errno, unix.EINVAL)
	peer, errno := c.PeerAddr()
	f.expect("getpeername", errno, 0)
	if peer != l.LocalAddr() {
		f.Errorf("getpeername is %v, connected to %v", peer, l.LocalAddr())
	}
	local := c.LocalAddr()
	if local.IP != f.ipA || local.Port == 0 {
		f.Errorf("getsockname is %v, want %v and a port", local, f.ipA)
	}
	s := l.accept()
	if p, _ := s.PeerAddr(); p != local {
		f.Errorf("the server's peer is %v, the client %v", p, local)
	}
	_, errno = c.readErr()
	f.expect("read with no data", errno, unix.EAGAIN)
}

// pending makes a stream whose handshake does not end.
func (f *fixture) pending() *sock {
	f.Helper()
	if f.Hole.IsValid() && f.Hole.Is4() == f.ipA.Is4() {
		c := f.stream(f.A)
		f.must("connect", c.Connect(stack.Addr{IP: f.Hole, Port: 9}), unix.EINPROGRESS)
		return c
	}
	l := f.listener(0)
	for range 8 {
		c := f.stream(f.A)
		f.must("connect", c.Connect(l.LocalAddr()), unix.EINPROGRESS)
		time.Sleep(50 * time.Millisecond)
		if c.Readiness() == 0 {
			return c
		}
	}
	f.Skip("no way to keep a handshake under way")
	return nil
}

func connectPending(f *fixture) {
	c := f.pending()
	c.maskNow("connecting", 0)
	f.expect("second connect", c.Connect(stack.Addr{IP: f.ipB, Port: 9}), unix.EALREADY)
	_, errno := c.readErr()
	f.expect("read", errno, unix.EAGAIN)
	src := from([]byte("x"))
	_, errno = c.WriteFrom(src)
	f.expect("write", errno, unix.EAGAIN)
	if src.Len() != 1 {
		f.Error("write took a byte")
	}
	_, errno = c.PeerAddr()
	f.expect("getpeername", errno, unix.ENOTCONN)
	if a := c.LocalAddr(); a.Port == 0 || a.IP != f.ipA {
		f.Errorf("getsockname is %v, want %v and a port", a, f.ipA)
	}
	f.expect("SO_ERROR", c.TakeError(), 0)
	f.expect("listen", c.Listen(1), unix.EINVAL)
	// Shutting it down gives it up, even for writing only.
	f.expect("shutdown", c.Shutdown(unix.SHUT_WR), 0)
	c.until(unix.POLLHUP)
	f.expect("SO_ERROR after shutdown", c.TakeError(), unix.ECONNRESET)
}

func connectRefused(f *fixture) {
	c := f.stream(f.A)
	f.must("connect", c.Connect(f.dead(unix.SOCK_STREAM)), unix.EINPROGRESS)
	c.until(unix.POLLERR)
	c.maskNow("refused", broken)
	f.expect("SO_ERROR", c.TakeError(), unix.ECONNREFUSED)
	f.expect("SO_ERROR again", c.TakeError(), 0)
	c.maskNow("refused, error taken", broken&^unix.POLLERR)
	n, errno := c.readErr()
	if n != 0 || errno != 0 {
		f.Errorf("read: %d, %v, want 0 and no error", n, errno)
	}
	f.expect("write", c.writeErr(), unix.EPIPE)
	_, errno = c.PeerAddr()
	f.expect("getpeername", errno, unix.ENOTCONN)

	// The error comes by read, write or connect as well, once.
	for _, by := range []struct {
		name string
		take func(*sock) stack.Errno
	}{
		{"read", func(s *sock) stack.Errno { _, e := s.readErr(); return e }},
		{"write", (*sock).writeErr},
		{"connect", func(s *sock) stack.Errno { return s.Connect(stack.Addr{IP: f.ipB, Port: 9}) }},
	} {
		c := f.stream(f.A)
		f.must("connect", c.Connect(f.dead(unix.SOCK_STREAM)), unix.EINPROGRESS)
		c.until(unix.POLLERR)
		f.expect("error by "+by.name, by.take(c), unix.ECONNREFUSED)
		f.expect("SO_ERROR after "+by.name, c.TakeError(), 0)
	}
}

// connectRefusedThenAgain: the socket can be used again. Linux answers the
// first connect after a failure with the error, or with ECONNABORTED if that
// has been taken; the next begins anew.
func connectRefusedThenAgain(f *fixture) {
	l := f.listener(8)
	for _, taken := range []bool{true, false} {
		c := f.stream(f.A)
		f.must("connect", c.Connect(f.dead(unix.SOCK_STREAM)), unix.EINPROGRESS)
		c.until(unix.POLLERR)
		want := unix.ECONNREFUSED
		if taken {
			f.expect("SO_ERROR", c.TakeError(), unix.ECONNREFUSED)
			want = unix.ECONNABORTED
		}
		f.expect("connect after failure", c.Connect(l.LocalAddr()), want)
		f.must("connect again", c.Connect(l.LocalAddr()), unix.EINPROGRESS)
		c.until(unix.POLLOUT)
		c.mask("connected at last", unix.POLLOUT)
		s := l.accept()
		c.write([]byte("again"))
		s.readText("again")
	}
}

// connectUnspecified: connecting to the unspecified address is to this host.
func connectUnspecified(f *fixture) {
	l := f.stream(f.A)
	f.must("bind", l.Bind(stack.Addr{}), 0)
	f.must("listen", l.Listen(8), 0)
	c := f.stream(f.A)
	c.connect(stack.Addr{Port: l.LocalAddr().Port})
	s := l.accept()
	c.write([]byte("hello"))
	s.readText("hello")
	if p, errno := c.PeerAddr(); errno != 0 || !p.IP.IsLoopback() {
		f.Errorf("getpeername is %v, %v, want the loopback address", p, errno)
	}
}

func connectWrongFamily(f *fixture) {
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		s := f.socket(f.A, f.family, typ)
		if f.family == unix.AF_INET {
			six := stack.Addr{IP: addr6, Port: 9}
			f.expect("connect to IPv6", s.Connect(six), unix.EAFNOSUPPORT)
			f.expect("bind to IPv6", s.Bind(stack.Addr{IP: addr6}), unix.EAFNOSUPPORT)
			continue
		}
		four := stack.Addr{IP: addr4, Port: 9}
		if typ == unix.SOCK_STREAM {
			f.expect("connect to sockaddr_in", s.Connect(four), unix.EINVAL)
		}
		f.expect("bind to sockaddr_in", s.Bind(stack.Addr{IP: addr4}), unix.EINVAL)
	}
}

// connectDisconnect: AF_UNSPEC resets a connection and frees the socket.
func connectDisconnect(f *fixture) {
	l := f.listener(8)
	c := f.stream(f.A)
	c.connect(l.LocalAddr())
	s := l.accept()
	f.must("disconnect", c.Disconnect(), 0)
	c.mask("disconnected", unix.POLLOUT|unix.POLLERR|unix.POLLHUP)
	f.expect("SO_ERROR", c.TakeError(), unix.ECONNRESET)
	c.mask("disconnected, error taken", unix.POLLOUT|unix.POLLHUP)
	_, errno := c.PeerAddr()
	f.expect("getpeername", errno, unix.ENOTCONN)
	s.until(unix.POLLERR)
	_, errno = s.readErr()
	f.expect("the peer's read", errno, unix.ECONNRESET)
	c.connect(l.LocalAddr())
	s = l.accept()
	c.write([]byte("again"))
	s.readText("again")
}

func connectDisconnectPending(f *fixture) {
	c := f.pending()
	f.must("disconnect", c.Disconnect(), 0)
	c.mask("disconnected", unix.POLLOUT|unix.POLLERR|unix.POLLHUP)
	l := f.listener(8) // and the error does not get into the way
	c.connect(l.LocalAddr())
}

// connectBound: a bound client keeps its port.
func connectBound(f *fixture) {
	l := f.listener(8)
	c := f.stream(f.A)
	f.must("bind", c.Bind(stack.Addr{IP: f.ipA}), 0)
	c.maskNow("bound", unix.POLLOUT|unix.POLLHUP)
	bound := c.LocalAddr()
	if bound.Port == 0 || bound.IP != f.ipA {
		f.Fatalf("bound to %v", bound)
	}
	c.connect(l.LocalAddr())
	if c.LocalAddr() != bound {
		f.Errorf("connected from %v, bound to %v", c.LocalAddr(), bound)
	}
	s := l.accept()
	if p, _ := s.PeerAddr(); p != bound {
		f.Errorf("the server sees %v, bound to %v", p, bound)
	}
}

// connectSelf: a stream connected to its own address is a simultaneous open
// (RFC 9293, 3.5) and echoes.
func connectSelf(f *fixture) {
	c := f.stream(f.A)
	f.must("bind", c.Bind(stack.Addr{IP: f.ipA}), 0)
	c.connect(c.LocalAddr())
	c.write([]byte("self"))
	c.readText("self")
}
