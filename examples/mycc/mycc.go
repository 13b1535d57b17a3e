// Package mycc is a congestion control to begin with: copy the folder, change it,
// and run a real program on it (docs/tutorial-congestion-control.md).
package mycc

import "github.com/alptrace/alptrace/stack/tcp"

func init() {
	tcp.RegisterCongestionControl("mycc", func() tcp.CongestionControl { return &mycc{} })
}

// mycc keeps between low and high segments in the queue, as the round-trip time
// shows them: the idea of TCP Vegas (Brakmo and Peterson, 1995).
type mycc struct {
	end tcp.Seq // of the round trip
}

const low, high = 2, 4

// Init is called when the connection is established.
func (m *mycc) Init(*tcp.Window) {}

// OnAck is called for every acknowledgment.
func (m *mycc) OnAck(w *tcp.Window, a *tcp.Ack) {
	if a.Acked == 0 || !w.Limited() {
		return
	}
	if w.InSlowStart() {
		w.SlowStart(a.Acked)
	}
	if a.Una.Before(m.end) || w.SRTT == 0 { // the rest once a round trip
		return
	}
	m.end = a.Nxt
	// Of the window, what the least round-trip time does not explain waits in a
	// queue.
	queued := float64(w.Cwnd) * (1 - w.MinRTT.Seconds()/w.SRTT.Seconds()) / float64(w.MSS)
	switch {
	case w.InSlowStart() && queued > high:
		w.Ssthresh = w.Cwnd
	case w.InSlowStart():
	case queued < low:
		w.Cwnd += w.MSS
	case queued > high:
		w.Cwnd -= w.MSS
	}
}

// OnEvent is called for losses, timeouts and the like.
func (m *mycc) OnEvent(w *tcp.Window, e tcp.Event) {
	switch e {
	case tcp.EventLoss, tcp.EventTimeout, tcp.EventECN:
		w.Ssthresh = max(w.Cwnd/2, 2*w.MSS)
	}
}
