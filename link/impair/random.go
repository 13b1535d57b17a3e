package impair

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"time"
)

// stream is one model's random numbers. Only operations that IEEE 754 rounds
// the same way everywhere are used (no fused multiply-add, which an explicit
// conversion rules out, and none of package math's transcendental functions),
// so that a seed means the same on every machine.
type stream struct{ pcg rand.PCG }

// The streams.
const (
	streamLoss = iota + 1
	streamDup
	streamCorrupt
	streamJitter
	streamReorder
	streamRED
	streamFlows
)

func newStream(seed, which uint64) stream {
	var s stream
	s.pcg.Seed(seed, which*0x9e3779b97f4a7c15)
	for range 4 {
		s.pcg.Uint64() // neighbouring seeds begin alike
	}
	return s
}

// chance is true with probability p. No number is drawn for 0 and 1.
func (s *stream) chance(p float64) bool {
	switch {
	case p <= 0:
		return false
	case p >= 1:
		return true
	}
	return s.uniform() < p
}

// uniform is a number in [0, 1).
func (s *stream) uniform() float64 { return float64(s.pcg.Uint64()>>11) * 0x1p-53 }

// below is a number in [0, n).
func (s *stream) below(n int) int {
	hi, _ := bits.Mul64(s.pcg.Uint64(), uint64(n))
	return int(hi)
}

// jitter draws the difference from the mean delay.
func (s *stream) jitter(d Distribution, width time.Duration) time.Duration {
	var x float64
	switch d {
	case Normal:
		x = s.normal()
	case Pareto:
		x = s.pareto()
	default:
		x = float64(2*s.uniform()) - 1
	}
	return time.Duration(float64(x * float64(width)))
}

// normal is a number of the standard normal distribution, by the polar method
// of Marsaglia and Bray (1964).
func (s *stream) normal() float64 {
	for {
		u, v := float64(2*s.uniform())-1, float64(2*s.uniform())-1
		q := float64(u*u) + float64(v*v)
		if q > 0 && q < 1 {
			return float64(u * math.Sqrt(float64(-2*ln(q))/q))
		}
	}
}

// pareto is a number of the Pareto distribution with shape 3, shifted and
// scaled to mean 0 and variance 1: (u^(-1/3) - 3/2) / sqrt(3/4).
func (s *stream) pareto() float64 {
	u := 1 - s.uniform() // (0, 1]
	// Newton's method for the cube root y of u, from above.
	f, e := math.Frexp(u)
	e3 := (e - 2) / 3 // toward zero; e <= 1
	c := math.Ldexp(f, e-3*e3)
	y := 1.0
	for range 40 {
		n := float64(float64(2*y)+c/float64(y*y)) / 3
		if n == y {
			break
		}
		y = n
	}
	y = math.Ldexp(y, e3)
	return (1/y - 1.5) / math.Sqrt(0.75)
}

// ln is the natural logarithm, to about 1e-15: 2 artanh((m-1)/(m+1)) of the
// mantissa.
func ln(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m *= 2
		e--
	}
	z := (m - 1) / (m + 1)
	z2 := float64(z * z)
	sum := 0.0
	for k := 23; k >= 1; k -= 2 {
		sum = float64(sum*z2) + 1/float64(k)
	}
	return float64(float64(e)*math.Ln2) + float64(2*float64(z*sum))
}

// power is x to the n.
func power(x float64, n int64) float64 {
	p := 1.0
	for ; n > 0 && p > 0; n >>= 1 {
		if n&1 != 0 {
			p = float64(p * x)
		}
		x = float64(x * x)
	}
	return p
}

// losses decides who is lost.
type losses struct {
	rnd stream
	p   float64
	ge  GilbertElliott
	bad bool
}

// lost decides about the next packet.
func (l *losses) lost() bool {
	if !l.ge.lossy() {
		return l.rnd.chance(l.p)
	}
	loss, change := l.ge.Good, l.ge.P
	if l.bad {
		loss, change = l.ge.Bad, l.ge.R
	}
	lost := l.rnd.chance(loss)
	if l.rnd.chance(change) {
		l.bad = !l.bad
	}
	return lost
}
