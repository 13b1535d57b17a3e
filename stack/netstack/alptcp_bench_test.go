package netstack

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

// alpPair is newPair with the project's own TCP.
func alpPair(t testing.TB, tso bool) (a, b *Engine) {
	la, lb := newPipe(link.IP, tso)
	return newAlp(t, la, "10.0.0.1/24", "fd00::1/64"), newAlp(t, lb, "10.0.0.2/24", "fd00::2/64")
}

// BenchmarkAlpRoundTrip is BenchmarkRoundTrip with it.
func BenchmarkAlpRoundTrip(b *testing.B) {
	x, y := alpPair(b, true)
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

// BenchmarkAlpBulk is BenchmarkBulkTSO with it.
func BenchmarkAlpBulk(b *testing.B) {
	x, y := alpPair(b, true)
	client, server := connection(b, x, y, "10.0.0.2:0")
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

// BenchmarkAlpConnect is BenchmarkConnect with it.
func BenchmarkAlpConnect(b *testing.B) {
	x, y := alpPair(b, true)
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
