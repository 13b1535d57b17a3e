package tcp

import "time"

// RTOEstimator estimates the retransmission timeout. Backoff and bounds are
// the connection's.
type RTOEstimator interface {
	// Sample takes a measured round-trip time.
	Sample(rtt, now time.Duration)
	// RTO is the timeout, before bounds and backoff.
	RTO() time.Duration
	// SRTT and RTTVar are the smoothed round-trip time and its variation; 0
	// before the first sample.
	SRTT() time.Duration
	RTTVar() time.Duration
}

var rtoEstimators = registry[RTOEstimator]{kind: "RTO estimator"}

// RegisterRTOEstimator makes an estimator known under a name, for package
// initialization.
func RegisterRTOEstimator(name string, f func() RTOEstimator) { rtoEstimators.add(name, f) }

// RTOEstimators are their names.
func RTOEstimators() []string { return rtoEstimators.names() }

func init() {
	RegisterRTOEstimator("rfc6298", func() RTOEstimator { return &rfc6298{} })
}

// rfc6298 is the estimator of RFC 6298 2. The variation has a floor of 50 ms,
// for with delayed acknowledgments a constant round trip is no promise: so RTO
// is SRTT + 200 ms at least, Linux's rule.
type rfc6298 struct{ srtt, rttvar time.Duration }

// rttvarFloor bounds 4 RTTVAR from below.
const rttvarFloor = 200 * time.Millisecond

func (r *rfc6298) Sample(rtt, _ time.Duration) {
	if r.srtt == 0 { // 2.2
		r.srtt, r.rttvar = rtt, rtt/2
		return
	}
	// 2.3: alpha is 1/8, beta 1/4.
	r.rttvar += ((rtt - r.srtt).Abs() - r.rttvar) / 4
	r.srtt += (rtt - r.srtt) / 8
}

func (r *rfc6298) RTO() time.Duration {
	if r.srtt == 0 {
		return time.Second // 2.1
	}
	return r.srtt + max(4*r.rttvar, rttvarFloor)
}

func (r *rfc6298) SRTT() time.Duration   { return r.srtt }
func (r *rfc6298) RTTVar() time.Duration { return r.rttvar }
