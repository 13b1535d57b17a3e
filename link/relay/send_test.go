package relay

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
)

// sendNowhere sends b as a packet, with the destination changed to an address of
// the virtual network that nobody has, so that nothing leaves this machine.
func sendNowhere(t *testing.T, r *Relay, b []byte) {
	b = append([]byte(nil), b...)
	if len(b) >= 20 && b[0]>>4 == 4 {
		copy(b[16:], []byte{10, 0, 2, 99})
	}
	if len(b) >= 40 && b[0]>>4 == 6 {
		a := netip.MustParseAddr("fd00::99").As16()
		copy(b[24:], a[:])
	}
	for _, o := range []link.Offload{{}, {NeedsCsum: true}} {
		if n, err := r.Send([]link.Packet{{Bufs: [][]byte{b}, Offload: o}}); n != 1 || err != nil {
			t.Fatalf("send: %d, %v", n, err)
		}
	}
}

func TestConfig(t *testing.T) {
	c, err := Config{Near4: netip.MustParsePrefix("192.168.7.40/29")}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if c.Gateway4.String() != "192.168.7.42" || c.DNS4.String() != "192.168.7.43" || c.Gateway6.String() != "fd00::2" {
		t.Errorf("defaults %v %v %v", c.Gateway4, c.DNS4, c.Gateway6)
	}
	for _, bad := range []struct {
		cfg  Config
		want string
	}{
		{Config{MTU: 1000}, "mtu 1000"},
		{Config{MTU: 70000}, "mtu 70000"},
		{Config{Near4: netip.MustParsePrefix("10.0.2.2/24")}, "must differ"},
		{Config{Near4: netip.MustParsePrefix("fd00::1/64")}, "not an ipv4 address"},
		{Config{Near6: netip.MustParsePrefix("10.0.2.15/24")}, "not an ipv6 address"},
		{Config{Gateway4: netip.MustParseAddr("127.0.0.1")}, "cannot be"},
		{Config{Resolvers: []netip.AddrPort{{}}}, "resolver"},
	} {
		if _, err := New(bad.cfg); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("error %v, want %s", err, bad.want)
		}
	}
}

func TestBadChecksumIsDropped(t *testing.T) {
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// A datagram to the gateway whose checksum is wrong.
	p := []byte{
		0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0x62, 0xbe, 10, 0, 2, 15, 10, 0, 2, 2,
		0, 9, 0, 9, 0, 9, 1, 1, 'x',
	}
	if _, err := r.Send([]link.Packet{{Bufs: [][]byte{p[:7], p[7:]}}}); err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s.Dropped != 1 || s.UDP.Total != 0 {
		t.Errorf("wrong checksum: %+v", s)
	}
	if _, err := r.Send([]link.Packet{{Bufs: [][]byte{p}, Offload: link.Offload{CsumValid: true}}}); err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s.Dropped != 1 {
		t.Errorf("a checksum that is declared valid is looked at: %+v", s)
	}
}

func TestStartAndClose(t *testing.T) {
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Name() != "relay" || r.Medium() != link.IP || r.MTU() != DefaultMTU || r.HardwareAddr() != nil {
		t.Error("not the link that it should be")
	}
	if err := r.Start(nil); err == nil {
		t.Error("started with no receive function")
	}
	if err := r.Start(func([]link.Packet) {}); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(func([]link.Packet) {}); err == nil {
		t.Error("started twice")
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Send(nil); err == nil {
		t.Error("sent after Close")
	}
	if err := r.Start(func([]link.Packet) {}); err == nil {
		t.Error("started after Close")
	}
}

// Nothing of a relay outlives it: no goroutine, no descriptor.
func TestNothingLeaks(t *testing.T) {
	addr := host(t, "127.0.0.1:0", echo)
	udp := udpHost(t, "127.0.0.1:0", same)
	count := func() (int, int) {
		runtime.GC() // the pipes that io.Copy of the echo server keeps in a pool
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(fds)
	}
	goroutines, fds := count()
	t.Run("use", func(t *testing.T) {
		n := newNear(t, Config{DrainTimeout: time.Second, Publish: []Publish{
			{Host: netip.MustParseAddrPort("127.0.0.1:0"), Proto: "tcp", Port: 80},
			{Host: netip.MustParseAddrPort("127.0.0.1:0"), Proto: "udp", Port: 80},
		}})
		for range 50 {
			c := n.dial(t, n.via(addr))
			u := n.dialUDP(t, n.via(udp))
			for _, w := range []net.Conn{c, u} {
				if _, err := w.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if s := n.r.Stats(); s.TCP.Open != 50 || s.UDP.Open != 50 {
			t.Errorf("stats %+v", s)
		}
	})
	defer func() {
		if g, f := count(); t.Failed() {
			buf := make([]byte, 1<<20)
			t.Logf("%d goroutines, were %d; %d descriptors, were %d\n%s",
				g, goroutines, f, fds, buf[:runtime.Stack(buf, true)])
		}
	}()
	eventually(t, "the end of goroutines and descriptors", func() bool {
		g, f := count()
		return g <= goroutines && f <= fds
	})
}
