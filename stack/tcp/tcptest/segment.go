package tcptest

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
)

// segmentText is a segment of a script, and what of it was given.
type segmentText struct {
	seg                            tcp.Segment
	seq, ack, win, urg, psh, opts  bool
	anyMSS, anyScale, anyVal, anyE bool
	anyCookie                      bool
	notECT                         bool
}

// parse reads a segment. Of one that is expected, the sequence numbers are
// ours and its acknowledgments the peer's; of one that is received, the
// opposite.
func (s *Script) parse(f []string, expected bool) *segmentText {
	s.t.Helper()
	if len(f) == 0 {
		s.fail("want a segment")
	}
	p := &segmentText{}
	mine, theirs := s.iss, s.peer
	if !expected {
		mine, theirs = s.peer, s.iss
	}
	for _, c := range f[0] {
		i := strings.IndexRune("FSRP.UEW", c)
		if i < 0 && c != '-' {
			s.fail("no flag %q", c)
		}
		if i >= 0 {
			p.seg.Flags |= 1 << i
		}
	}
	p.psh = p.seg.Flags&tcp.PSH != 0
	text := strings.Join(f[1:], " ")
	text, opts, hasOpts := strings.Cut(text, "<")
	if hasOpts {
		p.opts = true
		s.options(p, strings.TrimSuffix(strings.TrimSpace(opts), ">"), theirs)
	}
	words := strings.Fields(text)
	p.seg.Window = 65535
	for i := 0; i < len(words); i++ {
		w := words[i]
		next := func() int {
			i++
			if i >= len(words) {
				s.fail("want a number after %s", w)
			}
			n, err := strconv.Atoi(words[i])
			if err != nil {
				s.fail("want a number after %s", w)
			}
			return n
		}
		switch {
		case w == "ack":
			p.ack, p.seg.Ack = true, theirs.Add(next())
		case w == "win":
			p.win, p.seg.Window = true, uint16(next())
		case w == "urg":
			p.urg, p.seg.Urgent = true, uint16(next())
		case w == "ce":
			p.seg.ECN = tcp.CE
		case w == "ect0":
			p.seg.ECN = tcp.ECT0
		case w == "notect":
			p.notECT = true
		case strings.Contains(w, ":"):
			var a, b, n int
			if _, err := fmt.Sscanf(w, "%d:%d(%d)", &a, &b, &n); err != nil || b-a != n {
				s.fail("want SEQ:END(LEN), have %q", w)
			}
			p.seq, p.seg.Seq, p.seg.DataLen = true, mine.Add(a), n
			data := make([]byte, n)
			first := 1 // sequence number of the first byte
			if p.seg.Flags&tcp.SYN != 0 {
				first = 0
			}
			for i := range data {
				data[i] = pattern(a - first + i)
			}
			p.seg.Data = []tcp.Chunk{{B: data}}
		default:
			s.fail("what is %q?", w)
		}
	}
	return p
}

func (s *Script) options(p *segmentText, text string, theirs tcp.Seq) {
	s.t.Helper()
	o := &p.seg.Options
	num := func(w string) int {
		n, err := strconv.Atoi(w)
		if err != nil {
			s.fail("want a number, have %q", w)
		}
		return n
	}
	for part := range strings.SplitSeq(text, ",") {
		w := strings.Fields(part)
		if len(w) == 0 || w[0] == "nop" {
			continue
		}
		switch {
		case w[0] == "mss" && len(w) == 2:
			o.Has |= tcp.HasMSS
			if p.anyMSS = w[1] == "*"; !p.anyMSS {
				o.MSS = uint16(num(w[1]))
			}
		case w[0] == "sackOK":
			o.Has |= tcp.HasSACKPermitted
		case w[0] == "wscale" && len(w) == 2:
			o.Has |= tcp.HasWScale
			if p.anyScale = w[1] == "*"; !p.anyScale {
				o.WScale = uint8(num(w[1]))
			}
		case w[0] == "FO" && len(w) <= 2:
			o.Has |= tcp.HasFastOpen
			if len(w) == 2 {
				p.anyCookie = w[1] == "*"
				o.FastOpen, _ = hex.DecodeString(w[1])
			}
		case w[0] == "TS" && len(w) == 3:
			o.Has |= tcp.HasTimestamps
			if p.anyVal = w[1] == "*"; !p.anyVal {
				o.TSVal = uint32(num(w[1]))
			}
			switch {
			case w[2] == "*":
				p.anyE = true
			case strings.HasPrefix(w[2], "-"):
				o.TSEcr = s.stamp() - uint32(-num(w[2]))
			default:
				o.TSEcr = uint32(num(w[2]))
			}
		case w[0] == "sack":
			for _, r := range w[1:] {
				var a, b int
				if _, err := fmt.Sscanf(r, "%d:%d", &a, &b); err != nil || int(o.NSACK) == len(o.SACK) {
					s.fail("want at most 4 SACK blocks as A:B, have %q", r)
				}
				// SACK is of what the other sends.
				o.SACK[o.NSACK] = tcp.Range{Start: theirs.Add(a), End: theirs.Add(b)}
				o.NSACK++
			}
		default:
			s.fail("no option %q", part)
		}
	}
}

// stamp is what the connection's timestamp clock says.
func (s *Script) stamp() uint32 { return s.host.Timestamp() }

// match compares what was given with a segment that was sent.
func (p *segmentText) match(g *tcp.Segment, s *Script) error {
	flags := g.Flags
	if !p.psh {
		flags &^= tcp.PSH
	}
	w := &p.seg
	switch {
	case flags != w.Flags:
		return fmt.Errorf("flags are %s", g.Flags)
	case p.seq && (g.Seq != w.Seq || g.DataLen != w.DataLen):
		return fmt.Errorf("sequence numbers are %d:%d", g.Seq.Sub(s.iss), g.Seq.Add(g.DataLen).Sub(s.iss))
	case p.ack && g.Ack != w.Ack:
		return fmt.Errorf("ack is %d", g.Ack.Sub(s.peer))
	case p.win && g.Window != w.Window:
		return fmt.Errorf("win is %d", g.Window)
	case p.urg && g.Urgent != w.Urgent:
		return fmt.Errorf("urg is %d", g.Urgent)
	case (w.ECN != 0 || p.notECT) && g.ECN != w.ECN:
		return fmt.Errorf("ECN is %d", g.ECN)
	}
	if p.seq && g.DataLen > 0 {
		at := g.Seq.Sub(s.iss) - 1
		if g.Flags&tcp.SYN != 0 {
			at++
		}
		for i, b := range Payload(g) {
			if b != pattern(at+i) {
				return fmt.Errorf("byte %d is not what was written", at+i)
			}
		}
	}
	if !p.opts {
		return nil
	}
	o, q := &w.Options, &g.Options
	switch {
	case o.Has != q.Has || o.NSACK != q.NSACK:
		return fmt.Errorf("options differ")
	case !p.anyMSS && o.MSS != q.MSS, !p.anyScale && o.WScale != q.WScale,
		!p.anyVal && o.TSVal != q.TSVal, !p.anyE && o.TSEcr != q.TSEcr:
		return fmt.Errorf("values of options differ")
	}
	if !p.anyCookie && string(o.FastOpen) != string(q.FastOpen) {
		return fmt.Errorf("the cookie is %x", q.FastOpen)
	}
	for i := range o.NSACK {
		if o.SACK[i] != q.SACK[i] {
			return fmt.Errorf("SACK block %d differs", i)
		}
	}
	return nil
}

// inject gives a segment to the connection.
func (s *Script) inject(f []string) {
	s.t.Helper()
	p := s.parse(f, false)
	g := Copy(&p.seg)
	g.SrcPort, g.DstPort = 80, 1000
	switch {
	case s.listening && g.Flags&(tcp.SYN|tcp.ACK|tcp.RST) == tcp.SYN:
		s.listening = false
		s.host.OpenPassiveFrom(peerAddr, true, g, 7000, Path)
	case s.host.State() == tcp.Closed:
		var r tcp.Segment
		if tcp.ResetFor(g, &r) {
			s.out = append(s.out, sent{s.clock.Now(), &r})
		}
	default:
		s.host.Input(g)
	}
	s.clock.RunUntil(time.Duration(0), func() bool { return false })
}
