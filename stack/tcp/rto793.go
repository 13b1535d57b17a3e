package tcp

import "time"

func init() {
	RegisterRTOEstimator("rfc793", func() RTOEstimator { return &rfc793{} })
}

// rfc793 is the estimator of RFC 793 3.7, without a variation: twice the
// smoothed round-trip time, between 1 and 60 seconds. Jacobson, "Congestion
// Avoidance and Control" (1988) tells why it was given up.
type rfc793 struct{ srtt time.Duration }

func (r *rfc793) Sample(rtt, _ time.Duration) {
	if r.srtt == 0 {
		r.srtt = rtt
	}
	r.srtt += (rtt - r.srtt) / 8 // ALPHA 7/8
}

func (r *rfc793) RTO() time.Duration {
	return min(max(2*r.srtt, time.Second), time.Minute) // BETA, LBOUND, UBOUND
}

func (r *rfc793) SRTT() time.Duration   { return r.srtt }
func (r *rfc793) RTTVar() time.Duration { return r.srtt / 4 }
