package tcp

func init() {
	RegisterAckPolicy("split", func() AckPolicy { return splitAck{} })
}

// splitAck is ACK division (Savage et al., 1999, 2.1): each segment is
// acknowledged in pieces, to grow the window of a sender that counts
// acknowledgments. It misbehaves; use it where the sender is yours.
type splitAck struct{ quiet }

// splitPieces is how many acknowledgments a segment gets.
const splitPieces = 8

func (splitAck) OnData(a *Acker, in Arrival) {
	n := a.Next().Sub(in.From)
	if in.FIN {
		n--
	}
	if pieces := splitPieces * max(in.Packets, 1); n > pieces {
		for i := 1; i < pieces; i++ {
			a.Send(in.From.Add(n * i / pieces))
		}
	}
	a.Now()
}

// quiet is what policies need of AckPolicy that keep no state.
type quiet struct{}

func (quiet) Init(*Acker) {}
func (quiet) OnAckSent()  {}
func (quiet) OnTimeout()  {}
