package plot

import "sort"

// interval is [lo, hi).
type interval struct{ lo, hi uint64 }

// intervals is a set of numbers as disjoint intervals in order.
type intervals []interval

// add puts [lo, hi) in and returns how many numbers of it were new.
func (s *intervals) add(lo, hi uint64) uint64 {
	if lo >= hi {
		return 0
	}
	v := *s
	// Mostly it is at the end.
	if n := len(v); n > 0 && v[n-1].lo <= lo {
		last := &v[n-1]
		if lo > last.hi {
			*s = append(v, interval{lo, hi})
			return hi - lo
		}
		fresh := hi - min(last.hi, hi)
		last.hi = max(last.hi, hi)
		return fresh
	}
	i := sort.Search(len(v), func(i int) bool { return v[i].hi >= lo })
	j, fresh, merged := i, hi-lo, interval{lo, hi}
	for ; j < len(v) && v[j].lo <= hi; j++ {
		fresh -= min(v[j].hi, hi) - max(v[j].lo, lo)
		merged = interval{min(merged.lo, v[j].lo), max(merged.hi, v[j].hi)}
	}
	if i == j {
		v = append(v, interval{})
		copy(v[i+1:], v[i:])
		v[i] = merged
	} else {
		v[i] = merged
		v = append(v[:i+1], v[j:]...)
	}
	*s = v
	return fresh
}

// overlaps says whether any number of [lo, hi) is in.
func (s intervals) overlaps(lo, hi uint64) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i].hi > lo })
	return i < len(s) && s[i].lo < hi
}

// below removes all numbers under n and returns how many they were.
func (s *intervals) below(n uint64) (removed uint64) {
	v := *s
	i := 0
	for ; i < len(v) && v[i].hi <= n; i++ {
		removed += v[i].hi - v[i].lo
	}
	if i < len(v) && v[i].lo < n {
		removed += n - v[i].lo
		v[i].lo = n
	}
	if i > 0 {
		v = append(v[:0], v[i:]...)
	}
	*s = v
	return removed
}
