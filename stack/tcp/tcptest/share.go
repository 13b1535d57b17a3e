package tcptest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
)

// NewPairs makes n pairs of connections whose packets take the same two wires:
// one bottleneck for several flows.
func NewPairs(n int, seed uint64, a, b *tcp.Config) []*Pair {
	clock, rng := NewClock(), rand.New(rand.NewPCG(seed, 1))
	ab, ba := &Wire{Delay: 10 * time.Millisecond}, &Wire{Delay: 10 * time.Millisecond}
	var pairs []*Pair
	for range n {
		p := &Pair{Clock: clock, Rand: rng, AB: ab, BA: ba}
		p.connect(a, b)
		pairs = append(pairs, p)
	}
	return pairs
}

// Queued is how many packets wait for the wire's rate.
func (w *Wire) Queued() int { return w.waiting }

// Flow is a connection that sends without end.
type Flow struct {
	*Stream
	at      int
	cwnd    float64
	samples int
	since   time.Duration
}

// StartFlow opens a pair's connection and sends from A to B.
func StartFlow(p *Pair) *Flow {
	f := &Flow{Stream: &Stream{From: p.A, To: p.B, Size: 1 << 40}}
	f.Start()
	p.Open()
	var sample func()
	sample = func() {
		if i := p.A.Info(); i.SndMSS > 0 {
			f.cwnd += float64(i.Cwnd) / float64(i.SndMSS)
			f.samples++
		}
		p.After(10*time.Millisecond, sample)
	}
	p.After(0, sample)
	return f
}

// Mark begins a measurement.
func (f *Flow) Mark() {
	f.at, f.since, f.cwnd, f.samples = f.Read, f.From.Clock.Now(), 0, 0
}

// Goodput is what was read since Mark, bytes a second, Cwnd the mean window in
// segments.
func (f *Flow) Goodput() float64 {
	return float64(f.Read-f.at) / (f.From.Clock.Now() - f.since).Seconds()
}

// Cwnd is the mean congestion window since Mark, segments.
func (f *Flow) Cwnd() float64 { return f.cwnd / float64(max(f.samples, 1)) }

// String has the figures of a flow.
func (f *Flow) String() string {
	i := f.From.Info()
	return fmt.Sprintf("%.2f Mbit/s, cwnd %.1f, srtt %v, %d retransmitted, %d timeouts", f.Goodput()*8e-6, f.Cwnd(), i.SRTT, i.TotalRetrans, i.Timeouts)
}
