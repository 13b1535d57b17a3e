package relay

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const benchChunk = 64 << 10

// discard reads all, and answers one byte when it has.
func discard(c *net.TCPConn) {
	buf := make([]byte, 256<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			break
		}
	}
	_, _ = c.Write([]byte{1})
	_ = c.Close()
}

// flood writes until the peer goes.
func flood(c *net.TCPConn) {
	buf := make([]byte, 256<<10)
	for {
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

// cpu reports the CPU time of this process for each operation, which says more
// than the wall clock on a machine with other work.
func cpu(b *testing.B) func() {
	now := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := now()
	return func() { b.ReportMetric(float64(now()-start)/float64(b.N), "cpu-ns/op") }
}

type closeWriter interface {
	net.Conn
	CloseWrite() error
}

func benchSend(b *testing.B, c closeWriter) {
	_ = c.SetDeadline(time.Time{})
	buf := make([]byte, benchChunk)
	b.SetBytes(benchChunk)
	b.ResetTimer()
	defer cpu(b)()
	for range b.N {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.CloseWrite()
	if _, err := c.Read(buf); err != nil {
		b.Fatal(err)
	}
}

func benchReceive(b *testing.B, c net.Conn) {
	_ = c.SetDeadline(time.Time{})
	buf := make([]byte, benchChunk)
	b.SetBytes(benchChunk)
	b.ResetTimer()
	defer cpu(b)()
	for range b.N {
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func benchRTT(b *testing.B, c net.Conn) {
	_ = c.SetDeadline(time.Time{})
	var buf [1]byte
	defer cpu(b)()
	for range b.N {
		if _, err := c.Write(buf[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// ways runs f over the relay and over the host's own loopback.
func ways(b *testing.B, serve func(*net.TCPConn), f func(*testing.B, closeWriter)) {
	for _, mtu := range []int{DefaultMTU, 9000, 1500} {
		b.Run(fmt.Sprint("relay ", mtu), func(b *testing.B) {
			n := newNear(b, Config{DrainTimeout: -1, MTU: mtu})
			f(b, n.dial(b, n.via(host(b, "127.0.0.1:0", serve))))
		})
	}
	b.Run("host", func(b *testing.B) {
		c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(host(b, "127.0.0.1:0", serve)))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		f(b, c)
	})
}

func BenchmarkSend(b *testing.B) { ways(b, discard, benchSend) }

func BenchmarkReceive(b *testing.B) {
	ways(b, flood, func(b *testing.B, c closeWriter) { benchReceive(b, c) })
}

func BenchmarkRTT(b *testing.B) {
	ways(b, echo, func(b *testing.B, c closeWriter) { benchRTT(b, c) })
}

func BenchmarkConnect(b *testing.B) {
	serve := func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c); _ = c.Close() }
	b.Run("relay", func(b *testing.B) {
		n := newNear(b, Config{DrainTimeout: -1})
		to := n.via(host(b, "127.0.0.1:0", serve))
		for range b.N {
			c, err := n.connect(to, 5*time.Second)
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("host", func(b *testing.B) {
		to := host(b, "127.0.0.1:0", serve)
		for range b.N {
			c, err := net.Dial("tcp", to.String())
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
}

func BenchmarkUDPRTT(b *testing.B) {
	b.Run("relay", func(b *testing.B) {
		n := newNear(b, Config{DrainTimeout: -1})
		c := n.dialUDP(b, n.via(udpHost(b, "127.0.0.1:0", same)))
		benchRTT(b, c)
	})
	b.Run("host", func(b *testing.B) {
		c, err := net.Dial("udp", udpHost(b, "127.0.0.1:0", same).String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		benchRTT(b, c)
	})
}

// BenchmarkUDPSend counts what is sent, delivered or not.
func BenchmarkUDPSend(b *testing.B) {
	n := newNear(b, Config{DrainTimeout: -1})
	sink, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	c := n.dialUDP(b, n.via(sink.LocalAddr().(*net.UDPAddr).AddrPort()))
	_ = c.SetDeadline(time.Time{})
	buf := make([]byte, 1400)
	b.ReportAllocs()
	for range b.N {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle reports what an idle connection costs this process: the far
// stack's endpoint, the host's socket and two goroutines, and the near stack's
// endpoint and the peer's goroutine of this test.
func BenchmarkIdle(b *testing.B) {
	const flows = 2000
	hold := make(chan struct{})
	memory := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	n := newNear(b, Config{DrainTimeout: -1})
	to := n.via(host(b, "127.0.0.1:0", func(c *net.TCPConn) { <-hold; c.Close() }))
	conns := make([]*conn, flows)
	for range b.N {
		before := memory()
		for i := range conns {
			c, err := n.connect(to, 5*time.Second)
			if err != nil {
				b.Fatal(err)
			}
			conns[i] = c
		}
		b.ReportMetric(float64(memory()-before)/flows, "B/flow")
		for _, c := range conns {
			c.Close()
		}
	}
	close(hold)
}
