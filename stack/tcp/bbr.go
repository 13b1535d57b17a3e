package tcp

import "time"

func init() {
	RegisterCongestionControl("bbr", func() CongestionControl { return &bbr{} })
}

// bbr is BBR, version 3 (draft-ietf-ccwg-bbr): it sends at the rate that the
// network was seen to deliver, and keeps in flight what that rate and the least
// round-trip time make. Names and sections are the draft's; amounts are in
// bytes, rates in bytes a second. The model is in bbrmodel.go, the cycle of
// probing in bbrprobe.go.
//
// The draft leaves ECN open. Here the echo of a mark is taken as a round with
// loss is, RFC 3168's rule.
type bbr struct {
	state            bbrState
	pacingGain       float64
	cwndGain         float64
	nextRound        uint64 // BBR.next_round_delivered
	roundStart       bool
	rounds           int // BBR.round_count
	idleRestart      bool
	priorCwnd        int
	undo             bbrBounds
	undoState        bbrState
	fullBW           uint64 // 5.3.1.2
	fullBWCount      int
	fullBWNow        bool
	fullBWReached    bool
	lossEvents       int // acknowledgments of the round that told of losses
	initialCwnd      int
	appLimitedBefore uint64 // samples of what was sent before this count as app-limited

	bbrModel
	bbrProbe
}

type bbrState uint8

const (
	bbrStartup bbrState = iota
	bbrDrain
	bbrProbeDown
	bbrProbeCruise
	bbrProbeRefill
	bbrProbeUp
	bbrProbeRTT
)

func (s bbrState) probesBW() bool { return s >= bbrProbeDown && s <= bbrProbeUp }

// The constants of the draft (2.4 to 2.8, 5.6).
const (
	bbrPacingMargin    = 0.99
	bbrLossThresh      = 0.02
	bbrBeta            = 0.7
	bbrHeadroom        = 0.15
	bbrStartupGain     = 2.77
	bbrDrainGain       = 0.5
	bbrCwndGain        = 2.0
	bbrProbeUpCwndGain = 2.25
	bbrProbeRTTGain    = 0.5
	bbrMinPipe         = 4 // segments
	bbrFullBWGrowth    = 1.25
	bbrFullBWRounds    = 3
	bbrFullLosses      = 6
	bbrExtraAckedLen   = 10 // rounds
	bbrMinRTTLen       = 10 * time.Second
	bbrProbeRTTTime    = 200 * time.Millisecond
	bbrProbeRTTEvery   = 5 * time.Second
)

// OwnsWindow says that BBR sets the window in recovery too.
func (*bbr) OwnsWindow() bool { return true }

// Init is BBROnInit (5.2.1).
func (b *bbr) Init(w *Window) {
	*b = bbr{initialCwnd: w.Cwnd}
	b.bounds.reset()
	b.inflightHi = bbrInfinite
	b.minRTT, b.minRTTAt = w.SRTT, w.Now
	b.probeMinRTT, b.probeMinRTTAt = w.SRTT, w.Now
	b.extraFrom = w.Now
	b.nextRound, b.lossRound = w.Delivered, w.Delivered
	b.lostSeen, b.lostBefore = w.Lost, w.Lost
	rtt := w.SRTT
	if rtt <= 0 {
		rtt = time.Millisecond
	}
	w.PacingRate = max(uint64(bbrStartupGain*float64(w.Cwnd)/rtt.Seconds()), 1)
	b.enterStartup()
}

func (b *bbr) enterStartup() { b.enter(bbrStartup, bbrStartupGain, bbrCwndGain) }

func (b *bbr) enter(s bbrState, pacing, cwnd float64) {
	b.state, b.pacingGain, b.cwndGain = s, pacing, cwnd
}

// OnAck is BBRUpdateOnACK (5.2.3).
func (b *bbr) OnAck(w *Window, a *Ack) {
	b.updateModel(w, a)
	b.setPacingRate(w, b.pacingGain)
	b.setCwnd(w, a)
}

// updateModel is BBRUpdateModelAndState.
func (b *bbr) updateModel(w *Window, a *Ack) {
	rs := bbrSample{RateSample: a.Rate, rate: a.Rate.Rate(), rtt: a.RTT, acked: a.Delivered}
	if rs.RateSample.Delivered > 0 {
		rs.valid = true
		rs.lost = int(w.Lost - rs.PriorLost)
		rs.AppLimited = rs.AppLimited || rs.Prior < b.appLimitedBefore
	}
	rs.cwndLimited = a.InFlight > w.Cwnd-w.MSS
	b.updateLatest(w, &rs)
	b.updateCongestion(w, &rs)
	b.updateAggregation(w, &rs)
	b.checkStartupDone(w, &rs)
	b.checkDrainDone(w)
	b.updateCycle(w, &rs)
	b.updateMinRTT(w, &rs)
	b.checkProbeRTT(w, &rs)
	b.advanceLatest(&rs)
}

// bbrSample is the rate sample of an acknowledgment, rs in the draft.
type bbrSample struct {
	RateSample
	valid       bool   // something was delivered
	rate        uint64 // 0: not known
	rtt         time.Duration
	acked, lost int // newly acknowledged; lost since what it acknowledges was sent
	cwndLimited bool
}

// checkStartupDone is 5.3.1.
func (b *bbr) checkStartupDone(w *Window, rs *bbrSample) {
	b.checkFullBW(rs)
	if b.state != bbrStartup {
		return
	}
	// 5.3.1.3: exit by loss.
	if rs.valid && b.lossRoundStart && !b.fullBWReached && b.lossEvents >= bbrFullLosses && b.tooHigh(w, rs) {
		b.fullBWReached = true
		b.inflightHi = max(b.bdp(b.maxBW(), 1), b.inflightLatest)
	}
	if b.lossRoundStart {
		b.lossEvents = 0
	}
	if b.fullBWReached {
		b.enter(bbrDrain, bbrDrainGain, bbrCwndGain)
	}
}

// checkFullBW is BBRCheckFullBWReached (5.3.1.2): the bandwidth has not grown by
// a quarter for three rounds.
func (b *bbr) checkFullBW(rs *bbrSample) {
	if b.fullBWNow || !rs.valid || rs.AppLimited {
		return
	}
	if float64(rs.rate) >= float64(b.fullBW)*bbrFullBWGrowth {
		b.resetFullBW(rs.rate)
		return
	}
	if !b.roundStart {
		return
	}
	b.fullBWCount++
	if b.fullBWNow = b.fullBWCount >= bbrFullBWRounds; b.fullBWNow {
		b.fullBWReached = true
	}
}

func (b *bbr) resetFullBW(rate uint64) {
	b.fullBW, b.fullBWCount, b.fullBWNow = rate, 0, false
}

// checkDrainDone is 5.3.2.
func (b *bbr) checkDrainDone(w *Window) {
	if b.state == bbrDrain && w.InFlight <= b.inflight(w, b.maxBW(), 1) {
		b.startDown(w)
	}
}

// setPacingRate is 5.6.2.
func (b *bbr) setPacingRate(w *Window, gain float64) {
	rate := uint64(gain * float64(b.bw()) * bbrPacingMargin)
	if rate > 0 && (b.fullBWReached || rate > w.PacingRate) {
		w.PacingRate = rate
	}
}

// setCwnd is 5.6.4.
func (b *bbr) setCwnd(w *Window, a *Ack) {
	limit := b.inflightWith(w, b.bw(), b.cwndGain, b.extraAcked())
	if a.Lost > 0 { // 5.6.4.4
		w.Cwnd = max(w.Cwnd-a.Lost, w.MSS)
	}
	if b.fullBWReached {
		w.Cwnd = min(w.Cwnd+a.Delivered, limit)
	} else if w.Cwnd < limit || w.Delivered < uint64(b.initialCwnd) {
		w.Cwnd += a.Delivered
	}
	least := bbrMinPipe * w.MSS
	if w.State != CALoss {
		w.Cwnd = max(w.Cwnd, least)
	}
	if b.state == bbrProbeRTT { // 5.6.4.5
		w.Cwnd = min(w.Cwnd, b.probeRTTCwnd(w))
	}
	// 5.6.4.7
	most := bbrInfinite
	switch {
	case b.state == bbrProbeRTT, b.state == bbrProbeCruise:
		most = b.withHeadroom(w)
	case b.state.probesBW():
		most = b.inflightHi
	}
	w.Cwnd = min(w.Cwnd, max(min(most, b.bounds.inflightLo), least))
}

// OnEvent takes what is not an acknowledgment.
func (b *bbr) OnEvent(w *Window, e Event) {
	switch e {
	case EventLoss: // 5.6.4.4; kept for undo
		b.save(w)
	case EventTimeout:
		b.save(w)
		w.Cwnd = w.MSS
	case EventRecovered:
		w.Cwnd = max(w.Cwnd, b.priorCwnd)
	case EventUndo:
		b.resetFullBW(0)
		b.lossInRound = false
		b.bounds = bbrBounds{max(b.bounds.bwLo, b.undo.bwLo), max(b.bounds.inflightLo, b.undo.inflightLo)}
		b.inflightHi = max(b.inflightHi, b.undoHi)
		if b.undoState == bbrProbeUp && b.state.probesBW() {
			b.startRefill(w)
		}
		w.Cwnd = max(w.Cwnd, b.priorCwnd)
	case EventECN:
		b.lossInRound = true
		b.lossEvents++
		if b.probeSamples {
			b.handleTooHigh(w, &bbrSample{RateSample: RateSample{InFlight: w.InFlight}})
		}
	case EventIdle: // 5.4.1
		b.idleRestart = true
		b.extraFrom, b.extraDelivered = w.Now, 0
		if b.state.probesBW() {
			b.setPacingRate(w, 1)
		} else if b.state == bbrProbeRTT {
			b.checkProbeRTTDone(w)
		}
	}
}

// save is BBRSaveCwnd and BBRSaveStateUponLoss.
func (b *bbr) save(w *Window) {
	if w.State < CARecovery && b.state != bbrProbeRTT {
		b.priorCwnd = w.Cwnd
	} else {
		b.priorCwnd = max(b.priorCwnd, w.Cwnd)
	}
	b.undo, b.undoHi, b.undoState = b.bounds, b.inflightHi, b.state
}
