package tcp_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// transfer moves bytes from A to B and closes both ends.
func transfer(t *testing.T, p *tcptest.Pair, size int, limit time.Duration) *tcptest.Stream {
	t.Helper()
	s := &tcptest.Stream{From: p.A, To: p.B, Size: size}
	s.Start()
	p.Open()
	start := p.Now()
	if !p.RunUntil(limit, func() bool { return s.Done }) {
		t.Fatalf("%d of %d bytes after %v: A %v %v, B %v %v\nA %+v\nB %+v", s.Read, size, limit,
			p.A.State(), p.A.Err(), p.B.State(), p.B.Err(), p.A.Info(), p.B.Info())
	}
	if s.Err != nil || s.Read != size {
		t.Fatalf("%d bytes of %d: %v", s.Read, size, s.Err)
	}
	took := s.DoneAt - start
	p.B.Close()
	if !p.RunUntil(5*time.Minute, func() bool { return p.B.State() == tcp.Closed && p.A.State() == tcp.Closed }) {
		t.Fatalf("still %v and %v", p.A.State(), p.B.State())
	}
	if p.A.Err() != 0 || p.B.Err() != 0 {
		t.Fatalf("ended with %v, %v", p.A.Err(), p.B.Err())
	}
	i := p.A.Info()
	t.Logf("%d bytes in %v (%.1f Mbit/s), %d retransmitted, %d lost of %d", size, took, float64(size)*8e-6/took.Seconds(),
		i.TotalRetrans, p.AB.Lost, p.AB.Sent)
	return s
}

func TestTransfer(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 100_000, 20_000_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			transfer(t, tcptest.NewPair(1, tcp.NewConfig(), tcp.NewConfig()), size, time.Minute)
		})
	}
}

// TestImpaired: everything arrives, whatever the network does to it.
func TestImpaired(t *testing.T) {
	nosack := func(c *tcp.Config) { c.SACK, c.Timestamps = false, false }
	for _, c := range []struct {
		name   string
		change func(p *tcptest.Pair)
		config func(*tcp.Config)
	}{
		{"loss1", func(p *tcptest.Pair) { p.AB.Loss, p.BA.Loss = 0.01, 0.01 }, nil},
		{"loss10", func(p *tcptest.Pair) { p.AB.Loss, p.BA.Loss = 0.1, 0.1 }, nil},
		{"loss20", func(p *tcptest.Pair) { p.AB.Loss, p.BA.Loss = 0.2, 0.2 }, nil},
		{"jitter", func(p *tcptest.Pair) { p.AB.Jitter, p.BA.Jitter = 10*time.Millisecond, 10*time.Millisecond }, nil},
		{"dup", func(p *tcptest.Pair) { p.AB.Dup, p.BA.Dup = 0.3, 0.3 }, nil},
		{"queue", func(p *tcptest.Pair) { p.AB.Rate, p.AB.Queue = 1_250_000, 20 }, nil},
		{"all", func(p *tcptest.Pair) {
			p.AB.Loss, p.BA.Loss, p.AB.Jitter, p.BA.Jitter = 0.05, 0.05, 5*time.Millisecond, 5*time.Millisecond
			p.AB.Dup, p.BA.Dup, p.AB.Rate, p.AB.Queue = 0.05, 0.05, 1_250_000, 30
		}, nil},
		{"mark", func(p *tcptest.Pair) { p.AB.Rate, p.AB.Mark = 1_250_000, 10 }, func(c *tcp.Config) { c.ECN = tcp.ECNOn }},
		{"nosack loss1", func(p *tcptest.Pair) { p.AB.Loss = 0.01 }, nosack},
		{"nosack loss10", func(p *tcptest.Pair) { p.AB.Loss, p.BA.Loss = 0.1, 0.1 }, nosack},
		{"nosack queue", func(p *tcptest.Pair) { p.AB.Rate, p.AB.Queue = 1_250_000, 20 }, nosack},
		{"reno queue", func(p *tcptest.Pair) { p.AB.Rate, p.AB.Queue = 1_250_000, 20 }, func(c *tcp.Config) { c.CongestionControl = "reno" }},
		{"pace queue", func(p *tcptest.Pair) { p.AB.Rate, p.AB.Queue = 1_250_000, 20 }, func(c *tcp.Config) { c.Pacer = "on" }},
	} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(c.name, "/", seed), func(t *testing.T) {
				cfg := tcp.NewConfig()
				if c.config != nil {
					c.config(cfg)
				}
				p := tcptest.NewPair(seed, cfg, cfg)
				c.change(p)
				transfer(t, p, 2_000_000, 20*time.Minute)
			})
		}
	}
}
