package tracer

import (
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// msgFastopen and msgZerocopy are not in x/sys for every architecture.
const (
	msgFastopen = 0x20000000
	maxDatagram = 65535
)

// sendto answers sendto(2) where it has an address or flags that a stand-in
// would not understand; the rest runs natively.
func (c *call) sendto(s *socket, dup int) result {
	m := c.buffer()
	return c.send(s, dup, &m)
}

// sendmsg answers sendmsg(2).
func (c *call) sendmsg(s *socket, dup int) result {
	m, e := c.readMsghdr(c.args[1], int(c.int32(2)))
	if e != 0 {
		return fail(e)
	}
	return c.send(s, dup, &m)
}

// sendmmsg answers sendmmsg(2).
func (c *call) sendmmsg(s *socket, dup int) result {
	if s.isStream() {
		return toKernel
	}
	n := min(uint64(uint32(c.args[2])), maxIovecs)
	w := c.word()
	for i := range n {
		hdr := c.args[1] + i*uint64(w.sizeofMmsghdr())
		m, e := c.readMsghdr(hdr, int(c.int32(3)))
		r := errno(e)
		if e == 0 {
			if i > 0 {
				m.flags |= unix.MSG_DONTWAIT
			}
			r = c.send(s, dup, &m)
		}
		if r.how == waiting {
			return r // the first one: sendmmsg may return one message
		}
		if r.err != 0 {
			if i > 0 {
				return value(int(i))
			}
			return r
		}
		if e := c.writeUint32(hdr+w.offMsgLen(), uint32(r.val)); e != 0 {
			return fail(e)
		}
	}
	return value(int(n))
}

func (c *call) send(s *socket, dup int, m *transfer) result {
	if s.isStream() {
		return c.sendStream(s, dup, m)
	}
	msg := stack.Message{Flags: m.flags}
	if s.family == unix.AF_INET6 {
		msg.Flags &^= unix.MSG_OOB // udpv6_sendmsg does not look at it
	}
	if m.name != 0 {
		sa, e := c.readSockaddr(m.name, int32(m.nameLen))
		if e == 0 {
			e = sendable(s, &sa)
		}
		if e != 0 {
			return fail(e)
		}
		msg.Addr, msg.HasAddr = s.destination(sa.in(s.family)), true
	}
	if m.total > maxDatagram {
		return fail(unix.EMSGSIZE) // what else is too long the engine reports
	}
	data, e := c.gather(m.vec, make([]byte, 0, m.total))
	if e == unix.EFAULT && m.total > s.maxMessage() {
		e = unix.EMSGSIZE // that is looked at before the bytes
	}
	if e != 0 {
		return fail(e)
	}
	msg.Data = data
	if msg.Control, e = c.readControl(m); e != 0 {
		return fail(e)
	}
	return c.sendMessage(s, dup, &msg)
}

// sendable checks the family and length of a destination, as udp_sendmsg and
// udpv6_sendmsg do.
func sendable(s *socket, sa *sockaddr) unix.Errno {
	if s.family == unix.AF_INET6 {
		if sa.family == unix.AF_INET {
			return sa.need(unix.AF_INET)
		}
		if e := sa.need(unix.AF_INET6); e != 0 {
			return e
		}
	} else if e := sa.need(unix.AF_INET); e != 0 {
		return e
	}
	if sa.family != s.family && sa.family != unix.AF_UNSPEC {
		return unix.EAFNOSUPPORT
	}
	return 0
}

// maxMessage is the longest datagram that the socket could send, bytes.
func (s *socket) maxMessage() int {
	switch {
	case s.typ != unix.SOCK_DGRAM:
		return maxDatagram
	case s.family == unix.AF_INET6:
		return maxDatagram - 8 // UDP header; the IPv6 header does not count
	}
	return maxDatagram - 8 - 20
}

func (c *call) sendMessage(s *socket, dup int, msg *stack.Message) result {
	s.messages.Send() // in order after what was sent natively
	s.mu.Lock()
	defer s.mu.Unlock()
	try := func(dup int) result {
		if e := s.takeErrorNow(dup); e != 0 {
			return fail(e)
		}
		n, e := s.sendOwned(c, msg)
		if e != 0 {
			return fail(e)
		}
		_, out := s.counters()
		out.Add(uint64(n))
		return value(n)
	}
	r := try(dup)
	if r.err != unix.EAGAIN || msg.Flags&unix.MSG_DONTWAIT != 0 || nonblocking(dup) {
		return r
	}
	return s.wait(c, s.timeout.send, unix.EAGAIN, func(*call) result {
		dup := s.find()
		defer s.found(dup)
		if r := try(dup); r.err != unix.EAGAIN {
			return r
		}
		return later
	})
}

// sendStream answers the trapped ways of sending on a stream socket.
func (c *call) sendStream(s *socket, dup int, m *transfer) result {
	if m.flags&unix.MSG_OOB != 0 {
		return fail(unix.EOPNOTSUPP) // no engine has urgent data
	}
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if state == fresh || state == listening {
		if m.flags&msgFastopen != 0 && m.name != 0 {
			return fail(unix.EOPNOTSUPP) // the program falls back to connect(2)
		}
		return brokenPipe(m.flags)
	}
	if m.name == 0 && m.ctlLen == 0 {
		return toKernel
	}
	if m.name != 0 {
		if _, e := c.readSockaddr(m.name, int32(m.nameLen)); e != 0 {
			return fail(e)
		}
	}
	if _, e := c.readControl(m); e != 0 {
		return fail(e)
	}
	// TCP ignores the address and what ancillary data it does not know; an
	// AF_UNIX socket would not.
	data, e := c.gather(m.vec, nil)
	if e != 0 {
		return fail(e)
	}
	sent := 0
	return c.natively(dup, unix.POLLOUT, m.flags, s.timeout.send, func(fd int) result {
		n, err := unix.SendmsgN(fd, data[sent:], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err == unix.EPIPE {
			return brokenPipe(m.flags)
		}
		if err != nil {
			return fail(err.(unix.Errno))
		}
		if sent += n; sent < len(data) && m.flags&unix.MSG_DONTWAIT == 0 && !nonblocking(fd) {
			return fail(unix.EAGAIN)
		}
		return value(sent)
	})
}

// brokenPipe is EPIPE, with its signal unless flags have MSG_NOSIGNAL.
func brokenPipe(flags int) result {
	return result{err: unix.EPIPE, sigpipe: flags&unix.MSG_NOSIGNAL == 0}
}
