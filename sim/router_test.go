package sim

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/netstack"
)

// chain is two hosts with two routers between, whose link has a small MTU.
const chain = `
duration = "1s"
[host.a]
[host.b]
[router.r1]
[router.r2]
[[link]]
between = ["a", "r1"]
impair = "delay=1ms"
[[link]]
between = ["r1", "r2"]
mtu = 1280
impair = "delay=1ms"
[[link]]
between = ["r2", "b"]
impair = "delay=1ms"
`

// datagramSocket is a socket of a host, for one test.
func datagramSocket(t *testing.T, h *Host, family, proto int, port uint16) stack.Endpoint {
	t.Helper()
	ep, err := h.Engine.Socket(family, unix.SOCK_DGRAM, proto)
	if err == 0 {
		err = ep.Bind(stack.Addr{Port: port})
	}
	if err != 0 {
		t.Fatal(err)
	}
	return ep
}

// TestFragments: a datagram larger than a link's MTU is cut by the router, and
// one that must not be cut comes back as an error.
func TestFragments(t *testing.T) {
	s := load(t, chain, Options{})
	to := stack.Addr{IP: s.lab.Node("b").Addrs()[0], Port: 7}
	server := datagramSocket(t, s.Find("b"), unix.AF_INET, 0, 7)
	client := datagramSocket(t, s.Find("a"), unix.AF_INET, 0, 0)
	one := []byte{unix.IP_PMTUDISC_DONT, 0, 0, 0}
	if err := client.SetOption(unix.SOL_IP, unix.IP_MTU_DISCOVER, one); err != 0 {
		t.Fatal(err)
	}
	data := pattern[:1400]
	if _, err := client.Send(&stack.Message{Data: data, Addr: to, HasAddr: true}); err != 0 {
		t.Fatal(err)
	}
	if _, err := s.Run(100 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	var m stack.Message
	if err := server.Recv(&m); err != 0 || string(m.Data) != string(data) {
		t.Fatalf("%v, %d bytes", err, len(m.Data))
	}
	if n := s.routers[0].count; n.Fragmented != 1 || n.TooBig != 0 {
		t.Errorf("%+v", n)
	}
	one[0] = unix.IP_PMTUDISC_PROBE
	client.SetOption(unix.SOL_IP, unix.IP_MTU_DISCOVER, one)
	client.SetOption(unix.SOL_IP, unix.IP_RECVERR, []byte{1, 0, 0, 0})
	client.Connect(to)
	client.Send(&stack.Message{Data: data})
	if _, err := s.Run(200 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := client.TakeError(); err != unix.EMSGSIZE {
		t.Errorf("too big: %v", err)
	}
	if n := s.routers[0].count; n.TooBig != 1 {
		t.Errorf("%+v", n)
	}
}

// TestHops: TTL, unreachable addresses, and pings of routers, in both families.
func TestHops(t *testing.T) {
	s := load(t, chain, Options{})
	b := s.lab.Node("b").Addrs()[0].String()
	for _, c := range []struct {
		what string
		ttl  int
		dst  string
		want stack.Errno
	}{
		{"far enough", 3, b, 0},
		{"expires at the first", 1, b, unix.EHOSTUNREACH},
		{"expires at the second", 2, b, unix.EHOSTUNREACH},
		{"nowhere", 64, "10.200.0.1", unix.ENETUNREACH},
	} {
		ep := datagramSocket(t, s.Find("a"), unix.AF_INET, 0, 0)
		ep.SetOption(unix.SOL_IP, unix.IP_TTL, []byte{byte(c.ttl), 0, 0, 0})
		ep.SetOption(unix.SOL_IP, unix.IP_RECVERR, []byte{1, 0, 0, 0})
		datagramSocket(t, s.Find("b"), unix.AF_INET, 0, uint16(1000+c.ttl))
		_, err := ep.Send(&stack.Message{Data: []byte("x"), Addr: stack.Addr{IP: netip.MustParseAddr(c.dst), Port: uint16(1000 + c.ttl)}, HasAddr: true})
		if _, e := s.Run(s.clock.now + 50*time.Millisecond); e != nil {
			t.Fatal(e)
		}
		if err == 0 {
			err = ep.TakeError()
		}
		if err != c.want {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	for _, n := range s.lab.Routers {
		for _, addr := range n.Addrs() {
			family, proto, echo := unix.AF_INET, unix.IPPROTO_ICMP, byte(8)
			if addr.Is6() {
				family, proto, echo = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128
			}
			ep := datagramSocket(t, s.Find("a"), family, proto, 0)
			ping := []byte{echo, 0, 0, 0, 0, 0, 0, 1, 'h', 'i'}
			if _, err := ep.Send(&stack.Message{Data: ping, Addr: stack.Addr{IP: addr}, HasAddr: true}); err != 0 {
				t.Errorf("ping %v: %v", addr, err)
				continue
			}
			if _, err := s.Run(s.clock.now + 50*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			var m stack.Message
			if err := ep.Recv(&m); err != 0 || m.Addr.IP != addr || string(m.Data[8:]) != "hi" {
				t.Errorf("pong of %v: %v, %+v", addr, err, m)
			}
		}
	}
}

// TestRouterEngines: packets through the routers of this package and through
// netstack's arrive alike.
func TestRouterEngines(t *testing.T) {
	for _, nat := range []string{"", "nat = \"up\""} {
		r := run(t, `
[host.a]
traffic = [{kind = "bulk", to = "b", bytes = "2MB"}]
[host.b]
[router.r]
`+nat+`
[[link]]
between = ["a", "r"]
impair = "rate=10mbit delay=5ms"
[[link]]
name = "up"
between = ["r", "b"]
mtu = 1300
`, Options{})
		if f := r.Flows[0]; !f.Done || f.Received != 2e6 || f.Goodput < 8.5e6 {
			t.Errorf("nat %q: %+v", nat, f)
		}
	}
}

// TestEngine: another engine, or TCP, by host.
func TestEngine(t *testing.T) {
	names := ""
	o := Options{Engine: func(name string, cfg netstack.Config) (stack.Engine, error) {
		names += name
		return netstack.New(cfg)
	}}
	lab, err := topo.Parse("x.toml", []byte(chain), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(lab, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || names != "ab" {
		t.Errorf("%q, %v", names, err)
	}
}

func TestDecrement(t *testing.T) {
	b := make([]byte, 20)
	b[0], b[9] = 0x45, 6
	for ttl := 255; ttl > 0; ttl-- {
		b[8] = byte(ttl)
		binary.BigEndian.PutUint16(b[2:], 20)
		binary.BigEndian.PutUint16(b[4:], uint16(ttl*259))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^link.Checksum(b, 0))
		h, ok := parseIP(b)
		if !ok {
			t.Fatal("the test's own packet")
		}
		h.decrement(b)
		if _, ok := parseIP(b); !ok || b[8] != byte(ttl-1) {
			t.Fatalf("TTL %d: %x", ttl, b)
		}
	}
}

// FuzzRouter: no packet harms a router, and none leaves it larger than the link.
func FuzzRouter(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 9, 6, 0, 0, 10, 0, 0, 1, 10, 0, 9, 1})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 0, 58, 1}, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 20 && b[0]>>4 == 4 { // or nothing gets far
			hl := min(max(int(b[0]&15)*4, 20), len(b))
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^link.Checksum(b[:hl], 0))
		}
		r := &Router{cache: map[netip.Addr]int{}, own: map[netip.Addr]bool{netip.MustParseAddr("10.0.0.254"): true}}
		for i := range 2 {
			r.ports = append(r.ports, port{link: &small{t: t}, v4: netip.MustParseAddr("10.0.0.254"), v6: netip.MustParseAddr("fd00::1")})
			r.routes = append(r.routes, route{netip.MustParsePrefix([]string{"10.0.0.0/16", "0.0.0.0/0"}[i]), i}, route{netip.MustParsePrefix("::/0"), i})
		}
		r.receive(0, []link.Packet{{Bufs: [][]byte{b}}})
	})
}

// small is a link that takes only small packets.
type small struct {
	link.Link
	t *testing.T
}

func (*small) MTU() int { return 100 }

func (l *small) Send(pkts []link.Packet) (int, error) {
	for i := range pkts {
		n := pkts[i].Len()
		if b := pkts[i].Bufs[0]; n > 100 && !(b[0]>>4 == 4 && b[9] == 1 || b[0]>>4 == 6 && b[6] == 58) {
			l.t.Errorf("%d bytes", n)
		}
	}
	return len(pkts), nil
}

// FuzzSizes: no size trace harms its reader.
func FuzzSizes(f *testing.F) {
	f.Add([]byte("t,bytes\n0,1\n1e3,5 # x\n"))
	f.Add([]byte("0,-1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		steps, err := parseSizes(&topo.Traffic{Kind: "trace", Text: b})
		if err == nil && len(steps) == 0 {
			t.Error("no steps, and no error")
		}
		for i, x := range steps {
			if x.at < 0 || x.bytes < 0 || i > 0 && x.at < steps[i-1].at {
				t.Errorf("step %d: %+v", i, x)
			}
		}
	})
}
