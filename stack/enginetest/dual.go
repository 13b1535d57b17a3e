package enginetest

import (
	"net/netip"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func dualScenes() []scene {
	return []scene{
		{"Dual/Stream", dualStream},
		{"Dual/Datagram", dualDatagram},
		{"Dual/V6Only", dualV6Only},
		{"Dual/Conflicts", dualConflicts},
	}
}

// mapped is an IPv4 address as IPv6 sockets have it.
func mapped(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

// dual skips what needs both families; the scenes run once, under IPv6.
func (f *fixture) dual() {
	f.Helper()
	if f.family != unix.AF_INET6 || !f.A4.IsValid() || !f.B4.IsValid() {
		f.Skip("not with this family")
	}
}

// dualStream: an IPv6 listener on the wildcard serves IPv4, and an IPv6 client
// reaches IPv4; both see mapped addresses.
func dualStream(f *fixture) {
	f.dual()
	l := f.socket(f.B, unix.AF_INET6, unix.SOCK_STREAM)
	f.must("IPV6_V6ONLY off", l.setInt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0), 0)
	f.must("bind", l.Bind(stack.Addr{}), 0)
	f.must("listen", l.Listen(8), 0)
	port := l.LocalAddr().Port

	c := f.socket(f.A, unix.AF_INET, unix.SOCK_STREAM)
	c.connect(stack.Addr{IP: f.B4, Port: port})
	s := l.accept()
	if p, errno := s.PeerAddr(); errno != 0 || p.IP != mapped(f.A4) {
		f.Errorf("the peer of the IPv4 client is %v, %v", p, errno)
	}
	if a := s.LocalAddr(); a.IP != mapped(f.B4) {
		f.Errorf("the server's address is %v", a)
	}
	c.write([]byte("four"))
	s.readText("four")

	c = f.socket(f.A, unix.AF_INET6, unix.SOCK_STREAM)
	c.connect(stack.Addr{IP: mapped(f.B4), Port: port})
	s = l.accept()
	if p, _ := s.PeerAddr(); p.IP != mapped(f.A4) {
		f.Errorf("the peer of the mapped client is %v", p)
	}
	if a := c.LocalAddr(); a.IP != mapped(f.A4) {
		f.Errorf("the mapped client's address is %v", a)
	}

	c = f.socket(f.A, unix.AF_INET6, unix.SOCK_STREAM)
	c.connect(stack.Addr{IP: f.B6, Port: port})
	if p, _ := l.accept().PeerAddr(); p.IP != f.A6 {
		f.Errorf("the peer of the IPv6 client is %v", p)
	}
}

func dualDatagram(f *fixture) {
	f.dual()
	b := f.socket(f.B, unix.AF_INET6, unix.SOCK_DGRAM)
	f.must("bind", b.Bind(stack.Addr{}), 0)
	port := b.LocalAddr().Port
	a4 := f.socket(f.A, unix.AF_INET, unix.SOCK_DGRAM)
	f.must("send", a4.sendTo([]byte("four"), stack.Addr{IP: f.B4, Port: port}), 0)
	m := b.recv()
	if m.Addr.IP != mapped(f.A4) {
		f.Errorf("received from %v", m.Addr)
	}
	f.must("answer", b.sendTo([]byte("back"), m.Addr), 0)
	if m := a4.recv(); string(m.Data) != "back" || m.Addr.IP != f.B4 {
		f.Errorf("answer is %q from %v", m.Data, m.Addr)
	}
	// A sockaddr_in is taken by sendto and connect of an IPv6 datagram socket.
	a6 := f.socket(f.A, unix.AF_INET6, unix.SOCK_DGRAM)
	f.must("send to sockaddr_in", a6.sendTo([]byte("x"), stack.Addr{IP: f.B4, Port: port}), 0)
	b.recv()
	f.must("connect to sockaddr_in", a6.Connect(stack.Addr{IP: f.B4, Port: port}), 0)
	if p, _ := a6.PeerAddr(); p.IP != mapped(f.B4) {
		f.Errorf("getpeername is %v", p)
	}
}

func dualV6Only(f *fixture) {
	f.dual()
	four := stack.Addr{IP: mapped(f.B4), Port: 9}
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		s := f.socket(f.A, unix.AF_INET6, typ)
		f.must("IPV6_V6ONLY", s.setInt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1), 0)
		f.expect("connect to mapped", s.Connect(four), unix.ENETUNREACH)
		if typ == unix.SOCK_DGRAM {
			f.expect("send to mapped", s.sendTo([]byte("x"), four), unix.ENETUNREACH)
		}
		s = f.socket(f.A, unix.AF_INET6, typ)
		f.must("IPV6_V6ONLY", s.setInt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1), 0)
		f.expect("bind to mapped", s.Bind(stack.Addr{IP: mapped(f.A4)}), unix.EINVAL)
		f.must("bind", s.Bind(stack.Addr{IP: f.A6}), 0)
		f.expect("IPV6_V6ONLY when bound", s.setInt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0), unix.EINVAL)
	}
	l := f.socket(f.B, unix.AF_INET6, unix.SOCK_STREAM)
	f.must("IPV6_V6ONLY", l.setInt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1), 0)
	f.must("bind", l.Bind(stack.Addr{}), 0)
	f.must("listen", l.Listen(8), 0)
	c := f.socket(f.A, unix.AF_INET, unix.SOCK_STREAM)
	f.must("connect", c.Connect(stack.Addr{IP: f.B4, Port: l.LocalAddr().Port}), unix.EINPROGRESS)
	c.until(unix.POLLERR)
	f.expect("IPv4 client", c.TakeError(), unix.ECONNREFUSED)
}

// dualConflicts: the IPv6 wildcard has the port of IPv4 too, unless V6ONLY.
func dualConflicts(f *fixture) {
	f.dual()
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		for _, only := range []int{0, 1} {
			want := unix.EADDRINUSE
			if only == 1 {
				want = 0
			}
			f.expectBind("bind of IPv4 beside IPv6", want, func() stack.Errno {
				six, four := f.socket(f.A, unix.AF_INET6, typ), f.socket(f.A, unix.AF_INET, typ)
				f.must("IPV6_V6ONLY", six.setInt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only), 0)
				f.must("bind", six.Bind(stack.Addr{}), 0)
				return four.Bind(stack.Addr{Port: six.LocalAddr().Port})
			})
		}
	}
}
