package netstack

import (
	"io"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

// zeros is a Source of n bytes.
type zeros struct{ n int }

func (z *zeros) Len() int { return z.n }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(len(p), z.n)
	z.n -= n
	return n, nil
}

func benchmarkBulk(b *testing.B, x, y *Engine, to string) {
	client, server := connection(b, x, y, to)
	const chunk = 256 << 10
	b.SetBytes(chunk)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			src := &zeros{chunk}
			for src.n > 0 {
				if _, err := client.WriteFrom(src); err == unix.EAGAIN {
					client.wait(unix.POLLOUT)
				}
			}
		}
		client.Shutdown(unix.SHUT_WR)
	}()
	if n, err := server.drain(io.Discard); err != 0 || n != b.N*chunk {
		b.Fatal(n, err)
	}
}

func BenchmarkBulk(b *testing.B) {
	x, y := newPair(b, link.IP, false)
	benchmarkBulk(b, x, y, "10.0.0.2:0")
}

func BenchmarkBulkTSO(b *testing.B) {
	x, y := newPair(b, link.IP, true)
	benchmarkBulk(b, x, y, "10.0.0.2:0")
}

func BenchmarkBulkLoopback(b *testing.B) {
	x, _ := newPair(b, link.IP, false)
	benchmarkBulk(b, x, x, "127.0.0.1:0")
}

// BenchmarkRoundTrip is one byte there and one byte back.
func BenchmarkRoundTrip(b *testing.B) {
	x, y := newPair(b, link.IP, true)
	benchmarkRoundTrip(b, x, y)
}

func benchmarkRoundTrip(b *testing.B, x, y *Engine) {
	client, server := connection(b, x, y, "10.0.0.2:0")
	go func() {
		for {
			if got := server.readFull(1); len(got) == 0 {
				return
			}
			server.writeAll([]byte{1})
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		client.writeAll([]byte{1})
		client.readFull(1)
	}
	b.StopTimer()
	client.Shutdown(unix.SHUT_WR)
}

func BenchmarkConnect(b *testing.B) {
	x, y := newPair(b, link.IP, true)
	benchmarkConnect(b, x, y)
}

func benchmarkConnect(b *testing.B, x, y *Engine) {
	l := listen(b, y, unix.AF_INET, stack.Addr{Port: 7}, 128)
	for range b.N {
		ep, _ := x.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		c := wrap(b, ep)
		if err := c.dial(addr("10.0.0.2:7")); err != 0 {
			b.Fatal(err)
		}
		s := l.accept()
		c.Abort()
		s.Abort()
	}
}

func BenchmarkUDP(b *testing.B) {
	x, y := newPair(b, link.IP, true)
	s := socket(b, y, unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(b, "bind", s.Bind(stack.Addr{Port: 7}), 0)
	c := socket(b, x, unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(b, "connect", c.Connect(addr("10.0.0.2:7")), 0)
	m, in := stack.Message{Data: make([]byte, 64)}, stack.Message{}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := c.Send(&m); err != 0 {
			b.Fatal(err)
		}
		for s.Recv(&in) == unix.EAGAIN {
			s.wait(unix.POLLIN)
		}
	}
}

// TestIdleMemory measures the heap of an idle connection's endpoint.
func TestIdleMemory(t *testing.T) {
	const n, most = 1000, 7 << 10
	e := newEngine(t, nil)
	l := listen(t, e, unix.AF_INET, stack.Addr{Port: 7}, n)
	held := make([]*testSock, 0, 2*n)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	goroutines := runtime.NumGoroutine()
	before := heap()
	for range n {
		ep, _ := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		c := &testSock{Endpoint: ep, t: t}
		ep.Notify(func() {})
		if err := c.Connect(addr("127.0.0.1:7")); err != unix.EINPROGRESS {
			t.Fatal(err)
		}
		l.wait(unix.POLLIN)
		s, err := l.Accept()
		must(t, "accept", err, 0)
		held = append(held, c, &testSock{Endpoint: s, t: t})
	}
	each := (heap() - before) / (2 * n)
	t.Logf("%d bytes of heap for each idle endpoint", each)
	if each > most {
		t.Errorf("more than %d", most)
	}
	if g := runtime.NumGoroutine() - goroutines; g > 8 {
		t.Errorf("%d goroutines more", g)
	}
	for _, s := range held {
		s.Abort()
	}
}
