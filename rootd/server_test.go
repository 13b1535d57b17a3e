package rootd_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd"
	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/alptrace/alptrace/rootd/rootdtest"
)

var (
	any4  = netip.IPv4Unspecified()
	any6  = netip.IPv6Unspecified()
	local = netip.MustParseAddr("127.0.0.1")
)

func dial(t testing.TB, d *rootdtest.Daemon) *proto.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := proto.Dial(ctx, d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func hello(t testing.TB, d *rootdtest.Daemon) (*proto.Conn, proto.Welcome) {
	t.Helper()
	c := dial(t, d)
	w, err := c.Hello("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.File.Close() })
	return c, w
}

// one asks for one grant.
func one(t testing.TB, c *proto.Conn, it proto.Item) (uint16, error) {
	t.Helper()
	rs, err := c.Grant([]proto.Item{it})
	if err != nil {
		t.Fatal(err)
	}
	if rs[0].Errno != 0 {
		return 0, rs[0].Errno
	}
	return rs[0].Port, nil
}

func must(t testing.TB, c *proto.Conn, it proto.Item) uint16 {
	t.Helper()
	port, err := one(t, c, it)
	if err != nil {
		t.Fatalf("%+v: %v", it, err)
	}
	return port
}

func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// kernelBinds reports whether a program of the kernel's may bind.
func kernelBinds(p uint8, addr netip.Addr, port uint16) error {
	at := netip.AddrPortFrom(addr, port).String()
	if p == proto.UDP {
		c, err := net.ListenPacket("udp", at)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	l, err := net.Listen("tcp", at) // with SO_REUSEADDR
	if err == nil {
		_ = l.Close()
	}
	return err
}

func parse(t testing.TB, text string) *policy.Access {
	t.Helper()
	a, err := policy.ParseAccess([]byte(text), policy.SystemNames{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestGrantAndRelease(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	c, w := hello(t, d)
	if w.MTU != 1500 || w.Index == 0 || w.Device == "" || w.PortFirst == 0 || w.Grace != 5*time.Second || w.Limits.Grants == 0 {
		t.Errorf("%+v", w)
	}
	for _, it := range []proto.Item{
		{Proto: proto.TCP, Addr: any4}, {Proto: proto.UDP, Addr: local}, {Proto: proto.TCP, Addr: any6, Flags: proto.V6Only},
		{Proto: proto.TCP, Addr: any6}, {Proto: proto.UDP, Addr: any6},
	} {
		port := must(t, c, it)
		it.Port = port
		if port < w.PortFirst || port > w.PortLast {
			t.Errorf("%+v: port %d", it, port)
		}
		if again := must(t, c, it); again != port {
			t.Errorf("%+v: again %d", it, again)
		}
		families := 1
		if it.Addr == any6 && it.Flags == 0 {
			families = 2
		}
		if got := d.Datapath.Grants(w.Lease); len(got) != families {
			t.Errorf("%+v: the datapath has %v", it, got)
		}
		if err := kernelBinds(it.Proto, it.Addr, port); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%+v: the kernel's: %v", it, err)
		}
		if rs, err := c.Release([]proto.Item{it, it}); err != nil || rs[0].Errno != 0 || rs[1].Errno != unix.EINVAL {
			t.Errorf("%+v: release: %v, %v", it, rs, err)
		}
		if err := kernelBinds(it.Proto, it.Addr, port); err != nil {
			t.Errorf("%+v: the kernel's after release: %v", it, err)
		}
		if d.Datapath.Len() != 0 || len(d.Guard.Grants()) != 0 {
			t.Errorf("%+v: left: %v", it, d.Guard.Grants())
		}
	}
}

func TestRefusals(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, parse(t, "[default]\nbind=[{ports=['unprivileged'], addresses=['0.0.0.0/0','127.0.0.1','::/0']}]"))
	c, w := hello(t, d)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	used := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, tc := range []struct {
		it   proto.Item
		want error
	}{
		{proto.Item{Proto: proto.TCP, Addr: local, Port: used}, unix.EADDRINUSE},
		{proto.Item{Proto: proto.TCP, Addr: any4, Port: used, Flags: proto.ReuseAddr | proto.Listening}, unix.EADDRINUSE},
		{proto.Item{Proto: proto.TCP, Addr: any6, Port: used}, unix.EADDRINUSE}, // dual stack
		{proto.Item{Proto: proto.TCP, Addr: any4, Port: 80}, unix.EACCES},
		{proto.Item{Proto: proto.UDP, Addr: any6, Port: 53}, unix.EACCES},
		{proto.Item{Proto: proto.TCP, Addr: netip.MustParseAddr("198.51.100.1")}, unix.EADDRNOTAVAIL},
		{proto.Item{Proto: proto.UDP, Addr: netip.MustParseAddr("224.0.0.1"), Port: 5000}, unix.EADDRNOTAVAIL},
		{proto.Item{Proto: proto.UDP, Addr: netip.MustParseAddr("255.255.255.255"), Port: 5000}, unix.EADDRNOTAVAIL},
		{proto.Item{Proto: 255, Addr: any4}, unix.EPROTONOSUPPORT},
		{proto.Item{Proto: 132, Addr: any4, Port: 5000}, unix.EPROTONOSUPPORT},
		{proto.Item{Proto: proto.ICMPv6, Addr: any4, Port: 5}, unix.EINVAL},
	} {
		if port, err := one(t, c, tc.it); err != tc.want {
			t.Errorf("%+v: %d, %v, want %v", tc.it, port, err, tc.want)
		}
	}
	if d.Datapath.Len() != 0 || len(d.Guard.Grants()) != 0 {
		t.Errorf("left: %v, %v", d.Datapath.Grants(w.Lease), d.Guard.Grants())
	}
	if g := d.Status(0).Grants; g != 0 {
		t.Errorf("%d grants in the books", g)
	}
}

// Bindings of two leases conflict as those of two programs; those of one lease
// do not.
func TestTwoLeases(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	a, _ := hello(t, d)
	b, _ := hello(t, d)
	port := must(t, a, proto.Item{Proto: proto.TCP, Addr: any4})
	for _, it := range []proto.Item{
		{Proto: proto.TCP, Addr: any4, Port: port, Flags: proto.ReuseAddr | proto.ReusePort},
		{Proto: proto.TCP, Addr: local, Port: port, Flags: proto.ReuseAddr},
		{Proto: proto.TCP, Addr: any6, Port: port},
	} {
		if _, err := one(t, b, it); err != unix.EADDRINUSE {
			t.Errorf("another lease, %+v: %v", it, err)
		}
	}
	must(t, b, proto.Item{Proto: proto.TCP, Addr: any6, Port: port, Flags: proto.V6Only})
	must(t, a, proto.Item{Proto: proto.TCP, Addr: local, Port: port})
	// The wildcard gone, the specific address still keeps others out.
	if rs, err := a.Release([]proto.Item{{Proto: proto.TCP, Addr: any4, Port: port}}); err != nil || rs[0].Errno != 0 {
		t.Fatal(rs, err)
	}
	if _, err := one(t, b, proto.Item{Proto: proto.TCP, Addr: any4, Port: port}); err != unix.EADDRINUSE {
		t.Errorf("over the specific address: %v", err)
	}
	must(t, b, proto.Item{Proto: proto.TCP, Addr: netip.MustParseAddr("127.0.0.7"), Port: port})
}

func TestEcho(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	a, _ := hello(t, d)
	b, _ := hello(t, d)
	id := must(t, a, proto.Item{Proto: proto.ICMP, Addr: any4, Port: 7})
	if id != 7 {
		t.Error(id)
	}
	must(t, a, proto.Item{Proto: proto.ICMPv6, Addr: any6, Port: 7})
	for _, it := range []proto.Item{{Proto: proto.ICMP, Addr: local, Port: 7}, {Proto: proto.ICMPv6, Addr: any6, Port: 7}} {
		if _, err := one(t, b, it); err != unix.EADDRINUSE {
			t.Errorf("%+v: %v", it, err)
		}
	}
	if id := must(t, b, proto.Item{Proto: proto.ICMP, Addr: any4}); id == 0 || id == 7 {
		t.Error(id)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "free again", func() bool {
		_, err := one(t, b, proto.Item{Proto: proto.ICMP, Addr: any4, Port: 7})
		return err == nil
	})
}

func TestEphemeral(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	c, w := hello(t, d)
	ports, err := c.Ephemeral(proto.TCP, proto.Both, 300)
	if err != nil || len(ports) != 300 {
		t.Fatal(len(ports), err)
	}
	slices.Sort(ports)
	if len(slices.Compact(slices.Clone(ports))) != 300 || ports[0] < w.PortFirst || ports[299] > w.PortLast {
		t.Error("ports", ports)
	}
	if n := d.Datapath.Len(); n != 600 {
		t.Errorf("%d grants", n)
	}
	if err := kernelBinds(proto.TCP, any6, ports[17]); err == nil {
		t.Error("the kernel gave it away")
	}
	if _, err := c.Ephemeral(132, proto.IPv4, 1); !errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Error(err)
	}
	d.Reload(parse(t, "[default]\nbind=[{ports=[1]}]"))
	if _, err := c.Ephemeral(proto.UDP, proto.IPv4, 5); !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
}

// The connection is the lease: all goes when it closes, but TCP ports are held
// back.
func TestLeaseEnds(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{HoldBack: 600 * time.Millisecond}, nil)
	c, _ := hello(t, d)
	tcp := must(t, c, proto.Item{Proto: proto.TCP, Addr: any6})
	udp := must(t, c, proto.Item{Proto: proto.UDP, Addr: any4})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 100*time.Millisecond, "the end", func() bool { return d.Datapath.Len() == 0 && len(d.Datapath.Leases()) == 0 })
	if err := kernelBinds(proto.UDP, any4, udp); err != nil {
		t.Errorf("UDP: %v", err)
	}
	if err := kernelBinds(proto.TCP, any4, tcp); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("TCP: %v", err)
	}
	if n := len(d.Guard.Grants()); n != 2 {
		t.Errorf("%d guarded", n)
	}
	c, _ = hello(t, d)
	again := proto.Item{Proto: proto.TCP, Addr: any4, Port: tcp}
	if _, err := one(t, c, again); err != unix.EADDRINUSE {
		t.Errorf("held back: %v", err)
	}
	again.Flags = proto.ReuseAddr
	must(t, c, again)
	eventually(t, 3*time.Second, "the rest is let go", func() bool { return len(d.Guard.Grants()) == 1 })
	if err := kernelBinds(proto.TCP, any4, tcp); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("had again: %v", err)
	}
	if st := d.Status(0); st.Grants != 1 || st.HeldBack != 0 {
		t.Errorf("%+v", st)
	}
}

func TestHold(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{HoldBack: time.Hour}, nil)
	c, _ := hello(t, d)
	for _, hold := range []bool{false, true} {
		it := proto.Item{Proto: proto.TCP, Addr: any4}
		it.Port = must(t, c, it)
		if hold {
			it.Flags = proto.Hold
		}
		if _, err := c.Release([]proto.Item{it}); err != nil {
			t.Fatal(err)
		}
		if err := kernelBinds(proto.TCP, any4, it.Port); (err != nil) != hold {
			t.Errorf("hold %v: %v", hold, err)
		}
	}
}

func TestLimits(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, parse(t, "[limits]\nleases=3\ngrants=30\n[default]\nleases=2\ngrants=20\n"))
	a, _ := hello(t, d)
	b, _ := hello(t, d)
	if _, err := dial(t, d).Hello(""); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("a lease too many: %v", err)
	}
	if ports, err := a.Ephemeral(proto.UDP, proto.IPv4, 50); err != nil || len(ports) != 20 {
		t.Errorf("%d ports, %v", len(ports), err)
	}
	if _, err := one(t, b, proto.Item{Proto: proto.UDP, Addr: any4}); err != unix.ENOBUFS {
		t.Errorf("a grant too many: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "room again", func() bool {
		_, err := one(t, b, proto.Item{Proto: proto.UDP, Addr: any4})
		return err == nil
	})
	hello(t, d)
}

func TestOpenFilesBoundGrants(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{MaxFiles: 256 + 4 + 10}, parse(t, "[limits]\nleases=1\n"))
	c, _ := hello(t, d)
	if d.MaxGrants() != 10 {
		t.Error(d.MaxGrants())
	}
	if ports, err := c.Ephemeral(proto.UDP, proto.Both, 20); err != nil || len(ports) != 5 {
		t.Errorf("%d ports, %v", len(ports), err)
	}
}

func TestDatapathFails(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	d.Datapath.Room(5)
	c, _ := hello(t, d)
	ports, err := c.Ephemeral(proto.UDP, proto.Both, 4)
	if err != nil || len(ports) != 2 { // one half of the third would fit
		t.Errorf("%d ports, %v", len(ports), err)
	}
	if st := d.Status(0); st.Grants != 4 || d.Datapath.Len() != 4 || len(d.Guard.Grants()) != 4 {
		t.Errorf("%+v, datapath %d, guard %d", st, d.Datapath.Len(), len(d.Guard.Grants()))
	}
	d.Guard.Fail(errors.New("no"))
	if _, err := one(t, c, proto.Item{Proto: proto.UDP, Addr: any4}); err != unix.ENOBUFS {
		t.Error(err)
	}
	d.Datapath.Fail(func(m string) error {
		if m == "NewDevice" {
			return unix.EBUSY
		}
		return nil
	})
	if _, err := dial(t, d).Hello(""); !errors.Is(err, unix.ENOBUFS) {
		t.Error(err)
	}
	if st := d.Status(0); st.Grants != 4 || len(st.Leases) != 1 {
		t.Errorf("%+v", st)
	}
}

func TestTenThousandGrants(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, parse(t, "[default]\nrate=1000000\ngrants=20000\n"))
	if d.MaxGrants() < 10000 {
		t.Skipf("the limit on open files leaves %d grants", d.MaxGrants())
	}
	c, _ := hello(t, d)
	begin := time.Now()
	for n := 0; n < 10000; {
		ports, err := c.Ephemeral(proto.UDP, proto.IPv4, 1000)
		if err != nil {
			t.Fatal(n, err)
		}
		n += len(ports)
	}
	t.Logf("10,000 grants in %v", time.Since(begin))
	begin = time.Now()
	_ = c.Close()
	eventually(t, 5*time.Second, "the end", func() bool { return d.Status(0).Grants == 0 })
	t.Logf("gone in %v", time.Since(begin))
}

func TestReload(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	c := dial(t, d)
	revoked := make(chan []proto.Item, 10)
	c.OnRevoke(func(items []proto.Item) { revoked <- items })
	w, err := c.Hello("test")
	if err != nil {
		t.Fatal(err)
	}
	_ = w.File.Close()
	keep := must(t, c, proto.Item{Proto: proto.TCP, Addr: local})
	lose := must(t, c, proto.Item{Proto: proto.UDP, Addr: any4})

	d.Reload(parse(t, "[default]\nbind=[{protocols=['tcp']}]\nreach=['127.0.0.0/8']"))
	select {
	case items := <-revoked:
		if len(items) != 1 || items[0].Port != lose || items[0].Proto != proto.UDP {
			t.Errorf("revoked %+v", items)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("not told")
	}
	if got := d.Datapath.Grants(w.Lease); len(got) != 1 || got[0].Port != keep {
		t.Errorf("left: %v", got)
	}
	if r := d.Datapath.Reach(w.Lease); len(r) != 1 || r[0] != netip.MustParsePrefix("127.0.0.0/8") {
		t.Errorf("reach %v", r)
	}
	if _, err := one(t, c, proto.Item{Proto: proto.UDP, Addr: any4}); err != unix.EACCES {
		t.Error(err)
	}
	d.Reload(parse(t, "[default]\ndeny=true"))
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("a lease of one who is denied")
	}
	if err := c.Err(); !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
	if len(d.Datapath.Leases()) != 0 || d.Datapath.Len() != 0 {
		t.Error("left in the datapath")
	}
	if _, err := dial(t, d).Hello(""); !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
}

func TestStatus(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	c, w := hello(t, d)
	if _, err := c.Ephemeral(proto.UDP, proto.IPv4, 200); err != nil {
		t.Fatal(err)
	}
	text, err := dial(t, d).Status()
	if err != nil {
		t.Fatal(err)
	}
	var st rootd.Status
	if err := json.Unmarshal(text, &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Leases) != 1 || st.Leases[0].ID != w.Lease || st.Leases[0].Program != "test" || st.Leases[0].Grants != 200 ||
		st.Leases[0].Drops["not granted"] != 5 || st.Leases[0].Command == "" || st.Leases[0].UID != uint32(unix.Getuid()) {
		t.Errorf("%s", text)
	}
	if others := d.Status(uint32(unix.Getuid()) + 1); unix.Getuid() == 0 && len(others.Leases) != 0 {
		t.Errorf("another user sees %+v", others)
	}
}
