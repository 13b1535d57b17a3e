package tcp

func init() {
	RegisterCongestionControl("reno", func() CongestionControl { return &reno{} })
}

// reno is Reno (RFC 5681) with appropriate byte counting (RFC 3465): in slow
// start the window grows by what is acknowledged, later by a segment for each
// window of acknowledged data.
type reno struct{ acked int }

// Init begins in slow start.
func (r *reno) Init(*Window) { r.acked = 0 }

// OnAck grows the window (RFC 5681 3.1).
func (r *reno) OnAck(w *Window, a *Ack) {
	if a.Acked == 0 || !w.Limited() {
		return
	}
	n := a.Acked
	if w.InSlowStart() {
		if n = w.SlowStart(n); n == 0 {
			return
		}
	}
	for r.acked += n; r.acked >= w.Cwnd; w.Cwnd += w.MSS {
		r.acked -= w.Cwnd
	}
}

// OnEvent halves (RFC 5681 3.1, equation 4).
func (r *reno) OnEvent(w *Window, e Event) {
	switch e {
	case EventLoss, EventTimeout, EventECN:
		w.Ssthresh = max(w.Cwnd/2, 2*w.MSS)
		r.acked = 0
	}
}
