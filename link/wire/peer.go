package wire

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/mesh"
	"github.com/alptrace/alptrace/link/internal/rawio"
)

// peer is a connection with another member.
type peer struct {
	mesh.Port
	l  *Link
	fd int

	// Of the mesh's goroutine.
	name     string // "" until it has said it
	outgoing bool   // made by us
	since    time.Time
	redials  int

	mu    sync.Mutex // one batch at a time, and no close in the midst of one
	gone  bool       // fd is closed
	slow  bool       // a wait for it has been in vain, and it has taken nothing since
	batch *sendBatch
}

// sendBatch is the memory of a sendmmsg(2).
type sendBatch struct {
	msgs [64]rawio.Mmsghdr
	iov  [256]unix.Iovec
	vnet [64][link.VnetLen]byte
}

// Send sends packets to the member and returns how many it took.
func (p *peer) Send(pkts []link.Packet) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.batch == nil {
		p.batch = new(sendBatch)
	}
	sent := 0
	for at := 0; at < len(pkts) && !p.gone; {
		msgs, iovs := p.batch.fill(pkts[at:])
		at += len(msgs)
		n, alive := p.flush(msgs)
		clear(p.batch.iov[:iovs]) // do not keep the caller's memory
		sent += n
		if !alive {
			break
		}
	}
	p.l.net.Transmitted(sent, len(pkts))
	return sent
}

// fill makes messages of as many packets as there is room for, one at least.
func (b *sendBatch) fill(pkts []link.Packet) (msgs []rawio.Mmsghdr, iovs int) {
	for i := range pkts {
		p := &pkts[i]
		if i == len(b.msgs) || i > 0 && iovs+1+len(p.Bufs) > len(b.iov) {
			return b.msgs[:i], iovs
		}
		link.EncodeVnet(b.vnet[i][:], &p.Offload)
		iov := append(b.iov[iovs:iovs], rawio.Iovec(b.vnet[i][:]))
		if len(p.Bufs) < len(b.iov) {
			for _, s := range p.Bufs {
				iov = append(iov, rawio.Iovec(s))
			}
		} else {
			iov = append(iov, rawio.Iovec(p.AppendTo(make([]byte, 0, p.Len()))))
		}
		h := &b.msgs[i].Hdr
		h.Iov = &iov[0]
		h.SetIovlen(len(iov))
		iovs += len(iov)
	}
	return b.msgs[:len(pkts)], iovs
}

// flush sends messages, waiting for room if that may help. It returns how many
// were taken, and whether it makes sense to send more.
func (p *peer) flush(msgs []rawio.Mmsghdr) (sent int, alive bool) {
	var waited time.Time
	for len(msgs) > 0 {
		n, e := rawio.Sendmmsg(p.fd, msgs, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch e {
		case 0:
			p.slow = false
			sent += n
			msgs = msgs[n:]
		case unix.EAGAIN:
			if waited.IsZero() {
				waited = time.Now()
			}
			left := sendWait - int(time.Since(waited).Milliseconds())
			if p.slow || left <= 0 || !p.wait(left) {
				p.slow = true
				return sent, false
			}
		case unix.EMSGSIZE, unix.ENOBUFS, unix.ENOMEM:
			msgs = msgs[1:] // too large for the send buffer, or for the kernel now
		default:
			return sent, false // it has left; the mesh's goroutine will see it
		}
	}
	return sent, true
}

// wait waits at most ms milliseconds until the member has made room: the kernel
// says so when three quarters of the buffer are free.
func (p *peer) wait(ms int) bool {
	fds := [1]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLOUT}}
	n, err := rawio.Poll(fds[:], ms)
	return err == nil && (n == 0 || fds[0].Revents&unix.POLLOUT != 0)
}

// close closes the connection, after a batch under way.
func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		p.gone = true
		_ = unix.Close(p.fd)
	}
}
