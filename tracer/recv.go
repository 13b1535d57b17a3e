package tracer

import (
	"sync"
	"time"

	"github.com/alptrace/alptrace/fdtable"
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// recvfrom answers recvfrom(2) where it asks for the address or has flags that
// a stand-in would not understand; the rest runs natively.
func (c *call) recvfrom(s *socket, dup int) result {
	m := c.buffer()
	return c.receive(s, dup, &m)
}

// recvmsg answers recvmsg(2).
func (c *call) recvmsg(s *socket, dup int) result {
	m, e := c.readMsghdr(c.args[1], int(c.int32(2)))
	if e != 0 {
		return fail(e)
	}
	return c.receive(s, dup, &m)
}

func (c *call) receive(s *socket, dup int, m *transfer) result {
	if s.isStream() {
		return c.receiveStream(s, dup, m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.flags&unix.MSG_ERRQUEUE != 0 {
		return c.receiveError(s, m)
	}
	r := c.takeMessage(s, dup, m)
	if r.err != unix.EAGAIN || m.flags&unix.MSG_DONTWAIT != 0 || nonblocking(dup) {
		return r
	}
	kept := *m
	return s.wait(c, s.timeout.receive, unix.EAGAIN, func(c *call) result {
		return c.retryMessage(s, &kept)
	})
}

// retryMessage is takeMessage for a call that has waited.
func (c *call) retryMessage(s *socket, m *transfer) result {
	dup, err := s.t.procs.Getfd(int(c.tid), c.fd())
	if err != nil {
		return fail(unix.EBADF)
	}
	defer unix.Close(dup)
	if cookie, err := fdtable.Cookie(dup); err != nil || cookie != s.cookie {
		return fail(unix.EBADF)
	}
	r := c.takeMessage(s, dup, m)
	if r.err == unix.EAGAIN && r.how == answered {
		return later
	}
	return r
}

var datagrams = sync.Pool{New: func() any { b := make([]byte, 1<<16); return &b }}

// takeMessage receives the next datagram for the program: EAGAIN if there is
// none. The caller holds s.mu.
func (c *call) takeMessage(s *socket, dup int, m *transfer) result {
	if e := s.takeErrorNow(dup); e != 0 {
		return fail(e)
	}
	buf := datagrams.Get().(*[]byte)
	defer datagrams.Put(buf)
	n, origin, err := s.messages.Take(dup, *buf, m.flags)
	if err == unix.EAGAIN {
		if e := s.messages.Receive(); e != 0 {
			return fail(e)
		}
		n, origin, err = s.messages.Take(dup, *buf, m.flags)
	}
	if err != nil {
		return fail(err.(unix.Errno))
	}
	from, _ := origin.Source.(stack.Addr)
	r := c.store(s, m, (*buf)[:n], s.shown(from), origin.Control, 0)
	if m.flags&unix.MSG_PEEK == 0 {
		s.messages.Kick() // there is room for another
	}
	if m.part {
		return r
	}
	if got := c.finish(r); !got && m.flags&unix.MSG_PEEK == 0 {
		// A signal came first: the datagram is for the next call.
		if err := s.messages.Push((*buf)[:n], origin); err != nil {
			s.t.log.Debug("put datagram back", "err", err)
		}
	}
	return result{how: done, val: r.val}
}

// takeErrorNow is the pending error of a datagram socket, cleared on the
// stand-in as well.
func (s *socket) takeErrorNow(dup int) unix.Errno {
	if s.err == 0 {
		return 0
	}
	return s.takeError(dup)
}

// receiveError answers MSG_ERRQUEUE (IP_RECVERR, ip(7)).
func (c *call) receiveError(s *socket, m *transfer) result {
	var msg stack.Message
	if e := s.ep.RecvError(&msg); e != 0 {
		return fail(e)
	}
	return c.store(s, m, msg.Data, s.shown(msg.Addr), msg.Control, unix.MSG_ERRQUEUE|msg.Flags)
}

// receiveStream answers the trapped ways of receiving on a stream socket.
func (c *call) receiveStream(s *socket, dup int, m *transfer) result {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	switch {
	case m.flags&unix.MSG_ERRQUEUE != 0:
		return fail(unix.EAGAIN)
	case state == listening:
		return fail(unix.ENOTCONN)
	case m.flags&unix.MSG_OOB != 0:
		return fail(unix.EINVAL) // no urgent data, tcp(7); before ENOTCONN
	case state == fresh:
		return fail(unix.ENOTCONN)
	case m.name == 0 && m.flags&unix.MSG_TRUNC == 0:
		return toKernel
	}
	buf := make([]byte, min(m.total, 1<<16))
	return c.natively(dup, unix.POLLIN, m.flags, s.timeout.receive, func(fd int) result {
		n, _, err := unix.Recvfrom(fd, buf, m.flags&unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != nil {
			return fail(err.(unix.Errno))
		}
		if m.flags&unix.MSG_TRUNC == 0 { // with it, TCP discards (tcp(7))
			if _, e := c.scatter(m.vec, buf[:n]); e != 0 {
				return fail(e)
			}
		}
		r := value(n)
		if m.hdr != 0 { // a stream names no source
			if e := c.writeUint32(m.hdr+c.word().offMsgNamelen(), 0); e != 0 {
				return fail(e)
			}
			return c.storeControl(m, nil, 0, r)
		}
		if m.name != 0 {
			return keep(r, c.writeUint32(m.nameLen, 0))
		}
		return r
	})
}

// keep is r unless e is an error.
func keep(r result, e unix.Errno) result {
	if e != 0 {
		return fail(e)
	}
	return r
}

// recvmmsg answers recvmmsg(2).
func (c *call) recvmmsg(s *socket, dup int) result {
	if s.isStream() {
		return toKernel
	}
	var timeout time.Duration
	if c.args[4] != 0 {
		sec, nsec, e := c.timespec(c.args[4])
		if e != 0 {
			return fail(e)
		}
		if sec < 0 || nsec < 0 || nsec >= 1e9 {
			return fail(unix.EINVAL)
		}
		timeout = min(time.Duration(min(sec, 1<<32))*time.Second+time.Duration(nsec), 1<<62)
	}
	b := batch{s: s, n: min(uint64(uint32(c.args[2])), maxIovecs), flags: int(c.int32(3))}
	if timeout > 0 {
		b.deadline = time.Now().Add(timeout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := b.take(c, dup)
	if r.how != waiting {
		return r
	}
	if b.flags&unix.MSG_DONTWAIT != 0 || nonblocking(dup) {
		return b.result(fail(unix.EAGAIN))
	}
	return s.wait(c, s.timeout.receive, unix.EAGAIN, func(c *call) result {
		dup, err := s.t.procs.Getfd(int(c.tid), c.fd())
		if err != nil {
			return b.result(fail(unix.EBADF))
		}
		defer unix.Close(dup)
		return b.take(c, dup)
	})
}

// batch is the progress of one recvmmsg(2).
type batch struct {
	s        *socket
	n, done  uint64
	flags    int
	deadline time.Time // checked after each datagram, as recvmmsg(2) says
}

// take receives datagrams until the batch is full: waiting if it is not.
func (b *batch) take(c *call, dup int) result {
	w := c.word()
	for b.done < b.n {
		hdr := c.args[1] + b.done*uint64(w.sizeofMmsghdr())
		m, e := c.readMsghdr(hdr, b.flags&^unix.MSG_WAITFORONE)
		if e != 0 {
			return b.result(fail(e))
		}
		m.part = true
		var r result
		if b.flags&unix.MSG_ERRQUEUE != 0 {
			r = c.receiveError(b.s, &m)
		} else {
			r = c.takeMessage(b.s, dup, &m)
		}
		if r.err == unix.EAGAIN {
			if b.done > 0 && b.flags&unix.MSG_WAITFORONE != 0 {
				return b.result(r)
			}
			return later
		}
		if r.err == 0 {
			r.err = c.writeUint32(hdr+w.offMsgLen(), uint32(r.val))
		}
		if r.err != 0 {
			return b.result(fail(r.err))
		}
		b.done++
		if !b.deadline.IsZero() && time.Now().After(b.deadline) {
			break
		}
	}
	return value(int(b.done))
}

// result is what the call returns when it ends with r: the datagrams that it
// has, if any.
func (b *batch) result(r result) result {
	if b.done > 0 {
		return value(int(b.done))
	}
	return r
}
