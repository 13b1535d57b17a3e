package tcp

func init() {
	RegisterCongestionControl("dctcp", func() CongestionControl { return &dctcp{} })
}

// dctcp is DCTCP (RFC 8257): it reduces the window by how much of the data met
// congestion, and so keeps queues at the marking threshold. It is for networks
// whose queues mark early (ecn at a few packets), and needs ecn=on at both ends.
type dctcp struct {
	reno
	alpha         float64 // DCTCP.Alpha
	acked, marked int     // DCTCP.BytesAcked, DCTCP.BytesMarked
	end           Seq     // DCTCP.WindowEnd
	begun         bool
}

// dctcpG is the gain of the estimate (RFC 8257 4.2).
const dctcpG = 1.0 / 16

// Init begins with an alpha of 1 (3.3).
func (d *dctcp) Init(w *Window) {
	*d = dctcp{alpha: 1}
	d.reno.Init(w)
}

// EchoesCE says that the receiver echoes each mark (3.2).
func (*dctcp) EchoesCE() bool { return true }

// Watch estimates the fraction of marked data, once a window (3.3).
func (d *dctcp) Watch(_ *Window, a *Ack) {
	d.acked += a.Acked
	if a.ECE {
		d.marked += a.Acked
	}
	if !d.begun {
		d.begun, d.end = true, a.Nxt
	}
	if a.Una.AtOrBefore(d.end) || d.acked == 0 {
		return
	}
	d.alpha += dctcpG * (float64(d.marked)/float64(d.acked) - d.alpha)
	d.acked, d.marked, d.end = 0, 0, a.Nxt
}

// OnEvent reduces by alpha/2 for marks (3.3), by half for losses (3.4).
func (d *dctcp) OnEvent(w *Window, e Event) {
	if e != EventECN {
		d.reno.OnEvent(w, e)
		return
	}
	w.Ssthresh = max(int(float64(w.Cwnd)*(1-d.alpha/2)), 2*w.MSS)
	d.reno.acked = 0
}
