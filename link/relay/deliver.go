package relay

import (
	"context"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/link"
)

// maxQueued bounds the packets that wait for the near stack, as the queue of a
// network card does. They are references to what the far stack keeps anyway for
// retransmission.
const maxQueued = 16384

// maxInline bounds the packets that one call delivers, since its caller may hold
// a connection's lock meanwhile. The deliverer's own goroutine does the rest.
const maxInline = 256

// deliverer is the queue of packets to the near stack. Whoever pushes while
// nobody delivers becomes the one who delivers, until the queue is empty; so
// delivery is in order, one at a time, usually with no hand-off, and a receive
// function that makes the far stack send again does not recurse.
type deliverer struct {
	mu       sync.Mutex
	idle     sync.Cond // draining has become false
	recv     func([]link.Packet)
	queue    []*stack.PacketBuffer
	spare    []*stack.PacketBuffer
	draining bool
	stopped  bool
	kick     chan struct{}

	// Scratch of the one who delivers.
	pkts []link.Packet
	bufs [][]byte
}

func newDeliverer() *deliverer {
	d := &deliverer{kick: make(chan struct{}, 1)}
	d.idle.L = &d.mu
	return d
}

func (d *deliverer) start(recv func([]link.Packet)) {
	d.mu.Lock()
	d.recv = recv
	d.mu.Unlock()
}

// stop ends delivery and waits for the one under way.
func (d *deliverer) stop() {
	d.mu.Lock()
	d.stopped = true
	for _, p := range d.queue {
		p.DecRef()
	}
	d.queue = nil
	for d.draining {
		d.idle.Wait()
	}
	d.mu.Unlock()
}

// run delivers what was pushed with later, until ctx is done.
func (d *deliverer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.kick:
			d.drain(maxQueued)
		}
	}
}

// push queues packets, which it takes a reference to, and returns how many found
// room. Unless later, it delivers them before it returns, or leaves them to the
// goroutine that is delivering already.
func (d *deliverer) push(pkts []*stack.PacketBuffer, later bool) int {
	d.mu.Lock()
	if d.stopped || d.recv == nil {
		d.mu.Unlock()
		return len(pkts) // a cable that is not plugged in
	}
	n := 0
	for _, p := range pkts {
		if len(d.queue) >= maxQueued {
			break
		}
		d.queue = append(d.queue, p.IncRef())
		n++
	}
	busy := d.draining
	d.mu.Unlock()
	switch {
	case busy:
	case later:
		d.wake()
	default:
		d.drain(maxInline)
	}
	return n
}

func (d *deliverer) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// drain delivers until the queue is empty, or limit packets or a few more.
func (d *deliverer) drain(limit int) {
	d.mu.Lock()
	if d.draining {
		d.mu.Unlock()
		return
	}
	d.draining = true
	for len(d.queue) > 0 && limit > 0 && !d.stopped {
		batch := d.queue
		d.queue = d.spare[:0]
		d.mu.Unlock()

		d.fill(batch)
		d.recv(d.pkts)
		for i, p := range batch {
			p.DecRef()
			batch[i] = nil
		}

		d.mu.Lock()
		d.spare = batch
		limit -= len(batch)
	}
	d.draining = false
	if len(d.queue) > 0 {
		d.wake()
	}
	d.idle.Broadcast()
	d.mu.Unlock()
}

// fill makes link packets of batch in the scratch space.
func (d *deliverer) fill(batch []*stack.PacketBuffer) {
	clear(d.bufs)
	clear(d.pkts)
	d.bufs, d.pkts = d.bufs[:0], d.pkts[:0]
	for _, p := range batch {
		first := len(d.bufs)
		views, offset := p.AsViewList()
		for v := views.Front(); v != nil; v = v.Next() {
			d.bufs = appendFrom(d.bufs, v, &offset)
		}
		d.pkts = append(d.pkts, link.Packet{
			Bufs:    d.bufs[first:len(d.bufs):len(d.bufs)],
			Offload: offloadOf(p),
		})
	}
}

// appendFrom appends what v has after its first *offset bytes, and takes what it
// skipped from *offset.
func appendFrom(bufs [][]byte, v *buffer.View, offset *int) [][]byte {
	b := v.AsSlice()
	skip := min(*offset, len(b))
	*offset -= skip
	if b = b[skip:]; len(b) > 0 {
		bufs = append(bufs, b)
	}
	return bufs
}

// offloadOf describes the work left in p. UDP and ICMP checksums are always
// complete; those of TCP are partial, see [partialSum].
func offloadOf(p *stack.PacketBuffer) link.Offload {
	o := link.Offload{CsumValid: true}
	if p.TransportProtocolNumber != header.TCPProtocolNumber {
		return o
	}
	nh := len(p.NetworkHeader().Slice())
	th := len(p.TransportHeader().Slice())
	if th < header.TCPMinimumSize {
		return o
	}
	o.NeedsCsum = true
	o.CsumStart = uint16(nh)
	o.CsumOffset = header.TCPChecksumOffset
	if p.Data().Size() <= int(p.GSOOptions.MSS) {
		return o
	}
	switch p.GSOOptions.Type {
	case stack.GSOTCPv4:
		o.GSO = link.GSOTCP4
	case stack.GSOTCPv6:
		o.GSO = link.GSOTCP6
	}
	if o.GSO != link.GSONone {
		o.GSOSize = p.GSOOptions.MSS
		o.HdrLen = uint16(nh + th)
	}
	return o
}
