package enginetest

import (
	"net/netip"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Addresses of documentation (RFC 5737, RFC 3849): nobody's.
var (
	addr4 = netip.MustParseAddr("192.0.2.1")
	addr6 = netip.MustParseAddr("2001:db8::1")
)

func bindScenes() []scene {
	return []scene{
		{"Bind/Errors", bindErrors},
		{"Bind/Conflicts", bindConflicts},
		{"Bind/FreeAfterClose", bindFreeAfterClose},
		{"Bind/TimeWait", bindTimeWait},
		{"Bind/ListenConflict", bindListenConflict},
	}
}

func bindErrors(f *fixture) {
	nobody := addr4
	if f.family == unix.AF_INET6 {
		nobody = addr6
	}
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		s := f.socket(f.A, f.family, typ)
		f.expect("bind to a foreign address", s.Bind(stack.Addr{IP: nobody, Port: 0}), unix.EADDRNOTAVAIL)
		f.expect("bind", s.Bind(stack.Addr{IP: f.ipA}), 0)
		f.expect("bind again", s.Bind(stack.Addr{IP: f.ipA}), unix.EINVAL)
		if a := s.LocalAddr(); a.IP != f.ipA || a.Port == 0 {
			f.Errorf("bound to %v", a)
		}
	}
}

// expectBind demands the outcome of binding to a port that another socket was
// given. Where it should succeed it tries again, for on the host's own stack a
// stranger may have that port in the other family or protocol.
func (f *fixture) expectBind(what string, want stack.Errno, bind func() stack.Errno) {
	f.Helper()
	got := bind()
	for range 4 {
		if want != 0 || got != unix.EADDRINUSE {
			break
		}
		got = bind()
	}
	f.expect(what, got, want)
}

// bindConflicts: which two sockets may have one port.
func bindConflicts(f *fixture) {
	const (
		none   = 0
		addr   = unix.SO_REUSEADDR
		port   = unix.SO_REUSEPORT
		stream = unix.SOCK_STREAM
		dgram  = unix.SOCK_DGRAM
	)
	tests := []struct {
		name             string
		typ1, typ2       int
		opt1, opt2       int
		any1, any2, wait bool // the wildcard address; the first listens
		want             stack.Errno
	}{
		{"stream, same address", stream, stream, none, none, false, false, false, unix.EADDRINUSE},
		{"stream, wildcard first", stream, stream, none, none, true, false, false, unix.EADDRINUSE},
		{"stream, wildcard second", stream, stream, none, none, false, true, false, unix.EADDRINUSE},
		{"stream, REUSEADDR on both", stream, stream, addr, addr, false, false, false, 0},
		{"stream, REUSEADDR on the second", stream, stream, none, addr, false, false, false, unix.EADDRINUSE},
		{"stream, REUSEADDR on both, listening", stream, stream, addr, addr, false, false, true, unix.EADDRINUSE},
		{"stream, REUSEADDR, wildcard listening", stream, stream, addr, addr, true, false, true, unix.EADDRINUSE},
		{"stream, REUSEPORT on both", stream, stream, port, port, false, false, false, 0},
		{"stream, REUSEPORT on both, listening", stream, stream, port, port, false, false, true, 0},
		{"stream, REUSEPORT on the first", stream, stream, port, none, false, false, false, unix.EADDRINUSE},
		{"dgram, same address", dgram, dgram, none, none, false, false, false, unix.EADDRINUSE},
		{"dgram, wildcard first", dgram, dgram, none, none, true, false, false, unix.EADDRINUSE},
		{"dgram, REUSEADDR on both", dgram, dgram, addr, addr, false, false, false, 0},
		{"dgram, REUSEADDR on the first", dgram, dgram, addr, none, false, false, false, unix.EADDRINUSE},
		{"dgram, REUSEPORT on both", dgram, dgram, port, port, false, false, false, 0},
		{"stream and dgram", stream, dgram, none, none, false, false, false, 0},
	}
	for _, tt := range tests {
		f.expectBind(tt.name, tt.want, func() stack.Errno {
			one, two := f.socket(f.A, f.family, tt.typ1), f.socket(f.A, f.family, tt.typ2)
			if tt.opt1 != none {
				f.must(tt.name, one.setInt(unix.SOL_SOCKET, tt.opt1, 1), 0)
			}
			if tt.opt2 != none {
				f.must(tt.name, two.setInt(unix.SOL_SOCKET, tt.opt2, 1), 0)
			}
			a := stack.Addr{IP: f.ipA}
			if tt.any1 {
				a = stack.Addr{}
			}
			f.must(tt.name+", first", one.Bind(a), 0)
			if tt.wait {
				f.must(tt.name+", listen", one.Listen(1), 0)
			}
			a = stack.Addr{IP: f.ipA, Port: one.LocalAddr().Port}
			if tt.any2 {
				a.IP = netip.Addr{}
			}
			defer one.Close()
			defer two.Close()
			return two.Bind(a)
		})
	}
}

func bindFreeAfterClose(f *fixture) {
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		one := f.socket(f.A, f.family, typ)
		f.must("bind", one.Bind(stack.Addr{IP: f.ipA}), 0)
		if typ == unix.SOCK_STREAM {
			f.must("listen", one.Listen(1), 0)
		}
		a := one.LocalAddr()
		one.Close()
		two := f.socket(f.A, f.family, typ)
		f.expect("bind to a port just closed", two.Bind(a), 0)
	}
}

// bindTimeWait: a port with a connection in TIME_WAIT is free for those with
// SO_REUSEADDR only.
func bindTimeWait(f *fixture) {
	l := f.stream(f.B)
	f.must("SO_REUSEADDR", l.setInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), 0)
	f.must("bind", l.Bind(stack.Addr{IP: f.ipB}), 0)
	f.must("listen", l.Listen(1), 0)
	a := l.LocalAddr()
	c := f.stream(f.A)
	c.connect(a)
	s := l.accept()
	s.Close() // the server closes first: TIME_WAIT is on its side
	c.until(unix.POLLRDHUP)
	c.Close()
	l.Close()
	one := f.stream(f.B)
	f.expect("bind without SO_REUSEADDR", one.Bind(a), unix.EADDRINUSE)
	two := f.stream(f.B)
	f.must("SO_REUSEADDR", two.setInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), 0)
	f.expect("bind with SO_REUSEADDR", two.Bind(a), 0)
	f.expect("listen", two.Listen(1), 0)
}

// bindListenConflict: two sockets that share a port by SO_REUSEADDR; only one
// of them may listen.
func bindListenConflict(f *fixture) {
	var socks []*sock
	a := stack.Addr{IP: f.ipA}
	for range 2 {
		s := f.stream(f.A)
		f.must("SO_REUSEADDR", s.setInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), 0)
		f.must("bind", s.Bind(a), 0)
		a = s.LocalAddr()
		socks = append(socks, s)
	}
	f.expect("the first listens", socks[0].Listen(1), 0)
	f.expect("the second listens", socks[1].Listen(1), unix.EADDRINUSE)
}
