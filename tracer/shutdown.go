package tracer

import "golang.org/x/sys/unix"

// shutdown answers shutdown(2).
func (c *call) shutdown(s *socket, dup int) result {
	how := int(c.int32(1))
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return fail(unix.EINVAL)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == connected {
		// The stand-in is shut; the stream sees that after the last byte that
		// the program wrote, and only then is it the endpoint's turn. After
		// that the stand-in's end says nothing of the last close.
		if err := s.watchClose(dup); err != nil {
			s.t.log.Warn("watch stand-in", "err", err)
		}
		if s.endedBothWays(dup) {
			if e := s.ep.Shutdown(how); e != 0 {
				return fail(e)
			}
		}
		s.shut = true
		if err := unix.Shutdown(dup, how); err != nil {
			return fail(unix.ENOTCONN)
		}
		return success
	}
	if s.state == listening && how != unix.SHUT_WR {
		if e := s.ep.Shutdown(how); e != 0 {
			return fail(e)
		}
		return s.unlisten(c, dup)
	}
	if s.messages != nil {
		s.messages.Send()
	}
	e := s.ep.Shutdown(how)
	if e == 0 || e == unix.ENOTCONN && s.messages != nil {
		// Linux shuts an unconnected datagram socket and says ENOTCONN.
		unix.Shutdown(dup, how)
	}
	if e != 0 {
		return fail(e)
	}
	s.tryWaiters()
	return success
}

// endedBothWays tells whether the stand-in of a connected stream socket has no
// direction left, and nothing on its way to the endpoint. On TCP the connection
// is then over as soon as the peer has acknowledged the FIN, which the endpoint
// knows.
func (s *socket) endedBothWays(dup int) bool {
	p := []unix.PollFd{{Fd: int32(dup)}}
	unix.Poll(p, 0)
	if p[0].Revents&unix.POLLHUP == 0 {
		return false
	}
	left, err := unix.IoctlGetInt(dup, unix.SIOCOUTQ)
	return err == nil && left == 0
}
