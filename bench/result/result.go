// Package result is what the load program (bench/load) tells the benchmark
// (bench): one [Load] as a line of JSON on its standard output.
package result

// Load is the outcome of one run of the load program. What does not apply to
// the load that ran is zero.
type Load struct {
	Count   int64   `json:"count,omitempty"`   // connections, datagrams, round trips or calls done
	Bytes   int64   `json:"bytes,omitempty"`   // payload bytes moved
	Seconds float64 `json:"seconds,omitempty"` // time that Count or Bytes took
	P50     float64 `json:"p50,omitempty"`     // median round trip, nanoseconds
	P99     float64 `json:"p99,omitempty"`     // 99th percentile of round trips, nanoseconds
}

// Rate is Count per second, 0 if no time passed.
func (l Load) Rate() float64 {
	if l.Seconds <= 0 {
		return 0
	}
	return float64(l.Count) / l.Seconds
}

// Throughput is Bytes per second, 0 if no time passed.
func (l Load) Throughput() float64 {
	if l.Seconds <= 0 {
		return 0
	}
	return float64(l.Bytes) / l.Seconds
}
