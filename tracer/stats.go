package tracer

import (
	"math/bits"
	"sort"
	"sync/atomic"
	"time"
)

// Stats counts the trapped calls and what they cost. The zero value is ready.
type Stats struct {
	kinds [512]kind // by call number
}

// kind counts one kind of call.
type kind struct {
	count atomic.Uint64
	// costs are counts by duration, in buckets of an eighth of a power of two
	// nanoseconds, so that a quantile is right within 9 %.
	costs [8 * 40]atomic.Uint32
}

// KindStats is what Stats knows of one kind of call.
type KindStats struct {
	Name        string
	Count       uint64
	Median, P99 time.Duration // from the trap to the answer; waiting included
}

// NewStats returns counters at zero.
func NewStats() *Stats { return new(Stats) }

func (s *Stats) count(c *call, d time.Duration) {
	if c.nr < 0 || int(c.nr) >= len(s.kinds) {
		return
	}
	k := &s.kinds[c.nr]
	k.count.Add(1)
	k.costs[bucket(d)].Add(1)
}

func bucket(d time.Duration) int {
	n := uint64(max(d, 8))
	exp := bits.Len64(n) - 1 // 2^exp <= n
	return min(exp*8+int(n>>(exp-3)&7), 8*40-1)
}

// upper is the largest duration of a bucket.
func upper(b int) time.Duration {
	exp := b / 8
	return time.Duration((uint64(b%8)+9)<<exp>>3) - 1
}

// Kinds lists the kinds of calls that there were, most frequent first.
func (s *Stats) Kinds() []KindStats {
	var all []KindStats
	for nr := range s.kinds {
		k := &s.kinds[nr]
		if n := k.count.Load(); n > 0 {
			all = append(all, KindStats{syntaxOf(int32(nr)).name, n, k.quantile(n, 0.5), k.quantile(n, 0.99)})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Count > all[j].Count })
	return all
}

func (k *kind) quantile(n uint64, q float64) time.Duration {
	left := uint64(q * float64(n))
	for b := range k.costs {
		in := uint64(k.costs[b].Load())
		if in > left {
			return upper(b)
		}
		left -= in
	}
	return upper(len(k.costs) - 1)
}
