package tracer

import (
	"net/netip"
	"sync"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// redirects are the destinations of one socket that Config.Redirect has changed.
// The program is told of a peer by the address that it knows.
type redirects struct {
	mu    sync.Mutex
	known map[netip.AddrPort]stack.Addr // by the address in use
}

// redirect is where to send instead of a: a itself, unless Config.Redirect says
// otherwise. A socket of the program's own that is bound to a comes first.
func (s *socket) redirect(a stack.Addr) stack.Addr {
	if s.t.redirect == nil || !a.IP.IsValid() {
		return a
	}
	to, ok := s.t.redirect(netip.AddrPortFrom(a.IP.Unmap(), a.Port))
	if !ok || s.t.serves(s.typ, a) || s.ep.LocalAddr().IP.Unmap().IsLoopback() {
		return a
	}
	used := a
	used.IP, used.Port = to.Addr(), to.Port()
	if a.IP.Is4In6() {
		used.IP = netip.AddrFrom16(to.Addr().As16())
	}
	s.redirects.mu.Lock()
	defer s.redirects.mu.Unlock()
	if s.redirects.known == nil {
		s.redirects.known = make(map[netip.AddrPort]stack.Addr)
	}
	s.redirects.known[to] = a
	return used
}

// forgetRedirect ends the showing of another address for a: the program itself
// has sent to it.
func (s *socket) forgetRedirect(a stack.Addr) {
	if s.t.redirect == nil || !a.IP.IsValid() {
		return
	}
	s.redirects.mu.Lock()
	defer s.redirects.mu.Unlock()
	delete(s.redirects.known, netip.AddrPortFrom(a.IP.Unmap(), a.Port))
}

// destination is where to connect or send to for the address that the program
// has given.
func (s *socket) destination(a stack.Addr) stack.Addr {
	to := s.redirect(a)
	if to == a {
		s.forgetRedirect(a)
	}
	return to
}

// shown is the address of a peer as the program knows it.
func (s *socket) shown(a stack.Addr) stack.Addr {
	if s.t.redirect == nil || !a.IP.IsValid() {
		return a
	}
	s.redirects.mu.Lock()
	defer s.redirects.mu.Unlock()
	if was, ok := s.redirects.known[netip.AddrPortFrom(a.IP.Unmap(), a.Port)]; ok {
		return was
	}
	return a
}

// serves tells whether a socket of the program is bound to a.
func (t *Tracer) serves(typ int, a stack.Addr) bool {
	for _, s := range t.sockets.All() {
		if s.typ != typ || s.family != unix.AF_INET && s.family != unix.AF_INET6 {
			continue
		}
		local := s.ep.LocalAddr()
		if local.Port != a.Port || local.Port == 0 || !local.IP.IsValid() {
			continue
		}
		if local.IP.IsUnspecified() || local.IP.Unmap() == a.IP.Unmap() {
			return true
		}
	}
	return false
}
