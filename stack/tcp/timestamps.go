package tcp

import "time"

// timestamps is the state of the timestamps option (RFC 7323 3 and 5).
type timestamps struct {
	offset   uint32
	recent   uint32        // TS.Recent
	recentAt time.Duration // when it was set
}

// tsNow is the timestamp clock: milliseconds (RFC 7323 5.4), from 1, for 0 in
// an echo means none.
func (c *Conn) tsNow() uint32 {
	t := uint32(c.now()/time.Millisecond) + c.ts.offset
	if t == 0 {
		t = 1
	}
	return t
}

// tsOutdated is the age at which TS.Recent says nothing (RFC 7323 5.5).
const tsOutdated = 24 * 24 * time.Hour

// pawsReject is rule R1 of PAWS (RFC 7323 5.3): whether the segment is an old
// duplicate.
func (c *Conn) pawsReject(s *Segment) bool {
	return int32(s.Options.TSVal-c.ts.recent) < 0 && c.now()-c.ts.recentAt < tsOutdated
}

// takeTimestamp is the update of TS.Recent (RFC 7323 4.3): from the segment
// that covers the last acknowledgment sent.
func (c *Conn) takeTimestamp(s *Segment) {
	if s.Options.Has&HasTimestamps == 0 || c.agreed&HasTimestamps == 0 {
		return
	}
	if s.Seq.AtOrBefore(c.rcv.wup) && !c.pawsReject(s) {
		c.ts.recent, c.ts.recentAt = s.Options.TSVal, c.now()
	}
}

// echoedRTT is the round-trip time by the echo of our timestamp, 0 if there is
// none (RFC 7323 4.1).
func (c *Conn) echoedRTT(s *Segment) time.Duration {
	if c.agreed&HasTimestamps == 0 || s.Options.Has&HasTimestamps == 0 || s.Options.TSEcr == 0 {
		return 0
	}
	d := int32(c.tsNow() - s.Options.TSEcr)
	if d < 0 {
		return 0
	}
	return time.Duration(max(d, 1)) * time.Millisecond
}

// Timestamp is what the connection's timestamp clock says, for tests and
// diagnostics.
func (c *Conn) Timestamp() uint32 { return c.tsNow() }
