package host_test

import (
	"io"
	"net/netip"
	"runtime"
	"testing"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/host"
	"golang.org/x/sys/unix"
)

// benchPair makes two connected streams.
func benchPair(b *testing.B) (c, s *watcher) {
	b.Helper()
	e, err := host.New(host.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close() })
	l, _ := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	l.Bind(stack.Addr{IP: netip.MustParseAddr("127.0.0.1")})
	l.Listen(8)
	lw := watch(l)
	ep, _ := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	c = watch(ep)
	ep.Connect(l.LocalAddr())
	for lw.ep.Readiness()&unix.POLLIN == 0 {
		<-lw.wake
	}
	conn, errno := l.Accept()
	if errno != 0 {
		b.Fatal(errno)
	}
	conn.SetOption(unix.IPPROTO_TCP, unix.TCP_NODELAY, bytes4(1))
	ep.SetOption(unix.IPPROTO_TCP, unix.TCP_NODELAY, bytes4(1))
	return c, watch(conn)
}

// benchRead reads n bytes by notifications; false when the stream has ended.
func benchRead(w *watcher, n int64) bool {
	for n > 0 {
		got, errno := w.ep.ReadTo(io.Discard)
		n -= int64(got)
		if errno == unix.EAGAIN {
			<-w.wake
		} else if errno != 0 || got == 0 {
			return false
		}
	}
	return true
}

// BenchmarkRoundTrip is one byte there and back, one operation.
func BenchmarkRoundTrip(b *testing.B) {
	c, s := benchPair(b)
	one := []byte{1}
	go func() {
		for benchRead(s, 1) {
			s.ep.WriteFrom(from(one))
		}
	}()
	for b.Loop() {
		c.ep.WriteFrom(from(one))
		benchRead(c, 1)
	}
	c.ep.Close()
}

// BenchmarkBulk is 1 MiB in one direction, one operation.
func BenchmarkBulk(b *testing.B) {
	c, s := benchPair(b)
	chunk := make([]byte, 1<<20)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for benchRead(s, 1<<20) {
		}
	}()
	b.SetBytes(1 << 20)
	for b.Loop() {
		for src := from(chunk); src.Len() > 0; {
			if _, errno := c.ep.WriteFrom(src); errno == unix.EAGAIN {
				<-c.wake
			}
		}
	}
	c.ep.Close()
	<-done
}

// BenchmarkIdle reports the heap of an endpoint that is watched and idle.
func BenchmarkIdle(b *testing.B) {
	e, err := host.New(host.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	const n = 500
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		eps := make([]stack.Endpoint, 0, n)
		for range n {
			ep, errno := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if errno != 0 {
				b.Fatal(errno)
			}
			ep.Notify(func() {})
			eps = append(eps, ep)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/endpoint")
		for _, ep := range eps {
			ep.Close()
		}
	}
}
