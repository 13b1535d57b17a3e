package tracer

import "golang.org/x/sys/unix"

// listen answers listen(2).
func (c *call) listen(s *socket, dup int) result {
	r := s.listen(dup, int(c.int32(1)))
	if r.err == unix.EADDRINUSE {
		c.t.settle()
		r = s.listen(dup, int(c.int32(1)))
	}
	s.ownNow(c, r)
	return r
}

func (s *socket) listen(dup, backlog int) result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isStream() {
		return fail(unix.EOPNOTSUPP)
	}
	if s.state != fresh && s.state != listening {
		return fail(unix.EINVAL)
	}
	// listen(2): cut to net.core.somaxconn; a negative one is that as well.
	if backlog < 0 || backlog > somaxconn {
		backlog = somaxconn
	}
	// Linux holds backlog + 1 connections. One half waits on the stand-in,
	// where polls see each of them come, the other in the endpoint. Of a short
	// backlog all wait in the endpoint, and the stand-in only shows that there
	// are some.
	s.queue = backlog / 2
	if backlog < exactBacklog {
		s.queue = 0
	}
	if e := s.ep.Listen(backlog - s.queue); e != 0 {
		return fail(e)
	}
	if s.state == listening {
		return success
	}
	name, err := s.t.streams.Listen(dup)
	if err != nil {
		s.t.log.Warn("listen stand-in", "err", err)
		return fail(unix.ENOMEM)
	}
	s.name, s.state = name, listening
	s.ep.Notify(s.events.Kick)
	s.events.Kick()
	return success
}

// exactBacklog is the least backlog that is divided.
const exactBacklog = 8

// somaxconn is Linux's default of net.core.somaxconn.
const somaxconn = 4096

// takeConnections queues the connections that the endpoint has on the
// stand-in. The caller holds s.mu.
func (s *socket) takeConnections() {
	if s.queue == 0 {
		if len(s.pending) == 0 && s.ep.Readiness()&unix.POLLIN != 0 {
			if end, err := s.t.streams.Pending(s.name); err == nil {
				s.pending = append(s.pending, pendingConn{nil, end})
			}
		}
		return
	}
	for len(s.pending) < s.queue {
		ep, e := s.ep.Accept()
		if e != 0 {
			return
		}
		end, err := s.t.streams.Pending(s.name)
		if err != nil {
			// ECONNREFUSED: the program has just closed it.
			s.t.log.Debug("queue connection", "err", err)
			ep.Abort()
			continue
		}
		s.pending = append(s.pending, pendingConn{ep, end})
	}
}
