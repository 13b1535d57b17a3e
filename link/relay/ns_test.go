package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// The tests of this file run in user and network namespaces of their own, where
// the test may bind port 53, has no route to anywhere, and decides who may ping.
const inNamespace = "RELAY_TEST_NAMESPACE"

// TestNamespace runs every TestNS test in a new namespace, as an unprivileged
// user could.
func TestNamespace(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestNS", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("no user namespaces here: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// namespace prepares the namespace's loopback with addresses beyond 127.0.0.1.
func namespace(t *testing.T) {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("run by TestNamespace")
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"192.0.2.7/32", "2001:db8::7/128"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = syscall.IFA_F_NODAD
		if err := netlink.AddrReplace(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
}

// route adds a route of the namespace, of a type such as syscall.RTN_PROHIBIT.
func route(t *testing.T, dst string, kind int) {
	t.Helper()
	_, ipnet, err := net.ParseCIDR(dst)
	if err != nil {
		t.Fatal(err)
	}
	rt := &netlink.Route{Dst: ipnet, Type: kind}
	if err := netlink.RouteReplace(rt); err != nil {
		t.Fatalf("route %s: %v", dst, err)
	}
}

func TestNSWorld(t *testing.T) {
	namespace(t)
	for _, a := range []string{"192.0.2.7:0", "[2001:db8::7]:0"} {
		n := newNear(t, Config{})
		c := n.dial(t, host(t, a, echo))
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
			t.Errorf("%s: read %q, %v", a, b, err)
		}
		u := n.dialUDP(t, udpHost(t, a, same))
		if _, err := u.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		if k, err := u.Read(b); err != nil || string(b[:k]) != "hello" {
			t.Errorf("%s: read %q, %v", a, b[:k], err)
		}
	}
}

func TestNSUnreachable(t *testing.T) {
	namespace(t)
	route(t, "198.51.100.0/25", syscall.RTN_UNREACHABLE)
	route(t, "198.51.100.128/25", syscall.RTN_PROHIBIT)
	for _, c := range []struct {
		to    string
		icmp  string
		check func(tcpip.Error) bool
	}{
		{"203.0.113.1:80", "3/0 10.0.2.2", isA[*tcpip.ErrNetworkUnreachable]},
		{"198.51.100.1:80", "3/1 10.0.2.2", isA[*tcpip.ErrHostUnreachable]},
		{"198.51.100.200:80", "3/13 10.0.2.2", nil},
		{"[2001:db8:1::1]:80", "1/0 fd00::2", isA[*tcpip.ErrNetworkUnreachable]},
	} {
		to := netip.MustParseAddrPort(c.to)
		seen := newICMPLog()
		n := newNearTap(t, Config{}, seen.tap)
		timeout := 5 * time.Second
		if c.check == nil {
			timeout = 50 * time.Millisecond
		}
		_, err := n.connect(to, timeout)
		seen.want(t, c.icmp, true)
		if c.check != nil && !c.check(err) {
			t.Errorf("connect to %s: %v", c.to, err)
		}
		seen = newICMPLog()
		n = newNearTap(t, Config{}, seen.tap)
		if _, err := n.dialUDP(t, to).Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		seen.want(t, c.icmp, true)
		if s := n.ping(t, to.Addr(), 5, 50*time.Millisecond); s == "ok" {
			t.Errorf("ping %s: %s", c.to, s)
		}
	}
}

func isA[E tcpip.Error](err tcpip.Error) bool { _, ok := err.(E); return ok }

// Nobody answers: the near stack's connect runs into its own timeout.
func TestNSSilence(t *testing.T) {
	namespace(t)
	// A listener whose queue is full drops SYNs, as a silent host does.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	sa := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(syscall.Bind(fd, sa), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port))
	first, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	seen := newICMPLog()
	n := newNearTap(t, Config{}, seen.tap)
	_, terr := n.connect(n.via(at), 1500*time.Millisecond)
	if !isA[*tcpip.ErrTimeout](terr) {
		t.Errorf("connect: %v, want no answer", terr)
	}
	if s := n.r.Stats(); s.TCPDialing != 1 || s.ICMPErrors != 0 {
		t.Errorf("stats %+v, want one SYN that the host is busy with", s)
	}
}

func TestNSPing(t *testing.T) {
	namespace(t)
	// A new namespace lets nobody ping (icmp(7), ping_group_range).
	seen := newICMPLog()
	n := newNearTap(t, Config{}, seen.tap)
	for _, a := range []string{"192.0.2.7", "2001:db8::7"} {
		if s := n.ping(t, netip.MustParseAddr(a), 56, 50*time.Millisecond); s == "ok" {
			t.Errorf("ping %s succeeds without permission", a)
		}
	}
	seen.want(t, "3/13 10.0.2.2", true)
	seen.want(t, "1/1 fd00::2", true)

	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err != nil {
		t.Skipf("ping_group_range: %v", err)
	}
	n = newNear(t, Config{})
	for _, a := range []string{"192.0.2.7", "2001:db8::7"} {
		for _, size := range []int{0, 56, 5000} {
			if s := n.ping(t, netip.MustParseAddr(a), size, 5*time.Second); s != "ok" {
				t.Errorf("ping %s with %d bytes: %s", a, size, s)
			}
		}
	}
	if s := n.r.Stats().Ping; s.Total != 6 {
		t.Errorf("flows %+v, want 6", s)
	}
}

func TestNSResolvConf(t *testing.T) {
	namespace(t)
	var asked atomic.Int32
	dnsHost(t, "127.0.0.53:53", "192.0.2.53", &asked)
	dnsHost(t, "192.0.2.7:53", "192.0.2.7", &asked)
	path := t.TempDir() + "/resolv.conf"
	if err := os.WriteFile(path, []byte("nameserver 127.0.0.53\nnameserver 192.0.2.7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n := newNear(t, Config{ResolvConf: path})
	to, ok := n.r.RedirectDNS(netip.MustParseAddrPort("127.0.0.53:53"))
	if !ok {
		t.Fatal("127.0.0.53 is not redirected")
	}
	for _, c := range []struct {
		to   netip.AddrPort
		want string
	}{{to, "192.0.2.53"}, {netip.MustParseAddrPort("192.0.2.7:53"), "192.0.2.7"}} {
		if s := lookup(t, udpConn{n.dialUDP(t, c.to)}); s != c.want {
			t.Errorf("udp %v: %s, want %s", c.to, s, c.want)
		}
		if s := lookup(t, n.dial(t, c.to)); s != c.want {
			t.Errorf("tcp %v: %s, want %s", c.to, s, c.want)
		}
	}
	if err := os.WriteFile(path, []byte("# changed\nnameserver 192.0.2.7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s := lookup(t, udpConn{n.dialUDP(t, to)}); s != "192.0.2.7" {
		t.Errorf("after a change of resolv.conf: %s", s)
	}
}

// Datagram flows that nobody uses make room when descriptors run out.
func TestNSFewDescriptors(t *testing.T) {
	namespace(t)
	udp := udpHost(t, "127.0.0.1:0", same)
	tcp := host(t, "127.0.0.1:0", echo)
	n := newNear(t, Config{})
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := syscall.Rlimit{Cur: uint64(len(fds) + 20), Max: old.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) }()
	b := make([]byte, 1)
	for i := range 60 {
		c := n.dialUDP(t, n.via(udp))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			t.Fatalf("flow %d: %v", i, err)
		}
	}
	if s := n.r.Stats().UDP; s.Total != 60 || s.Open > 30 {
		t.Errorf("flows %+v, want 60 of which few are open", s)
	}
	// The server of this test takes a descriptor too.
	c := n.dial(t, n.via(tcp))
	c.Close()
}
