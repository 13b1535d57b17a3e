package impair

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
)

// udp4 is an IPv4 UDP packet of n bytes of the flow with that source port; its
// payload begins with seq.
func udp4(n int, port uint16, seq uint32) []byte {
	b := make([]byte, n)
	b[0], b[1], b[8], b[9] = 0x45, 0x02, 64, protoUDP // ECN-capable
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(b[20:], port)
	binary.BigEndian.PutUint16(b[22:], 9)
	binary.BigEndian.PutUint32(b[28:], seq)
	binary.BigEndian.PutUint16(b[10:], ^link.Checksum(b[:20], 0))
	return b
}

func packet(b []byte) *link.Packet { return &link.Packet{Bufs: [][]byte{b}} }

func seqOf(p *Packet) uint32  { return binary.BigEndian.Uint32(p.Data[28:]) }
func portOf(p *Packet) uint16 { return binary.BigEndian.Uint16(p.Data[20:]) }

func mustParse(t testing.TB, spec string) Spec {
	t.Helper()
	s, err := Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newCore(t testing.TB, spec string) *Core {
	t.Helper()
	c, err := NewCore(mustParse(t, spec), link.IP, 1500, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// finish pops everything, in virtual time.
func finish(c *Core, f func(p *Packet)) {
	until(c, never-1, f)
}

// until pops what leaves by end.
func until(c *Core, end time.Duration, f func(p *Packet)) {
	for {
		at, ok := c.Next()
		if !ok || at > end {
			return
		}
		for p := c.Pop(at); p != nil; p = c.Pop(at) {
			f(p)
			c.Free(p)
		}
	}
}

// offer pushes n packets of size bytes, a gap apart, and pops all.
func offer(c *Core, n, size int, gap time.Duration, f func(p *Packet)) {
	b := udp4(size, 1, 0)
	for i := range n {
		now := time.Duration(i) * gap
		until(c, now, f)
		binary.BigEndian.PutUint32(b[28:], uint32(i))
		c.Push(now, packet(b))
	}
	finish(c, f)
}

// balanced checks the counts' invariant.
func balanced(t *testing.T, c *Core) {
	t.Helper()
	s := c.Stats(never - 1)
	if s.QueueLen != 0 || s.QueueBytes != 0 || s.InFlight != 0 || s.In+s.Duplicated != s.Delivered+s.Drops() || c.held != 0 {
		t.Errorf("unbalanced: %+v, %d bytes held", s, c.held)
	}
}

// binomial checks that k of n is within 5 standard deviations of p.
func binomial(t *testing.T, what string, k, n int, p float64) {
	t.Helper()
	mean, sd := float64(n)*p, math.Sqrt(float64(n)*p*(1-p))
	if d := math.Abs(float64(k) - mean); d > 5*sd {
		t.Errorf("%s: %d of %d, want %.0f +- %.0f", what, k, n, mean, 5*sd)
	}
}

func TestChances(t *testing.T) {
	const n = 200_000
	for _, p := range []string{"0.1%", "1%", "30%"} {
		c := newCore(t, "seed=7 loss="+p+" dup="+p+" corrupt="+p)
		want := udp4(64, 1, 0)
		changed := 0
		offer(c, n, 64, time.Microsecond, func(p *Packet) {
			binary.BigEndian.PutUint32(want[28:], seqOf(p))
			flipped := 0
			for i := range want {
				flipped += popcount(want[i] ^ p.Data[i])
			}
			if i := seqOf(p); flipped > 0 && i < n {
				changed++
			}
			if flipped > 1 && !bytes.Equal(want[:28], p.Data[:28]) {
				t.Fatalf("%d bits differ", flipped)
			}
		})
		x := mustParse(t, "loss="+p).Loss
		s := c.Stats(n)
		binomial(t, "loss", int(s.DropsLoss), n, x)
		binomial(t, "dup", int(s.Duplicated), int(s.In-s.DropsLoss), x)
		binomial(t, "corrupt", int(s.Corrupted), int(s.Delivered), x)
		balanced(t, c)
	}
}

func popcount(b byte) (n int) {
	for ; b != 0; b &= b - 1 {
		n++
	}
	return n
}

// TestGilbertElliott: the share and the length of bursts.
func TestGilbertElliott(t *testing.T) {
	const n = 1_000_000
	c := newCore(t, "loss=ge:1%,25% seed=3")
	next, lost, bursts := uint32(0), 0, 0
	offer(c, n, 64, time.Microsecond, func(p *Packet) {
		if gap := int(seqOf(p) - next); gap > 0 {
			lost += gap
			bursts++
		}
		next = seqOf(p) + 1
	})
	if share, want := float64(lost)/n, 0.01/0.26; math.Abs(share/want-1) > 0.05 {
		t.Errorf("%.4f lost, want %.4f", share, want)
	}
	if length := float64(lost) / float64(bursts); math.Abs(length/4-1) > 0.03 {
		t.Errorf("bursts of %.2f packets, want 4", length)
	}
	// Losses within the states.
	c = newCore(t, "loss=ge:1%,25%,50%,2%")
	offer(c, n, 64, time.Microsecond, func(*Packet) {})
	want := 0.01/0.26*0.5 + 0.25/0.26*0.02
	if share := float64(c.stats.DropsLoss) / n; math.Abs(share/want-1) > 0.05 {
		t.Errorf("%.4f lost, want %.4f", share, want)
	}
}

// TestJitter: mean and deviation where packets are far apart, order where they
// are not.
func TestJitter(t *testing.T) {
	const delay, jitter, n = 50e6, 5e6, 100_000
	for _, k := range []struct {
		dist        string
		sd, low, hi float64
	}{
		{"uniform", jitter / math.Sqrt(3), delay - jitter, delay + jitter},
		{"normal", jitter, delay - 6*jitter, delay + 6*jitter},
		{"pareto", 0, delay - 0.578*jitter, 1e12}, // its fourth moment is infinite
	} {
		c := newCore(t, "delay=50ms jitter=5ms:"+k.dist)
		var sum, sq, n1 float64
		offer(c, n, 64, time.Minute, func(p *Packet) {
			d := float64(p.At - time.Duration(seqOf(p))*time.Minute)
			if d < k.low || d > k.hi {
				t.Fatalf("%s: %.3f ms", k.dist, d/1e6)
			}
			if d > delay+jitter*(2-1.5)/math.Sqrt(0.75) { // u^(-1/3) > 2
				n1++
			}
			sum += d
			sq += (d - delay) * (d - delay)
		})
		if mean := sum / n; math.Abs(mean-delay) > 5*jitter/math.Sqrt(n) {
			t.Errorf("%s: mean %.4f ms", k.dist, mean/1e6)
		}
		if sd := math.Sqrt(sq / n); k.sd != 0 && math.Abs(sd/k.sd-1) > 0.02 {
			t.Errorf("%s: deviation %.4f ms, want %.4f", k.dist, sd/1e6, k.sd/1e6)
		}
		if k.dist == "pareto" {
			binomial(t, "Pareto's tail", int(n1), n, 1./8)
		}
		for _, order := range []string{"", " reorder=jitter", " reorder=2%"} {
			c = newCore(t, "delay=50ms jitter=5ms:"+k.dist+order)
			back, next := 0, uint32(0)
			offer(c, n, 64, 100*time.Microsecond, func(p *Packet) {
				if seqOf(p) < next {
					back++
				}
				next = max(next, seqOf(p)+1)
			})
			if (back > 0) != (order != "") {
				t.Errorf("%s%s: %d packets come late", k.dist, order, back)
			}
			if order == " reorder=2%" {
				binomial(t, "reorder", int(c.stats.Reordered), n, 0.02)
			}
			balanced(t, c)
		}
	}
}

// TestMathematics: what replaces package math agrees with it.
func TestMathematics(t *testing.T) {
	s := newStream(1, 1)
	for range 100_000 {
		x := s.uniform() + 1e-300
		if got, want := ln(x), math.Log(x); math.Abs(got-want) > 1e-14*math.Max(1, math.Abs(want)) {
			t.Fatalf("ln(%g) = %g, want %g", x, got, want)
		}
	}
	for _, n := range []int64{0, 1, 7, 1000} {
		if got, want := power(0.998, n), math.Pow(0.998, float64(n)); math.Abs(got/want-1) > 1e-12 {
			t.Errorf("0.998^%d = %g, want %g", n, got, want)
		}
	}
	// The draws of a seed are part of what users rely on.
	s = newStream(7, streamJitter)
	got := [4]time.Duration{s.jitter(Uniform, 1e9), s.jitter(Normal, 1e9), s.jitter(Pareto, 1e9), time.Duration(s.below(1e6))}
	if want := [4]time.Duration{98130620, 981816394, -264668746, 635716}; got != want {
		t.Errorf("seed 7 draws %d, want %d", got, want)
	}
}

// TestRate: every departure is where arithmetic puts it.
func TestRate(t *testing.T) {
	for _, k := range []struct {
		spec       string
		size       int
		rate, wire float64
	}{
		{"rate=10mbit queue=1000000p", 1500, 10e6, 1500},
		{"rate=1gbit queue=1000000p", 64, 1e9, 64},
		{"rate=3mbit queue=1000000p overhead=38", 999, 3e6, 1037},
		{"rate=7bit queue=1000000p", 64, 7, 64},
	} {
		c := newCore(t, k.spec+" delay=20ms")
		i := 0.0
		offer(c, 1000, k.size, 0, func(p *Packet) {
			i++
			want := 20e6 + i*k.wire*8/k.rate*1e9
			if math.Abs(float64(p.At)-want) > 1 {
				t.Fatalf("%s: packet %g leaves at %v, want %.0f ns", k.spec, i, p.At, want)
			}
		})
		balanced(t, c)
	}
}

func TestDropTail(t *testing.T) {
	for spec, want := range map[string]uint64{
		"rate=1mbit queue=100p": 101, // and one on the line
		"rate=1mbit queue=15kb": 11,
		"rate=1mbit":            1001,
	} {
		c := newCore(t, spec)
		offer(c, 2000, 1500, 0, func(*Packet) {})
		if c.stats.Delivered != want || c.stats.DropsQueue != 2000-want {
			t.Errorf("%s: %+v", spec, c.stats)
		}
		balanced(t, c)
	}
}

func TestFlap(t *testing.T) {
	for _, rate := range []string{"", " rate=10mbit"} {
		c := newCore(t, "down=3s@10s"+rate)
		got := map[int]bool{}
		offer(c, 35, 100, time.Second, func(p *Packet) { got[int(seqOf(p))] = true })
		for i := range 35 {
			if down := i >= 10 && i%10 < 3; got[i] == down {
				t.Errorf("%d s: %v", i, got[i])
			}
		}
		if c.stats.DropsDown != 9 {
			t.Errorf("%+v", c.stats)
		}
		balanced(t, c)
	}
}

// TestSame: a seed means one thing, and models do not disturb each other.
func TestSame(t *testing.T) {
	const spec = "delay=5ms jitter=1ms:normal loss=2% dup=1% corrupt=1% reorder=1% rate=20mbit queue=fq_codel:limit=50p ecn"
	hash := func(spec string) (h uint64) {
		c := newCore(t, spec)
		offer(c, 20_000, 1000, 390*time.Microsecond, func(p *Packet) {
			h = mix(h, uint64(p.At))
			for _, b := range p.Data[20:32] {
				h = mix(h, uint64(b))
			}
		})
		return h
	}
	a, b, c := hash(spec+" seed=1"), hash(spec+" seed=1"), hash(spec+" seed=2")
	if a != b || a == c {
		t.Errorf("%x %x %x", a, b, c)
	}
	lost := func(spec string) (l []uint32) {
		next := uint32(0)
		offer(newCore(t, spec), 10_000, 100, time.Millisecond, func(p *Packet) {
			for ; next < seqOf(p); next++ {
				l = append(l, next)
			}
			next++
		})
		return l
	}
	x, y := lost("loss=1%"), lost("loss=1% delay=3ms jitter=1ms corrupt=0%")
	if len(x) == 0 || len(x) != len(y) || x[0] != y[0] || x[len(x)-1] != y[len(y)-1] {
		t.Errorf("the jitter changes who is lost: %d, %d", len(x), len(y))
	}
}

// TestSet: nothing is lost when the network changes.
func TestSet(t *testing.T) {
	specs := []string{"rate=1mbit", "rate=2mbit queue=fq_codel", "delay=1ms", "", "rate=5mbit queue=codel", "rate=1mbit queue=red:limit=5000p"}
	c := newCore(t, "delay=3ms")
	n := 0
	for i := range 300 {
		now := time.Duration(i) * time.Millisecond
		c.Push(now, packet(udp4(500, 1, uint32(i))))
		until(c, now, func(*Packet) { n++ })
		if i%25 == 0 {
			if err := c.Set(now, mustParse(t, specs[i/25%len(specs)])); err != nil {
				t.Fatal(err)
			}
		}
	}
	finish(c, func(*Packet) { n++ })
	if n != 300 {
		t.Errorf("%d of 300: %+v", n, c.stats)
	}
	balanced(t, c)
	if err := c.Set(0, Spec{Loss: 2}); err == nil {
		t.Error("200% loss is accepted")
	}
}

func TestNoAllocations(t *testing.T) {
	for _, spec := range []string{
		"delay=1ms", "rate=1gbit delay=1ms loss=1% dup=1% corrupt=1%",
		"rate=1gbit queue=red ecn", "rate=1gbit queue=fq_codel ecn", "rate=1gbit queue=codel jitter=1ms delay=2ms",
	} {
		c := newCore(t, spec)
		small, large := packet(udp4(1500, 1, 0)), gso(false, false, 20_000)
		now := time.Duration(0)
		step := func() {
			for range 20 {
				c.Push(now, small)
				c.Push(now, large)
				now += 250 * time.Microsecond
				for p := c.Pop(now); p != nil; p = c.Pop(now) {
					c.Free(p)
				}
			}
		}
		for range 50 {
			step()
		}
		if n := testing.AllocsPerRun(50, step); n >= 1 {
			t.Errorf("%s: %g allocations for 40 packets", spec, n)
		}
	}
}

func TestMemoryBound(t *testing.T) {
	c := newCore(t, "delay=1h")
	p := packet(make([]byte, 60_000))
	for range 10_000 {
		c.Push(0, p)
	}
	if s := c.stats; s.DropsMemory == 0 || c.held > maxHeld {
		t.Errorf("%+v, %d held", s, c.held)
	}
}
