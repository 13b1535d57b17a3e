package tcp_test

import (
	"math"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// wide is a configuration in which buffers are no limit.
func wide(cc string) *tcp.Config {
	c := tcp.NewConfig()
	c.CongestionControl = cc
	c.MaxSendBuffer, c.MaxRecvBuffer = 64<<20, 64<<20
	c.RecvBuffer = 16 << 20
	return c
}

// run measures one flow, after a time to settle.
func run(t *testing.T, p *tcptest.Pair, settle, d time.Duration) *tcptest.Flow {
	t.Helper()
	f := tcptest.StartFlow(p)
	p.Run(settle)
	f.Mark()
	p.Run(d)
	t.Log(f)
	if f.Err != nil {
		t.Fatal(f.Err)
	}
	return f
}

// within says whether got is within a fraction of want.
func within(t *testing.T, what string, got, want, fraction float64) {
	t.Helper()
	t.Logf("%s: %.2f, in theory %.2f (%+.0f%%)", what, got, want, 100*(got/want-1))
	if math.Abs(got/want-1) > fraction {
		t.Errorf("%s: %.2f is not within %.0f%% of %.2f", what, got, 100*fraction, want)
	}
}

// every is a filter that loses one full segment in n: the losses of the models.
func every(n int) func(*tcp.Segment) bool {
	count := 0
	return func(s *tcp.Segment) bool {
		if s.DataLen == 0 {
			return true
		}
		count++
		return count%n != 0
	}
}

// TestMathis: Reno's rate is MSS/RTT sqrt(3/2)/sqrt(p) (Mathis et al., "The
// Macroscopic Behavior of the TCP Congestion Avoidance Algorithm", 1997), with an
// acknowledgment for every segment.
func TestMathis(t *testing.T) {
	t.Parallel()
	for _, n := range []int{100, 1000} {
		p := tcptest.NewPair(1, wide("reno"), func() *tcp.Config { c := wide("reno"); c.AckPolicy = "every"; return c }())
		p.AB.Delay, p.BA.Delay = 25*time.Millisecond, 25*time.Millisecond
		p.AB.Filter = every(n)
		f := run(t, p, 20*time.Second, 60*time.Second)
		within(t, "Reno's window", f.Goodput()*0.05/1448, math.Sqrt(1.5*float64(n)), 0.2)
	}
}

// TestCubicWindow: CUBIC's mean window, in segments, is
// (C (3+beta) / (4 (1-beta)))^(1/4) RTT^(3/4) / p^(3/4) (RFC 9438 5.1), where that
// is more than Reno's.
func TestCubicWindow(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4000} {
		p := tcptest.NewPair(1, wide("cubic"), wide("cubic"))
		p.AB.Delay, p.BA.Delay = 50*time.Millisecond, 50*time.Millisecond
		p.AB.Filter = every(n)
		f := run(t, p, 30*time.Second, 90*time.Second)
		want := math.Pow(0.4*3.7/(4*0.3), 0.25) * math.Pow(0.1, 0.75) * math.Pow(float64(n), 0.75)
		within(t, "CUBIC's window", f.Goodput()*0.1/1448, want, 0.2)
	}
}

// TestFairness: four equal flows share a bottleneck (Jain, Chiu and Hawe, "A
// Quantitative Measure of Fairness", 1984).
func TestFairness(t *testing.T) {
	t.Parallel()
	for _, cc := range []string{"reno", "cubic", "abc", "bbr", "dctcp"} {
		t.Run(cc, func(t *testing.T) {
			c := wide(cc)
			if cc == "dctcp" {
				c.ECN = tcp.ECNOn
			}
			pairs := tcptest.NewPairs(4, 1, c, c)
			w := pairs[0].AB
			w.Rate, w.Queue, w.Delay = 2_500_000, 100, 10*time.Millisecond
			if cc == "dctcp" {
				w.Mark = 20
			}
			var flows []*tcptest.Flow
			for i, p := range pairs {
				p.Run(time.Duration(i) * 100 * time.Millisecond)
				flows = append(flows, tcptest.StartFlow(p))
			}
			clock := pairs[0].Clock
			clock.Run(10 * time.Second)
			for _, f := range flows {
				f.Mark()
			}
			clock.Run(30 * time.Second)
			var sum, squares float64
			for _, f := range flows {
				t.Log(f)
				g := f.Goodput()
				sum += g
				squares += g * g
			}
			jain := sum * sum / (4 * squares)
			t.Logf("Jain's index %.3f, %.1f%% of the rate used", jain, 100*sum/float64(w.Rate)*1500/1448)
			if jain < 0.95 {
				t.Errorf("Jain's index %.3f", jain)
			}
			if sum*1500/1448 < 0.9*float64(w.Rate) {
				t.Errorf("%.0f bytes a second of %d", sum, w.Rate)
			}
		})
	}
}

// TestBBRRandomLoss: BBR holds the rate of a link that loses one packet in a
// hundred, as Reno cannot.
func TestBBRRandomLoss(t *testing.T) {
	t.Parallel()
	share := func(cc string, loss float64) float64 {
		p := tcptest.NewPair(1, wide(cc), wide(cc))
		p.AB.Rate, p.AB.Queue, p.AB.Loss = 2_500_000, 100, loss
		p.AB.Delay, p.BA.Delay = 20*time.Millisecond, 20*time.Millisecond
		f := run(t, p, 5*time.Second, 30*time.Second)
		return f.Goodput() * 1500 / 1448 / 2_500_000
	}
	bbr, clean, reno := share("bbr", 0.01), share("bbr", 0), share("reno", 0.01)
	t.Logf("of the rate: BBR %.2f (%.2f without loss), Reno %.2f", bbr, clean, reno)
	if bbr < 0.8 || clean < 0.9 || reno > 0.5 {
		t.Error("want BBR above 0.8, 0.9 without loss, and Reno below 0.5")
	}
}

// TestBBRQueue: where CUBIC fills a queue, BBR keeps it short.
func TestBBRQueue(t *testing.T) {
	t.Parallel()
	mean := func(cc string) float64 {
		p := tcptest.NewPair(1, wide(cc), wide(cc))
		p.AB.Rate, p.AB.Queue = 1_250_000, 200
		p.AB.Delay, p.BA.Delay = 20*time.Millisecond, 20*time.Millisecond
		q := sampleQueue(p, 5*time.Second)
		run(t, p, 5*time.Second, 30*time.Second)
		return q()
	}
	bbr, cubic := mean("bbr"), mean("cubic")
	t.Logf("packets in the queue: BBR %.1f, CUBIC %.1f", bbr, cubic)
	if bbr > cubic/3 {
		t.Error("BBR's is not short")
	}
}

// sampleQueue samples the queue of p.AB from a time on; the function gives the
// mean.
func sampleQueue(p *tcptest.Pair, from time.Duration) func() float64 {
	var sum, n int
	var sample func()
	sample = func() {
		sum += p.AB.Queued()
		n++
		p.After(time.Millisecond, sample)
	}
	p.After(from, sample)
	return func() float64 { return float64(sum) / float64(n) }
}

// TestDCTCPQueue: DCTCP keeps the queue at the marking threshold, and loses
// nothing.
func TestDCTCPQueue(t *testing.T) {
	t.Parallel()
	c := wide("dctcp")
	c.ECN = tcp.ECNOn
	p := tcptest.NewPair(1, c, c)
	const k = 20
	p.AB.Rate, p.AB.Queue, p.AB.Mark = 25_000_000, 1000, k
	p.AB.Delay, p.BA.Delay = 250*time.Microsecond, 250*time.Microsecond
	q := sampleQueue(p, time.Second)
	f := run(t, p, time.Second, 3*time.Second)
	t.Logf("%.1f packets in the queue, marked from %d on; %d marked of %d, %d lost", q(), k, p.AB.Marked, p.AB.Sent, p.AB.Lost)
	if q() < k/2 || q() > 1.5*k {
		t.Errorf("%.1f packets in the queue, want about %d", q(), k)
	}
	if f.Goodput()*1500/1448 < 0.95*25e6 || p.AB.Lost > 0 {
		t.Errorf("%.0f bytes a second of %d, %d lost", f.Goodput(), p.AB.Rate, p.AB.Lost)
	}
}
