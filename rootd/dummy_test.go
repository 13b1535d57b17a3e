package rootd

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
)

var (
	any4  = netip.IPv4Unspecified()
	any6  = netip.IPv6Unspecified()
	local = netip.MustParseAddr("127.0.0.1")
)

// mustDummy binds a dummy for the length of the test.
func mustDummy(t *testing.T, g Grant, own []int, reuse bool) (int, uint16) {
	t.Helper()
	fd, port, err := bindDummy(g, own, reuse)
	if err != nil {
		t.Fatalf("%v: %v", g, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd, port
}

// rival is a program of the kernel's: it binds, and listens if it may.
func rival(typ int, addr netip.Addr, port uint16, reuseAddr, listen bool) error {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	sa, err := sockaddr(Grant{Addr: addr, Port: port})
	if err != nil {
		return err
	}
	fd, err := unix.Socket(family, typ, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if reuseAddr {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, sa); err != nil || !listen {
		return err
	}
	return unix.Listen(fd, 1)
}

func TestDummyConflicts(t *testing.T) {
	other := netip.MustParseAddr("127.0.0.2")
	for _, c := range []struct {
		name          string
		proto         uint8
		dummy, rival  netip.Addr
		reuse, listen bool
		want          error
	}{
		{"same", proto.TCP, any4, any4, false, false, unix.EADDRINUSE},
		{"same, reuse", proto.TCP, any4, any4, true, false, unix.EADDRINUSE},
		{"specific under wildcard", proto.TCP, any4, local, true, true, unix.EADDRINUSE},
		{"wildcard over specific", proto.TCP, local, any4, true, true, unix.EADDRINUSE},
		{"other address", proto.TCP, local, other, false, true, nil},
		{"other family", proto.TCP, any6, any4, false, true, nil},
		{"dual stack over IPv4", proto.TCP, any4, any6, false, true, unix.EADDRINUSE},
		{"udp", proto.UDP, any4, local, true, false, unix.EADDRINUSE},
		{"udp, other address", proto.UDP, local, other, false, false, nil},
		{"udp6", proto.UDP, any6, any6, true, false, unix.EADDRINUSE},
	} {
		t.Run(c.name, func(t *testing.T) {
			typ := unix.SOCK_STREAM
			if c.proto == proto.UDP {
				typ = unix.SOCK_DGRAM
			}
			var err error
			for range 3 { // a port may be somebody else's where the dummy is not
				_, port := mustDummy(t, Grant{c.proto, c.dummy, 0}, nil, false)
				if err = rival(typ, c.rival, port, c.reuse, c.listen); err == c.want {
					return
				}
			}
			t.Errorf("the kernel's: %v, want %v", err, c.want)
		})
	}
}

// Within a lease a wildcard may stand beside specific addresses, and still
// nobody else gets in.
func TestDummyBesideOwn(t *testing.T) {
	for _, p := range []uint8{proto.TCP, proto.UDP} {
		first, port := mustDummy(t, Grant{p, local, 0}, nil, false)
		if _, _, err := bindDummy(Grant{p, any4, port}, nil, false); err != unix.EADDRINUSE {
			t.Fatalf("beside another's: %v", err)
		}
		mustDummy(t, Grant{p, any4, port}, []int{first}, false)
		typ := unix.SOCK_STREAM
		if p == proto.UDP {
			typ = unix.SOCK_DGRAM
		}
		for _, a := range []netip.Addr{any4, local, netip.MustParseAddr("127.0.0.9")} {
			if err := rival(typ, a, port, true, true); err != unix.EADDRINUSE {
				t.Errorf("the kernel's on %v: %v", a, err)
			}
		}
	}
}

// timeWaitPort makes a port of which the kernel has a connection, in TIME_WAIT
// or alive: a client's that bound it with SO_REUSEADDR, so that the kernel
// thinks that all owners of the port allow reuse.
func timeWaitPort(t *testing.T, alive bool) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		})
	}}
	c, err := d.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	port := uint16(c.LocalAddr().(*net.TCPAddr).Port)
	if !alive {
		_ = c.Close() // the active close: TIME_WAIT on the client's port
		_ = s.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, _ = s.Read(make([]byte, 1))
		_ = s.Close()
		time.Sleep(20 * time.Millisecond)
	}
	return port
}

func TestDummyTimeWait(t *testing.T) {
	port := timeWaitPort(t, false)
	g := Grant{proto.TCP, local, port}
	if _, _, err := bindDummy(g, nil, false); err != unix.EADDRINUSE {
		t.Fatalf("without SO_REUSEADDR: %v", err)
	}
	mustDummy(t, g, nil, true)
	for _, reuse := range []bool{true, false} {
		if err := rival(unix.SOCK_STREAM, any4, port, reuse, false); err != unix.EADDRINUSE {
			t.Errorf("the kernel's, reuse %v: %v", reuse, err)
		}
	}
	if c, err := net.DialTimeout("tcp4", netip.AddrPortFrom(local, port).String(), time.Second); err == nil {
		_ = c.Close()
		t.Error("the dummy listens")
	}
}

func TestDummyLiveConnection(t *testing.T) {
	port := timeWaitPort(t, true)
	for _, a := range []netip.Addr{local, any4} {
		if fd, _, err := bindDummy(Grant{proto.TCP, a, port}, nil, true); err == nil {
			_ = unix.Close(fd)
			t.Errorf("%v: had beside a connection of the kernel", a)
		}
	}
}

func TestDummyErrors(t *testing.T) {
	for _, c := range []struct {
		g    Grant
		want error
	}{
		{Grant{proto.TCP, netip.MustParseAddr("203.0.113.77"), 5000}, unix.EADDRNOTAVAIL},
		{Grant{proto.TCP, netip.MustParseAddr("fe80::dead"), 5000}, unix.EADDRNOTAVAIL},
		{Grant{132 + 100, any4, 5000}, unix.EPROTONOSUPPORT},
	} {
		if fd, _, err := bindDummy(c.g, nil, false); err != c.want {
			_ = unix.Close(fd)
			t.Errorf("%v: %v, want %v", c.g, err, c.want)
		}
	}
}
