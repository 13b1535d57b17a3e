package tcp

func init() {
	RegisterCongestionControl("reno1999", func() CongestionControl { return &reno1999{} })
}

// reno1999 is Reno as it stood in 1999 (RFC 2581, with the partial
// acknowledgments of RFC 2582), to show what has been learned since. It begins
// with a window of one segment, counts acknowledgments and not what they
// acknowledge, and takes each duplicate for a segment that has left the network,
// without a limit (Savage et al., "TCP Congestion Control with a Misbehaving
// Receiver", 1999). For the rest of that year choose
// sack=off,timestamps=off,tlp=off,frto=off too.
type reno1999 struct {
	cwnd    int  // with the inflation of fast recovery
	entered bool // fast recovery has just begun, or was prolonged
}

// Init begins with one segment (RFC 2581 3.1, IW).
func (r *reno1999) Init(w *Window) {
	*r = reno1999{cwnd: w.MSS}
	w.Cwnd = w.MSS
}

// OwnsWindow says that fast recovery is its own.
func (*reno1999) OwnsWindow() bool { return true }

// OnAck grows the window: by a segment for each acknowledgment in slow start, by
// one for a window of them later (RFC 2581 3.1, equation 2).
func (r *reno1999) OnAck(w *Window, a *Ack) {
	switch {
	case w.State == CARecovery && a.Acked > 0: // a partial acknowledgment (RFC 2582 3, step 5)
		r.cwnd = max(r.cwnd-a.Acked+w.MSS, w.MSS)
		r.entered = true
	case w.State == CARecovery:
		if a.Duplicate && !r.entered {
			r.cwnd += w.MSS // RFC 2581 3.2, step 3
		}
	case a.Acked == 0:
	case r.cwnd < w.Ssthresh:
		r.cwnd += w.MSS
	default:
		r.cwnd += max(w.MSS*w.MSS/r.cwnd, 1)
	}
	r.set(w, a)
}

// set gives the connection, which does not count what duplicates acknowledge as
// in flight, a window that lets as much go out as the old rule would:
// cwnd - (SND.NXT - SND.UNA).
func (r *reno1999) set(w *Window, a *Ack) {
	w.Cwnd = r.cwnd - (a.Nxt.Sub(a.Una) - w.InFlight)
	if r.entered { // the retransmission goes out whatever the window is
		w.Cwnd = max(w.Cwnd, w.InFlight+w.MSS)
		r.entered = false
	}
	w.Cwnd = max(w.Cwnd, w.MSS)
}

// OnEvent is RFC 2581 3.2, steps 1, 2 and 4, and 3.1's timeout.
func (r *reno1999) OnEvent(w *Window, e Event) {
	switch e {
	case EventLoss:
		w.Ssthresh = max(r.flight(w)/2, 2*w.MSS)
		r.cwnd = w.Ssthresh + 3*w.MSS
		r.entered = true
	case EventTimeout:
		w.Ssthresh = max(r.flight(w)/2, 2*w.MSS)
		r.cwnd = w.MSS
		w.Cwnd = w.MSS
	case EventECN, EventUndo:
		w.Ssthresh = max(r.cwnd/2, 2*w.MSS)
		r.cwnd = w.Ssthresh
	case EventRecovered:
		r.cwnd = max(min(r.cwnd, w.Ssthresh), w.MSS)
		w.Cwnd = r.cwnd
	case EventIdle: // as if it had just begun (RFC 2581 4.1)
		r.cwnd, w.Cwnd = w.MSS, w.MSS
	}
}

// flight is FlightSize, as far as the window tells.
func (r *reno1999) flight(w *Window) int { return max(min(r.cwnd, w.InFlight+3*w.MSS), w.InFlight) }
