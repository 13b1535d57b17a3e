package tcp

import "time"

// CongestionControl decides the congestion window. One belongs to one
// connection; its methods are called by it.
//
// What all have in common is not theirs: fast recovery's reduction down to
// ssthresh (PRR), the window of one segment after a timeout, the restart after
// idle times, and undoing what was for nothing.
type CongestionControl interface {
	// Init is called when the connection is established, or when the
	// congestion control is chosen later. The window is RFC 6928's already.
	Init(w *Window)
	// OnAck follows every acknowledgment outside of fast recovery, those
	// included that acknowledge nothing new.
	OnAck(w *Window, a *Ack)
	// OnEvent is told of events; for EventLoss, EventTimeout and EventECN it
	// sets w.Ssthresh.
	OnEvent(w *Window, e Event)
}

// WindowOwner is a CongestionControl that sets the window during recovery too.
type WindowOwner interface{ OwnsWindow() bool }

// AckWatcher is a CongestionControl that is shown every acknowledgment, before
// anything is made of it, also during recovery.
type AckWatcher interface {
	Watch(w *Window, a *Ack)
}

// CEEchoer is a CongestionControl whose receivers echo each mark of ECN as it
// comes (RFC 8257 3.2), rather than until the sender has reacted (RFC 3168).
type CEEchoer interface{ EchoesCE() bool }

// Event is one that a congestion control is told of.
type Event int

// The events.
const (
	EventLoss      Event = iota // a loss was found, fast recovery begins
	EventTimeout                // a retransmission timeout
	EventECN                    // the peer echoes a mark, at most once a round trip
	EventRecovered              // recovery is over
	EventUndo                   // the last reduction was for nothing, and is undone
	EventIdle                   // sending begins again after an idle time
)

// InfiniteSsthresh is ssthresh before the first loss (RFC 5681 3.1).
const InfiniteSsthresh = 1 << 30

// Window is the state that congestion control works on. Amounts are in bytes.
type Window struct {
	Cwnd, Ssthresh int
	// PacingRate, bytes a second, is set by who wants pacing; 0: none.
	PacingRate uint64

	// To be read only.
	MSS                  int
	InFlight             int // as of the last acknowledgment
	Now                  time.Duration
	SRTT, RTTVar, MinRTT time.Duration // MinRTT is of the last 5 minutes
	LatestRTT            time.Duration
	Delivered, Lost      uint64 // since the beginning; Lost: believed to be, each time that it was sent
	State                CAState

	minAt    time.Duration
	paceRate uint64
	limited  bool // the window kept data back
	maxOut   int  // most in flight in this round trip
	maxEnd   Seq
	random   uint64
}

var congestionControls = registry[CongestionControl]{kind: "congestion control"}

// RegisterCongestionControl makes a congestion control known under a name, of at
// most 15 bytes, for package initialization.
func RegisterCongestionControl(name string, f func() CongestionControl) {
	congestionControls.add(name, f)
}

// CongestionControls are their names.
func CongestionControls() []string { return congestionControls.names() }

// Random is the next of the connection's random numbers (SplitMix64: Steele, Lea
// and Flood, 2014), which are the same in every run of a simulation.
func (w *Window) Random() uint64 {
	w.random += 0x9e3779b97f4a7c15
	z := w.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// InSlowStart says whether the window is below ssthresh.
func (w *Window) InSlowStart() bool { return w.Cwnd < w.Ssthresh }

// Limited says whether the sender uses the window: one that does not learns
// nothing of the network, and does not grow (RFC 7661, RFC 9438 5.8).
func (w *Window) Limited() bool {
	return w.limited || w.InSlowStart() && w.Cwnd < 2*w.maxOut
}

// SlowStart grows the window by what was acknowledged, at most to ssthresh
// (RFC 5681 3.1), and gives what is left of it.
func (w *Window) SlowStart(acked int) int {
	n := min(acked, max(w.Ssthresh-w.Cwnd, 0))
	w.Cwnd += n
	return acked - n
}

// minRTTWindow is for how long the least round-trip time counts.
const minRTTWindow = 5 * time.Minute

func (w *Window) addRTT(d, now time.Duration) {
	w.LatestRTT = d
	if w.MinRTT == 0 || d <= w.MinRTT || now-w.minAt > minRTTWindow {
		w.MinRTT, w.minAt = d, now
	}
}

// refreshWindow brings the read-only part up to date.
func (c *Conn) refreshWindow() {
	w := &c.win
	w.Now, w.InFlight, w.MSS = c.now(), c.pipe(), c.snd.mss
	w.SRTT, w.RTTVar = c.rto.SRTT(), c.rto.RTTVar()
	w.Delivered, w.Lost = c.rate.delivered, c.sb.totalLost
}

// sent follows sending, for Limited and the delivery rate.
func (w *Window) sent(c *Conn) {
	out := c.pipe()
	if c.snd.una.AtOrAfter(w.maxEnd) || out > w.maxOut {
		w.maxOut, w.maxEnd = out, c.snd.nxt
	}
	if c.unsent() < c.snd.mss && out < w.Cwnd {
		w.limited = false
		if c.sb.lost <= c.sb.retrans {
			c.rate.markAppLimited(c)
		}
	}
}
