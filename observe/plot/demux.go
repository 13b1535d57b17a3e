package plot

import (
	"net/netip"

	"github.com/alptrace/alptrace/observe/tcplog"
)

// connKey names a connection within a file: of a capture by its addresses, in
// whichever order is first, of a log by the log's own numbers.
type connKey struct {
	a, b netip.AddrPort
	host string
	num  uint64
}

// connInfo is what the first pass learns of a connection.
type connInfo struct {
	index        int // counts from 1, in the order of the file
	a, b         netip.AddrPort
	known        bool // a is who opened it, or the log's own end
	prog         string
	isn          uint32 // of the SYN
	syn          bool
	first, last  int64
	packets      int
	payload      [2]uint64 // sent by a and by b, bytes, retransmissions included
	cc, segments bool      // the file has such records of it
}

// size is the payload of both directions, bytes.
func (c *connInfo) size() uint64 { return c.payload[0] + c.payload[1] }

// demux finds the connection of each event; it does the same in both passes.
type demux struct {
	current map[connKey]*connInfo
	all     []*connInfo
}

func newDemux() *demux { return &demux{current: make(map[connKey]*connInfo)} }

// of gives the connection of an event, nil for what belongs to none. A SYN
// with another initial sequence number begins another connection.
func (d *demux) of(ev *event) *connInfo {
	var key connKey
	switch s := ev.seg; {
	case s != nil && s.conn == 0:
		key = connKey{a: s.src, b: s.dst}
		if s.dst.Compare(s.src) < 0 {
			key = connKey{a: s.dst, b: s.src}
		}
		key.host = s.host
	case ev.rec != nil && ev.rec.Conn != 0:
		key = connKey{a: ev.rec.Local, b: ev.rec.Remote, host: ev.rec.Host, num: ev.rec.Conn}
	default:
		return nil
	}
	c := d.current[key]
	opening := ev.seg != nil && ev.seg.flags&(flagSYN|flagACK) == flagSYN
	if c == nil || opening && key.num == 0 && c.syn && c.isn != ev.seg.seq {
		c = &connInfo{index: len(d.all) + 1, first: ev.t, last: ev.t}
		d.current[key] = c
		d.all = append(d.all, c)
		switch {
		case ev.rec != nil:
			c.a, c.b, c.known = ev.rec.Local, ev.rec.Remote, true
		default:
			c.a, c.b = ev.seg.src, ev.seg.dst
		}
	}
	if opening && !c.syn {
		c.isn, c.syn = ev.seg.seq, true
	}
	if s := ev.seg; s != nil && !c.known && s.flags&flagSYN != 0 {
		c.known = true
		if (s.flags&flagACK == 0) != (s.src == c.a) { // the capture began with an answer
			c.a, c.b = c.b, c.a
			c.payload[0], c.payload[1] = c.payload[1], c.payload[0]
		}
	}
	return c
}

// note counts the event in its connection; the first pass's.
func (c *connInfo) note(ev *event) {
	c.first, c.last = min(c.first, ev.t), max(c.last, ev.t)
	if s := ev.seg; s != nil {
		c.segments = true
		c.packets++
		if s.src == c.a {
			c.payload[0] += uint64(s.len)
		} else {
			c.payload[1] += uint64(s.len)
		}
	}
	if ev.rec != nil {
		if ev.rec.Prog != "" {
			c.prog = ev.rec.Prog
		}
		c.cc = c.cc || ev.rec.Ev == tcplog.EvCC
	}
}

// linkKey names a queue of a log.
type linkKey struct{ host, link, dir string }

// index is what the first pass learns of a file.
type index struct {
	counts
	first, last int64 // of all events, ns since 1970
	conns       []*connInfo
	links       map[linkKey]bool
	err         error // where the file stopped making sense
}

// buildIndex is the first pass: which connections there are and when.
func buildIndex(open opener) (*index, error) {
	d := newDemux()
	x := &index{links: make(map[linkKey]bool)}
	any := false
	var err error
	x.counts, err = scan(open, func(ev *event) {
		if !any {
			any, x.first, x.last = true, ev.t, ev.t
		}
		x.first, x.last = min(x.first, ev.t), max(x.last, ev.t)
		if r := ev.rec; r != nil && r.Ev == tcplog.EvQueue {
			x.links[linkKey{r.Host, r.Link, r.Dir}] = true
		}
		if c := d.of(ev); c != nil {
			c.note(ev)
		}
	})
	x.conns = d.all
	if !any {
		return x, err
	}
	x.err = err
	return x, nil
}
