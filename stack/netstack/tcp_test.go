package netstack

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

func TestTCPBulk(t *testing.T) {
	for _, c := range []struct {
		name   string
		medium link.Medium
		tso    bool
		to     string
	}{
		{"ip4", link.IP, false, "10.0.0.2:0"},
		{"ip4 tso", link.IP, true, "10.0.0.2:0"},
		{"ip6 tso", link.IP, true, "[fd00::2]:0"},
		{"ethernet ip4", link.Ethernet, false, "10.0.0.2:0"},
		{"ethernet ip6 tso", link.Ethernet, true, "[fd00::2]:0"},
		{"loopback", link.IP, false, "127.0.0.1:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newPair(t, c.medium, c.tso)
			if c.name == "loopback" {
				b = a
			}
			client, server := connection(t, a, b, c.to)
			data := make([]byte, 8<<20)
			r := rand.NewChaCha8([32]byte{1})
			_, _ = r.Read(data)
			go func() {
				client.writeAll(data)
				client.Shutdown(unix.SHUT_WR)
			}()
			h := sha256.New()
			n, err := server.drain(h)
			if err != 0 || n != len(data) || [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
				t.Fatalf("read %d bytes, %v; hash equal %v", n, err, [32]byte(h.Sum(nil)) == sha256.Sum256(data))
			}
			// The other direction of the half-closed connection.
			server.writeAll([]byte("bye"))
			server.Shutdown(unix.SHUT_WR)
			if got := client.readFull(100); string(got) != "bye" {
				t.Fatalf("read %q after half-close", got)
			}
		})
	}
}

func TestTCPRefused(t *testing.T) {
	a, _ := newPair(t, link.IP, false)
	for _, to := range []string{"10.0.0.2:9", "127.0.0.1:9", "[::1]:9", "[fd00::2]:9", "0.0.0.0:9", "127.0.0.1:0"} {
		dst := addr(to)
		family := unix.AF_INET
		if dst.IP.Is6() {
			family = unix.AF_INET6
		}
		s := socket(t, a, family, unix.SOCK_STREAM, 0)
		if r := s.Readiness(); r != unix.POLLOUT|unix.POLLHUP {
			t.Errorf("fresh: readiness %#x", r)
		}
		must(t, "connect", s.Connect(dst), unix.EINPROGRESS)
		if r := s.wait(unix.POLLERR); r != unix.POLLIN|unix.POLLOUT|unix.POLLERR|unix.POLLHUP|unix.POLLRDHUP {
			t.Errorf("refused: readiness %#x", r)
		}
		must(t, "SO_ERROR", s.TakeError(), unix.ECONNREFUSED)
		if r := s.Readiness(); r != unix.POLLIN|unix.POLLOUT|unix.POLLHUP|unix.POLLRDHUP {
			t.Errorf("refused and taken: readiness %#x", r)
		}
		must(t, "second connect", s.Connect(dst), unix.ECONNABORTED)
		must(t, "third connect", s.Connect(dst), unix.EINPROGRESS)
		s.wait(unix.POLLERR)
		must(t, "fourth connect", s.Connect(dst), unix.ECONNREFUSED)
	}
}

func TestTCPConnectStates(t *testing.T) {
	a, b := newPair(t, link.IP, false)
	l := listen(t, b, unix.AF_INET, stack.Addr{}, 1)
	dst := addr("10.0.0.2:0")
	dst.Port = l.LocalAddr().Port
	s := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "connect", s.Connect(dst), unix.EINPROGRESS)
	s.wait(unix.POLLOUT)
	must(t, "connect again", s.Connect(dst), 0)
	must(t, "connect a third time", s.Connect(dst), unix.EISCONN)
	must(t, "connect on a listener", l.Connect(dst), unix.EISCONN)
	if got := s.Readiness(); got != unix.POLLOUT {
		t.Errorf("connected: readiness %#x", got)
	}
	must(t, "unreachable", socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0).Connect(addr("192.0.2.1:1")), unix.ENETUNREACH)
	must(t, "multicast", socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0).Connect(addr("224.0.0.1:1")), unix.ENETUNREACH)

	// A host that does not answer.
	silent := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "connect", silent.Connect(addr("10.0.0.77:1")), unix.EINPROGRESS)
	must(t, "connect", silent.Connect(addr("10.0.0.77:1")), unix.EALREADY)
	if got := silent.Readiness(); got != 0 {
		t.Errorf("connecting: readiness %#x", got)
	}
	if _, err := silent.PeerAddr(); err != unix.ENOTCONN {
		t.Errorf("connecting: getpeername %v", err)
	}
	must(t, "disconnect", silent.Disconnect(), 0)
	must(t, "SO_ERROR after disconnect", silent.TakeError(), unix.ECONNRESET)
	must(t, "connect after disconnect", silent.Connect(dst), unix.EINPROGRESS)
}

func TestTCPReset(t *testing.T) {
	a, b := newPair(t, link.IP, false)
	const rst = unix.POLLIN | unix.POLLOUT | unix.POLLERR | unix.POLLHUP | unix.POLLRDHUP
	t.Run("abort", func(t *testing.T) {
		client, server := connection(t, a, b, "10.0.0.2:0")
		server.Abort()
		if r := client.wait(unix.POLLERR); r != rst {
			t.Errorf("readiness %#x", r)
		}
		_, err := client.ReadTo(&limitWriter{n: 1})
		must(t, "read", err, unix.ECONNRESET)
		n, err := client.ReadTo(&limitWriter{n: 1})
		if n != 0 || err != 0 {
			t.Errorf("second read: %d, %v", n, err)
		}
		_, err = client.WriteFrom(&bytesSource{[]byte("x")})
		must(t, "write", err, unix.EPIPE)
	})
	t.Run("unread data", func(t *testing.T) {
		client, server := connection(t, a, b, "10.0.0.2:0")
		client.writeAll([]byte("unread"))
		server.wait(unix.POLLIN)
		server.Close()
		client.wait(unix.POLLERR)
		must(t, "SO_ERROR", client.TakeError(), unix.ECONNRESET)
	})
	t.Run("shutdown with unread data sends FIN", func(t *testing.T) {
		client, server := connection(t, a, b, "10.0.0.2:0")
		client.writeAll([]byte("unread"))
		server.wait(unix.POLLIN)
		must(t, "shutdown", server.Shutdown(unix.SHUT_RDWR), 0)
		if r := client.wait(unix.POLLRDHUP); r != unix.POLLIN|unix.POLLOUT|unix.POLLRDHUP {
			t.Errorf("readiness %#x", r)
		}
		if got := server.readFull(100); string(got) != "unread" {
			t.Errorf("read %q", got)
		}
	})
}

func TestTCPShutdown(t *testing.T) {
	a, b := newPair(t, link.IP, false)
	fresh := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "shutdown of a fresh socket", fresh.Shutdown(unix.SHUT_RDWR), unix.ENOTCONN)
	must(t, "bad how", fresh.Shutdown(3), unix.EINVAL)

	client, server := connection(t, a, b, "10.0.0.2:0")
	must(t, "shutdown", client.Shutdown(unix.SHUT_WR), 0)
	if r := server.wait(unix.POLLRDHUP); r != unix.POLLIN|unix.POLLOUT|unix.POLLRDHUP {
		t.Errorf("after the peer's FIN: readiness %#x", r)
	}
	_, err := client.WriteFrom(&bytesSource{[]byte("x")})
	must(t, "write after SHUT_WR", err, unix.EPIPE)
	must(t, "SHUT_RD", server.Shutdown(unix.SHUT_RD), 0)
	if n, err := server.ReadTo(&limitWriter{n: 1}); n != 0 || err != 0 {
		t.Errorf("read after SHUT_RD: %d, %v", n, err)
	}
	must(t, "shutdown", server.Shutdown(unix.SHUT_WR), 0)
	if r := server.Readiness(); r&unix.POLLHUP == 0 {
		t.Errorf("both ways shut: readiness %#x", r)
	}

	l := listen(t, b, unix.AF_INET, stack.Addr{}, 1)
	must(t, "shutdown of a listener", l.Shutdown(unix.SHUT_RD), 0)
	_, err = l.Accept()
	must(t, "accept after shutdown", err, unix.EINVAL)
}

func TestTCPBacklog(t *testing.T) {
	a, b := newPair(t, link.IP, false)
	l := listen(t, b, unix.AF_INET, stack.Addr{}, 2)
	dst := addr("10.0.0.2:0")
	dst.Port = l.LocalAddr().Port
	up := 0
	var socks []*testSock
	for range 5 {
		s := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
		must(t, "connect", s.Connect(dst), unix.EINPROGRESS)
		socks = append(socks, s)
		time.Sleep(50 * time.Millisecond)
	}
	for _, s := range socks {
		if s.Readiness()&unix.POLLOUT != 0 {
			up++
		}
	}
	if up != 3 {
		t.Errorf("%d connections with a backlog of 2, want 3", up)
	}
	for range 3 {
		l.accept()
	}
	must(t, "listen again", l.Listen(10), 0)
}

func TestTCPBind(t *testing.T) {
	a, _ := newPair(t, link.IP, false)
	s := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "not ours", s.Bind(addr("10.9.9.9:1")), unix.EADDRNOTAVAIL)
	must(t, "bind", s.Bind(addr("10.0.0.1:80")), 0)
	must(t, "bind again", s.Bind(addr("10.0.0.1:81")), unix.EINVAL)
	must(t, "listen", s.Listen(1), 0)
	o := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "in use", o.Bind(addr("0.0.0.0:80")), unix.EADDRINUSE)
	must(t, "listen unbound", o.Listen(1), 0)
	if p := o.LocalAddr().Port; p < firstEphemeral || p > lastEphemeral {
		t.Errorf("ephemeral port %d", p)
	}
	s.Close()
	n := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "bind after close", n.Bind(addr("0.0.0.0:80")), 0)

	six := socket(t, a, unix.AF_INET6, unix.SOCK_STREAM, 0)
	must(t, "dual stack in use", six.Bind(addr("[::]:80")), unix.EADDRINUSE)
	must(t, "mapped", six.Bind(addr("[::ffff:10.0.0.1]:81")), 0)
	if got := six.LocalAddr(); got != addr("[::ffff:10.0.0.1]:81") {
		t.Errorf("getsockname: %v", got)
	}
	must(t, "link-local without scope", socket(t, a, unix.AF_INET6, unix.SOCK_STREAM, 0).Bind(addr("[fe80::1]:82")), unix.EINVAL)
}

func TestTCPDualStack(t *testing.T) {
	a, b := newPair(t, link.IP, false)
	l := listen(t, b, unix.AF_INET6, stack.Addr{Port: 7}, 8)
	four := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "connect", four.dial(addr("10.0.0.2:7")), 0)
	s := l.accept()
	if p, err := s.PeerAddr(); err != 0 || p.IP.String() != "::ffff:10.0.0.1" {
		t.Errorf("peer of an IPv4 connection on an IPv6 socket: %v, %v", p, err)
	}
	if got := s.LocalAddr(); got != addr("[::ffff:10.0.0.2]:7") {
		t.Errorf("local: %v", got)
	}
	mapped := socket(t, a, unix.AF_INET6, unix.SOCK_STREAM, 0)
	must(t, "connect mapped", mapped.dial(addr("[::ffff:10.0.0.2]:7")), 0)
	if p, err := mapped.PeerAddr(); err != 0 || p != addr("[::ffff:10.0.0.2]:7") {
		t.Errorf("peer: %v, %v", p, err)
	}
}

func TestDrain(t *testing.T) {
	a, b := newPair(t, link.IP, false)
	client, server := connection(t, a, b, "10.0.0.2:0")
	data := make([]byte, 200<<10)
	n, err := client.WriteFrom(&bytesSource{data})
	must(t, "write", err, 0)
	if _, out := client.Queued(); out == 0 {
		t.Log("nothing unsent right after a write")
	}
	client.Close()
	done := make(chan int)
	go func() { done <- len(server.readFull(len(data))) }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	a.Drain(ctx)
	if ctx.Err() != nil {
		t.Fatalf("drain did not end in %v", time.Since(start))
	}
	if got := <-done; got != n {
		t.Errorf("server has %d of %d bytes", got, n)
	}
}
