package relay

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// udpHost answers every datagram with each of what answers gives.
func udpHost(tb testing.TB, addr string, answers func(b []byte) [][]byte) netip.AddrPort {
	tb.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, a := range answers(buf[:n]) {
				_, _ = c.WriteTo(a, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func same(b []byte) [][]byte { return [][]byte{b} }

func TestUDPEcho(t *testing.T) {
	for _, mtu := range []int{DefaultMTU, 1500} {
		families(t, func(t *testing.T, loopback string) {
			n := newNear(t, Config{MTU: mtu})
			c := n.dialUDP(t, n.via(udpHost(t, loopback, same)))
			buf := make([]byte, 65536)
			for _, size := range []int{0, 1, 1400, 9000, 65507} {
				want := noise(size)
				if _, err := c.Write(want); err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				k, err := c.Read(buf)
				if err != nil || !bytes.Equal(buf[:k], want) {
					t.Fatalf("%d bytes: %d came back, %v", size, k, err)
				}
			}
			if s := n.r.Stats().UDP; s != (Flows{1, 1}) {
				t.Errorf("flows %+v, want one", s)
			}
		})
	}
}

func TestUDPManyAnswers(t *testing.T) {
	n := newNear(t, Config{})
	const answers = 100
	c := n.dialUDP(t, n.via(udpHost(t, "127.0.0.1:0", func(b []byte) (all [][]byte) {
		for i := range answers {
			all = append(all, fmt.Append(nil, i))
		}
		return all
	})))
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for i := range answers {
		k, err := c.Read(buf)
		if err != nil || string(buf[:k]) != fmt.Sprint(i) {
			t.Fatalf("answer %d: %q, %v", i, buf[:k], err)
		}
	}
}

func TestUDPPortUnreachable(t *testing.T) {
	seen := newICMPLog()
	n := newNearTap(t, Config{}, seen.tap)
	for _, to := range []netip.AddrPort{
		n.via(unused(t, "udp")),
		netip.AddrPortFrom(n.r.cfg.Gateway6, unused(t, "udp").Port()),
		netip.AddrPortFrom(n.r.cfg.DNS4, 54),
	} {
		wq := new(waiter.Queue)
		ep, err := n.NewEndpoint(header.UDPProtocolNumber, protoOf(to.Addr()), wq)
		if err == nil {
			err = ep.Connect(full(to))
		}
		if err == nil {
			_, err = ep.Write(bytes.NewReader([]byte("x")), tcpip.WriteOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "connection refused", func() bool {
			_, refused := ep.LastError().(*tcpip.ErrConnectionRefused)
			return refused
		})
		ep.Close()
	}
	seen.want(t, "3/3 10.0.2.2", true)
	seen.want(t, "1/4 fd00::2", true)
	seen.want(t, "3/3 10.0.2.3", true)
}

func TestUDPExpires(t *testing.T) {
	n := newNear(t, Config{UDPTimeout: 100 * time.Millisecond})
	c := n.dialUDP(t, n.via(udpHost(t, "127.0.0.1:0", same)))
	var b [1]byte
	for range 2 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b[:]); err != nil {
			t.Fatal(err)
		}
		eventually(t, "expiry", func() bool { return n.r.Stats().UDP.Open == 0 })
	}
	if s := n.r.Stats().UDP; s.Total != 2 {
		t.Errorf("flows %+v, want a second one after the first expired", s)
	}
}

func TestNowhere(t *testing.T) {
	n := newNear(t, Config{})
	for _, to := range []string{"224.0.0.1:9", "255.255.255.255:9", "10.0.2.255:9", "0.1.2.3:9", "[ff02::1]:9"} {
		a := netip.MustParseAddrPort(to)
		wq := new(waiter.Queue)
		ep, err := n.NewEndpoint(header.UDPProtocolNumber, protoOf(a.Addr()), wq)
		if err != nil {
			t.Fatal(err)
		}
		ep.SocketOptions().SetBroadcast(true)
		before := n.r.Stats()
		f := full(a)
		if _, err := ep.Write(bytes.NewReader([]byte("x")), tcpip.WriteOptions{To: &f}); err != nil {
			t.Logf("%v: the near stack itself refuses: %v", to, err)
		} else if s := n.r.Stats(); s.Dropped == before.Dropped || s.UDP.Total != 0 {
			t.Errorf("%v: was relayed: %+v", to, s)
		}
		ep.Close()
	}
}

// dnsHost serves DNS over UDP and TCP on one port; every name has address answer.
func dnsHost(t *testing.T, loopback, answer string, asked *atomic.Int32) netip.AddrPort {
	t.Helper()
	var (
		pc   net.PacketConn
		l    net.Listener
		addr netip.AddrPort
		err  error
	)
	for range 10 { // a port that is free for both
		if pc, err = net.ListenPacket("udp", loopback); err != nil {
			t.Fatal(err)
		}
		addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
		if l, err = net.Listen("tcp", addr.String()); err == nil {
			break
		}
		pc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		m := new(dns.Msg)
		m.SetReply(q)
		rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A " + answer)
		if err != nil {
			t.Error(err)
		}
		m.Answer = []dns.RR{rr}
		_ = w.WriteMsg(m)
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return addr
}

// lookup asks for a name over a connection of the near stack.
func lookup(t *testing.T, c net.Conn) string {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion("example.org.", dns.TypeA)
	dc := &dns.Conn{Conn: c}
	if err := dc.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	m, err := dc.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	if m.Id != q.Id || len(m.Answer) != 1 {
		t.Fatalf("answer %v", m)
	}
	return m.Answer[0].(*dns.A).A.String()
}

func TestDNS(t *testing.T) {
	var asked atomic.Int32
	good := dnsHost(t, "127.0.0.1:0", "192.0.2.1", &asked)
	dead := unused(t, "udp")
	silent := udpHost(t, "127.0.0.1:0", func([]byte) [][]byte { return nil })
	for _, c := range []struct {
		name string
		res  []netip.AddrPort
	}{
		{"first", []netip.AddrPort{good}},
		{"after a refused one", []netip.AddrPort{dead, good}},
		{"after a silent one", []netip.AddrPort{silent, good}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNear(t, Config{Resolvers: c.res, DNSTimeout: 200 * time.Millisecond})
			for _, a := range []netip.Addr{n.r.cfg.DNS4, n.r.cfg.DNS6} {
				to := netip.AddrPortFrom(a, 53)
				if s := lookup(t, udpConn{n.dialUDP(t, to)}); s != "192.0.2.1" {
					t.Errorf("udp %v: %s", to, s)
				}
				if s := lookup(t, n.dial(t, to)); s != "192.0.2.1" {
					t.Errorf("tcp %v: %s", to, s)
				}
			}
		})
	}
	if asked.Load() != 12 {
		t.Errorf("the server was asked %d times, want 12", asked.Load())
	}
}

// udpConn is a net.PacketConn too, as miekg/dns tells datagrams from streams.
type udpConn struct{ *gonet.UDPConn }

func TestDNSNobody(t *testing.T) {
	seen := newICMPLog()
	n := newNearTap(t, Config{Resolvers: []netip.AddrPort{unused(t, "udp")}}, seen.tap)
	c := n.dialUDP(t, netip.AddrPortFrom(n.r.cfg.DNS4, 53))
	if _, err := c.Write(make([]byte, 17)); err != nil {
		t.Fatal(err)
	}
	seen.want(t, "3/3 10.0.2.3", true)
	_, err := n.connect(netip.AddrPortFrom(n.r.cfg.DNS4, 53), 5*time.Second)
	if _, ok := err.(*tcpip.ErrConnectionRefused); !ok {
		t.Errorf("tcp: %v, want refused", err)
	}
}

func TestResolvConf(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "[]"},
		{"nameserver 192.0.2.1\n", "[192.0.2.1:53]"},
		{"# nameserver 192.0.2.1\n;nameserver 192.0.2.2\nsearch nameserver\nnameserver\t127.0.0.53 # local\noptions ndots:1", "[127.0.0.53:53]"},
		{"nameserver ::1\nnameserver 2001:db8::1\nnameserver fe80::1%lo\nnameserver nonsense\nnameserver", "[[::1]:53 [2001:db8::1]:53 [fe80::1%lo]:53]"},
		{"nameserver ::ffff:192.0.2.1", "[192.0.2.1:53]"},
	} {
		if got := fmt.Sprint(parseResolvConf([]byte(c.text))); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
}

func TestRedirectDNS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("nameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver ::1\n")
	n := newNear(t, Config{ResolvConf: path})
	check := func(dst, want string) {
		t.Helper()
		got := "no"
		if to, ok := n.r.RedirectDNS(netip.MustParseAddrPort(dst)); ok {
			got = to.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", dst, got, want)
		}
	}
	check("127.0.0.53:53", "10.0.2.3:53")
	check("[::ffff:127.0.0.53]:53", "10.0.2.3:53")
	check("[::1]:53", "[fd00::3]:53")
	check("127.0.0.53:54", "no")
	check("127.0.0.1:53", "no")
	check("192.0.2.1:53", "no")
	if got := fmt.Sprint(n.r.LoopbackResolvers()); got != "[127.0.0.53:53 [::1]:53]" {
		t.Errorf("loopback resolvers %s", got)
	}
	write("nameserver 127.0.0.1\n")
	check("127.0.0.53:53", "no")
	check("127.0.0.1:53", "10.0.2.3:53")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("127.0.0.1:53", "10.0.2.3:53")
}

// ping sends an echo request and returns the answer's payload, or an error's text.
func (n *near) ping(t *testing.T, to netip.Addr, size int, wait time.Duration) string {
	t.Helper()
	proto, msg := icmp.ProtocolNumber4, make([]byte, 8+size)
	msg[0] = byte(header.ICMPv4Echo)
	if to.Is6() {
		proto, msg[0] = icmp.ProtocolNumber6, byte(header.ICMPv6EchoRequest)
	}
	msg[7] = 9
	copy(msg[8:], noise(size))
	wq := new(waiter.Queue)
	ep, err := n.NewEndpoint(proto, protoOf(to), wq)
	if err != nil {
		t.Fatal(err)
	}
	defer ep.Close()
	e, ch := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr)
	wq.EventRegister(&e)
	f := full(netip.AddrPortFrom(to, 0))
	if _, err := ep.Write(bytes.NewReader(msg), tcpip.WriteOptions{To: &f}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ch:
	case <-time.After(wait):
		return "no answer"
	}
	var got bytes.Buffer
	if _, err := ep.Read(&got, tcpip.ReadOptions{}); err != nil {
		return err.String()
	}
	if got.Len() != len(msg) || !bytes.Equal(got.Bytes()[6:], msg[6:]) {
		return fmt.Sprintf("another answer, of %d bytes", got.Len())
	}
	return "ok"
}

func TestPingGateway(t *testing.T) {
	for _, mtu := range []int{DefaultMTU, 1500} {
		n := newNear(t, Config{MTU: mtu})
		for _, a := range []netip.Addr{n.r.cfg.Gateway4, n.r.cfg.Gateway6, n.r.cfg.DNS4, n.r.cfg.DNS6} {
			for _, size := range []int{0, 56, 5000} {
				if s := n.ping(t, a, size, 5*time.Second); s != "ok" {
					t.Errorf("ping %v with %d bytes: %s", a, size, s)
				}
			}
		}
	}
}
