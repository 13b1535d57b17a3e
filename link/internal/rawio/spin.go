package rawio

import (
	"runtime"
	"time"
)

// Spinner decides whether to look again for a short while before sleeping. A
// sleep costs two wake-ups, tens of microseconds, more than many a peer takes
// to answer; but a spin burns a processor. So it spins only when the last
// arrival came within Max of running dry, slept through or not: an idle or
// slow flow never spins twice.
//
// The zero Spinner never spins. It belongs to one goroutine.
type Spinner struct {
	// Max is the longest spin.
	Max time.Duration

	hot   bool
	since time.Time
}

// Dry says that there is nothing to read now; it calls try until that returns
// true or the spin is over, and returns whether it did. After false the caller
// sleeps, and then calls Woken.
func (s *Spinner) Dry(try func() bool) bool {
	if s.Max <= 0 {
		return false
	}
	s.since = time.Now()
	if !s.hot {
		return false
	}
	for {
		runtime.Gosched()
		if try() {
			return true
		}
		if time.Since(s.since) >= s.Max {
			return false
		}
	}
}

// Woken says that a sleep after Dry has ended because there is something.
func (s *Spinner) Woken() {
	if s.Max > 0 {
		s.hot = time.Since(s.since) < s.Max
	}
}
