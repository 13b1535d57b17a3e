package tcp

import "time"

// RateSample is a sample of the rate at which the network delivers
// (draft-cheng-iccrg-delivery-rate-estimation 3).
type RateSample struct {
	Delivered  int           // bytes delivered over Interval
	Interval   time.Duration // 0: no sample
	AppLimited bool          // the sender had too little to send
	Prior      uint64        // C.delivered when what was acknowledged was sent
	InFlight   int           // at that time, bytes
	PriorLost  uint64        // C.lost at that time
}

// Rate is the sample's rate in bytes a second, 0 if there is none.
func (s *RateSample) Rate() uint64 {
	if s.Interval <= 0 {
		return 0
	}
	return uint64(float64(s.Delivered) / s.Interval.Seconds())
}

// rateState is the connection's part (3.1.1).
type rateState struct {
	delivered   uint64
	deliveredAt time.Duration
	firstSent   time.Duration
	appLimited  uint64 // C.delivered at which the sample is good again; 0: it is
	latest      uint64 // the last sample, bytes a second

	// of the newest record that the acknowledgment in hand delivers
	has           bool
	prior         uint64
	priorAt       time.Duration
	sendElapsed   time.Duration
	priorInFlight int
	priorLimited  bool
	priorLost     uint64
	priorSent     time.Duration
}

// onSend stamps a record (3.1.2).
func (s *rateState) onSend(c *Conn, r *record, now time.Duration) {
	pipe := c.pipe()
	if pipe-r.len() <= 0 {
		s.firstSent, s.deliveredAt = now, now
	}
	r.firstSent, r.deliveredAt, r.delivered = s.firstSent, s.deliveredAt, s.delivered
	r.inFlight, r.priorLost = pipe, c.sb.totalLost
	if s.appLimited > 0 {
		r.flags |= recAppLimited
	}
}

// take is told of a record that was delivered (3.1.3): the one sent last counts.
func (s *rateState) take(r *record) {
	if s.has && (r.delivered < s.prior || r.delivered == s.prior && r.sent < s.priorSent) {
		return
	}
	s.has = true
	s.prior, s.priorAt = r.delivered, r.deliveredAt
	s.sendElapsed = r.sent - r.firstSent
	s.priorLimited = r.flags&recAppLimited != 0
	s.priorInFlight, s.priorLost = r.inFlight, r.priorLost
	s.priorSent = r.sent
	s.firstSent = r.sent
}

// onAck makes the sample (3.1.3).
func (s *rateState) onAck(c *Conn, a *Ack, now time.Duration) {
	if a.Delivered > 0 {
		s.deliveredAt = now
	}
	if s.appLimited > 0 && s.delivered > s.appLimited {
		s.appLimited = 0
	}
	if !s.has {
		return
	}
	s.has = false
	a.Rate = RateSample{
		Delivered: int(s.delivered - s.prior), AppLimited: s.priorLimited, Prior: s.prior, InFlight: s.priorInFlight,
		Interval: max(s.sendElapsed, now-s.priorAt), PriorLost: s.priorLost,
	}
	if m := c.win.MinRTT; m > 0 && a.Rate.Interval < m {
		a.Rate.Interval = 0 // compressed beyond belief
	}
	if r := a.Rate.Rate(); r > 0 {
		s.latest = r
	}
}

// markAppLimited is 3.1.4: nothing is left to send though the window would
// allow it.
func (s *rateState) markAppLimited(c *Conn) {
	s.appLimited = max(s.delivered+uint64(c.pipe()), 1)
}
