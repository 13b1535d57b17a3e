package impair

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/pair"
)

// joined are an impaired link and its other end.
func joined(t testing.TB, in, out string, live bool) (*Link, *pair.Link) {
	t.Helper()
	a, b := pair.New(pair.Options{Features: link.Features{Csum: true, TSO: true}, Queue: 1 << 14})
	l, err := Wrap(a, Config{In: mustParse(t, in), Out: mustParse(t, out), Live: live})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); b.Close() })
	w, ok := l.(*Link)
	if !ok {
		t.Fatal("not wrapped")
	}
	return w, b
}

func TestWrapNothing(t *testing.T) {
	a, b := pair.New(pair.Options{})
	defer b.Close()
	defer a.Close()
	before := runtime.NumGoroutine()
	if l, err := Wrap(a, Config{In: Spec{Seed: 3}}); err != nil || l != link.Link(a) {
		t.Errorf("%v, %v", l, err)
	}
	if l, err := Wrap(a, Config{Out: Spec{Loss: 0.5}}); err != nil || l == link.Link(a) || runtime.NumGoroutine() != before {
		t.Errorf("losses alone: %v, %v, %d goroutines more", l, err, runtime.NumGoroutine()-before)
	}
	if _, err := Wrap(a, Config{Out: Spec{Loss: 2}}); err == nil {
		t.Error("200% loss is accepted")
	}
}

func TestMTU(t *testing.T) {
	for _, k := range []struct {
		own      int
		in, out  string
		want     int
		segments uint64 // of 14,000 bytes in GSO
	}{
		{1500, "", "loss=1%", 1500, 10},
		{9000, "", "loss=1%", 9000, 10}, // the sender's MSS
		{65535, "", "loss=1%", 1500, 10},
		{65535, "", "loss=1% mtu=65535", 65535, 10},
		{1500, "mtu=600", "loss=1% mtu=9000", 600, 25},
		{1500, "mtu=600", "", 600, 0},
	} {
		a, b := pair.New(pair.Options{MTU: k.own, Features: link.Features{Csum: true, TSO: true}})
		l, err := Wrap(a, Config{In: mustParse(t, k.in), Out: mustParse(t, k.out)})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = l.Send([]link.Packet{*gso(false, false, 14_000)})
		if n := l.(*Link).Stats(Out).In; l.MTU() != k.want || n != k.segments {
			t.Errorf("%+v: MTU %d, %d segments", k, l.MTU(), n)
		}
		l.Close()
		b.Close()
	}
}

// TestRoundTrip: both directions, at once, each in its own way, and one
// goroutine.
func TestRoundTrip(t *testing.T) {
	warm, err := RealClock().NewTimer(func() {}) // what all timers share
	if err != nil {
		t.Fatal(err)
	}
	warm.Close()
	before := runtime.NumGoroutine()
	l, b := joined(t, "delay=2ms", "delay=5ms", false)
	if n := runtime.NumGoroutine() - before; n != 1 {
		t.Errorf("%d goroutines", n)
	}
	got := make(chan time.Time, 100)
	_ = b.Start(func(pkts []link.Packet) { _, _ = b.Send(pkts) })
	if err := l.Start(func(pkts []link.Packet) {
		for range pkts {
			got <- time.Now()
		}
	}); err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	for range 20 {
		at := time.Now()
		if n, err := l.Send([]link.Packet{*packet(udp4(100, 1, 0))}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		d := (<-got).Sub(at)
		if d < 7*time.Millisecond {
			t.Fatalf("%v is too early", d)
		}
		best = min(best, d)
	}
	if best > 8*time.Millisecond {
		t.Errorf("at best %v, want 7 ms", best)
	}
	in, out := l.Stats(In), l.Stats(Out)
	if in.Delivered != 20 || out.Delivered != 20 {
		t.Errorf("in %+v\nout %+v", in, out)
	}
}

// TestLossInline: without delay there is no timer, and order is kept among
// concurrent senders' packets.
func TestLossInline(t *testing.T) {
	l, b := joined(t, "", "loss=10%", false)
	if l.timer != nil {
		t.Error("a timer for nothing")
	}
	var got atomic.Int64
	last := map[uint16]uint32{}
	_ = b.Start(func(pkts []link.Packet) {
		for i := range pkts {
			p := &Packet{Data: pkts[i].Bufs[0]}
			if s := seqOf(p); s <= last[portOf(p)] {
				t.Errorf("%d after %d", s, last[portOf(p)])
			} else {
				last[portOf(p)] = s
			}
		}
		got.Add(int64(len(pkts)))
	})
	done := make(chan bool)
	for port := range uint16(4) {
		go func() {
			for i := range uint32(2000) {
				_, _ = l.Send([]link.Packet{*packet(udp4(100, port, i+1))})
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
	s := l.Stats(Out)
	binomial(t, "loss", int(s.DropsLoss), 8000, 0.1)
	for end := time.Now().Add(5 * time.Second); got.Load() != int64(s.Delivered) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if got.Load() != int64(s.Delivered) || s.DropsRefused != 0 {
		t.Errorf("%d received, %+v", got.Load(), s)
	}
}

// TestSetLive: the network changes under the packets.
func TestSetLive(t *testing.T) {
	l, b := joined(t, "", "", true)
	got := make(chan time.Time, 9)
	_ = b.Start(func(pkts []link.Packet) { got <- time.Now() })
	for i, d := range []time.Duration{0, 20 * time.Millisecond, 0} {
		if err := l.Set(Out, Spec{Delay: d}); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		_, _ = l.Send([]link.Packet{*packet(udp4(100, 1, 0))})
		if took := (<-got).Sub(at); took < d || took > d+10*time.Millisecond {
			t.Errorf("%d: %v, want %v", i, took, d)
		}
	}
	if err := l.Set(In, Spec{Loss: -1}); err == nil {
		t.Error("a negative loss is accepted")
	}
	if l, _ := joined(t, "loss=1%", "delay=1ms", false); l.Set(Out, Spec{}) == nil {
		t.Error("a link that is not live is changed")
	}
}

func TestDrainAndClose(t *testing.T) {
	l, b := joined(t, "", "delay=30ms", false)
	var got atomic.Int64
	_ = b.Start(func(pkts []link.Packet) { got.Add(int64(len(pkts))) })
	_, _ = l.Send([]link.Packet{*packet(udp4(100, 1, 0))})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if err := l.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drained too soon: %v", err)
	}
	if err := l.Drain(context.Background()); err != nil || l.Stats(Out).Delivered != 1 {
		t.Errorf("%v, %+v", err, l.Stats(Out))
	}
	_, _ = l.Send([]link.Packet{*packet(udp4(100, 1, 0))})
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Send([]link.Packet{*packet(udp4(100, 1, 0))}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
}

// stepped is a clock that stands still until told.
type stepped struct {
	now    time.Duration
	timers []*steppedTimer
}

type steppedTimer struct {
	at time.Duration
	f  func()
}

func (c *stepped) Now() time.Duration { return c.now }
func (c *stepped) NewTimer(f func()) (Timer, error) {
	t := &steppedTimer{never, f}
	c.timers = append(c.timers, t)
	return t, nil
}
func (t *steppedTimer) Set(at time.Duration) { t.at = at }
func (t *steppedTimer) Close()               {}

func (c *stepped) run(end time.Duration) {
	for {
		next := slices.MinFunc(c.timers, func(a, b *steppedTimer) int { return int(a.at - b.at) })
		if next.at > end {
			c.now = end
			return
		}
		c.now = max(c.now, next.at)
		next.at = never
		next.f()
	}
}

// TestVirtualTime: the same link in a time of our own, exact to the nanosecond.
func TestVirtualTime(t *testing.T) {
	clock := &stepped{}
	sink := &sink{clock: clock}
	l, err := Wrap(sink, Config{Out: mustParse(t, "delay=5ms rate=12mbit"), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(10) {
		_, _ = l.Send([]link.Packet{*packet(udp4(1500, 1, i))})
	}
	clock.run(time.Second)
	for i, at := range sink.at {
		if want := time.Duration(i+1+5) * time.Millisecond; at != want {
			t.Errorf("packet %d at %v, want %v", i, at, want)
		}
	}
	if len(sink.at) != 10 {
		t.Errorf("%d packets", len(sink.at))
	}
}

// sink notes when packets were sent.
type sink struct {
	clock Clock
	at    []time.Duration
}

func (s sink) Name() string                   { return "sink" }
func (s sink) Medium() link.Medium            { return link.IP }
func (s sink) MTU() int                       { return 1500 }
func (s sink) HardwareAddr() net.HardwareAddr { return nil }
func (s sink) Features() link.Features        { return link.Features{} }
func (s sink) Start(func([]link.Packet)) error {
	return nil
}
func (s sink) Close() error { return nil }
func (s *sink) Send(pkts []link.Packet) (int, error) {
	for range pkts {
		s.at = append(s.at, s.clock.Now())
	}
	return len(pkts), nil
}

// delays sends n packets of size bytes at a mean rate in packets a second, and
// says how much later than asked each came, ascending.
func delays(t testing.TB, spec string, n, size, rate int) []time.Duration {
	l, b := joined(t, "", spec, false)
	start := time.Now()
	got := make([]time.Duration, 0, n)
	done := make(chan bool)
	asked := mustParse(t, spec).Delay
	_ = b.Start(func(pkts []link.Packet) {
		now := time.Since(start)
		for i := range pkts {
			sent := time.Duration(binary.BigEndian.Uint64(pkts[i].Bufs[0][32:]))
			if got = append(got, now-sent-asked); len(got) == n {
				close(done)
			}
		}
	})
	buf := udp4(size, 1, 0)
	for i, began := 0, time.Since(start); i < n; i++ {
		for i >= int(int64(rate)*int64(time.Since(start)-began)/1e9)+1 {
			time.Sleep(min(time.Second/time.Duration(rate), 500*time.Microsecond))
		}
		binary.BigEndian.PutUint64(buf[32:], uint64(time.Since(start)))
		_, _ = l.Send([]link.Packet{*packet(buf)})
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: %d of %d arrive", spec, len(got), n)
	}
	slices.Sort(got)
	return got
}

// rate keeps the queue full for the time, and says how many bits a second came
// out.
func rate(t testing.TB, spec string, length time.Duration, large bool) float64 {
	l, b := joined(t, "", spec, false)
	const settle = 100 * time.Millisecond
	start := time.Now()
	var bits, first, last atomic.Int64
	_ = b.Start(func(pkts []link.Packet) {
		now := time.Since(start)
		if now < settle || now > length {
			return
		}
		n := 0
		for i := range pkts {
			n += pkts[i].Len() * 8
		}
		if first.CompareAndSwap(0, int64(now)) {
			n = 0
		}
		bits.Add(int64(n))
		last.Store(int64(now))
	})
	p := packet(udp4(1500, 1, 0))
	if large {
		p = gso(false, false, 14_000)
	}
	most := int(mustParse(t, spec).Rate/80) + 10*p.Len() // 100 ms
	for time.Since(start) < length {
		// Elsewhere something else may run for long.
		for n := most - l.Stats(Out).QueueBytes; n > 0; n -= p.Len() {
			_, _ = l.Send([]link.Packet{*p})
		}
		time.Sleep(time.Millisecond)
	}
	return float64(bits.Load()) / time.Duration(last.Load()-first.Load()).Seconds()
}

// TestRealTime: coarse bounds, for any machine; bench/impair has the exact
// numbers.
func TestRealTime(t *testing.T) {
	if d := delays(t, "delay=10ms", 200, 200, 2000); d[0] < 0 || d[len(d)/10] > 2*time.Millisecond {
		t.Errorf("late by %v to %v, median %v", d[0], d[len(d)-1], d[len(d)/2])
	}
	for _, large := range []bool{false, true} {
		if r := rate(t, "rate=50mbit queue=10mb", time.Second, large); r < 47e6 || r > 52e6 {
			t.Errorf("%.1f Mbit/s, want 50", r/1e6)
		}
	}
}

// TestIdle: a link without packets takes no processor time.
func TestIdle(t *testing.T) {
	l, b := joined(t, "delay=1ms", "delay=1ms rate=1gbit", false)
	got := make(chan bool, 1)
	_ = b.Start(func([]link.Packet) { got <- true })
	_, _ = l.Send([]link.Packet{*packet(udp4(100, 1, 0))})
	<-got
	l.mu.Lock()
	armed := l.armed
	l.mu.Unlock()
	if armed != never {
		t.Errorf("the timer is set for %v", armed)
	}
}

// BenchmarkCore is the cost of a packet without a driver.
func BenchmarkCore(b *testing.B) {
	for _, spec := range []string{"delay=50ms", "delay=50ms loss=1%", "rate=1gbit", "rate=1gbit queue=fq_codel ecn delay=50ms"} {
		b.Run(spec, func(b *testing.B) {
			c := newCore(b, spec)
			p := packet(udp4(1500, 1, 0))
			b.SetBytes(1500)
			b.ReportAllocs()
			now := time.Duration(0)
			for b.Loop() {
				now += 12100
				c.Push(now, p)
				for q := c.Pop(now); q != nil; q = c.Pop(now) {
					c.Free(q)
				}
			}
		})
	}
}

// BenchmarkLink is the cost of a packet with the real clock, from Send to Send.
func BenchmarkLink(b *testing.B) {
	for _, spec := range []string{"loss=1%", "delay=1ms", "delay=1ms rate=50gbit queue=fq_codel"} {
		b.Run(spec, func(b *testing.B) {
			l, err := Wrap(discard{}, Config{Out: mustParse(b, spec)})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			p := []link.Packet{*packet(udp4(1500, 1, 0))}
			b.SetBytes(1500)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = l.Send(p)
			}
		})
	}
}

// discard is a link to nowhere.
type discard struct{ sink }

func (discard) Send(pkts []link.Packet) (int, error) { return len(pkts), nil }
