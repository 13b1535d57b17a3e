package tracer

import (
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// connect answers connect(2).
func (c *call) connect(s *socket, dup int) result {
	sa, e := c.readSockaddr(c.args[1], c.int32(2))
	if e != 0 {
		return fail(e)
	}
	if sa.len < 2 {
		return fail(unix.EINVAL)
	}
	c.t.settle() // a listener that was closed before refuses
	s.mu.Lock()
	defer s.mu.Unlock()
	if sa.family == unix.AF_UNSPEC {
		return s.disconnect(c, dup)
	}
	if !s.isStream() && s.family == unix.AF_INET6 && sa.family == unix.AF_INET {
		// All but TCP take an IPv4 address on an IPv6 socket.
		if e := sa.need(unix.AF_INET); e != 0 {
			return fail(e)
		}
		return s.connectMessages(c, dup, sa.in(s.family))
	}
	if e := sa.need(s.family); e != 0 {
		return fail(e)
	}
	if sa.family != s.family {
		return fail(unix.EAFNOSUPPORT)
	}
	if !s.isStream() {
		return s.connectMessages(c, dup, sa.addr)
	}
	return s.connectStream(c, dup, sa.addr)
}

// disconnect is connect(2) with AF_UNSPEC.
func (s *socket) disconnect(c *call, dup int) result {
	if !s.isStream() {
		s.messages.Send() // what was sent before goes to the old peer
	}
	e := s.ep.Disconnect()
	if e != 0 {
		return fail(e)
	}
	if !s.isStream() {
		s.messages.Disconnect()
		s.takeErrorNow(dup)
	}
	s.due = false
	switch s.state {
	case connecting:
		s.handshakeFailed(0)
		s.due = false
	case connected: // tcp_disconnect leaves ECONNRESET pending
		s.stream.Fail(unix.ECONNRESET)
	case listening:
		return s.unlisten(c, dup)
	}
	return success
}

// connectMessages sets the peer of a datagram socket.
func (s *socket) connectMessages(c *call, dup int, to stack.Addr) result {
	s.messages.Send() // what was sent before goes to the old peer
	if e := s.ep.Connect(s.destination(to)); e != 0 {
		return fail(e)
	}
	s.ownNow(c, success)
	if err := s.messages.Connect(dup); err != nil {
		s.t.log.Warn("connect stand-in", "err", err)
		return fail(unix.ENOMEM)
	}
	return success
}

// connectStream begins, or asks after, the handshake of a stream socket.
func (s *socket) connectStream(c *call, dup int, to stack.Addr) result {
	nonblock := nonblocking(dup)
	switch s.state {
	case listening:
		return fail(unix.EISCONN)
	case connecting:
		if nonblock {
			return fail(unix.EALREADY)
		}
		return s.awaitHandshake(c, unix.EALREADY)
	case connected, broken:
		if s.due || s.told.repeatedBy(c) { // connect(2) again says how it ended
			s.due, s.told = false, told{}
			if s.state == connected {
				return success
			}
			if e := s.takeError(dup); e != 0 {
				return fail(e)
			}
			return fail(unix.ECONNABORTED)
		}
	}
	if s.state == broken {
		fd, e := s.renew(c)
		if e != 0 {
			return fail(e)
		}
		defer unix.Close(fd)
		dup = fd
	}
	to = s.destination(to)
	s.to = to
	e := s.owning(c, to, func() unix.Errno { return s.ep.Connect(to) })
	if e == 0 || e == unix.EINPROGRESS {
		s.err = 0 // tcp_connect_init forgets an older error
	}
	switch e {
	case 0:
		if s.state == fresh {
			if err := s.convert(dup); err != nil {
				s.t.log.Warn("convert stand-in", "err", err)
				return fail(unix.ENOMEM)
			}
		}
		return success
	case unix.EINPROGRESS:
	default:
		return fail(e)
	}
	s.state = connecting
	s.ep.Notify(s.events.Kick)
	if !nonblock {
		s.events.Kick()
		return s.awaitHandshake(c, unix.EINPROGRESS)
	}
	end, err := s.t.streams.ConnectPending(dup)
	if err != nil {
		s.t.log.Warn("convert stand-in", "err", err)
		s.ep.Abort()
		return fail(unix.ENOMEM)
	}
	s.end = end
	s.events.Kick()
	return fail(unix.EINPROGRESS)
}

// awaitHandshake leaves a blocking connect(2) waiting; with SO_SNDTIMEO it fails
// with late.
func (s *socket) awaitHandshake(c *call, late unix.Errno) result {
	r := s.wait(c, s.timeout.send, late, func(c *call) result {
		switch s.state {
		case connecting:
			return later
		case connected:
			s.due, s.told = false, told{*c, time.Now()}
			return success
		}
		e := s.err
		s.err = 0
		if e == 0 {
			e = unix.ECONNABORTED
		}
		return fail(e)
	})
	if r.how == waiting {
		// The call that comes after the signal is due the outcome.
		s.waiters[len(s.waiters)-1].lost = func() { s.due = s.state == connected }
	}
	return r
}

// told is a call that was answered. A signal that comes in the same instant can
// still take the answer without our learning of it: the kernel accepts it and
// begins the call anew.
type told struct {
	c  call
	at time.Time
}

// restartTime is how soon such a call comes again, at most.
const restartTime = 50 * time.Millisecond

func (t *told) repeatedBy(c *call) bool {
	return t.c.tid == c.tid && c.repeats(&t.c) && time.Since(t.at) < restartTime
}

// onEvent runs when the endpoint of a connecting or listening stream changed.
func (s *socket) onEvent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	switch s.state {
	case connecting:
		if s.ep.Readiness()&(unix.POLLOUT|unix.POLLERR|unix.POLLHUP) == 0 {
			return
		}
		switch e := s.ep.Connect(s.to); e { // says how it ended
		case unix.EALREADY, unix.EINPROGRESS:
			return
		case 0, unix.EISCONN:
			s.established()
		default:
			s.handshakeFailed(e)
		}
	case listening:
		s.takeConnections()
	}
	s.tryWaiters()
}

// established makes the stand-in of a socket that was connecting a connected
// one.
func (s *socket) established() {
	dup := s.find()
	defer func() { s.found(dup) }()
	if s.end < 0 { // a blocking connect
		if dup < 0 {
			s.t.sockets.Remove(s.cookie)
			s.release()
			return
		}
		if err := s.convert(dup); err != nil {
			s.t.log.Warn("convert stand-in", "err", err)
			s.handshakeFailed(unix.ENOMEM)
			return
		}
		s.due = true // until a waiting call, or the next one, is told
		return
	}
	s.t.streams.Established(dup, s.end)
	s.startStream(s.end)
	s.end, s.due = -1, true
}

// convert connects the fresh stand-in dup and starts its stream.
func (s *socket) convert(dup int) error {
	end, err := s.t.streams.Connect(dup)
	if err != nil {
		return err
	}
	s.t.streams.SetBuffers(dup)
	s.startStream(end)
	return nil
}

// startStream begins to move bytes; it owns end.
func (s *socket) startStream(end int) {
	s.t.streams.SetBuffers(end)
	s.state = connected
	in, out := s.counters()
	stream, err := s.t.loop.NewStream(end, s.ep, s, in, out)
	if err != nil {
		s.t.log.Warn("start stream", "err", err)
		unix.Close(end)
		s.ep.Abort()
		s.state, s.err = broken, unix.ENOMEM
		return
	}
	s.stream = stream
}

// handshakeFailed ends a connection attempt with e.
func (s *socket) handshakeFailed(e unix.Errno) {
	s.err, s.state = e, fresh
	s.ep.Notify(nil)
	if s.end >= 0 {
		// The filler is unread, so polls report OUT, ERR and HUP.
		s.t.streams.Reset(-1, s.end)
		s.end, s.state, s.due = -1, broken, true
	}
}
