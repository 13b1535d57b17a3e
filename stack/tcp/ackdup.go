package tcp

func init() {
	RegisterAckPolicy("dup", func() AckPolicy { return dupAck{} })
}

// dupAck is DupACK spoofing (Savage et al., 1999, 2.2): each segment is
// acknowledged several times, so that the sender takes the duplicates for
// segments that have left the network, and sends as many. It misbehaves; use it
// where the sender is yours.
type dupAck struct{ quiet }

// dupCopies is how many duplicates follow an acknowledgment.
const dupCopies = 4

func (dupAck) OnData(a *Acker, in Arrival) {
	a.Send(a.Next())
	if in.Len == 0 || in.FIN {
		return
	}
	for range dupCopies * max(in.Packets, 1) {
		a.Send(a.Next())
	}
}
