package tcp

import (
	"math"
	"time"
)

func init() {
	RegisterCongestionControl("cubic", func() CongestionControl { return &cubic{} })
}

// cubic is CUBIC (RFC 9438) with HyStart++ in slow start. Windows are in
// segments, as there.
type cubic struct {
	hs      hystart
	wMax    float64       // W_max
	epoch   time.Duration // t_epoch
	inEpoch bool
	cEpoch  float64       // cwnd_epoch
	k       time.Duration // K
	wEst    float64       // W_est
	left    float64       // growth smaller than a byte
	prior   float64       // cwnd before the last reduction
	saved   *cubic        // for undo
}

// The constants of RFC 9438 4.1.2 and 4.6.
const (
	cubicC    = 0.4
	cubicBeta = 0.7
	// alpha for Reno-friendliness (4.3)
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)
)

// Init begins in slow start.
func (q *cubic) Init(*Window) { *q = cubic{} }

// OnAck grows the window (4.2 to 4.5).
func (q *cubic) OnAck(w *Window, a *Ack) {
	if a.Acked == 0 {
		return
	}
	if !w.Limited() {
		if q.inEpoch { // time that was not used does not count (5.8)
			q.epoch += min(w.SRTT, w.Now-q.epoch)
		}
		return
	}
	n := a.Acked
	if w.InSlowStart() {
		if n = q.hs.onAck(w, a); n == 0 {
			return
		}
	}
	q.avoid(w, n)
}

// avoid is congestion avoidance.
func (q *cubic) avoid(w *Window, acked int) {
	mss := float64(w.MSS)
	cwnd := float64(w.Cwnd) / mss
	if !q.inEpoch {
		q.begin(w, cwnd)
	}
	t := (w.Now - q.epoch).Seconds()
	target := q.at(t + w.SRTT.Seconds())
	target = min(max(target, cwnd), 1.5*cwnd) // 4.2

	segs := float64(acked) / mss
	alpha := cubicAlpha
	if q.wEst >= q.prior && q.prior > 0 {
		alpha = 1
	}
	q.wEst += alpha * segs / cwnd // 4.3

	grow := (target - cwnd) / cwnd * segs
	if q.at(t) < q.wEst { // the Reno-friendly region
		grow = max(q.wEst-cwnd, 0)
	} else if target <= cwnd {
		grow = 0.01 * segs / cwnd
	}
	q.left += grow * mss
	if q.left >= 1 {
		n := math.Floor(q.left)
		w.Cwnd += int(n)
		q.left -= n
	}
}

// begin begins an epoch of congestion avoidance (4.2).
func (q *cubic) begin(w *Window, cwnd float64) {
	q.inEpoch, q.epoch, q.cEpoch, q.wEst = true, w.Now, cwnd, cwnd
	if q.wMax <= cwnd {
		q.wMax, q.k = cwnd, 0
		return
	}
	q.k = time.Duration(math.Cbrt((q.wMax-cwnd)/cubicC) * float64(time.Second))
}

// at is W_cubic(t), t in seconds (4.2, figure 1).
func (q *cubic) at(t float64) float64 {
	d := t - q.k.Seconds()
	return cubicC*d*d*d + q.wMax
}

// OnEvent is multiplicative decrease (4.6), with fast convergence (4.7), and
// what follows a timeout (4.8).
func (q *cubic) OnEvent(w *Window, e Event) {
	switch e {
	case EventLoss, EventTimeout, EventECN:
		old := *q
		old.saved = nil
		cwnd := float64(w.Cwnd) / float64(w.MSS)
		*q = cubic{hs: old.hs, saved: &old, prior: cwnd, wMax: cwnd}
		q.hs.done, q.hs.css = true, false
		if cwnd < old.wMax {
			q.wMax = cwnd * (1 + cubicBeta) / 2
		}
		w.Ssthresh = max(int(float64(w.Cwnd)*cubicBeta), 2*w.MSS)
	case EventRecovered:
		q.saved = nil
		q.inEpoch = false
	case EventUndo:
		if q.saved != nil {
			*q = *q.saved
		}
	case EventIdle:
		q.inEpoch = false
	}
}
