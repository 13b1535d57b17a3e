package link

import (
	"bytes"
	"encoding/binary"
)

// Bounds of a [Coalescer].
const (
	groFlows  = 8  // TCP flows that are looked for at once
	groPieces = 60 // segments of one packet
)

// Coalescer joins TCP segments that follow each other into packets still to be
// cut (GRO), the reverse of [Segment]: a stack takes 64 KiB in one piece for
// little more than one segment. Only segments with right checksums that
// segmentation would make again are joined, so that nothing is lost or hidden by
// it; packets of one flow stay in order, those of different flows may not.
//
// The zero value is ready. It is for one goroutine.
type Coalescer struct {
	groups []group
	n      int // groups in use
	open   int // groups before this one are not joined any more
	pkts   []Packet
}

// group is a packet that is becoming larger.
type group struct {
	headers
	bufs   [][]byte // the first packet, then payloads
	next   uint32   // sequence number that follows
	mss    int      // payload of the first
	size   int      // bytes of all
	closed bool     // nothing follows any more
	valid  bool     // its checksum was found right
}

// Reset forgets all packets.
func (c *Coalescer) Reset() {
	for i := range c.groups[:c.n] {
		clear(c.groups[i].bufs)
		c.groups[i].bufs = c.groups[i].bufs[:0]
	}
	clear(c.pkts)
	c.n, c.open, c.pkts = 0, 0, c.pkts[:0]
}

// Add adds a packet with complete checksums. Its memory must stay as it is until
// Reset; the headers may be changed.
func (c *Coalescer) Add(pkt []byte, m Medium) {
	var g group
	g.parse(pkt, m)
	for i := c.n - 1; g.tcp > 0 && i >= c.open; i-- {
		old := &c.groups[i]
		if old.tcp == 0 || !sameFlow(old, &g, pkt) {
			continue
		}
		if old.join(&g, pkt) {
			return
		}
		old.closed = true
		break
	}
	if c.n == len(c.groups) {
		c.groups = append(c.groups, group{})
	}
	g.closed = g.closed || g.tcp > 0 && pkt[g.tcp+13]&flagPSH != 0 // which ends the data
	into := &c.groups[c.n]
	g.bufs = append(into.bufs, pkt)
	*into = g
	c.n++
	c.open = max(c.open, c.n-groFlows)
}

// Packets are the packets that were added, joined; valid until Reset.
func (c *Coalescer) Packets() []Packet {
	for i := range c.groups[:c.n] {
		c.pkts = append(c.pkts, c.groups[i].finish())
	}
	return c.pkts
}

// parse looks at a packet: tcp is 0 if it is not a whole TCP segment.
func (g *group) parse(pkt []byte, m Medium) {
	ip, err := ipOffset(pkt, m)
	if err != nil {
		return
	}
	h := pkt[ip:]
	var at, total int
	if h[0]>>4 == 4 {
		at, total = int(h[0]&15)*4, int(binary.BigEndian.Uint16(h[2:]))
		if h[9] != protoTCP || at < ip4Len || binary.BigEndian.Uint16(h[6:])&0x3fff != 0 {
			return
		}
	} else {
		g.v6, at = true, ip6Len
		if total = ip6Len + int(binary.BigEndian.Uint16(h[4:])); h[6] != protoTCP {
			return
		}
	}
	if total != len(h) || len(h) < at+tcpLen { // a padded frame is not worth it
		return
	}
	tcp := h[at:]
	doff := int(tcp[12]>>4) * 4
	if doff < tcpLen || len(tcp) < doff {
		return
	}
	g.ip, g.tcp, g.payload = ip, ip+at, ip+at+doff
	g.size = len(pkt)
	g.mss = len(tcp) - doff
	g.next = binary.BigEndian.Uint32(tcp[4:]) + uint32(g.mss)
	if g.closed = tcp[13]&^flagPSH != flagACK || g.mss == 0; g.closed {
		return
	}
	g.valid = Checksum(tcp, pseudoSum(h, len(tcp))) == 0xffff && (g.v6 || Checksum(h[:at], 0) == 0xffff)
	g.closed = !g.valid
}

// sameFlow says whether pkt, parsed as g, is of the flow of old.
func sameFlow(old, g *group, pkt []byte) bool {
	a := old.bufs[0]
	if old.ip != g.ip || old.v6 != g.v6 || old.tcp != g.tcp {
		return false
	}
	ports := g.tcp + 4
	if g.v6 {
		return bytes.Equal(a[g.ip+8:ports], pkt[g.ip+8:ports])
	}
	return bytes.Equal(a[g.ip+12:ports], pkt[g.ip+12:ports])
}

// join adds the segment pkt, parsed as s, of the same flow, if it follows.
func (g *group) join(s *group, pkt []byte) bool {
	if g.closed || s.closed || s.payload != g.payload || s.mss > g.mss ||
		s.next-uint32(s.mss) != g.next || len(g.bufs) >= groPieces ||
		g.size-g.ip+s.mss > MaxPacket || !g.sameHeader(pkt) {
		return false
	}
	g.bufs = append(g.bufs, pkt[s.payload:])
	g.next = s.next
	g.size += s.mss
	psh := pkt[s.tcp+13] & flagPSH
	g.bufs[0][g.tcp+13] |= psh
	g.closed = s.mss < g.mss || psh != 0
	return true
}

// sameHeader says whether the headers of pkt are those that a segment cut from
// the group would have: alike but for lengths, identification, checksums,
// sequence number and PSH.
func (g *group) sameHeader(pkt []byte) bool {
	a, ip, tcp := g.bufs[0], g.ip, g.tcp
	same := func(from, to int) bool { return bytes.Equal(a[from:to], pkt[from:to]) }
	if !same(0, ip) || !same(tcp+8, tcp+13) || !same(tcp+14, tcp+16) || !same(tcp+18, g.payload) {
		return false
	}
	if g.v6 {
		return same(ip, ip+4) && same(ip+6, tcp)
	}
	return same(ip, ip+2) && same(ip+6, ip+10) && same(ip+12, tcp)
}

// finish makes the packet.
func (g *group) finish() Packet {
	p := Packet{Bufs: g.bufs, Offload: Offload{CsumValid: g.valid}}
	if len(g.bufs) == 1 {
		return p
	}
	h, tcp := g.bufs[0][g.ip:], g.tcp-g.ip
	p.Offload = Offload{NeedsCsum: true, CsumStart: uint16(g.tcp), CsumOffset: 16, CsumValid: true,
		GSO: GSOTCP4, GSOSize: uint16(g.mss), HdrLen: uint16(g.payload)}
	n := g.size - g.ip
	if g.v6 {
		p.GSO = GSOTCP6
		binary.BigEndian.PutUint16(h[4:], uint16(n-ip6Len))
	} else {
		binary.BigEndian.PutUint16(h[2:], uint16(n))
		binary.BigEndian.PutUint16(h[10:], 0)
		binary.BigEndian.PutUint16(h[10:], ^Checksum(h[:tcp], 0))
	}
	binary.BigEndian.PutUint16(h[tcp+16:], pseudoSum(h, n-tcp))
	return p
}
