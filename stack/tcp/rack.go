package tcp

import "time"

func init() {
	RegisterLossDetector("rack", func() LossDetector { return &rack{mult: 1} })
}

// rack is RACK (RFC 8985 6): lost is what was sent well before something that
// has been delivered.
type rack struct {
	xmit  time.Duration // RACK.xmit_ts, of the newest that was delivered
	end   Seq           // RACK.end_seq
	rtt   time.Duration // RACK.rtt
	fack  Seq           // RACK.fack
	valid bool

	reordering bool // RACK.reordering_seen
	mult       int  // RACK.reo_wnd_mult
	persist    int  // RACK.reo_wnd_persist, in recoveries
	round      Seq  // RACK.dsack_round
	inRound    bool
	recovering bool
	minRTT     time.Duration
}

// Delivered is steps 2 and 3 (6.2).
func (k *rack) Delivered(r Record, now time.Duration) {
	rtt := now - r.Sent
	if r.Ever && rtt < k.minRTT {
		return // the original arrived, not the retransmission
	}
	if !k.valid || k.after(r.Sent, r.End) {
		k.xmit, k.end, k.rtt, k.valid = r.Sent, r.End, rtt, true
	}
	if k.fack == 0 || r.End.After(k.fack) {
		k.fack = r.End
	} else if r.End.Before(k.fack) && !r.Ever {
		k.reordering = true
	}
}

// after says whether what was sent at t, ending at end, was sent after the
// newest that was delivered (RACK_sent_after).
func (k *rack) after(t time.Duration, end Seq) bool {
	return t > k.xmit || t == k.xmit && end.After(k.end)
}

// window is step 4: the reordering window.
func (k *rack) window(s *Sent) time.Duration {
	w := s.Window()
	if !k.reordering && (s.Recovering() || s.SACKed() >= 3*w.MSS) {
		return 0
	}
	return min(time.Duration(k.mult)*w.MinRTT/4, w.SRTT)
}

// OnAck is step 5.
func (k *rack) OnAck(s *Sent, a *Ack) {
	k.minRTT = s.Window().MinRTT
	if k.recovering && !s.Recovering() { // a recovery has ended
		if k.persist--; k.persist <= 0 {
			k.persist, k.mult = 0, 1
		}
	}
	k.recovering = s.Recovering()
	if k.inRound && s.Una().AtOrAfter(k.round) {
		k.inRound = false
	}
	if s.SACKed() > 0 || s.Recovering() {
		k.detect(s)
	} else {
		s.SetTimer(0)
	}
}

// OnTimer is the end of a reordering window.
func (k *rack) OnTimer(s *Sent) { k.detect(s) }

// OnTimeout: after a timeout everything is lost already (6.3).
func (k *rack) OnTimeout(*Sent) {}

// OnDSACK widens the window by a quarter of the least round-trip time, once a
// round trip, for 16 recoveries (step 4).
func (k *rack) OnDSACK(s *Sent, _ Range) {
	if k.inRound {
		return
	}
	k.inRound, k.round = true, s.Nxt()
	k.mult = min(k.mult+1, 255)
	k.persist = 16
}

func (k *rack) detect(s *Sent) {
	if !k.valid {
		return
	}
	reo, now := k.window(s), s.Window().Now
	var wait time.Duration
	for i := range s.Len() {
		r := s.At(i)
		if r.Sacked || r.Lost && !r.Resent || r.Sent > k.xmit || r.Sent == k.xmit && r.End.AtOrAfter(k.end) {
			continue
		}
		if left := r.Sent + k.rtt + reo - now; left <= 0 {
			s.Lose(i)
		} else {
			wait = max(wait, left)
		}
	}
	s.SetTimer(wait)
}
