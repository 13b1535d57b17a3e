package tcp

func init() {
	RegisterCongestionControl("abc", func() CongestionControl { return &abc{} })
}

// abc is Reno with appropriate byte counting and its limit (RFC 3465): however
// many acknowledgments there are, the window grows by what they acknowledge, by
// two segments an acknowledgment at most in slow start, by one after a timeout.
type abc struct {
	acked   int // bytes_acked
	timeout bool
}

// Init begins in slow start.
func (b *abc) Init(*Window) { *b = abc{} }

// OnAck grows the window (2.1 to 2.3).
func (b *abc) OnAck(w *Window, a *Ack) {
	if a.Acked == 0 || !w.Limited() {
		return
	}
	if w.InSlowStart() {
		limit := 2 * w.MSS
		if b.timeout {
			limit = w.MSS
		}
		w.SlowStart(min(a.Acked, limit))
		return
	}
	b.timeout = false
	for b.acked += a.Acked; b.acked >= w.Cwnd; w.Cwnd += w.MSS {
		b.acked -= w.Cwnd
	}
}

// OnEvent halves (RFC 5681 3.1, equation 4).
func (b *abc) OnEvent(w *Window, e Event) {
	switch e {
	case EventLoss, EventTimeout, EventECN:
		w.Ssthresh = max(w.Cwnd/2, 2*w.MSS)
		*b = abc{timeout: e == EventTimeout}
	}
}
