package tcp

import "time"

// bbrProbe is the state of probing (draft-ietf-ccwg-bbr 5.3.3 and 5.3.4).
type bbrProbe struct {
	ackPhase         bbrAckPhase
	probeSamples     bool // BBR.bw_probe_samples
	probeWait        time.Duration
	cycleAt          time.Duration // BBR.cycle_stamp
	roundsSinceProbe int
	upCount          int // BBR.probe_up_cnt: segments acknowledged for each that it grows by
	upAcks           int // bytes
	upRounds         int

	probeRTTDone      time.Duration // BBR.probe_rtt_done_stamp; 0: none
	probeRTTRoundDone bool
}

// bbrAckPhase says what the acknowledgments that come tell of.
type bbrAckPhase uint8

const (
	bbrAcksInit bbrAckPhase = iota
	bbrAcksRefilling
	bbrAcksStarting
	bbrAcksFeedback
	bbrAcksStopping
)

// startDown is BBRStartProbeBW_DOWN (5.3.3.6): drain the queue that probing made.
func (b *bbr) startDown(w *Window) {
	b.lossInRound, b.bwLatest, b.inflightLatest = false, 0, 0 // BBRResetCongestionSignals
	b.upCount = bbrInfinite
	// BBRPickProbeWait: 2 to 3 seconds
	b.roundsSinceProbe = int(w.Random() % 2)
	b.probeWait = 2*time.Second + time.Duration(w.Random()%uint64(time.Second))
	b.cycleAt = w.Now
	b.ackPhase = bbrAcksStopping
	b.startRound(w)
	b.enter(bbrProbeDown, 0.9, bbrCwndGain)
}

func (b *bbr) startCruise() { b.enter(bbrProbeCruise, 1, bbrCwndGain) }

func (b *bbr) startRefill(w *Window) {
	b.bounds.reset()
	b.upRounds, b.upAcks = 0, 0
	b.ackPhase = bbrAcksRefilling
	b.startRound(w)
	b.enter(bbrProbeRefill, 1, bbrCwndGain)
}

func (b *bbr) startUp(w *Window, rs *bbrSample) {
	b.ackPhase = bbrAcksStarting
	b.startRound(w)
	b.resetFullBW(rs.rate)
	b.enter(bbrProbeUp, 1.25, bbrProbeUpCwndGain)
	b.raiseSlope(w)
}

// updateCycle is BBRUpdateProbeBWCyclePhase.
func (b *bbr) updateCycle(w *Window, rs *bbrSample) {
	if !b.fullBWReached {
		return
	}
	b.adaptUpperBounds(w, rs)
	switch b.state {
	case bbrProbeDown:
		if !b.timeToProbe(w) && b.timeToCruise(w) {
			b.startCruise()
		}
	case bbrProbeCruise:
		b.timeToProbe(w)
	case bbrProbeRefill: // for a round, so that the pipe is full before it is overfilled
		if b.roundStart {
			b.probeSamples = true
			b.startUp(w, rs)
		}
	case bbrProbeUp:
		if b.timeToGoDown(w, rs) {
			b.startDown(w)
		}
	}
}

// adaptUpperBounds is BBRAdaptLongTermModel (5.5.10.3).
func (b *bbr) adaptUpperBounds(w *Window, rs *bbrSample) {
	if b.roundStart {
		switch b.ackPhase {
		case bbrAcksStarting:
			b.ackPhase = bbrAcksFeedback
		case bbrAcksStopping:
			b.probeSamples, b.ackPhase = false, bbrAcksInit
			if b.state.probesBW() && !rs.AppLimited && b.bwHi[1] > 0 { // BBRAdvanceMaxBwFilter
				b.bwHi = [2]uint64{b.bwHi[1], 0}
			}
		}
	}
	switch {
	case !rs.valid:
	case b.tooHigh(w, rs):
		if b.probeSamples {
			b.handleTooHigh(w, rs)
		}
	case b.inflightHi == bbrInfinite:
	default:
		b.inflightHi = max(b.inflightHi, rs.InFlight)
		if b.state == bbrProbeUp {
			b.probeUpward(w, rs)
		}
	}
}

// handleTooHigh is BBRHandleInflightTooHigh: the bound is what was in flight.
func (b *bbr) handleTooHigh(w *Window, rs *bbrSample) {
	b.probeSamples = false
	if !rs.AppLimited {
		b.inflightHi = max(rs.InFlight, int(bbrBeta*float64(b.target(w))), bbrMinPipe*w.MSS)
	}
	if b.state == bbrProbeUp {
		b.startDown(w)
	}
}

// probeUpward is BBRProbeInflightLongtermUpward: the bound grows, by one segment
// in the first round, two in the second, and so on in powers of two.
func (b *bbr) probeUpward(w *Window, rs *bbrSample) {
	if !rs.cwndLimited || w.Cwnd < b.inflightHi {
		return
	}
	b.upAcks += rs.acked
	if step := b.upCount * w.MSS; b.upCount < bbrInfinite/w.MSS && b.upAcks >= step {
		n := b.upAcks / step
		b.upAcks -= n * step
		b.inflightHi += n * w.MSS
	}
	if b.roundStart {
		b.raiseSlope(w)
	}
}

func (b *bbr) raiseSlope(w *Window) {
	b.upCount = max(w.Cwnd/w.MSS>>b.upRounds, 1)
	b.upRounds = min(b.upRounds+1, 30)
}

// timeToProbe is BBRIsTimeToProbeBW: after 2 to 3 seconds, or as many rounds as
// Reno would need to grow by what is in flight, 63 at most.
func (b *bbr) timeToProbe(w *Window) bool {
	if w.Now <= b.cycleAt+b.probeWait && b.roundsSinceProbe < min(b.target(w)/w.MSS, 63) {
		return false
	}
	b.startRefill(w)
	return true
}

func (b *bbr) timeToCruise(w *Window) bool {
	return w.InFlight <= b.withHeadroom(w) && w.InFlight <= b.inflight(w, b.maxBW(), 1)
}

func (b *bbr) timeToGoDown(w *Window, rs *bbrSample) bool {
	if rs.cwndLimited && w.Cwnd >= b.inflightHi {
		b.resetFullBW(rs.rate) // the bound is in the way
		return false
	}
	return b.fullBWNow
}

// checkProbeRTT is 5.3.4.4: with next to nothing in flight for a moment, the
// round-trip time of the empty network shows.
func (b *bbr) checkProbeRTT(w *Window, rs *bbrSample) {
	if b.state != bbrProbeRTT && b.probeExpired && !b.idleRestart {
		if w.State < CARecovery {
			b.priorCwnd = w.Cwnd
		} else {
			b.priorCwnd = max(b.priorCwnd, w.Cwnd)
		}
		b.enter(bbrProbeRTT, 1, bbrProbeRTTGain)
		b.probeRTTDone = 0
		b.ackPhase = bbrAcksStopping
		b.startRound(w)
	}
	if b.state == bbrProbeRTT {
		b.inProbeRTT(w)
	}
	if rs.acked > 0 {
		b.idleRestart = false
	}
}

func (b *bbr) probeRTTCwnd(w *Window) int {
	return max(b.bdp(b.bw(), bbrProbeRTTGain), bbrMinPipe*w.MSS)
}

func (b *bbr) inProbeRTT(w *Window) {
	b.appLimitedBefore = w.Delivered + uint64(w.InFlight) // so little is no sample of the bandwidth
	switch b.probeRTTDone {
	case 0:
		if w.InFlight <= b.probeRTTCwnd(w) {
			b.probeRTTDone = w.Now + bbrProbeRTTTime
			b.probeRTTRoundDone = false
			b.startRound(w)
		}
	default:
		b.probeRTTRoundDone = b.probeRTTRoundDone || b.roundStart
		if b.probeRTTRoundDone {
			b.checkProbeRTTDone(w)
		}
	}
}

func (b *bbr) checkProbeRTTDone(w *Window) {
	if b.probeRTTDone == 0 || w.Now <= b.probeRTTDone {
		return
	}
	b.probeMinRTTAt = w.Now
	w.Cwnd = max(w.Cwnd, b.priorCwnd)
	b.bounds.reset()
	if b.fullBWReached {
		b.startDown(w)
		b.startCruise()
	} else {
		b.enterStartup()
	}
}
