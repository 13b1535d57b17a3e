package netstack

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

// patience bounds every wait of the tests.
const patience = 10 * time.Second

// newEngine makes an engine on a link (nil: only loopback).
func newEngine(t testing.TB, l link.Link, addrs ...string) *Engine {
	t.Helper()
	return made(t, config(l, addrs...))
}

// config is that of an engine on a link (nil: only loopback).
func config(l link.Link, addrs ...string) (cfg Config) {
	if l != nil {
		cfg.Links = []link.Link{l}
	}
	for _, a := range addrs {
		cfg.Addrs = append(cfg.Addrs, netip.MustParsePrefix(a))
	}
	return cfg
}

// made makes an engine that is closed at the end.
func made(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// testSock is an endpoint with a channel of its notifications.
type testSock struct {
	stack.Endpoint
	t testing.TB
	c chan struct{}
}

func wrap(t testing.TB, ep stack.Endpoint) *testSock {
	s := &testSock{Endpoint: ep, t: t, c: make(chan struct{}, 1)}
	ep.Notify(func() {
		select {
		case s.c <- struct{}{}:
		default:
		}
	})
	return s
}

func socket(t testing.TB, e *Engine, family, typ, proto int) *testSock {
	t.Helper()
	ep, err := e.Socket(family, typ, proto)
	if err != 0 {
		t.Fatalf("socket(%d, %d, %d): %v", family, typ, proto, err)
	}
	s := wrap(t, ep)
	t.Cleanup(ep.Close)
	return s
}

func addr(s string) stack.Addr {
	ap := netip.MustParseAddrPort(s)
	return stack.Addr{IP: ap.Addr(), Port: ap.Port()}
}

// wait waits until the readiness has one of the bits.
func (s *testSock) wait(mask uint32) uint32 {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		if r := s.Readiness(); r&mask != 0 {
			return r
		}
		select {
		case <-s.c:
		case <-deadline:
			s.t.Fatalf("no readiness %#x in time, have %#x", mask, s.Readiness())
		}
	}
}

// must fails the test unless err is want.
func must(t testing.TB, what string, err, want stack.Errno) {
	t.Helper()
	if err != want {
		t.Fatalf("%s: got %v (%d), want %v (%d)", what, err, int(err), want, int(want))
	}
}

// dial connects and waits for the outcome.
func (s *testSock) dial(a stack.Addr) stack.Errno {
	s.t.Helper()
	err := s.Connect(a)
	if err != unix.EINPROGRESS {
		return err
	}
	s.wait(unix.POLLOUT | unix.POLLERR)
	return s.Connect(a)
}

func (s *testSock) accept() *testSock {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ep, err := s.Accept()
		if err == 0 {
			n := wrap(s.t, ep)
			s.t.Cleanup(ep.Close)
			return n
		}
		if err != unix.EAGAIN || time.Now().After(deadline) {
			s.t.Fatalf("accept: %v", err)
		}
		s.wait(unix.POLLIN)
	}
}

func (s *testSock) writeAll(b []byte) {
	s.t.Helper()
	src := &bytesSource{b}
	for src.Len() > 0 {
		if _, err := s.WriteFrom(src); err == unix.EAGAIN {
			s.wait(unix.POLLOUT)
		} else if err != 0 {
			s.t.Errorf("write: %v", err)
			return
		}
	}
}

// readFull reads n bytes, fewer at the end of the stream.
func (s *testSock) readFull(n int) []byte {
	s.t.Helper()
	w := &limitWriter{n: n}
	for len(w.b) < n {
		got, err := s.ReadTo(w)
		if err == unix.EAGAIN {
			s.wait(unix.POLLIN)
		} else if err != 0 {
			s.t.Errorf("read: %v", err)
			break
		} else if got == 0 {
			break
		}
	}
	return w.b
}

// limitWriter takes at most n bytes.
type limitWriter struct {
	b []byte
	n int
}

func (w *limitWriter) Write(p []byte) (int, error) {
	m := min(len(p), w.n-len(w.b))
	w.b = append(w.b, p[:m]...)
	return m, nil
}

// drain reads to the end of the stream.
func (s *testSock) drain(w io.Writer) (total int, err stack.Errno) {
	s.t.Helper()
	for {
		n, err := s.ReadTo(w)
		switch {
		case err == unix.EAGAIN:
			s.wait(unix.POLLIN)
		case err != 0 || n == 0:
			return total, err
		}
		total += n
	}
}

// listen makes a listening socket.
func listen(t testing.TB, e *Engine, family int, a stack.Addr, backlog int) *testSock {
	t.Helper()
	l := socket(t, e, family, unix.SOCK_STREAM, 0)
	must(t, "bind", l.Bind(a), 0)
	must(t, "listen", l.Listen(backlog), 0)
	return l
}

// connection is both ends of a connection: the one that a connected, accepted.
func connection(t testing.TB, a, b *Engine, to string) (client, server *testSock) {
	t.Helper()
	family := unix.AF_INET
	dst := addr(to)
	if dst.IP.Is6() {
		family = unix.AF_INET6
	}
	l := listen(t, b, family, stack.Addr{}, 128)
	dst.Port = l.LocalAddr().Port
	client = socket(t, a, family, unix.SOCK_STREAM, 0)
	must(t, "connect", client.dial(dst), 0)
	return client, l.accept()
}
