package impair

import (
	"encoding/binary"
	"time"

	"github.com/alptrace/alptrace/link"
)

// Core is one direction of an impaired link, without a driver: packets go in
// with Push, and come out of Pop when their time has come. Time is whatever the
// caller says, as long as it does not run backwards. A Core is not safe for
// concurrent use.
type Core struct {
	spec   Spec
	medium link.Medium
	mtu    int // network layer, bytes
	frame  int // with the link header
	start  time.Duration
	whole  bool // packets need not be cut

	queue  queue  // nil without a bottleneck
	server server // nil without a bottleneck

	losses                       losses
	dup, corrupt, jitter, jumper stream

	flight  flight
	last    time.Duration // the latest departure of those in order
	held    int           // memory of packets in the Core, bytes
	groups  uint64
	cut     []byte // where segments are made
	cutting cutting
	emit    func(seg []byte) // is emitted
	free    [2]freeList
	stats   Stats
}

// maxHeld bounds the memory of the packets in a Core.
const maxHeld = 512 << 20

// Stats count the packets and bytes of one direction since it began. Bytes are
// those of whole packets, with the link header. After everything has left,
//
//	In + Duplicated = Delivered + all Drops.
type Stats struct {
	In, InBytes               uint64 // offered, after cutting
	Delivered, DeliveredBytes uint64

	DropsDown      uint64 // the link was down
	DropsQueue     uint64 // the queue was full
	DropsEarly     uint64 // RED or CoDel chose them
	DropsLoss      uint64 // by chance
	DropsMemory    uint64 // more than 512 MiB would have been on the way
	DropsMalformed uint64 // could not be cut
	DropsRefused   uint64 // by the link underneath

	Marks, Duplicated, Corrupted, Reordered uint64

	QueueLen, QueueBytes int // now waiting, without the packet on the line
	InFlight             int // now in the medium
}

// Drops is the sum of all drops.
func (s Stats) Drops() uint64 {
	return s.DropsDown + s.DropsQueue + s.DropsEarly + s.DropsLoss + s.DropsMemory + s.DropsMalformed + s.DropsRefused
}

// NewCore makes one direction of a link with an MTU in bytes. Time begins at
// start: the schedule of Spec.Down and the trace count from it. Errors are
// those of a contradictory Spec.
func NewCore(s Spec, m link.Medium, mtu int, start time.Duration) (*Core, error) {
	c := &Core{medium: m, mtu: mtu, frame: mtu, start: start}
	if m == link.Ethernet {
		c.frame += ethLen
	}
	c.emit = c.emitted
	if err := c.Set(start, s); err != nil {
		return nil, err
	}
	return c, nil
}

// Set changes the network. What waits in the queue goes into the new one; what
// is in the medium arrives as it would have. Random numbers begin anew.
func (c *Core) Set(now time.Duration, s Spec) error {
	if err := s.check(); err != nil {
		return err
	}
	c.advance(now)
	old, line := c.queue, c.server
	c.spec = s
	c.whole = !s.chancy() && !s.limited() && s.Jitter == 0 && s.Reorder == 0
	c.losses = losses{rnd: newStream(s.Seed, streamLoss), p: s.Loss, ge: s.Burst}
	c.dup, c.corrupt = newStream(s.Seed, streamDup), newStream(s.Seed, streamCorrupt)
	c.jitter, c.jumper = newStream(s.Seed, streamJitter), newStream(s.Seed, streamReorder)
	c.queue, c.server = nil, nil
	switch {
	case s.Trace != nil:
		c.server = &traced{trace: s.Trace, start: c.start}
	case s.Rate != 0:
		c.server = &constant{rate: s.Rate}
	}
	if c.server != nil {
		c.queue = newQueue(c, s.Queue, s.Seed)
		c.server.arrive(now)
	}
	if t, ok := line.(*traced); ok && t.p != nil {
		c.enter(now, t.p)
	}
	for old != nil {
		p := old.take()
		if p == nil {
			break
		}
		c.enter(now, p)
	}
	c.advance(now)
	return nil
}

// Push takes a packet in, copying it.
func (c *Core) Push(now time.Duration, p *link.Packet) {
	c.advance(now)
	if p.GSO != link.GSONone && !c.whole {
		c.segment(now, p)
		return
	}
	q := c.alloc(p.Len())
	q.Data = p.AppendTo(q.Data)
	q.Offload = p.Offload
	c.accept(now, q)
}

// segment cuts a packet, and takes in the segments.
func (c *Core) segment(now time.Duration, p *link.Packet) {
	var whole []byte
	var scratch *Packet
	if len(p.Bufs) == 1 {
		whole = p.Bufs[0]
	} else {
		scratch = c.alloc(p.Len())
		scratch.Data = p.AppendTo(scratch.Data)
		whole = scratch.Data
	}
	c.groups++
	c.cutting = cutting{now: now, o: p.Offload}
	var err error
	c.cut, err = link.Segment(c.cut, whole, p.Offload, c.medium, c.mtu, c.emit)
	if scratch != nil {
		c.release(scratch)
	}
	if err != nil {
		c.stats.In++
		c.stats.DropsMalformed++
	}
}

// cutting is the packet that is being cut.
type cutting struct {
	now    time.Duration
	o      link.Offload
	layout layout
	index  int
}

// emitted takes in one segment.
func (c *Core) emitted(seg []byte) {
	k := &c.cutting
	if k.index == 0 {
		off, _ := netOffset(seg, c.medium)
		tcp := int(k.o.CsumStart)
		payload := tcp + int(seg[tcp+12]>>4)*4
		k.layout = layout{ip: off, tcp: tcp, payload: payload, mss: len(seg) - payload, gso: k.o.GSO, valid: k.o.CsumValid}
	}
	q := c.alloc(len(seg))
	q.Data = append(q.Data, seg...)
	q.CsumValid = k.o.CsumValid || k.o.NeedsCsum
	q.layout, q.group, q.index = k.layout, c.groups, k.index
	k.index++
	c.accept(k.now, q)
}

// accept counts a packet and lets it in.
func (c *Core) accept(now time.Duration, p *Packet) {
	c.stats.In++
	c.stats.InBytes += uint64(len(p.Data))
	c.held += cap(p.Data)
	if c.held > maxHeld {
		c.drop(p, &c.stats.DropsMemory)
		return
	}
	c.enter(now, p)
}

// enter puts a packet before the line, or on the medium if there is none.
func (c *Core) enter(now time.Duration, p *Packet) {
	if c.queue == nil {
		c.transmit(now, p)
		return
	}
	p.size = len(p.Data) + c.spec.Overhead
	if c.down(now) {
		c.drop(p, &c.stats.DropsDown)
		return
	}
	c.server.arrive(now)
	c.queue.push(now, p)
	c.server.serve(now, c)
}

// down reports whether the link is down.
func (c *Core) down(now time.Duration) bool {
	d := now - c.start
	return c.spec.Down != 0 && d >= c.spec.Every && d%c.spec.Every < c.spec.Down
}

// transmit puts a packet on the medium.
func (c *Core) transmit(now time.Duration, p *Packet) {
	if c.down(now) {
		c.drop(p, &c.stats.DropsDown)
		return
	}
	if c.losses.lost() {
		c.drop(p, &c.stats.DropsLoss)
		return
	}
	var twin *Packet
	if c.dup.chance(c.spec.Dup) {
		c.stats.Duplicated++
		twin = c.alloc(len(p.Data))
		twin.Data = append(twin.Data, p.Data...)
		twin.Offload = p.Offload
		c.held += cap(twin.Data)
	}
	c.propagate(now, p)
	if twin != nil {
		c.propagate(now, twin)
	}
}

// propagate decides when, and how, a packet arrives.
func (c *Core) propagate(now time.Duration, p *Packet) {
	if c.corrupt.chance(c.spec.Corrupt) {
		c.damage(p)
	}
	if c.jumper.chance(c.spec.Reorder) {
		c.stats.Reordered++
		c.flight.push(now, p)
		return
	}
	at := now + c.spec.Delay
	if c.spec.Jitter != 0 {
		at = max(now, at+c.jitter.jitter(c.spec.Dist, c.spec.Jitter))
	}
	if at < c.last {
		if c.spec.ReorderJitter {
			c.stats.Reordered++
		} else {
			at = c.last
		}
	}
	c.last = max(c.last, at)
	c.flight.push(at, p)
}

// damage inverts one bit behind the link header: what carries Ethernet checks
// frames, what happens inside of machines nobody checks.
func (c *Core) damage(p *Packet) {
	_ = link.Complete(p.Data, &p.Offload, c.medium) // malformed: damaged already
	p.NeedsCsum, p.CsumValid, p.group = false, false, 0
	off, _ := netOffset(p.Data, c.medium)
	if n := len(p.Data) - off; n > 0 {
		bit := c.corrupt.below(n * 8)
		p.Data[off+bit/8] ^= 0x80 >> (bit % 8)
		c.stats.Corrupted++
	}
}

// mark sets CE where it can.
func (c *Core) mark(p *Packet) bool {
	if !markCE(p.Data, c.medium) {
		return false
	}
	c.stats.Marks++
	p.group = 0
	return true
}

func (c *Core) drop(p *Packet, cause *uint64) {
	*cause++
	c.Free(p)
}

// advance does what the line does until now.
func (c *Core) advance(now time.Duration) {
	if c.server != nil && (c.queue.len() > 0 || !c.server.idle()) {
		c.server.serve(now, c)
	}
}

// Next is when the Core next wants to be asked with Pop, false if it is empty.
// The time may be past, and Pop may then have nothing.
func (c *Core) Next() (time.Duration, bool) {
	at := c.flight.next()
	if c.server != nil && (c.queue.len() > 0 || !c.server.idle()) {
		at = min(at, c.server.next())
	}
	return at, at != never
}

// Pop is the next packet that has left by now, nil if there is none. The caller
// returns it with Free.
func (c *Core) Pop(now time.Duration) *Packet {
	c.advance(now)
	p := c.flight.pop(now)
	if p != nil {
		c.stats.Delivered++
		c.stats.DeliveredBytes += uint64(len(p.Data))
	}
	return p
}

// refused counts packets that came out of Pop, and were not wanted.
func (c *Core) refused(n int) {
	c.stats.Delivered -= uint64(n)
	c.stats.DropsRefused += uint64(n)
}

// Stats are the counts at the time now.
func (c *Core) Stats(now time.Duration) Stats {
	c.advance(now)
	s := c.stats
	s.InFlight = len(c.flight.heap)
	if c.queue != nil {
		s.QueueLen, s.QueueBytes = c.queue.len(), c.queue.bytes()
	}
	return s
}

// Spec is what the Core does.
func (c *Core) Spec() Spec { return c.spec }

// mergeable reports whether b can follow a in one packet.
func mergeable(a, b *Packet) bool {
	return a.group != 0 && a.group == b.group && a.index+1 == b.index && a.At == b.At &&
		len(a.Data)-a.layout.payload == a.layout.mss
}

// merge makes the segments one packet to be cut, whose pieces are appended to
// bufs. The first segment's header becomes the packet's.
func merge(run []*Packet, bufs [][]byte) ([][]byte, link.Offload) {
	first, l := run[0], run[0].layout
	b := first.Data
	bufs = append(bufs, b)
	n := len(b)
	for _, p := range run[1:] {
		bufs = append(bufs, p.Data[l.payload:])
		n += len(p.Data) - l.payload
	}
	const finPSH = 0x09 // on the last segment only
	b[l.tcp+13] |= run[len(run)-1].Data[l.tcp+13] & finPSH
	ip := b[l.ip:]
	addrs := ip[8:40]
	if l.gso == link.GSOTCP4 {
		addrs = ip[12:20]
		binary.BigEndian.PutUint16(ip[2:], uint16(n-l.ip))
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^link.Checksum(ip[:l.tcp-l.ip], 0))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(n-l.ip-ip6Len))
	}
	sum := link.Checksum(addrs, protoTCP)
	length := [2]byte{byte((n - l.tcp) >> 8), byte(n - l.tcp)}
	binary.BigEndian.PutUint16(b[l.tcp+16:], link.Checksum(length[:], sum))
	return bufs, link.Offload{
		NeedsCsum: true, CsumStart: uint16(l.tcp), CsumOffset: 16, CsumValid: l.valid,
		GSO: l.gso, GSOSize: uint16(l.mss), HdrLen: uint16(l.payload),
	}
}
