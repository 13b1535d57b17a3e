package impair

import "time"

// flight is the packets in the medium, by departure; those of the same time in
// the order in which they came.
type flight struct {
	heap []departure
	seq  uint64
}

type departure struct {
	at  time.Duration
	seq uint64
	p   *Packet
}

func (d *departure) before(e *departure) bool {
	return d.at < e.at || d.at == e.at && d.seq < e.seq
}

func (f *flight) next() time.Duration {
	if len(f.heap) == 0 {
		return never
	}
	return f.heap[0].at
}

func (f *flight) push(at time.Duration, p *Packet) {
	p.At = at
	f.seq++
	d := departure{at, f.seq, p}
	f.heap = append(f.heap, d)
	h := f.heap
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !d.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = d
}

// pop is nil if no packet leaves by now.
func (f *flight) pop(now time.Duration) *Packet {
	h := f.heap
	if len(h) == 0 || h[0].at > now {
		return nil
	}
	p := h[0].p
	n := len(h) - 1
	d := h[n]
	h[n].p = nil
	f.heap = h[:n]
	h = f.heap
	if n == 0 {
		return p
	}
	i := 0
	for {
		least := i*4 + 1
		if least >= n {
			break
		}
		for k := least + 1; k < min(i*4+5, n); k++ {
			if h[k].before(&h[least]) {
				least = k
			}
		}
		if !h[least].before(&d) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = d
	return p
}

// freeList is memory of packets that have left.
type freeList struct {
	head *Packet
	n    int
}

// Memory comes in two sizes: for packets of an ordinary MTU, and as needed for
// larger ones. So many of each are kept.
const (
	smallPacket = 2048
	keepSmall   = 8192
	keepLarge   = 64
)

// alloc is an empty packet with room for n bytes.
func (c *Core) alloc(n int) *Packet {
	l, size := &c.free[0], smallPacket
	if n > smallPacket {
		l, size = &c.free[1], n
	}
	if p := l.head; p != nil {
		l.head, l.n = p.next, l.n-1
		p.next = nil
		if cap(p.Data) < n {
			p.Data = make([]byte, 0, n)
		}
		return p
	}
	return &Packet{Data: make([]byte, 0, size)}
}

// Free takes a packet from Pop back.
func (c *Core) Free(p *Packet) {
	c.held -= cap(p.Data)
	c.release(p)
}

// release keeps the packet for alloc.
func (c *Core) release(p *Packet) {
	l, most := &c.free[0], keepSmall
	if cap(p.Data) > smallPacket {
		l, most = &c.free[1], keepLarge
	}
	if l.n >= most {
		return
	}
	*p = Packet{Data: p.Data[:0], next: l.head}
	l.head = p
	l.n++
}
