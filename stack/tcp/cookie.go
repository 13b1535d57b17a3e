package tcp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// A SYN cookie is an initial sequence number that says everything that is to be
// remembered of a SYN (RFC 4987 3.6): of its 32 bits 5 are the minute, 3 the
// MSS, 24 a keyed hash of these and the addresses. What other options were
// agreed on is in the timestamp, if the peer has them.

// cookieMSS are the values of MSS that a cookie can have, bytes.
var cookieMSS = [8]uint16{216, 536, 1220, 1360, 1400, 1440, 1460, 8960}

// cookieAge is how many minutes a cookie is good for.
const cookieAge = 2

func cookieHash(cfg *Config, local, remote netip.AddrPort, irs Seq, minute uint64, index int) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], hashAddrs(cfg.Secret, local, remote))
	binary.LittleEndian.PutUint32(b[8:], uint32(irs))
	binary.LittleEndian.PutUint32(b[12:], uint32(minute)<<3|uint32(index))
	return uint32(sipHash([2]uint64{cfg.Secret[1], cfg.Secret[0]}, b[:])) & 0xffffff
}

// The bits of a cookie's timestamp.
const (
	cookieScale = 15
	cookieSACK  = 16
	cookieBits  = 64
)

// MakeCookie makes the SYN-ACK that answers a SYN, without a connection.
func MakeCookie(cfg *Config, syn *Segment, local, remote netip.AddrPort, p Path, now time.Duration, out *Segment) {
	c := New(cfg, nil)
	c.path, c.LocalPort, c.RemotePort = p, syn.DstPort, syn.SrcPort
	index := 0
	for i, m := range cookieMSS {
		if m <= max(syn.Options.MSS, cookieMSS[0]) {
			index = i
		}
	}
	if syn.Options.Has&HasMSS == 0 {
		index = 1
	}
	minute := uint64(now / time.Minute)
	iss := Seq(uint32(minute&31)<<27 | uint32(index)<<24 | cookieHash(cfg, local, remote, syn.Seq, minute, index))
	*out = Segment{SrcPort: syn.DstPort, DstPort: syn.SrcPort, Seq: iss, Ack: syn.Seq.Add(1), Flags: SYN | ACK, Window: 65535}
	o := &out.Options
	o.Has, o.MSS = HasMSS, uint16(c.advertisedMSS())
	if both := c.offers() & syn.Options.Has; both&HasTimestamps != 0 {
		o.Has |= both
		o.WScale = c.chooseScale()
		bits := uint32(cookieScale)
		if both&HasWScale != 0 {
			bits = uint32(min(syn.Options.WScale, maxWScale))
		}
		if both&HasSACKPermitted != 0 {
			bits |= cookieSACK
		}
		t := uint32(now/time.Millisecond) &^ (cookieBits - 1)
		o.TSVal, o.TSEcr = t|bits, syn.Options.TSVal
	}
	cfg.Counters.CookiesSent.Add(1)
}

// CookieValid says whether a segment acknowledges a cookie.
func CookieValid(cfg *Config, s *Segment, local, remote netip.AddrPort, now time.Duration) bool {
	_, ok := cookieIndex(cfg, s, local, remote, now)
	return ok
}

func cookieIndex(cfg *Config, s *Segment, local, remote netip.AddrPort, now time.Duration) (int, bool) {
	if s.Flags&(SYN|RST|ACK) != ACK {
		return 0, false
	}
	iss := uint32(s.Ack) - 1
	minute := uint64(now / time.Minute)
	age := (minute - uint64(iss>>27)) & 31
	if age >= cookieAge || age > minute {
		return 0, false
	}
	index := int(iss >> 24 & 7)
	return index, cookieHash(cfg, local, remote, s.Seq.Add(-1), minute-age, index) == iss&0xffffff
}

// OpenCookie makes the connection of a cookie, by the segment that acknowledges
// it, which is then input as any other. It says whether the cookie is good.
func (c *Conn) OpenCookie(s *Segment, local, remote netip.AddrPort, p Path) bool {
	index, ok := cookieIndex(c.cfg, s, local, remote, c.now())
	if !ok {
		return false
	}
	syn := Segment{SrcPort: s.SrcPort, DstPort: s.DstPort, Seq: s.Seq.Add(-1), Flags: SYN, Window: s.Window}
	o := &syn.Options
	o.Has, o.MSS = HasMSS, cookieMSS[index]
	c.begin(s.DstPort, s.SrcPort, s.Ack.Add(-1), p)
	if t := s.Options; t.Has&HasTimestamps != 0 {
		o.Has |= HasTimestamps
		o.TSVal = t.TSVal
		if scale := t.TSEcr & cookieScale; scale != cookieScale {
			o.Has, o.WScale = o.Has|HasWScale, uint8(scale)
		}
		if t.TSEcr&cookieSACK != 0 {
			o.Has |= HasSACKPermitted
		}
		// Timestamps go on from those of the cookie.
		c.ts.offset = 0
	}
	c.passive = true
	c.state = SynReceived
	c.takeSYN(&syn)
	c.snd.nxt = c.snd.iss.Add(1)
	c.sb.add(c.snd.iss, c.snd.nxt, c.now())
	c.sb.at(0).flags |= everRetrans // no sample of RTT
	c.rcv.wnd = min(c.windowSpace(), 65535)
	return true
}
