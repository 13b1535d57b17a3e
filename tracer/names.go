package tracer

import "golang.org/x/sys/unix"

// getsockname answers getsockname(2).
func (c *call) getsockname() result {
	s, dup, ok := c.lookup()
	if !ok {
		return toKernel
	}
	unix.Close(dup)
	return errno(c.writeSockaddr(c.args[1], c.args[2], s.family, s.ep.LocalAddr()))
}

// getpeername answers getpeername(2).
func (c *call) getpeername() result {
	s, dup, ok := c.lookup()
	if !ok {
		return toKernel
	}
	unix.Close(dup)
	peer, e := s.ep.PeerAddr()
	if e != 0 {
		return fail(e)
	}
	return errno(c.writeSockaddr(c.args[1], c.args[2], s.family, s.shown(peer)))
}
