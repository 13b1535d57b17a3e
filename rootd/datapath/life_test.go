package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runRole is the other process of TestNSAdopt: it opens a datapath, makes two
// leases, hands over the device of the first and waits to be killed.
func runRole(role string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, role, err)
		return 1
	}
	d, err := Open(testConfig)
	if err != nil {
		return fail(err)
	}
	one, err := d.NewDevice(1, nil)
	if err != nil {
		return fail(err)
	}
	two, err := d.NewDevice(2, []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")})
	if err != nil {
		return fail(err)
	}
	errs := append(d.Add(1, one.Index, []Grant{{17, host4, 7000}, {17, any6, 7000}, {6, host4, 7000}}),
		d.Add(2, two.Index, []Grant{{6, any4, 8000}})...)
	if err := errors.Join(errs...); err != nil {
		return fail(err)
	}
	raw, err := one.File.SyscallConn()
	if err != nil {
		return fail(err)
	}
	_ = raw.Control(func(fd uintptr) {
		err = unix.Sendmsg(3, []byte(fmt.Sprint(one.Index, " ", one.MTU)), unix.UnixRights(int(fd)), nil, 0)
	})
	if err != nil {
		return fail(err)
	}
	time.Sleep(time.Minute)
	return 0
}

// runOther starts the other process and returns it with the first lease's
// device.
func runOther(t *testing.T) (*exec.Cmd, *Device) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	theirs := os.NewFile(uintptr(fds[1]), "socket")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "DATAPATH_TEST_ROLE=rootd")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	buf, oob := make([]byte, 64), make([]byte, 64)
	n, on, _, _, err := unix.Recvmsg(fds[0], buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		t.Fatalf("the other process: %v", err)
	}
	dev := &Device{}
	fmt.Sscan(string(buf[:n]), &dev.Index, &dev.MTU)
	ms, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil || len(ms) != 1 {
		t.Fatalf("descriptor: %v", err)
	}
	rights, err := unix.ParseUnixRights(&ms[0])
	if err != nil {
		t.Fatal(err)
	}
	dev.File = os.NewFile(uintptr(rights[0]), "tun")
	t.Cleanup(func() { dev.File.Close() })
	return cmd, dev
}

// TestNSAdopt kills a daemon: packets flow on, the kernel stays silent on the
// ports of the lease whose device went, and the next daemon takes all up.
func TestNSAdopt(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		t.Skip("run by TestNamespace")
	}
	cmd, dev := runOther(t)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	c := &client{Device: dev, t: t, id: 1}
	k := udpSocket(t, "dppeer", addrPort(peer4, 0))
	far := addrPort(peer4, k.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	echoes := func(s string) {
		t.Helper()
		_, _ = k.WriteToUDPAddrPort([]byte(s), addrPort(host4, 7000))
		c.expect(s, hasPayload(s))
		c.send(udp(addrPort(host4, 7000), far, s))
		if got, _ := from(t, k); got != s {
			t.Errorf("the peer received %q, want %q", got, s)
		}
	}
	echoes("no daemon")
	refused := func(port uint16) error {
		var err error
		in(t, "dppeer", func() {
			var conn net.Conn
			if conn, err = net.DialTimeout("tcp4", addrPort(host4, port).String(), 150*time.Millisecond); err == nil {
				conn.Close()
			}
		})
		return err
	}
	if err := refused(8000); !os.IsTimeout(err) {
		t.Errorf("connecting to a lease that is gone: %v, want a timeout", err)
	}
	if err := refused(8001); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to a port of the kernel: %v", err)
	}
	cfg := testConfig
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	d, err := Open(cfg)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	c.d = d
	if ls := d.Leases(); len(ls) != 2 || ls[1] != dev.Index {
		t.Errorf("leases %v", ls)
	}
	if gs := d.Grants(1); len(gs) != 3 || !slices.Contains(gs, Grant{17, any6, 7000}) || !slices.Contains(gs, Grant{6, host4, 7000}) {
		t.Errorf("grants %v", gs)
	}
	echoes("adopted")
	if n := c.counters(); n.RxPackets != 2 || n.TxPackets != 2 {
		t.Errorf("counters %+v", n)
	}
	if err := d.RemoveDevice(d.Leases()[2]); err != nil {
		t.Error(err)
	}
	if err := refused(8000); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to a port given back: %v", err)
	}
	if errs := d.Add(1, dev.Index, []Grant{{6, any4, 8000}}); errs != nil {
		t.Error(errs)
	}
	// An orderly restart.
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
	echoes("detached")
	// A device without its program is closed, and is given it again.
	if err := os.Remove(filepath.Join(testConfig.PinDir, fmt.Sprintf("tx-%d", dev.Index))); err != nil {
		t.Error(err)
	}
	s := sniff(t, "dppeer", "eth0")
	c.send(udp(addrPort(host4, 9999), far, "fails open"))
	c.send(udp(addrPort(peer4, 9999), far, "fails open"))
	c.send(udp(addrPort(host6, 9999), addrPort(peer6, 9), "fails open"))
	s.noneWith("no program", "fails open")
	d = open(t, testConfig)
	c.d = d
	echoes("adopted again")
	if gs := d.Grants(1); len(gs) != 4 {
		t.Errorf("grants %v", gs)
	}
	c.dropped("not granted", NotGranted, func() { c.send(udp(addrPort(host4, 9999), far, "x")) })
}

// TestNSPersistent has a holder do what its descriptor lets it, to keep the
// device.
func TestNSPersistent(t *testing.T) {
	d := open(t, testConfig)
	dev, err := d.NewDevice(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.File.Close()
	if _, err := d.NewDevice(1, nil); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a second device: %v", err)
	}
	raw, _ := dev.File.SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		if err := unix.IoctlSetInt(int(fd), unix.TUNSETPERSIST, 1); err != nil {
			t.Error(err)
		}
		if err := unix.IoctlSetInt(int(fd), unix.TUNSETOWNER, 65534); err != nil {
			t.Error(err)
		}
	})
	start := time.Now()
	if err := d.RemoveDevice(dev.Index); err != nil {
		t.Fatal(err)
	}
	t.Logf("RemoveDevice took %v", time.Since(start))
	if _, err := os.Stat("/sys/class/net/" + dev.Name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the device is left: %v", err)
	}
	if _, err := dev.File.Write(make([]byte, 100)); !errors.Is(err, unix.EBADFD) {
		t.Errorf("writing to a removed device: %v", err)
	}
	if err := d.RemoveDevice(dev.Index); !errors.Is(err, ErrNoLease) {
		t.Errorf("removing it again: %v", err)
	}
	if err := d.RemoveDevice(1); !errors.Is(err, ErrNoLease) {
		t.Errorf("removing lo: %v", err)
	}
	// A device closed by its holder goes by itself.
	dev, err = d.NewDevice(2, nil)
	if err != nil {
		t.Fatal(err)
	}
	dev.File.Close()
	if err := d.RemoveDevice(dev.Index); err != nil {
		t.Error(err)
	}
	// One left over, persistent, from a daemon that died.
	ip(t, "tuntap add dev dp9 mode tun")
	d.mu.Lock()
	err = d.sweep()
	d.mu.Unlock()
	if err != nil {
		t.Error(err)
	}
	ip(t, "tuntap add dev dp9 mode tun")
	if dev, err = d.NewDevice(9, nil); err != nil {
		t.Error(err)
	} else {
		dev.File.Close()
	}
}

func TestNSAdd(t *testing.T) {
	cfg := testConfig
	cfg.MaxGrants = 16
	d := open(t, cfg)
	c := newClient(t, d, 1)
	other := newClient(t, d, 2, Grant{17, host4, 1000})
	var gs []Grant
	for i := range uint16(20) {
		gs = append(gs, Grant{17, host4, 1000 + i})
	}
	errs := d.Add(1, c.Index, gs)
	full := 0
	for i, err := range errs {
		switch {
		case i == 0 && !errors.Is(err, ErrTaken):
			t.Errorf("another lease's: %v", err)
		case errors.Is(err, ErrFull):
			full++
		}
	}
	if len(errs) != 20 || full != 4 {
		t.Errorf("%d grants refused for want of room, want 4: %v", full, errs)
	}
	if n := len(d.Grants(1)); n != 15 {
		t.Errorf("%d grants, want 15", n)
	}
	d.Remove(1, gs)
	if n := len(d.Grants(1)) + len(d.Grants(2)); n != 1 {
		t.Errorf("%d grants left, want the other lease's", n)
	}
	if errs := d.Add(1, c.Index, gs[1:16]); errs != nil {
		t.Errorf("again: %v", errs)
	}
	if errs := d.Add(1, c.Index, gs[1:16]); errs != nil {
		t.Errorf("what it has already: %v", errs)
	}
	for _, g := range []Grant{
		{6, netip.Addr{}, 1}, {47, host4, 0}, {1, host6, 1}, {58, host4, 1}, {17, netip.MustParseAddr("224.0.0.1"), 1},
		{17, netip.MustParseAddr("::ffff:10.9.0.1"), 1}, {17, netip.MustParseAddr("fe80::1%eth0"), 1},
	} {
		if errs := d.Add(1, c.Index, []Grant{g}); len(errs) != 1 || !errors.Is(errs[0], ErrInvalid) {
			t.Errorf("%v: %v", g, errs)
		}
	}
	d.Remove(1, gs)
	if errs := d.Add(1, c.Index, []Grant{gs[1], gs[1]}); errs != nil {
		t.Errorf("one twice: %v", errs)
	}
	d.Remove(1, gs)
	if n := d.ports.count[gs[1].bit()]; n != 0 {
		t.Errorf("%d grants counted of a port that has none", n)
	}
	if errs := d.Add(1, other.Index, gs[:1]); !errors.Is(errs[0], ErrNoLease) {
		t.Errorf("with another's device: %v", errs)
	}
	if errs := d.Add(3, c.Index, gs[:1]); !errors.Is(errs[0], ErrNoLease) {
		t.Errorf("to no lease: %v", errs)
	}
}

// TestNSMany grants and takes back 50,000 ports, and works beside them.
func TestNSMany(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1)
	var gs []Grant
	for i := range uint16(50000) {
		gs = append(gs, Grant{17, any4, 10000 + i})
	}
	start := time.Now()
	if errs := d.Add(1, c.Index, gs); errs != nil {
		t.Fatal(errors.Join(errs...).Error()[:200])
	}
	added := time.Since(start)
	k := udpSocket(t, "dppeer", addrPort(peer4, 0))
	_, _ = k.WriteToUDPAddrPort([]byte("the last"), addrPort(host4, 59999))
	c.expect("datagram", hasPayload("the last"))
	start = time.Now()
	if err := d.RemoveDevice(c.Index); err != nil {
		t.Error(err)
	}
	t.Logf("50,000 grants: added in %v, removed with the device in %v", added, time.Since(start))
	var key progGrantKey
	var val progGrant
	for it := d.objs.Grants.Iterate(); it.Next(&key, &val); {
		t.Fatalf("%v is left", key.grant())
	}
}

// TestNSEndTogether ends many leases at once: their grants go before the kernel
// has let go of their devices, and others need not wait.
func TestNSEndTogether(t *testing.T) {
	d := open(t, testConfig)
	const leases = 30
	var devices []*Device
	for i := range uint32(leases) {
		devices = append(devices, newClient(t, d, 100+i, Grant{17, any4, uint16(7000 + i)}).Device)
	}
	c := newClient(t, d, 1)
	start := time.Now()
	var wg sync.WaitGroup
	for _, dev := range devices {
		wg.Go(func() {
			if err := d.RemoveDevice(dev.Index); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "grants gone", func() bool {
		var key progGrantKey
		var val progGrant
		return !d.objs.Grants.Iterate().Next(&key, &val)
	})
	gone := time.Since(start)
	names, _ := filepath.Glob("/sys/class/net/dp1[0-9][0-9]")
	if len(names) < 2 {
		t.Errorf("%d devices are left when the last grant is gone: grants waited for devices", len(names))
	}
	// What one lease had is another's at once, and not its own again.
	if errs := d.Add(1, c.Index, []Grant{{17, any4, 7000}, {17, any4, 7029}}); errs != nil {
		t.Error(errs)
	}
	granted := time.Since(start)
	for id, index := range d.Leases() {
		if id == 1 {
			continue
		}
		if errs := d.Add(id, index, []Grant{{17, any4, 9000}}); errs == nil || !errors.Is(errs[0], ErrNoLease) {
			t.Errorf("a grant to lease %d while it ends: %v", id, errs)
		}
	}
	wg.Wait()
	t.Logf("%d leases: grants gone after %v (%d devices left), one given to another after %v, devices gone after %v",
		leases, gone, len(names), granted, time.Since(start))
	if ls := d.Leases(); len(ls) != 1 || ls[1] != c.Index {
		t.Errorf("leases %v", ls)
	}
	if names, _ := filepath.Glob("/sys/class/net/dp1[0-9][0-9]"); len(names) > 0 {
		t.Errorf("devices are left: %v", names)
	}
	if err := d.RemoveDevice(devices[0].Index); !errors.Is(err, ErrNoLease) {
		t.Errorf("removing one again: %v", err)
	}
}

// TestNSDetachWhileEnding detaches while a device is being deleted: that is done
// to the end, and nothing of the lease is left to adopt.
func TestNSDetachWhileEnding(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{17, any4, 7000})
	done := make(chan error, 1)
	go func() { done <- d.RemoveDevice(c.Index) }()
	eventually(t, "the lease ends", func() bool { return len(d.Grants(1)) == 0 })
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if d = open(t, testConfig); len(d.Leases()) > 0 {
		t.Errorf("leases %v", d.Leases())
	}
}

// TestNSFollow changes links, addresses and forwarding while running.
func TestNSFollow(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{17, any4, 7000})
	arrives := func(ns string, to netip.Addr) func() bool {
		k := udpSocket(t, ns, addrPort(any4, 0))
		return func() bool {
			_, _ = k.WriteToUDPAddrPort([]byte(to.String()), addrPort(to, 7000))
			p := c.recv(20 * time.Millisecond)
			return p != nil && payload(p) == to.String()
		}
	}
	extra := netip.MustParseAddr("10.9.0.50")
	if arrives("dppeer", extra)() {
		t.Error("an address that is not the host's")
	}
	ip(t, "addr add 10.9.0.50/24 dev eth0")
	eventually(t, "a new address", arrives("dppeer", extra))
	if !slices.Contains(d.Locals(), netip.MustParsePrefix("10.9.0.50/32")) || !slices.Contains(d.Locals(), netip.MustParsePrefix("127.0.0.0/8")) {
		t.Errorf("locals %v", d.Locals())
	}
	ip(t, "addr del 10.9.0.50/24 dev eth0")
	eventually(t, "the address gone", func() bool { return !slices.Contains(d.Locals(), netip.MustParsePrefix("10.9.0.50/32")) })
	c.dropped("an address that was the host's", NotGranted, func() {
		c.send(udp(addrPort(extra, 7000), addrPort(peer4, 9), "x"))
	})

	ip(t, "link add eth2 type veth peer name eth2 netns dppeer")
	ip(t, "addr add 10.9.3.1/24 dev eth2")
	ip(t, "link set eth2 up")
	ip(t, "-n dppeer addr add 10.9.3.2/24 dev eth2")
	ip(t, "-n dppeer link set eth2 up")
	eventually(t, "a new link", arrives("dppeer", netip.MustParseAddr("10.9.3.1")))
	index := ifindex(t, "eth2")
	ip(t, "link del eth2")
	eventually(t, "the link's pin gone", func() bool {
		_, err := os.Stat(d.pin("rx", index))
		return errors.Is(err, os.ErrNotExist)
	})

	// The port of a bridge gives way to the bridge.
	ip(t, "link add br0 type bridge")
	defer ip(t, "link del br0")
	ip(t, "link set br0 up")
	ip(t, "addr add 10.9.2.1/24 dev br0")
	ip(t, "link set eth1 master br0")
	eventually(t, "the bridge", arrives("dppeer", netip.MustParseAddr("10.9.2.1")))
	eventually(t, "no program on its port", func() bool { return programs(t, ifindex(t, "eth1")) == 0 })
	ip(t, "link set eth1 nomaster")
	eventually(t, "the port again", func() bool { return programs(t, ifindex(t, "eth1")) == 1 })

	// Routes are looked up from a device that forwards.
	for _, v := range []string{"1", "0"} {
		writeFile(t, "/proc/sys/net/ipv4/ip_forward", v)
		k := udpSocket(t, "dppeer", addrPort(peer4, 0))
		port := k.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		eventually(t, "sending with ip_forward "+v, func() bool {
			c.send(udp(addrPort(host4, 7000), addrPort(peer4, port), "out"))
			_ = k.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			n, _ := k.Read(make([]byte, 10))
			return n == 3
		})
		if b, _ := os.ReadFile("/proc/sys/net/ipv4/conf/" + c.Name + "/forwarding"); v == "0" && strings.TrimSpace(string(b)) != "0" {
			t.Errorf("a lease's device forwards")
		}
	}
	ip(t, "link del dpfib")
	eventually(t, "the device of lookups again", func() bool {
		_, err := os.Stat("/sys/class/net/dpfib")
		return err == nil
	})

	mtu := func() string {
		b, _ := os.ReadFile("/sys/class/net/" + c.Name + "/mtu")
		return strings.TrimSpace(string(b))
	}
	ip(t, "link set eth0 mtu 1400")
	eventually(t, "the MTU", func() bool { return mtu() == "1400" })
	ip(t, "link set eth0 mtu 1500")
	eventually(t, "the MTU", func() bool { return mtu() == "1500" })
}

func TestNSReach(t *testing.T) {
	d := open(t, testConfig)
	dev, err := d.NewDevice(1, []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd09::2/128")})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.File.Close()
	c := &client{Device: dev, t: t, d: d, id: 1}
	if errs := d.Add(1, dev.Index, []Grant{{17, any4, 7000}, {17, any6, 7000}}); errs != nil {
		t.Fatal(errs)
	}
	sends := func(src, dst netip.Addr) {
		t.Helper()
		n := c.counters().TxPackets
		c.send(udp(addrPort(src, 7000), addrPort(dst, 9), "x"))
		if c.counters().TxPackets != n+1 {
			t.Errorf("%v: not sent: %+v", dst, c.counters())
		}
	}
	refused := func(src, dst netip.Addr) {
		t.Helper()
		c.dropped(dst.String(), Forbidden, func() { c.send(udp(addrPort(src, 7000), addrPort(dst, 9), "x")) })
	}
	sends(host4, peer4)
	sends(host6, peer6)
	sends(lo4, lo4)
	refused(host4, far4)
	refused(host6, netip.MustParseAddr("fd09::3"))
	if err := d.SetReach(1, nil); err != nil {
		t.Fatal(err)
	}
	sends(host4, far4)
	if err := d.SetReach(1, []netip.Prefix{}); err != nil {
		t.Fatal(err)
	}
	refused(host4, peer4)
	sends(lo6, lo6)
	if err := d.SetReach(1, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}); err != nil {
		t.Fatal(err)
	}
	sends(host4, far4)
	refused(host6, peer6)
}
