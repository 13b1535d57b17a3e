package tcp

import (
	"math"
	"time"
)

// bbrInfinite is no bound.
const bbrInfinite = int(^uint(0) >> 2)

// bbrModel is what BBR believes of the network (draft-ietf-ccwg-bbr 5.5).
type bbrModel struct {
	bwHi       [2]uint64 // BBR.MaxBwFilter: of the last and this cycle of probing
	bounds     bbrBounds
	inflightHi int // BBR.inflight_longterm
	undoHi     int

	minRTT        time.Duration // 0: not known
	minRTTAt      time.Duration
	probeMinRTT   time.Duration // BBR.probe_rtt_min_delay
	probeMinRTTAt time.Duration
	probeExpired  bool

	bwLatest       uint64
	inflightLatest int
	lossRound      uint64 // BBR.loss_round_delivered
	lossRoundStart bool
	lossInRound    bool
	lostSeen       uint64 // w.Lost at the last acknowledgment
	lostBefore     uint64 // and at the beginning of the round

	extraFrom      time.Duration // BBR.extra_acked_interval_start
	extraDelivered int
	extra          [2]int // the largest of the last and this window of rounds
	extraRounds    int
}

// bbrBounds are the bounds of the short term (5.5.10.3); the zero value is not
// "none", reset makes that.
type bbrBounds struct {
	bwLo       uint64 // BBR.bw_shortterm
	inflightLo int    // BBR.inflight_shortterm
}

func (s *bbrBounds) reset() { *s = bbrBounds{^uint64(0), bbrInfinite} }

func (m *bbrModel) maxBW() uint64 { return max(m.bwHi[0], m.bwHi[1]) }

// bw is BBR.bw (5.5.10.3, BBRBoundBWForModel).
func (m *bbrModel) bw() uint64 { return min(m.maxBW(), m.bounds.bwLo) }

// updateLatest is 5.5.10.1.
func (b *bbr) updateLatest(w *Window, rs *bbrSample) {
	b.lossRoundStart = false
	if !rs.valid {
		return
	}
	b.bwLatest = max(b.bwLatest, rs.rate)
	b.inflightLatest = max(b.inflightLatest, rs.RateSample.Delivered)
	if rs.Prior >= b.lossRound {
		b.lossRound = w.Delivered
		b.lossRoundStart = true
	}
}

func (b *bbr) advanceLatest(rs *bbrSample) {
	if b.lossRoundStart {
		b.bwLatest, b.inflightLatest = rs.rate, rs.RateSample.Delivered
	}
}

// updateCongestion is 5.5.10.2: the bandwidth, and the bounds of the short term.
func (b *bbr) updateCongestion(w *Window, rs *bbrSample) {
	b.updateRound(w, rs)
	if rs.rate > 0 && (rs.rate >= b.maxBW() || !rs.AppLimited) {
		b.bwHi[1] = max(b.bwHi[1], rs.rate)
	}
	if w.Lost > b.lostSeen {
		b.lossEvents++
	}
	b.lostSeen = w.Lost
	if !b.lossRoundStart {
		return
	}
	// The draft takes any loss in a round for congestion. A path that loses at
	// random would so lose its rate too, a little with each.
	if bbrManyLost(w, int(w.Lost-b.lostBefore), b.inflightLatest) {
		b.lossInRound = true
	}
	b.lostBefore = w.Lost
	// BBRAdaptLowerBoundsFromCongestion (5.5.10.3); not while it probes.
	if b.lossInRound && b.state != bbrStartup && b.state != bbrProbeRefill && b.state != bbrProbeUp {
		s := &b.bounds
		if s.bwLo == ^uint64(0) {
			s.bwLo = b.maxBW()
		}
		if s.inflightLo == bbrInfinite {
			s.inflightLo = w.Cwnd
		}
		s.bwLo = max(b.bwLatest, uint64(bbrBeta*float64(s.bwLo)))
		s.inflightLo = max(b.inflightLatest, int(bbrBeta*float64(s.inflightLo)))
	}
	b.lossInRound = false
}

// updateRound is 5.5.1.
func (b *bbr) updateRound(w *Window, rs *bbrSample) {
	b.roundStart = rs.valid && rs.Prior >= b.nextRound
	if b.roundStart {
		b.startRound(w)
		b.rounds++
		b.roundsSinceProbe++
	}
}

func (b *bbr) startRound(w *Window) { b.nextRound = w.Delivered }

// updateAggregation is 5.5.9: how much more was acknowledged at once than the
// bandwidth explains.
func (b *bbr) updateAggregation(w *Window, rs *bbrSample) {
	length := 1
	if b.fullBWReached {
		length = bbrExtraAckedLen
	}
	if b.roundStart {
		if b.extraRounds++; b.extraRounds >= length {
			b.extraRounds = 0
			b.extra = [2]int{b.extra[1], 0}
		}
	}
	expected := int(float64(b.bw()) * (w.Now - b.extraFrom).Seconds())
	if b.extraDelivered <= expected {
		b.extraDelivered, b.extraFrom, expected = 0, w.Now, 0
	}
	b.extraDelivered += rs.acked
	b.extra[1] = max(b.extra[1], min(b.extraDelivered-expected, w.Cwnd))
}

func (m *bbrModel) extraAcked() int { return max(m.extra[0], m.extra[1]) }

// updateMinRTT is 5.3.4.3.
func (b *bbr) updateMinRTT(w *Window, rs *bbrSample) {
	b.probeExpired = w.Now > b.probeMinRTTAt+bbrProbeRTTEvery
	if rs.rtt > 0 && (b.probeMinRTT == 0 || rs.rtt < b.probeMinRTT || b.probeExpired) {
		b.probeMinRTT, b.probeMinRTTAt = rs.rtt, w.Now
	}
	if b.probeMinRTT > 0 && (b.minRTT == 0 || b.probeMinRTT < b.minRTT || w.Now > b.minRTTAt+bbrMinRTTLen) {
		b.minRTT, b.minRTTAt = b.probeMinRTT, b.probeMinRTTAt
	}
}

// bdp is BBRBDPMultiple (5.6.4.2).
func (b *bbr) bdp(bw uint64, gain float64) int {
	if b.minRTT == 0 {
		return b.initialCwnd
	}
	return int(gain * float64(bw) * b.minRTT.Seconds())
}

// inflight is BBRInflight.
func (b *bbr) inflight(w *Window, bw uint64, gain float64) int { return b.inflightWith(w, bw, gain, 0) }

// inflightWith has the quantization budget (5.6.4.2): room for what hosts send
// and acknowledge at once.
func (b *bbr) inflightWith(w *Window, bw uint64, gain float64, extra int) int {
	quantum := min(max(int(w.PacingRate/1000), 2*w.MSS), 65536) // 5.6.3
	n := max(b.bdp(bw, gain)+extra, 3*quantum, bbrMinPipe*w.MSS)
	if b.state == bbrProbeUp {
		n += 2 * w.MSS
	}
	return n
}

// withHeadroom is BBRInflightWithHeadroom: room left for others.
func (b *bbr) withHeadroom(w *Window) int {
	if b.inflightHi == bbrInfinite {
		return bbrInfinite
	}
	room := max(w.MSS, int(bbrHeadroom*float64(b.inflightHi)))
	return max(b.inflightHi-room, bbrMinPipe*w.MSS)
}

// target is BBRTargetInflight.
func (b *bbr) target(w *Window) int { return min(b.bdp(b.bw(), 1), w.Cwnd) }

// tooHigh is BBRIsInflightTooHigh (5.5.10.2).
func (*bbr) tooHigh(w *Window, rs *bbrSample) bool { return bbrManyLost(w, rs.lost, rs.InFlight) }

// bbrManyLost says whether more than 2% was lost. Of a window of a few dozen
// segments two losses are more than that, and chance: beyond the draft, it must
// be two standard deviations more.
func bbrManyLost(w *Window, lost, inFlight int) bool {
	mss := float64(w.MSS)
	expected := bbrLossThresh * float64(inFlight) / mss
	return float64(lost)/mss > expected+2*math.Sqrt(expected)
}
