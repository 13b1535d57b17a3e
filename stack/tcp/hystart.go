package tcp

import "time"

// hystart is HyStart++ (RFC 9406): it leaves slow start when the round-trip time
// grows, by way of conservative slow start (CSS).
type hystart struct {
	end        Seq // of the round
	begun      bool
	last, cur  time.Duration // lastRoundMinRTT, currentRoundMinRTT; 0: infinite
	samples    int
	css        bool
	cssBase    time.Duration // cssBaselineMinRtt
	cssRounds  int
	cssCredits int // bytes that wait to be a growth of cwnd
	done       bool
}

// The constants of RFC 9406 4.3.
const (
	hystartMinThresh = 4 * time.Millisecond
	hystartMaxThresh = 16 * time.Millisecond
	hystartDivisor   = 8
	hystartSamples   = 8
	cssDivisor       = 4
	cssMaxRounds     = 5
)

// onAck is an acknowledgment in slow start (4.2). It grows the window, and sets
// ssthresh when slow start is over; what is left of the bytes is returned.
func (h *hystart) onAck(w *Window, a *Ack) int {
	if !h.begun || a.Una.AtOrAfter(h.end) {
		h.round(w, a)
	}
	if a.RTT > 0 {
		if h.cur == 0 || a.RTT < h.cur {
			h.cur = a.RTT
		}
		h.samples++
	}
	if h.done || h.samples < hystartSamples || h.cur == 0 {
		return h.grow(w, a.Acked)
	}
	switch {
	case !h.css && h.last > 0:
		thresh := max(hystartMinThresh, min(h.last/hystartDivisor, hystartMaxThresh))
		if h.cur >= h.last+thresh {
			h.css, h.cssBase, h.cssRounds, h.cssCredits = true, h.cur, 0, 0
		}
	case h.css && h.cur < h.cssBase:
		h.css, h.cssBase = false, 0 // the delay was passing
	}
	return h.grow(w, a.Acked)
}

func (h *hystart) grow(w *Window, acked int) int {
	if !h.css {
		return w.SlowStart(acked)
	}
	h.cssCredits += acked
	n := h.cssCredits / cssDivisor
	h.cssCredits -= n * cssDivisor
	w.SlowStart(n)
	return 0
}

func (h *hystart) round(w *Window, a *Ack) {
	h.begun = true
	h.end = a.Nxt
	h.last, h.cur, h.samples = h.cur, 0, 0
	if h.css {
		if h.cssRounds++; h.cssRounds >= cssMaxRounds {
			w.Ssthresh = w.Cwnd
			h.css, h.done = false, true
		}
	}
}
