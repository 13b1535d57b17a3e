package tcp

import "time"

// CAState is the state of the sender as Linux's tcpi_ca_state has it.
type CAState uint8

// The states: all is well; something arrived out of order; the window was
// reduced for ECN; fast recovery; after a timeout.
const (
	CAOpen CAState = iota
	CADisorder
	CACWR
	CARecovery
	CALoss
)

// String is the state's name as Linux writes it.
func (s CAState) String() string {
	return [...]string{"Open", "Disorder", "CWR", "Recovery", "Loss"}[s]
}

// LossDetector decides what of that in flight is lost.
type LossDetector interface {
	// Delivered is told of each record that is acknowledged or SACKed.
	Delivered(r Record, now time.Duration)
	// OnAck follows an acknowledgment; it loses (Sent.Lose) what it believes
	// to be lost, and may ask for OnTimer (Sent.SetTimer).
	OnAck(s *Sent, a *Ack)
	// OnTimer is what SetTimer asked for; OnTimeout is told of an RTO.
	OnTimer(s *Sent)
	OnTimeout(s *Sent)
	// OnDSACK is told of a range that the peer got twice.
	OnDSACK(s *Sent, r Range)
}

var lossDetectors = registry[LossDetector]{kind: "loss detection"}

// RegisterLossDetector makes a loss detection known under a name, for package
// initialization.
func RegisterLossDetector(name string, f func() LossDetector) { lossDetectors.add(name, f) }

// LossDetectors are their names.
func LossDetectors() []string { return lossDetectors.names() }

// Record is a piece of what is in flight, as a LossDetector sees it.
type Record struct {
	Start, End                 Seq
	Sent                       time.Duration // last
	Sacked, Lost, Resent, Ever bool          // Resent: again since it was lost; Ever: at any time
}

func (r *record) view() Record {
	return Record{r.start, r.end, r.sent, r.flags&recSacked != 0, r.flags&recLost != 0, r.flags&recRetrans != 0, r.flags&everRetrans != 0}
}

// Sent is what is in flight, as a LossDetector sees it.
type Sent struct{ c *Conn }

// Len is the number of records, At one of them in the order of sequence
// numbers, Lose says that one is lost.
func (s *Sent) Len() int { return s.c.sb.size() }

// At is record i.
func (s *Sent) At(i int) Record { return s.c.sb.at(i).view() }

// Lose says that record i is believed to be lost.
func (s *Sent) Lose(i int) { s.c.sb.markLost(i) }

// LoseHead says that the first segment is believed to be lost.
func (s *Sent) LoseHead() { s.c.sb.loseHead(s.c.snd.mss) }

// SACKed is how many bytes are SACKed, or believed to have arrived by the count
// of duplicate ACKs.
func (s *Sent) SACKed() int { return s.c.sb.sacked + s.c.recovery.dupSacked }

// DupAcks is the number of duplicate ACKs in a row.
func (s *Sent) DupAcks() int { return s.c.recovery.dupAcks }

// Recovering says whether fast recovery, or recovery from a timeout, is under way.
func (s *Sent) Recovering() bool { return s.c.ca >= CARecovery }

// Window has MSS and round-trip times.
func (s *Sent) Window() *Window { return &s.c.win }

// Una and Nxt are SND.UNA and SND.NXT.
func (s *Sent) Una() Seq { return s.c.snd.una }

// Nxt is SND.NXT.
func (s *Sent) Nxt() Seq { return s.c.snd.nxt }

// SetTimer asks for OnTimer after a time; 0 for none.
func (s *Sent) SetTimer(after time.Duration) {
	c := s.c
	if after > 0 {
		c.set(timerLoss, after)
		c.recovery.reordering = true
	} else if c.recovery.reordering {
		c.stop(timerLoss)
		c.recovery.reordering = false
	}
}

// recoveryState is the state of loss recovery.
type recoveryState struct {
	high       Seq // SND.NXT when recovery, or the reduction for ECN, began
	dupAcks    int
	dupSacked  int  // without SACK: bytes that duplicate ACKs stand for
	reordering bool // timerLoss is the detector's, not a tail loss probe's
	prr        prr
	tlp        tlp
	undo
	frto
}

func (c *Conn) sent() *Sent {
	c.views.sent.c = c
	return &c.views.sent
}

// recoverOnAck is what an acknowledgment means for recovery and the window.
func (c *Conn) recoverOnAck(a *Ack) {
	r := &c.recovery
	c.refreshWindow()
	if w, ok := c.cc.(AckWatcher); ok {
		w.Watch(&c.win, a)
	}
	c.countDuplicates(a)
	c.tlpOnAck(a)
	lost, marks := c.sb.lost, c.sb.marks
	if a.ECE && c.snd.una.After(a.prevUna) {
		c.enterCWR()
	}
	switch {
	case c.ca == CALoss:
		c.lossOnAck(a)
	case c.ca == CARecovery:
		if !c.tryUndo(a) && c.snd.una.AtOrAfter(r.high) {
			c.leaveRecovery()
		}
	case c.ca == CACWR && c.snd.una.AtOrAfter(r.high):
		c.win.Cwnd = max(min(c.win.Cwnd, c.win.Ssthresh), c.snd.mss)
		c.setCA(CAOpen)
	}
	if !c.sb.empty() {
		c.detector.OnAck(c.sent(), a)
	}
	a.Lost = max(c.sb.lost-lost, 0)
	if c.sb.marks > marks && c.ca < CARecovery {
		c.enterRecovery()
	}
	if c.ca <= CADisorder {
		if c.sb.sacked+r.dupSacked > 0 {
			c.setCA(CADisorder)
		} else {
			c.setCA(CAOpen)
		}
	}
	c.refreshWindow()
	if (c.ca == CARecovery || c.ca == CACWR) && !c.ownsWindow() {
		c.prrOnAck(a)
		return
	}
	c.cc.OnAck(&c.win, a)
	c.win.Cwnd = max(c.win.Cwnd, c.snd.mss)
}

// countDuplicates counts duplicate ACKs (RFC 5681 2), which without SACK are
// all that is known of what arrived.
func (c *Conn) countDuplicates(a *Ack) {
	r := &c.recovery
	mss := c.snd.mss
	switch {
	case a.Acked > 0:
		r.dupAcks = 0
		if r.dupSacked > 0 { // what is acknowledged had left the network: all but one segment
			r.dupSacked = max(r.dupSacked-max(a.Acked-mss, 0), 0)
			if c.ca < CARecovery || c.snd.una.AtOrAfter(r.high) {
				r.dupSacked = 0
			}
		}
	case a.Duplicate && !c.missesHeld():
		r.dupAcks++
		if c.agreed&HasSACKPermitted == 0 {
			r.dupSacked = min(r.dupSacked+mss, max(c.sb.bytes()-mss, 0))
			a.Delivered += mss
		}
	}
}

func (c *Conn) setCA(s CAState) {
	c.ca = s
	c.win.State = s
}

// ownsWindow says whether the congestion control has the window in hand during
// recovery too.
func (c *Conn) ownsWindow() bool {
	o, ok := c.cc.(WindowOwner)
	return ok && o.OwnsWindow()
}

// enterRecovery is fast retransmit (RFC 5681 3.2, RFC 6675 5).
func (c *Conn) enterRecovery() {
	r := &c.recovery
	r.high = c.snd.nxt
	c.cfg.Counters.FastRetransmits.Add(1)
	c.undoBegin(c.ca == CACWR)
	if c.ca != CACWR {
		c.prrBegin()
		c.cc.OnEvent(&c.win, EventLoss)
		c.clampSsthresh()
		c.ecn.sendCWR = c.ecn.on
	}
	c.setCA(CARecovery)
	c.stopTLP()
}

// enterCWR is the reaction to ECE, at most once a round trip (RFC 3168 6.1.2).
func (c *Conn) enterCWR() {
	if c.ca >= CACWR {
		return
	}
	c.recovery.high = c.snd.nxt
	c.undoForget()
	c.prrBegin()
	c.cc.OnEvent(&c.win, EventECN)
	c.clampSsthresh()
	c.ecn.sendCWR = true
	c.setCA(CACWR)
}

// enterLoss is a retransmission timeout (RFC 5681 3.1): everything is taken for
// lost, the window is one segment.
func (c *Conn) enterLoss() {
	r := &c.recovery
	first := c.ca != CALoss || c.snd.una.AtOrAfter(r.high)
	if c.sb.at(0).flags&recSacked != 0 { // the peer has discarded what it SACKed
		c.sb.renege()
	}
	c.refreshWindow()
	if first {
		c.undoBegin(false)
		c.cc.OnEvent(&c.win, EventTimeout)
		c.clampSsthresh()
	}
	c.frtoBegin(first)
	for i := range c.sb.size() {
		c.sb.markLost(i)
	}
	c.sb.lostHint = c.snd.una
	r.dupAcks, r.dupSacked = 0, 0
	r.high = c.snd.nxt
	c.detector.OnTimeout(c.sent())
	if !c.ownsWindow() {
		c.win.Cwnd = c.snd.mss
	}
	c.setCA(CALoss)
	c.stopTLP()
	c.pace.next = 0
}

// lossOnAck is an acknowledgment after a timeout.
func (c *Conn) lossOnAck(a *Ack) {
	if c.frtoOnAck(a) || c.tryUndo(a) {
		return
	}
	if c.snd.una.AtOrAfter(c.recovery.high) {
		c.leaveRecovery()
	}
}

// leaveRecovery ends recovery: everything that was in flight at its beginning
// has arrived.
func (c *Conn) leaveRecovery() {
	r := &c.recovery
	r.dupAcks, r.dupSacked, r.retransStamp = 0, 0, 0
	if c.ca == CARecovery && !c.ownsWindow() {
		c.win.Cwnd = max(c.win.Ssthresh, c.snd.mss)
	}
	c.setCA(CAOpen)
	r.frtoOn, r.frtoNew = false, false
	c.cc.OnEvent(&c.win, EventRecovered)
}

// clampSsthresh keeps ssthresh at two segments at least (RFC 5681 3.1).
func (c *Conn) clampSsthresh() { c.win.Ssthresh = max(c.win.Ssthresh, 2*c.snd.mss) }

// onLossTimer is the expiry of the detector's timer or of the tail loss probe's.
func (c *Conn) onLossTimer() {
	if c.sb.empty() {
		return
	}
	if !c.recovery.reordering {
		c.sendTLP()
		return
	}
	c.recovery.reordering = false
	marks := c.sb.marks
	c.refreshWindow()
	c.detector.OnTimer(c.sent())
	if c.sb.marks > marks && c.ca < CARecovery {
		c.refreshWindow()
		c.enterRecovery()
		if !c.ownsWindow() {
			c.prrOnAck(&Ack{})
		}
	}
}

// noteDSACK is told of data that the peer got twice.
func (c *Conn) noteDSACK(d Range) {
	c.segs.dsackDups++
	r := &c.recovery
	if r.undoOn {
		r.undoRetrans -= d.Len()
	}
	r.tlp.dsacked = r.tlp.on && d.End == r.tlp.end
	c.detector.OnDSACK(c.sent(), d)
}
