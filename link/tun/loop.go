package tun

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/internal/park"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/rawio"
)

// reader reads batches of packets. One arena holds them, packed, so that small
// packets stay in the processor's cache.
type reader struct {
	l     *Link
	fd    int
	arena []byte
	bufs  [batch][1][]byte
	pkts  [batch]link.Packet
	n     int        // packets read
	used  int        // bytes of the arena in use
	err   unix.Errno // what ended the batch, 0 if it is full
}

// goneAfter is when to look again whether a device that has nothing to read is
// being deleted.
const goneAfter = 50 * time.Millisecond

// loop delivers packets until Close, or until the device is gone.
func (l *Link) loop(lot *park.Lot, fd int, recv func([]link.Packet)) {
	defer close(l.done)
	r := &reader{l: l, fd: fd, arena: make([]byte, arenaSize)}
	checked := false
	lot.Wait(func() bool {
		any := false
		// The first packet goes alone: it may be the only one, and waited for.
		for most := 1; ; most = batch {
			if r.fill(most); r.n > 0 {
				recv(r.pkts[:r.n])
				any = true
			}
			if r.err != 0 {
				break
			}
			if l.closing() {
				return true
			}
		}
		// A device that is being deleted rings before it is gone, once.
		if !any && !checked {
			time.AfterFunc(goneAfter, lot.Ring)
		}
		checked = !any
		return r.err != unix.EAGAIN
	})
	if !l.closing() {
		l.log.Warn("tun: delivery ended", "device", l.name, "err", r.err)
	}
}

// closing says whether Close has begun.
func (l *Link) closing() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.fd < 0
}

// fill reads until the device is dry, or most packets are read.
func (r *reader) fill(most int) {
	r.n, r.used, r.err = 0, 0, 0
	for r.n < most && len(r.arena)-r.used >= maxFrame {
		b := r.arena[r.used:]
		n, e := rawio.Read(r.fd, b)
		if e != 0 {
			r.err = e
			break
		}
		r.take(b[:n:n])
	}
}

// take adds the packet in b, vnet header included, to the batch.
func (r *reader) take(b []byte) {
	p := &r.pkts[r.n]
	p.Offload = link.Offload{}
	if r.l.vnet > 0 {
		if len(b) <= link.VnetLen {
			return
		}
		o, err := link.DecodeVnet(b, b[link.VnetLen:], r.l.medium)
		if err != nil {
			return // the kernel sends no such thing
		}
		p.Offload = o
	}
	// The next packet begins on a cache line of its own.
	r.used += (len(b) + 63) &^ 63
	r.bufs[r.n][0] = b[r.l.vnet:]
	p.Bufs = r.bufs[r.n][:]
	r.n++
}
