// Package pair is two links joined back to back in one process: what one sends
// the other receives. Tests use it in place of a device.
package pair

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
)

// Options of a pair; the zero value is an IP link with MTU 1500, no offloads.
type Options struct {
	Medium   link.Medium
	MTU      int           // bytes; 0 is 1500
	Features link.Features // of Send on both ends; GSOMax 0 with TSO is 65535
	Queue    int           // packets that wait for the receiver, each way; 0 is 1024
	// HardwareAddrs are the addresses of both ends on Ethernet; nil is
	// 02:00:00:00:00:01 and :02.
	HardwareAddrs [2]net.HardwareAddr
}

// Link is one end.
type Link struct {
	name string
	opts Options
	hw   net.HardwareAddr
	peer *Link

	mu      sync.Mutex
	cond    sync.Cond
	queue   []packet // received, not delivered
	free    [][]byte // memory of delivered packets
	started bool
	closed  bool
	done    chan struct{}
}

type packet struct {
	b []byte
	o link.Offload
}

var _ link.Link = (*Link)(nil)

const batch = 64

// New makes a pair, named "pair0" and "pair1".
func New(opts Options) (a, b *Link) {
	if opts.MTU == 0 {
		opts.MTU = 1500
	}
	if opts.Queue == 0 {
		opts.Queue = 1024
	}
	if opts.Features.TSO && opts.Features.GSOMax == 0 {
		opts.Features.GSOMax = link.MaxPacket
	}
	var ends [2]*Link
	for i := range ends {
		l := &Link{name: fmt.Sprintf("pair%d", i), opts: opts, done: make(chan struct{})}
		l.cond.L = &l.mu
		if opts.Medium == link.Ethernet {
			if l.hw = opts.HardwareAddrs[i]; l.hw == nil {
				l.hw = net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}
			}
		}
		ends[i] = l
	}
	ends[0].peer, ends[1].peer = ends[1], ends[0]
	return ends[0], ends[1]
}

// Name is "pair0" or "pair1".
func (l *Link) Name() string { return l.name }

// Medium is that of the options.
func (l *Link) Medium() link.Medium { return l.opts.Medium }

// MTU is that of the options, bytes.
func (l *Link) MTU() int { return l.opts.MTU }

// HardwareAddr is this end's address, nil on an IP link.
func (l *Link) HardwareAddr() net.HardwareAddr { return l.hw }

// Features are those of the options.
func (l *Link) Features() link.Features { return l.opts.Features }

// Send copies packets into the other end's queue; those that find it full are
// lost. Errors, of the first packet refused: EMSGSIZE (larger than the MTU),
// EINVAL (asks for an offload that the pair does not have, or has no Ethernet
// header), net.ErrClosed.
func (l *Link) Send(pkts []link.Packet) (int, error) {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	p := l.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := 0
	var first error
	for i := range pkts {
		if err := l.check(&pkts[i]); err != nil {
			if first == nil {
				first = fmt.Errorf("%s: send of %d bytes: %w", l.name, pkts[i].Len(), err)
			}
			continue
		}
		if p.closed || len(p.queue) >= l.opts.Queue {
			continue
		}
		var b []byte
		if n := len(p.free); n > 0 {
			b, p.free = p.free[n-1][:0], p.free[:n-1]
		}
		o := pkts[i].Offload
		o.CsumValid = o.CsumValid || o.NeedsCsum // no medium could damage it
		p.queue = append(p.queue, packet{pkts[i].AppendTo(b), o})
		sent++
	}
	if sent > 0 {
		p.cond.Signal()
	}
	return sent, first
}

func (l *Link) check(p *link.Packet) error {
	n, f := p.Len(), l.opts.Features
	if l.opts.Medium == link.Ethernet {
		n -= 14
	}
	switch {
	case n < 0 || p.NeedsCsum && !f.Csum || p.GSO != link.GSONone && !f.TSO:
		return unix.EINVAL
	case p.GSO == link.GSONone && n > l.opts.MTU, n > link.MaxPacket:
		return unix.EMSGSIZE
	}
	return nil
}

// Start begins delivery, once. Packets that came before wait in the queue.
func (l *Link) Start(recv func(pkts []link.Packet)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	if l.started {
		return errors.New("pair: already started")
	}
	l.started = true
	go l.loop(recv)
	return nil
}

func (l *Link) loop(recv func(pkts []link.Packet)) {
	defer close(l.done)
	var (
		got  []packet
		bufs [batch][1][]byte
		pkts [batch]link.Packet
	)
	for {
		l.mu.Lock()
		for i := range got {
			l.free = append(l.free, got[i].b)
		}
		for len(l.queue) == 0 && !l.closed {
			l.cond.Wait()
		}
		if l.closed {
			l.mu.Unlock()
			return
		}
		n := min(batch, len(l.queue))
		got = append(got[:0], l.queue[:n]...)
		l.queue = append(l.queue[:0], l.queue[n:]...)
		l.mu.Unlock()
		for i := range got {
			bufs[i][0] = got[i].b
			pkts[i] = link.Packet{Bufs: bufs[i][:], Offload: got[i].o}
		}
		recv(pkts[:n])
	}
}

// Close ends delivery at this end; what the other end sends is then lost. It
// must not be called by the receive function. Further calls do nothing.
func (l *Link) Close() error {
	l.mu.Lock()
	started := l.started
	l.closed = true
	l.cond.Signal()
	l.mu.Unlock()
	if started {
		<-l.done
	}
	return nil
}
