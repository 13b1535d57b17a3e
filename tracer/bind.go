package tracer

import "golang.org/x/sys/unix"

// bind answers bind(2).
func (c *call) bind(s *socket, dup int) result {
	sa, e := c.readSockaddr(c.args[1], c.int32(2))
	if e != 0 {
		return fail(e)
	}
	if e := sa.need(s.family); e != 0 {
		return fail(e)
	}
	if sa.family != s.family {
		// Linux takes AF_UNSPEC for AF_INET where the address is INADDR_ANY.
		any := s.family == unix.AF_INET && sa.family == unix.AF_UNSPEC && sa.addr.IP.IsUnspecified()
		if !any {
			return fail(unix.EAFNOSUPPORT)
		}
	}
	s.mu.Lock()
	e = s.ep.Bind(sa.addr)
	s.mu.Unlock()
	if e == unix.EADDRINUSE {
		c.t.settle() // a port that was closed before is free
		s.mu.Lock()
		e = s.ep.Bind(sa.addr)
		s.mu.Unlock()
	}
	s.ownNow(c, errno(e))
	return errno(e)
}
