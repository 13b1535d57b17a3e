package tcplog

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// appendSeconds appends s with as many decimals as it needs.
func appendSeconds(b []byte, s Seconds) []byte {
	u := uint64(s)
	if s < 0 {
		b = append(b, '-')
		u = -u
	}
	b = strconv.AppendUint(b, u/1e9, 10)
	frac := u % 1e9
	if frac == 0 {
		return b
	}
	b = append(b, ".000000000"...)
	for i := len(b) - 1; frac > 0; i-- {
		b[i] = byte('0' + frac%10)
		frac /= 10
	}
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

// line is a JSON object that is being appended to.
type line struct{ b []byte }

func (l *line) key(k string) {
	if l.b[len(l.b)-1] != '{' {
		l.b = append(l.b, ',')
	}
	l.b = append(l.b, '"')
	l.b = append(l.b, k...)
	l.b = append(l.b, '"', ':')
}

func (l *line) uint(k string, v uint64) {
	if v != 0 {
		l.key(k)
		l.b = strconv.AppendUint(l.b, v, 10)
	}
}

func (l *line) seconds(k string, v Seconds) {
	if v != 0 {
		l.key(k)
		l.b = appendSeconds(l.b, v)
	}
}

func (l *line) str(k, v string) {
	if v != "" {
		l.key(k)
		l.b = appendString(l.b, v)
	}
}

func (l *line) addr(k string, v netip.AddrPort) {
	if v.IsValid() {
		l.key(k)
		l.b = append(l.b, '"')
		l.b = v.AppendTo(l.b)
		l.b = append(l.b, '"')
	}
}

// pair is never left out.
func (l *line) pair(v [2]uint32) {
	l.b = append(l.b, '[')
	l.b = strconv.AppendUint(l.b, uint64(v[0]), 10)
	l.b = append(l.b, ',')
	l.b = strconv.AppendUint(l.b, uint64(v[1]), 10)
	l.b = append(l.b, ']')
}

// appendString appends a JSON string (RFC 8259 7); what is no UTF-8 becomes
// U+FFFD.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// append appends r as one line, as encoding/json would have it.
func (r *Record) append(b []byte) []byte {
	l := line{append(b, '{')}
	l.key("t")
	l.b = appendSeconds(l.b, r.T)
	l.key("ev")
	l.b = appendString(l.b, r.Ev)
	l.str("host", r.Host)
	l.uint("conn", r.Conn)
	l.addr("local", r.Local)
	l.addr("remote", r.Remote)
	l.uint("pid", uint64(r.PID))
	l.str("prog", r.Prog)
	r.appendConn(&l)
	r.appendSegment(&l)
	r.appendQueue(&l)
	return append(l.b, '}', '\n')
}

func (r *Record) appendConn(l *line) {
	l.str("state", r.State)
	l.str("from", r.From)
	l.uint("cwnd", r.Cwnd)
	l.uint("ssthresh", r.Ssthresh)
	l.uint("in_flight", r.InFlight)
	l.uint("snd_wnd", r.SndWnd)
	l.uint("mss", r.MSS)
	l.seconds("srtt", r.SRTT)
	l.seconds("rttvar", r.RTTVar)
	l.seconds("rto", r.RTO)
	l.uint("retrans", r.Retrans)
	l.str("ca", r.CA)
}

func (r *Record) appendSegment(l *line) {
	l.str("dir", r.Dir)
	l.uint("seq", uint64(r.Seq))
	l.uint("ack", uint64(r.Ack))
	l.uint("len", uint64(max(r.Len, 0)))
	l.uint("segs", uint64(max(r.Segs, 0)))
	l.uint("wnd", uint64(r.Wnd))
	l.str("flags", r.Flags)
	if len(r.SACK) > 0 {
		l.key("sack")
		l.b = append(l.b, '[')
		for i, s := range r.SACK {
			if i > 0 {
				l.b = append(l.b, ',')
			}
			l.pair(s)
		}
		l.b = append(l.b, ']')
	}
	if r.TS != [2]uint32{} {
		l.key("ts")
		l.pair(r.TS)
	}
	if r.Retx {
		l.key("retx")
		l.b = append(l.b, "true"...)
	}
	l.str("ecn", r.ECN)
}

func (r *Record) appendQueue(l *line) {
	l.str("link", r.Link)
	l.uint("pkts", r.Pkts)
	l.uint("bytes", r.Bytes)
	l.uint("dropped", r.Dropped)
	l.uint("marked", r.Marked)
	l.uint("lost", r.Lost)
	l.uint("sent", r.Sent)
}

// append appends the header as the first line.
func (h *Header) append(b []byte) []byte {
	l := line{append(b, '{')}
	l.str("schema", h.Schema)
	l.str("start", h.Start.UTC().Format(time.RFC3339Nano))
	l.str("clock", h.Clock)
	l.str("engine", h.Engine)
	l.str("host", h.Host)
	return append(l.b, '}', '\n')
}
