package host_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/host"
	"golang.org/x/sys/unix"
)

// patience bounds every wait of a test.
const patience = 10 * time.Second

var loopbacks = []struct {
	name   string
	family int
	ip     netip.Addr
}{
	{"IPv4", unix.AF_INET, netip.MustParseAddr("127.0.0.1")},
	{"IPv6", unix.AF_INET6, netip.MustParseAddr("::1")},
}

// newEngine starts an engine, and at the end of the test checks that it leaves
// no descriptor behind.
func newEngine(t *testing.T, cfg host.Config) *host.Engine {
	t.Helper()
	before := sockets(t)
	e, err := host.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if after := sockets(t); after > before {
			t.Errorf("%d sockets and epoll instances left open", after-before)
		}
	})
	return e
}

// sockets counts the process's sockets and epoll instances.
func sockets(t *testing.T) int {
	t.Helper()
	// The Go runtime's own epoll instance comes with the first pipe, and stays.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range dir {
		name, _ := os.Readlink("/proc/self/fd/" + d.Name())
		if strings.HasPrefix(name, "socket:") || strings.Contains(name, "eventpoll") {
			n++
		}
	}
	return n
}

// watcher counts notifications and lets a test wait for them.
type watcher struct {
	ep    stack.Endpoint
	count atomic.Int64
	wake  chan struct{}
}

func watch(ep stack.Endpoint) *watcher {
	w := &watcher{ep: ep, wake: make(chan struct{}, 1)}
	ep.Notify(func() {
		w.count.Add(1)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	})
	return w
}

// until waits, by notifications only, for a bit of the mask.
func (w *watcher) until(t *testing.T, mask uint32) {
	t.Helper()
	end := time.After(patience)
	for w.ep.Readiness()&mask == 0 {
		select {
		case <-w.wake:
		case <-end:
			t.Fatalf("readiness is %#x, never %#x", w.ep.Readiness(), mask)
		}
	}
}

func socket(t *testing.T, e stack.Engine, family, typ int) stack.Endpoint {
	t.Helper()
	ep, errno := e.Socket(family, typ, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(ep.Close)
	return ep
}

// listen makes a listening stream on ip.
func listen(t *testing.T, e stack.Engine, family int, ip netip.Addr) stack.Endpoint {
	t.Helper()
	l := socket(t, e, family, unix.SOCK_STREAM)
	check(t, "bind", l.Bind(stack.Addr{IP: ip}), 0)
	check(t, "listen", l.Listen(16), 0)
	return l
}

// pair makes two connected streams.
func pair(t *testing.T, e stack.Engine, family int, ip netip.Addr) (client, server *watcher) {
	t.Helper()
	l := listen(t, e, family, ip)
	lw := watch(l)
	c := watch(socket(t, e, family, unix.SOCK_STREAM))
	if errno := c.ep.Connect(l.LocalAddr()); errno != 0 && errno != unix.EINPROGRESS {
		t.Fatal("connect:", errno)
	}
	c.until(t, unix.POLLOUT)
	check(t, "SO_ERROR", c.ep.TakeError(), 0)
	lw.until(t, unix.POLLIN)
	s, errno := l.Accept()
	check(t, "accept", errno, 0)
	t.Cleanup(s.Close)
	return c, watch(s)
}

func check(t *testing.T, what string, got, want stack.Errno) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v (%d), want %v (%d)", what, got, got, want, want)
	}
}

// source is a stack.Source over bytes.
type source struct{ *bytes.Reader }

func from(b []byte) source { return source{bytes.NewReader(b)} }

// sink is a writer that takes at most limit bytes a time (0: all).
type sink struct {
	bytes.Buffer
	limit int
}

func (s *sink) Write(b []byte) (int, error) {
	if s.limit > 0 && len(b) > s.limit {
		n, _ := s.Buffer.Write(b[:s.limit])
		return n, unix.EAGAIN
	}
	return s.Buffer.Write(b)
}

// sendAll writes b, waiting for room.
func sendAll(t *testing.T, w *watcher, b []byte) {
	t.Helper()
	src := from(b)
	for src.Len() > 0 {
		_, errno := w.ep.WriteFrom(src)
		if errno == unix.EAGAIN {
			w.until(t, unix.POLLOUT)
			continue
		}
		check(t, "WriteFrom", errno, 0)
	}
}

// recvTo reads n bytes, waiting for them; fewer if the peer ends.
func recvTo(t *testing.T, w *watcher, dst *sink, n int) {
	t.Helper()
	for dst.Len() < n {
		got, errno := w.ep.ReadTo(dst)
		if errno == unix.EAGAIN {
			w.until(t, unix.POLLIN)
			continue
		}
		check(t, "ReadTo", errno, 0)
		if got == 0 {
			return
		}
	}
}

func TestStreamEcho(t *testing.T) {
	for _, lo := range loopbacks {
		t.Run(lo.name, func(t *testing.T) {
			e := newEngine(t, host.Config{})
			c, s := pair(t, e, lo.family, lo.ip)
			for _, text := range []string{"x", "hello", strings.Repeat("abc", 1000)} {
				var there, back sink
				sendAll(t, c, []byte(text))
				recvTo(t, s, &there, len(text))
				sendAll(t, s, there.Bytes())
				recvTo(t, c, &back, len(text))
				if back.String() != text {
					t.Fatalf("%d bytes came back different", len(text))
				}
			}
			if n := e.Stats().Sockets; n != 3 {
				t.Errorf("%d sockets counted, want 3", n)
			}
			peer, errno := c.ep.PeerAddr()
			check(t, "getpeername", errno, 0)
			if peer != s.ep.LocalAddr() || peer.IP != lo.ip {
				t.Errorf("client's peer is %v, server is %v", peer, s.ep.LocalAddr())
			}
		})
	}
}

func TestHalfClose(t *testing.T) {
	e := newEngine(t, host.Config{})
	c, s := pair(t, e, unix.AF_INET, loopbacks[0].ip)
	sendAll(t, c, []byte("question"))
	check(t, "shutdown", c.ep.Shutdown(unix.SHUT_WR), 0)
	_, errno := c.ep.WriteFrom(from([]byte("more")))
	check(t, "write after SHUT_WR", errno, unix.EPIPE)
	var got, answer sink
	recvTo(t, s, &got, 1<<20) // until FIN
	if got.String() != "question" {
		t.Fatalf("got %q", got.String())
	}
	s.until(t, unix.POLLRDHUP)
	sendAll(t, s, []byte("answer"))
	recvTo(t, c, &answer, 6)
	if answer.String() != "answer" {
		t.Fatalf("got %q", answer.String())
	}
}

func TestDatagrams(t *testing.T) {
	for _, lo := range loopbacks {
		t.Run(lo.name, func(t *testing.T) {
			e := newEngine(t, host.Config{})
			a, b := socket(t, e, lo.family, unix.SOCK_DGRAM), watch(socket(t, e, lo.family, unix.SOCK_DGRAM))
			check(t, "bind", b.ep.Bind(stack.Addr{IP: lo.ip}), 0)
			big := make([]byte, 65507)
			rand.New(rand.NewSource(1)).Read(big)
			in := stack.Message{}
			for _, n := range []int{0, 1, 64, 1400, 1500, 9000, 65507} {
				out := stack.Message{Data: big[:n], Addr: b.ep.LocalAddr(), HasAddr: true}
				sent, errno := a.Send(&out)
				check(t, fmt.Sprintf("send of %d", n), errno, 0)
				if sent != n {
					t.Fatalf("sent %d of %d", sent, n)
				}
				b.until(t, unix.POLLIN)
				if q, _ := b.ep.Queued(); q != n {
					t.Errorf("%d bytes queued, want %d", q, n)
				}
				check(t, "recv", b.ep.Recv(&in), 0)
				if !bytes.Equal(in.Data, big[:n]) || in.Flags != 0 || !in.HasAddr || in.Addr.Port != a.LocalAddr().Port || in.Addr.IP != lo.ip {
					t.Fatalf("datagram of %d: %d bytes, flags %#x, from %v", n, len(in.Data), in.Flags, in.Addr)
				}
			}
			check(t, "recv", b.ep.Recv(&in), unix.EAGAIN)
			_, errno := a.Send(&stack.Message{Data: make([]byte, 65536), Addr: b.ep.LocalAddr(), HasAddr: true})
			check(t, "send of 65536", errno, unix.EMSGSIZE)
		})
	}
}

// TestBulk moves 10 MB with a writer that takes short, and compares hashes.
func TestBulk(t *testing.T) {
	e := newEngine(t, host.Config{})
	c, s := pair(t, e, unix.AF_INET, loopbacks[0].ip)
	data := make([]byte, 10<<20)
	rand.New(rand.NewSource(2)).Read(data)
	go func() {
		src := from(data)
		for src.Len() > 0 {
			if _, errno := c.ep.WriteFrom(src); errno == unix.EAGAIN {
				<-c.wake
			} else if errno != 0 {
				t.Error("WriteFrom:", errno)
				return
			}
		}
		c.ep.Close() // with bytes left over: they must arrive
	}()
	got := sink{limit: 40_000}
	recvTo(t, s, &got, len(data)+1)
	if got.Len() != len(data) || sha256.Sum256(got.Bytes()) != sha256.Sum256(data) {
		t.Fatalf("%d bytes of %d came, or different ones", got.Len(), len(data))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	e.Drain(ctx)
	if ctx.Err() != nil {
		t.Error("Drain did not return")
	}
}

func intOption(t *testing.T, ep stack.Endpoint, level, name int) int {
	t.Helper()
	var b [4]byte
	n, errno := ep.GetOption(level, name, b[:])
	check(t, fmt.Sprintf("getsockopt %d,%d", level, name), errno, 0)
	if n != 4 {
		t.Fatalf("getsockopt gave %d bytes", n)
	}
	return int(int32(binary.NativeEndian.Uint32(b[:])))
}

func bytes4(v int) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(int32(v)))
}
