package tcp

import "golang.org/x/sys/unix"

// AckChecker is a sender's defence against acknowledgments that lie. One belongs
// to one connection.
type AckChecker interface {
	// Withhold is asked about new data that is about to be sent, and that more
	// follows: whether the first segment of it is to be kept back until the peer
	// reports it missing. One is kept back at a time.
	Withhold(w *Window, start, end Seq) bool
	// Believe says whether to believe an acknowledgment; c.Honest is false if it
	// acknowledges what was withheld. An ACK that is not believed resets the
	// connection.
	Believe(w *Window, c Claim) bool
}

// Claim is an acknowledgment as an AckChecker sees it.
type Claim struct {
	Una, Ack Seq  // SND.UNA before, and SEG.ACK
	Honest   bool // nothing of it, nor of its SACK blocks, was kept back
}

var ackCheckers = registry[AckChecker]{kind: "ACK checker"}

// RegisterAckChecker makes an ACK checker known under a name, for package
// initialization.
func RegisterAckChecker(name string, f func() AckChecker) { ackCheckers.add(name, f) }

// AckCheckers are their names.
func AckCheckers() []string { return ackCheckers.names() }

func init() {
	RegisterAckChecker("none", func() AckChecker { return trusting{} })
	RegisterAckChecker("skip", func() AckChecker { return &skipping{} })
}

// trusting believes everything, as TCP does.
type trusting struct{}

func (trusting) Withhold(*Window, Seq, Seq) bool { return false }
func (trusting) Believe(*Window, Claim) bool     { return true }

// skipping withholds a segment at random now and then (randomly skipped
// segments: Sherwood, Bhattacharjee and Braud, "Misbehaving TCP Receivers Can
// Cause Internet-Wide Congestion Collapse", 2005, 4). A peer that acknowledges it
// acknowledges what it cannot have. An honest one reports a gap, which is filled
// at once and is no sign of congestion: one delay of a round trip.
type skipping struct {
	started bool
	left    int // bytes until the next one
}

// skipEvery is how many segments there are between two that are withheld, on
// average.
const skipEvery = 64

func (k *skipping) Withhold(w *Window, start, end Seq) bool {
	if !k.started {
		k.started = true
		k.draw(w)
	}
	if k.left -= end.Sub(start); k.left > 0 {
		return false
	}
	k.draw(w)
	return true
}

func (k *skipping) draw(w *Window) {
	k.left = (skipEvery/2 + int(w.Random()%skipEvery)) * w.MSS
}

func (*skipping) Believe(_ *Window, c Claim) bool { return c.Honest }

// withheld is the segment that was kept back.
type withheld struct {
	on         bool // not sent yet
	filled     bool // sent since, and not acknowledged
	start, end Seq
}

// withhold asks the checker about n bytes of new data that are about to be sent,
// of avail; if it says so, the first segment of them is not sent.
func (c *Conn) withhold(n, avail int) bool {
	h, mss := &c.held, c.snd.mss
	if h.on || h.filled || n < mss || avail < n+mss || c.ca != CAOpen || c.sb.empty() || c.snd.urgent {
		return false
	}
	start := c.snd.nxt
	if !c.checker.Withhold(&c.win, start, start.Add(n)) {
		return false
	}
	*h = withheld{on: true, start: start, end: start.Add(mss)}
	return true
}

// missesHeld says whether duplicate ACKs come from what was kept back.
func (c *Conn) missesHeld() bool {
	return (c.held.on || c.held.filled) && c.snd.una == c.held.start
}

// believed asks the checker about an acknowledgment; if it lies, the connection
// ends. Then the segment that was withheld goes out, if the peer misses it.
func (c *Conn) believed(s *Segment) bool {
	h := &c.held
	claim := Claim{Una: c.snd.una, Ack: s.Ack, Honest: !h.on || s.Ack.AtOrBefore(h.start)}
	missed := false
	if h.on {
		for _, r := range s.Options.SACK[:s.Options.NSACK] {
			if r.Start.Before(h.end) && r.End.After(h.start) {
				claim.Honest = false
			}
			missed = missed || r.Start.AtOrAfter(h.end)
		}
		missed = missed || s.Ack == h.start && s.Ack == c.snd.una && s.DataLen == 0
	}
	if !c.checker.Believe(&c.win, claim) {
		c.sendReset(c.snd.nxt, 0, RST)
		c.end(unix.ECONNABORTED)
		return false
	}
	if h.filled && s.Ack.After(h.start) {
		h.filled = false
	}
	if missed {
		c.release()
	}
	return true
}

// release sends what was withheld.
func (c *Conn) release() {
	h := &c.held
	if !h.on {
		return
	}
	h.on, h.filled = false, true
	i := c.sb.find(h.start)
	if i >= c.sb.size() {
		return
	}
	s := c.newSegment(h.start, 0)
	c.acknowledge(s)
	s.DataLen = h.end.Sub(h.start)
	s.Data = c.snd.buf.chunks(s.Data, h.start, s.DataLen)
	c.ecn.mark(s, true)
	r := c.sb.at(i)
	r.sent = c.now()
	r.flags |= everRetrans // it came late, that is no measure of the network
	c.rate.onSend(c, r, r.sent)
	c.emit(s)
	c.sentAck()
}
