package tcp

import "time"

// Blind attacks (RFC 5961): a segment that could have been made without seeing
// the connection is answered with an acknowledgment that a genuine peer reacts
// to.

// challenge sends a challenge ACK, within the limits of RFC 5961 7: so many a
// second of all connections together.
func (c *Conn) challenge() {
	ch := &c.cfg.challenge
	second := int64(c.now() / time.Second)
	if ch.second.Swap(second) != second {
		ch.sent.Store(0)
	}
	if ch.sent.Add(1) > int64(c.cfg.ChallengeAcks) {
		return
	}
	c.cfg.Counters.ChallengeAcks.Add(1)
	c.sendAck()
}

// invalidInterval bounds the answers to segments that are not acceptable and
// have no data, so that two ends never answer each other for ever (Linux's
// tcp_invalid_ratelimit).
const invalidInterval = 500 * time.Millisecond

// answerUnacceptable answers a segment that is not acceptable (RFC 9293
// 3.10.7.4, first).
func (c *Conn) answerUnacceptable(s *Segment) {
	now := c.now()
	if s.DataLen == 0 && s.Flags&(SYN|FIN) == 0 {
		if c.rcv.lastProbe != 0 && now-c.rcv.lastProbe < invalidInterval {
			return
		}
		c.rcv.lastProbe = max(now, 1)
	}
	c.sendAck()
}
