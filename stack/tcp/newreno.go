package tcp

import "time"

func init() {
	RegisterLossDetector("newreno", func() LossDetector { return &newReno{} })
}

// newReno finds losses by three duplicate ACKs (RFC 5681 3.2), and in recovery
// by partial acknowledgments (RFC 6582 3.2). It is for peers without SACK.
type newReno struct{}

// dupThresh is DupThresh (RFC 5681 3.2).
const dupThresh = 3

// Delivered does nothing.
func (*newReno) Delivered(Record, time.Duration) {}

// OnAck is step 3 of RFC 6582 3.2.
func (n *newReno) OnAck(s *Sent, a *Ack) {
	switch {
	case !s.Recovering():
		if s.DupAcks() >= dupThresh {
			s.LoseHead()
		}
	case a.Acked > 0 && !s.At(0).Lost:
		s.LoseHead()
	}
}

// OnTimer does nothing.
func (*newReno) OnTimer(*Sent) {}

// OnTimeout does nothing.
func (*newReno) OnTimeout(*Sent) {}

// OnDSACK does nothing.
func (*newReno) OnDSACK(*Sent, Range) {}
