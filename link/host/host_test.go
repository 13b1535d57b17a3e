package host

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/pair"
	"github.com/alptrace/alptrace/rootd"
	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/alptrace/alptrace/rootd/rootdtest"
)

// patience bounds every wait.
const patience = 10 * time.Second

// open opens a link on a daemon without devices.
func open(t *testing.T, d *rootdtest.Daemon) *Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := Open(ctx, Config{Socket: d.Socket, open: fakeDevice})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func fakeDevice(w proto.Welcome, _ *slog.Logger) (link.Link, error) {
	_ = w.File.Close()
	a, b := pair.New(pair.Options{})
	_ = b
	return a, nil
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// granted says whether rootd has given the port.
func granted(d *rootdtest.Daemon, num uint8, addr string, port uint16) bool {
	for lease := range d.Datapath.Leases() {
		if slices.Contains(d.Datapath.Grants(lease), rootd.Grant{Proto: num, Addr: netip.MustParseAddr(addr), Port: port}) {
			return true
		}
	}
	return false
}

var any4, any6, lo4 = netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1})

// TestOpenErrors: no rootd, and one that does not answer.
func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Config{Socket: filepath.Join(dir, "none")}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no socket: %v", err)
	}
	mute, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "mute"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	begin := time.Now()
	if _, err := Open(ctx, Config{Socket: filepath.Join(dir, "mute")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("no answer took %v", d)
	}
}

// TestReserve: named ports, their conflicts with the kernel and with another
// lease, their families and their release.
func TestReserve(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{HoldBack: 50 * time.Millisecond}, nil)
	a, b := open(t, d), open(t, d)
	kernel, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	taken := uint16(kernel.Addr().(*net.TCPAddr).Port)
	free, e := a.Reserve(proto.TCP, any4, false, 0, false) // to have a number
	if e != 0 {
		t.Fatal(e)
	}
	_ = free
	port := uint16(21987)
	for _, c := range []struct {
		name  string
		l     *Link
		addr  netip.Addr
		dual  bool
		port  uint16
		reuse bool
		want  unix.Errno
	}{
		{"the kernel's", a, any4, false, taken, true, unix.EADDRINUSE},
		{"the kernel's, both families", a, any6, true, taken, false, unix.EADDRINUSE},
		{"privileged", a, any4, false, 81, false, unix.EACCES},
		{"not the host's", a, netip.MustParseAddr("198.51.100.1"), false, port, false, unix.EADDRNOTAVAIL},
		{"free", a, any6, true, port, false, 0},
		{"again", a, any6, true, port, false, 0},
		{"in one family", a, any4, false, port, false, 0},
		{"at one address", a, lo4, false, port, false, 0},
		{"another lease's", b, any4, false, port, true, unix.EADDRINUSE},
	} {
		if _, e := c.l.Reserve(proto.TCP, c.addr, c.dual, c.port, c.reuse); e != c.want {
			t.Errorf("%s: %v, want %v", c.name, e, c.want)
		}
	}
	if granted(d, proto.TCP, "::", taken) {
		t.Error("half of a port for both families is left")
	}
	if _, err := net.Listen("tcp4", "127.0.0.1:21987"); err == nil {
		t.Error("the kernel gives the port away")
	}
	a.Release(proto.TCP, any6, true, port)
	a.Release(proto.TCP, any6, true, port)
	until(t, "release of ::", func() bool { return !granted(d, proto.TCP, "::", port) })
	if !granted(d, proto.TCP, "0.0.0.0", port) || !granted(d, proto.TCP, "127.0.0.1", port) {
		t.Error("what is still held was given back")
	}
	a.Release(proto.TCP, any4, false, port)
	a.Release(proto.TCP, lo4, false, port)
	until(t, "release", func() bool {
		return !granted(d, proto.TCP, "0.0.0.0", port) && !granted(d, proto.TCP, "127.0.0.1", port)
	})
	until(t, "the other lease's turn", func() bool {
		_, e := b.Reserve(proto.TCP, any4, false, port, false)
		return e == 0
	})
}

// TestPool: ephemeral ports come without asking, rest after use, and are
// shared with who names one.
func TestPool(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	l := open(t, d)
	seen := make(map[uint16]int)
	for range 2000 {
		port, e := l.Reserve(proto.UDP, any4, false, 0, false)
		if e != 0 {
			t.Fatal(e)
		}
		seen[port]++
		l.Release(proto.UDP, any4, false, port)
	}
	if len(seen) < poolLow || len(seen) > poolFirst+poolStep {
		t.Errorf("%d ports were used", len(seen))
	}
	// Many at a time, by many.
	var wg sync.WaitGroup
	var mu sync.Mutex
	held := make(map[uint16]bool)
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				port, e := l.Reserve(proto.TCP, lo4, false, 0, false)
				mu.Lock()
				if e != 0 || held[port] {
					t.Errorf("port %d: %v", port, e)
				}
				held[port] = true
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	var port uint16
	for port = range held {
		break
	}
	if !granted(d, proto.TCP, "0.0.0.0", port) || granted(d, proto.TCP, "::", port) {
		t.Errorf("port %d is not granted for IPv4 alone", port)
	}
	both, e := l.Reserve(proto.TCP, any6, true, 0, false)
	if e != 0 || !granted(d, proto.TCP, "0.0.0.0", both) || !granted(d, proto.TCP, "::", both) {
		t.Errorf("port %d is not granted for both families: %v", both, e)
	}
	if _, e := l.Reserve(proto.TCP, any6, true, port, false); e != 0 {
		t.Errorf("a port of the pool by its number: %v", e)
	}
	l.Release(proto.TCP, lo4, false, port)
	l.Release(proto.TCP, any6, true, port)
	until(t, "release of the IPv6 half", func() bool { return !granted(d, proto.TCP, "::", port) })
	if !granted(d, proto.TCP, "0.0.0.0", port) {
		t.Errorf("port %d has left the pool", port)
	}
	// Echo identifiers of one family.
	id, e := l.Reserve(proto.ICMPv6, any6, false, 0, false)
	if e != 0 || !granted(d, proto.ICMPv6, "::", id) || granted(d, proto.ICMPv6, "0.0.0.0", id) {
		t.Errorf("echo identifier %d: %v", id, e)
	}
}

// TestRestart: a lease outlives its rootd, with the ports that it has; where
// the new one has forgotten it, another takes its place.
func TestRestart(t *testing.T) {
	for _, forget := range []bool{false, true} {
		d := rootdtest.Start(t, rootd.Config{Grace: 300 * time.Millisecond, HoldBack: time.Millisecond}, nil)
		l := open(t, d)
		if _, e := l.Reserve(proto.TCP, any4, false, 21988, false); e != 0 {
			t.Fatal(e)
		}
		eph, e := l.Reserve(proto.TCP, any4, false, 0, false)
		if e != 0 {
			t.Fatal(e)
		}
		d.Stop(t)
		if forget {
			for lease, index := range d.Datapath.Leases() {
				d.Datapath.Remove(lease, d.Datapath.Grants(lease))
				_ = d.Datapath.RemoveDevice(index)
			}
		}
		d.Run(t, nil)
		until(t, "a lease again", func() bool { return l.rpc(false) != nil })
		time.Sleep(500 * time.Millisecond) // beyond the grace
		if !granted(d, proto.TCP, "0.0.0.0", 21988) || !granted(d, proto.TCP, "0.0.0.0", eph) {
			t.Errorf("forgotten %v: ports are lost", forget)
		}
		if _, e := l.Reserve(proto.TCP, any4, false, 21989, false); e != 0 {
			t.Errorf("forgotten %v: %v", forget, e)
		}
		l.Release(proto.TCP, any4, false, 21988)
		until(t, "release", func() bool { return !granted(d, proto.TCP, "0.0.0.0", 21988) })
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		until(t, "the end of the lease", func() bool { return len(d.Datapath.Leases()) == 0 })
	}
}

// TestTable: what the host's routing table says.
func TestTable(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	l := open(t, d)
	if as := l.Addrs(); !slices.Contains(as, netip.MustParsePrefix("127.0.0.1/8")) || !slices.Contains(as, netip.MustParsePrefix("::1/128")) {
		t.Errorf("addresses %v", as)
	}
	if is := l.Interfaces(); len(is) == 0 || is[0].Name != "lo" || is[0].HardwareType != unix.ARPHRD_LOOPBACK || is[0].Flags&unix.IFF_LOOPBACK == 0 {
		t.Errorf("interfaces %+v", is)
	}
	for _, p := range l.Addrs() {
		src, mtu, e := l.Source(p.Addr())
		if e != 0 || src != p.Addr() || mtu < 1280 {
			t.Errorf("to %v: from %v, MTU %d, %v", p.Addr(), src, mtu, e)
		}
	}
	if src, _, e := l.Source(netip.MustParseAddr("127.9.9.9")); e != 0 || src != lo4 {
		t.Errorf("to 127.9.9.9: from %v, %v", src, e)
	}
	if _, _, e := l.Source(netip.MustParseAddr("0.0.0.0")); e == 0 {
		t.Log("there is a way to 0.0.0.0") // the kernel's answer is its own
	}
}
