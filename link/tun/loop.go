package tun

import (
	"fmt"
	"runtime"

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
	lot   *park.Lot
	poll  [2]unix.PollFd
	spin  rawio.Spinner
}

// loop delivers packets until Close, or until the device is gone.
func (l *Link) loop(fd int, recv func([]link.Packet)) {
	defer close(l.done)
	lot, err := parking(fd, l.waker.Fd())
	if err != nil {
		l.log.Warn("tun: delivery ended", "device", l.name, "err", err)
		return
	}
	defer func() { _ = lot.Close() }()
	r := &reader{l: l, fd: fd, lot: lot, arena: make([]byte, arenaSize), spin: rawio.Spinner{Max: max(l.spin, 0)}}
	r.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	r.poll[1] = unix.PollFd{Fd: int32(l.waker.Fd()), Events: unix.POLLIN}
	fill := func() bool { return r.fill() }
	for {
		r.fill()
		if r.n == 0 && r.err == unix.EAGAIN && !r.spin.Dry(fill) && r.err == unix.EAGAIN {
			if !r.sleep() {
				return
			}
			continue
		}
		if r.n > 0 {
			recv(r.pkts[:r.n])
			// What this has woken runs here and now. Left in this processor's
			// queue while we wait in a system call, it would have to be stolen.
			runtime.Gosched()
			if l.closing() {
				return
			}
		}
		if r.err != 0 && r.err != unix.EAGAIN {
			l.log.Warn("tun: delivery ended", "device", l.name, "err", r.err)
			return
		}
	}
}

// parking is where the loop sleeps: an epoll instance of both descriptors.
func parking(fds ...int) (*park.Lot, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	for _, fd := range fds {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			_ = unix.Close(epfd)
			return nil, fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return park.New(epfd, "tun")
}

// closing says whether Close has begun.
func (l *Link) closing() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.fd < 0
}

// sleep waits for packets; false when the link is being closed.
func (r *reader) sleep() bool {
	open := r.lot.Wait(func() bool {
		n, err := rawio.Poll(r.poll[:], 0)
		return n > 0 || err != nil
	})
	if !open {
		return false
	}
	r.spin.Woken()
	return r.poll[1].Revents == 0
}

// fill reads until the device is dry or the batch full; true if it read any.
func (r *reader) fill() bool {
	r.n, r.used, r.err = 0, 0, 0
	for r.n < batch && len(r.arena)-r.used >= maxFrame {
		b := r.arena[r.used:]
		n, e := rawio.Read(r.fd, b)
		if e != 0 {
			r.err = e
			break
		}
		r.take(b[:n:n])
	}
	return r.n > 0
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
