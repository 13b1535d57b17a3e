package tracer

import "golang.org/x/sys/unix"

// listen answers listen(2).
func (c *call) listen() result {
	s, dup, ok := c.lookup()
	if !ok {
		return toKernel
	}
	defer unix.Close(dup)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isStream() {
		return fail(unix.EOPNOTSUPP)
	}
	if s.state != fresh && s.state != listening {
		return fail(unix.EINVAL)
	}
	backlog := int(c.int32(1))
	// listen(2): cut to net.core.somaxconn; a negative one is that as well.
	if backlog < 0 || backlog > somaxconn {
		backlog = somaxconn
	}
	// Linux holds backlog + 1 connections. One half waits on the stand-in,
	// where polls see them, the other in the endpoint.
	s.queue = max(1, (backlog+1)/2)
	if e := s.ep.Listen(max(0, backlog-s.queue)); e != 0 {
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

// somaxconn is Linux's default of net.core.somaxconn.
const somaxconn = 4096

// takeConnections queues the connections that the endpoint has on the
// stand-in. The caller holds s.mu.
func (s *socket) takeConnections() {
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
