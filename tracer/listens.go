package tracer

import "golang.org/x/sys/unix"

// Listens reports whether a socket of the program takes connections at a port,
// or datagrams.
func (t *Tracer) Listens(port uint16) bool {
	for _, s := range t.sockets.All() {
		if s.family != unix.AF_INET && s.family != unix.AF_INET6 || s.ep.LocalAddr().Port != port {
			continue
		}
		s.mu.Lock()
		ready := s.state == listening || s.typ == unix.SOCK_DGRAM
		s.mu.Unlock()
		if ready {
			return true
		}
	}
	return false
}
