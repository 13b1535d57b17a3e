package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

func published(t *testing.T, proto string, port uint16) (*near, [2]netip.AddrPort) {
	t.Helper()
	n := newNear(t, Config{Publish: []Publish{
		{Host: netip.MustParseAddrPort("127.0.0.1:0"), Proto: proto, Port: port},
		{Host: netip.MustParseAddrPort("[::1]:0"), Proto: proto, Port: port},
	}})
	p := n.r.Published()
	return n, [2]netip.AddrPort{p[0].Host, p[1].Host}
}

func TestPublishTCP(t *testing.T) {
	n, addrs := published(t, "tcp", 80)
	data := noise(8 << 20)
	for i, a := range addrs {
		at := netip.AddrPortFrom(n.r.Addrs()[i].Addr(), 80)
		l, err := gonet.ListenTCP(n.Stack, full(at), protoOf(at.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		peer := make(chan string, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			peer <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().String()
			b, _ := io.ReadAll(c)
			_, _ = c.Write(b)
			_ = c.Close()
		}()
		c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(a))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write(data); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%v: %d bytes came back, %v", a, len(got), err)
		}
		if s, want := <-peer, n.r.Gateways()[i].String(); s != want {
			t.Errorf("the server sees %s, want %s", s, want)
		}
	}
	eventually(t, "the flows' end", func() bool { return n.r.Stats().TCPPublished == Flows{0, 2} })
}

func TestPublishTCPRefused(t *testing.T) {
	n, addrs := published(t, "tcp", 80)
	for _, a := range addrs {
		c, err := net.Dial("tcp", a.String())
		if err == nil { // else the RST was faster than connect's return
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v: %v, want ECONNRESET", a, err)
		}
	}
	if s := n.r.Stats(); s.TCPFailed != 2 || s.TCPPublished.Total != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPublishUDP(t *testing.T) {
	n, addrs := published(t, "udp", 5353)
	for i, a := range addrs {
		at := full(netip.AddrPortFrom(n.r.Addrs()[i].Addr(), 5353))
		wq := new(waiter.Queue)
		ep, terr := n.NewEndpoint(17, protoOf(a.Addr()), wq)
		if terr != nil {
			t.Fatal(terr)
		}
		if terr := ep.Bind(at); terr != nil {
			t.Fatal(terr)
		}
		s := gonet.NewUDPConn(wq, ep)
		defer s.Close()
		go func() {
			buf := make([]byte, 65536)
			for {
				k, from, err := s.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = s.WriteTo(append(buf[:k:k], '!'), from)
			}
		}()
		var clients []net.Conn
		for range 3 {
			c, err := net.Dial("udp", a.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			clients = append(clients, c)
		}
		for round := range 2 {
			for j, c := range clients {
				_, _ = fmt.Fprint(c, round, j)
			}
			for j, c := range clients {
				buf := make([]byte, 100)
				k, err := c.Read(buf)
				if want := fmt.Sprint(round, j) + "!"; err != nil || string(buf[:k]) != want {
					t.Errorf("%v client %d: %q, %v; want %q", a, j, buf[:k], err, want)
				}
			}
		}
	}
	if s := n.r.Stats().UDPPublished; s != (Flows{6, 6}) {
		t.Errorf("sessions %+v, want 6", s)
	}
}

// A port published on every address answers from the one that was asked.
func TestPublishUDPSource(t *testing.T) {
	n := newNear(t, Config{Publish: []Publish{
		{Host: netip.MustParseAddrPort("0.0.0.0:0"), Proto: "udp", Port: 7},
		{Host: netip.MustParseAddrPort("[::]:0"), Proto: "udp", Port: 7},
	}})
	for i, to := range []string{"127.0.0.9", "::1"} {
		wq := new(waiter.Queue)
		at := netip.AddrPortFrom(n.r.Addrs()[i].Addr(), 7)
		ep, terr := n.NewEndpoint(17, protoOf(at.Addr()), wq)
		if terr != nil {
			t.Fatal(terr)
		}
		if terr := ep.Bind(full(at)); terr != nil {
			t.Fatal(terr)
		}
		s := gonet.NewUDPConn(wq, ep)
		defer s.Close()
		go func() {
			buf := make([]byte, 100)
			k, from, err := s.ReadFrom(buf)
			if err == nil {
				_, _ = s.WriteTo(buf[:k], from)
			}
		}()
		// A connected socket takes answers from the peer's address only.
		host := netip.AddrPortFrom(netip.MustParseAddr(to), n.r.Published()[i].Host.Port())
		c, err := net.Dial("udp", host.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("%v: %v", host, err)
		}
	}
}

func TestPublishTaken(t *testing.T) {
	taken := host(t, "127.0.0.1:0", echo)
	_, err := New(Config{Publish: []Publish{{Host: taken, Proto: "tcp", Port: 80}}})
	want := fmt.Sprintf("relay: publish %v/tcp: address already in use", taken)
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestParsePublish(t *testing.T) {
	for _, c := range []struct{ flag, want string }{
		{"8080", "127.0.0.1:8080:8080/tcp"},
		{"8080:80", "127.0.0.1:8080:80/tcp"},
		{"0:80", "127.0.0.1:0:80/tcp"},
		{"53/udp", "127.0.0.1:53:53/udp"},
		{"53:5353/udp", "127.0.0.1:53:5353/udp"},
		{"80/tcp", "127.0.0.1:80:80/tcp"},
		{"0.0.0.0:8080", "0.0.0.0:8080:8080/tcp"},
		{"192.0.2.1:8080:80", "192.0.2.1:8080:80/tcp"},
		{"[::1]:8080:80", "[::1]:8080:80/tcp"},
		{"[::]:8080/udp", "[::]:8080:8080/udp"},
		{"", "no host port"},
		{"x", "not a number"},
		{"-1", "not a number"},
		{"65536", "not in 0 to 65535"},
		{"0", "port 0 cannot"},
		{"8080:0", "port 0 cannot"},
		{"8080:", "no port"},
		{":80", "no host port"},
		{"80/sctp", "neither tcp nor udp"},
		{"::1:8080:80", "needs brackets"},
		{"[::1", "no ]"},
		{"[::1]", "no host port"},
		{"[::1]8080", "no host port"},
		{"[1.2.3.4]:80", "not an ipv6 address"},
		{"1.2.3:80", "not an ipv4 address"},
		{"1.2.3.4", "not a number"},
	} {
		p, err := ParsePublish(c.flag)
		switch {
		case err == nil && p.String() != c.want:
			t.Errorf("%q: %v, want %s", c.flag, p, c.want)
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%q: %v, want %s", c.flag, err, c.want)
		}
	}
}

func FuzzParsePublish(f *testing.F) {
	for _, s := range []string{"8080", "8080:80/udp", "[::1]:8080:80", "0.0.0.0:1:2/tcp", "[fe80::1%lo]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePublish(s)
		if err != nil {
			return
		}
		if p.Port == 0 || !p.Host.IsValid() {
			t.Fatalf("%q: %+v", s, p)
		}
		again, err := ParsePublish(p.String())
		if err != nil || again != p {
			t.Fatalf("%q: %v reads back as %v, %v", s, p, again, err)
		}
	})
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.53\noptions edns0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range parseResolvConf(b) {
			if !s.IsValid() {
				t.Fatalf("%q: %v", b, s)
			}
		}
	})
}

// Packets of any content must not disturb the far stack.
func FuzzSend(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := New(Config{DrainTimeout: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		sendNowhere(t, r, b)
	})
}
