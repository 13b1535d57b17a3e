package tcplog

import (
	"encoding/binary"

	"github.com/alptrace/alptrace/internal/flow"
	"github.com/alptrace/alptrace/link"
)

// Link is a link whose TCP segments are written down.
type Link struct {
	link.Link
	log    *Log // nil: of the segments nothing is written down
	medium link.Medium
	moved  func() // told of packets; nil for nobody
}

var _ link.Link = (*Link)(nil)

// Wrap has the segments that pass a link written down: what is sent before it
// is, what is received before it is delivered. A packet that is still to be cut
// (GSO) is one record. Closing the returned link closes l.
func (l *Log) Wrap(under link.Link) *Link {
	return &Link{Link: under, log: l, medium: under.Medium()}
}

// Unwrap is the link underneath.
func (k *Link) Unwrap() link.Link { return k.Link }

// Send writes the segments down and sends them.
func (k *Link) Send(pkts []link.Packet) (int, error) {
	k.pass(pkts, out)
	return k.Link.Send(pkts)
}

// Start begins delivery.
func (k *Link) Start(recv func(pkts []link.Packet)) error {
	return k.Link.Start(func(pkts []link.Packet) {
		k.pass(pkts, in)
		recv(pkts)
	})
}

// out and in are the directions, as indices of conn.dir.
const out, in = 0, 1

var dirs = [...]string{out: DirOut, in: DirIn}

// maxHeaders is more than the headers of a packet that matters here: Ethernet
// with two tags, IPv6 with extensions, TCP with options.
const maxHeaders = 256

func (k *Link) pass(pkts []link.Packet, dir int) {
	for i := range pkts {
		if k.log == nil {
			break
		}
		p := &pkts[i]
		var room [maxHeaders]byte
		b := headers(p, &room)
		if h, ok := flow.Parse(b, k.medium); ok && h.Proto == flow.TCP && len(b) >= h.Transport+20 {
			k.log.segment(p, &h, b[h.Transport:], dir)
		}
	}
	if k.moved != nil {
		k.moved()
	}
}

// headers is the beginning of a packet, copied only where it is in pieces.
func headers(p *link.Packet, room *[maxHeaders]byte) []byte {
	if len(p.Bufs) == 0 {
		return nil
	}
	if len(p.Bufs) == 1 || len(p.Bufs[0]) >= maxHeaders {
		return p.Bufs[0]
	}
	n := 0
	for _, b := range p.Bufs {
		n += copy(room[n:], b)
	}
	return room[:n]
}

// Bits of a TCP header's flags.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	urg
	ece
	cwr
)

// flagNames are the names of all combinations.
var flagNames = func() (names [256]string) {
	for i := range names {
		for _, f := range []struct {
			bit  int
			name string
		}{{syn, "S"}, {fin, "F"}, {rst, "R"}, {psh, "P"}, {ack, "A"}, {urg, "U"}, {ece, "E"}, {cwr, "C"}} {
			if i&f.bit != 0 {
				names[i] += f.name
			}
		}
	}
	return names
}()

// ecnNames are those of RFC 3168 5.
var ecnNames = [...]string{"", "ect1", "ect0", "ce"}

// segment writes down one segment, of which t is the TCP header and perhaps
// more.
func (l *Log) segment(p *link.Packet, h *flow.Packet, t []byte, dir int) {
	f := h.Flow
	if dir == in {
		f = f.Reverse()
	}
	flags := t[13]
	hl := int(t[12]>>4) * 4
	size := max(p.Len()-h.Transport-hl, 0)
	if p.GSO == link.GSONone { // an Ethernet frame may be longer than its packet
		size = max(min(size, h.End-h.Transport-hl), 0)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conn(ends{f.Src, f.Dst})
	seq := binary.BigEndian.Uint32(t[4:])
	if flags&(syn|ack|rst) == syn && c.dir[dir].begun && c.ended && seq != c.dir[dir].first {
		c = l.anew(c)
	}
	o := l.options(t, hl)
	half := &c.dir[dir]
	r := l.record(c, EvSegment)
	r.Dir, r.Seq, r.Len, r.Flags, r.ECN = dirs[dir], seq, size, flagNames[flags], ecnNames[h.ECN]
	if flags&ack != 0 {
		r.Ack = binary.BigEndian.Uint32(t[8:])
	}
	if p.GSO != link.GSONone && p.GSOSize > 0 && size > int(p.GSOSize) {
		r.Segs = (size + int(p.GSOSize) - 1) / int(p.GSOSize)
	}
	r.SACK, r.TS = o.sack, o.ts
	r.Wnd = uint32(binary.BigEndian.Uint16(t[14:]))
	if flags&syn != 0 {
		half.scale, half.scaled = o.scale, o.scaled
	} else if c.dir[out].scaled && c.dir[in].scaled {
		r.Wnd <<= half.scale
	}
	n := uint32(size)
	if flags&syn != 0 {
		n++
	}
	if flags&fin != 0 {
		n++
	}
	if flags&rst == 0 {
		r.Retx = half.saw(seq, n)
	}
	l.w.Write(&r)
	half.fin = half.fin || flags&fin != 0
	if flags&rst != 0 {
		e := l.record(c, EvReset)
		e.Dir = dirs[dir]
		l.w.Write(&e)
	}
	if flags&rst != 0 || c.dir[out].fin && c.dir[in].fin {
		l.end(c)
	}
}

// maxSACK is how many blocks fit into the options of a segment.
const maxSACK = 4

type options struct {
	scale  uint8
	scaled bool
	ts     [2]uint32
	sack   [][2]uint32 // in Log.sack
}

// options reads the options of a segment (RFC 9293 3.1, RFC 7323, RFC 2018).
func (l *Log) options(t []byte, hl int) (o options) {
	be := binary.BigEndian
	for b := t[20:max(20, min(hl, len(t)))]; len(b) > 0; {
		if b[0] == 0 {
			break
		}
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			break
		}
		v := b[2:b[1]]
		switch {
		case b[0] == 3 && len(v) == 1:
			o.scale, o.scaled = min(v[0], 14), true
		case b[0] == 8 && len(v) == 8:
			o.ts = [2]uint32{be.Uint32(v), be.Uint32(v[4:])}
		case b[0] == 5:
			n := min(len(v)/8, maxSACK)
			for i := range n {
				l.sack[i] = [2]uint32{be.Uint32(v[8*i:]), be.Uint32(v[8*i+4:])}
			}
			o.sack = l.sack[:n]
		}
		b = b[b[1]:]
	}
	return o
}

// half is one direction of a connection.
type half struct {
	begun, fin, scaled bool
	scale              uint8
	first, next        uint32      // sequence numbers: the first, and behind the highest
	gaps               [][2]uint32 // below next and not seen, ascending
}

// maxGaps bounds them; the oldest is then taken for seen.
const maxGaps = 64

// saw notes n sequence numbers from seq, and says whether one of them was seen
// before.
func (h *half) saw(seq, n uint32) bool {
	switch {
	case !h.begun:
		h.begun, h.first, h.next = true, seq, seq+n
		return false
	case n == 0:
		return false
	}
	end := seq + n
	if int32(seq-h.next) >= 0 {
		if seq != h.next {
			if len(h.gaps) == maxGaps {
				h.gaps = append(h.gaps[:0], h.gaps[1:]...)
			}
			h.gaps = append(h.gaps, [2]uint32{h.next, seq})
		}
		h.next = end
		return false
	}
	fresh := h.next
	if int32(end-fresh) > 0 {
		h.next = end
	} else {
		fresh = end
	}
	return h.fill(seq, fresh)
}

// fill closes the gaps between seq and end, both below next, and says whether
// there was anything else between them.
func (h *half) fill(seq, end uint32) bool {
	missing := uint32(0)
	var left [maxGaps + 1][2]uint32
	keep := left[:0]
	for _, g := range h.gaps {
		l, r := g[0], g[1]
		if int32(l-seq) < 0 {
			l = seq
		}
		if int32(r-end) > 0 {
			r = end
		}
		if int32(r-l) <= 0 { // apart
			keep = append(keep, g)
			continue
		}
		missing += r - l
		if l != g[0] {
			keep = append(keep, [2]uint32{g[0], l})
		}
		if r != g[1] && len(keep) <= maxGaps {
			keep = append(keep, [2]uint32{r, g[1]})
		}
	}
	if len(keep) > maxGaps {
		keep = keep[1:]
	}
	h.gaps = append(h.gaps[:0], keep...)
	return missing != end-seq
}
