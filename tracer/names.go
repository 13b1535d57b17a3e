package tracer

// getsockname answers getsockname(2).
func (c *call) getsockname(s *socket, _ int) result {
	return errno(c.writeSockaddr(c.args[1], c.args[2], s.family, s.ep.LocalAddr()))
}

// getpeername answers getpeername(2).
func (c *call) getpeername(s *socket, _ int) result {
	peer, e := s.ep.PeerAddr()
	if e != 0 {
		return fail(e)
	}
	return errno(c.writeSockaddr(c.args[1], c.args[2], s.family, s.shown(peer)))
}
