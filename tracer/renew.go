package tracer

import (
	"github.com/alptrace/alptrace/fdtable"
	"golang.org/x/sys/unix"
)

// renew puts a fresh stand-in in place of one that has served its purpose: a
// connection that has ended, a listener that was shut down. It returns a
// descriptor of it, which the caller closes. Duplicates of the descriptor keep
// the old stand-in, whose calls still find this socket. The caller holds s.mu.
func (s *socket) renew(c *call) (fd int, e unix.Errno) {
	fd, err := s.t.streams.New()
	if err != nil {
		return -1, unix.ENFILE
	}
	if e = s.replace(c, fd); e != 0 {
		unix.Close(fd)
		return -1, e
	}
	return fd, 0
}

// replace makes fd the stand-in in the descriptor that the call names.
func (s *socket) replace(c *call, fd int) unix.Errno {
	cookie, err := fdtable.Cookie(fd)
	if err != nil {
		return unix.ENFILE
	}
	old, err := s.t.procs.Getfd(int(c.tid), c.fd())
	if err != nil {
		return unix.EBADF
	}
	defer unix.Close(old)
	if nonblocking(old) {
		unix.SetNonblock(fd, true)
	}
	s.timeout.copy(fd)
	if err := s.watchClose(old); err != nil { // its last close forgets its cookie
		s.t.log.Warn("watch stand-in", "err", err)
	}
	s.t.sockets.Add(cookie, s)
	s.cookie, s.watched = cookie, false
	if err := s.watchClose(fd); err != nil {
		s.t.log.Warn("watch stand-in", "err", err)
	}
	a := addfd{id: c.id, flags: addfdSetFD, srcfd: uint32(fd), newfd: uint32(c.fd())}
	if fdtable.CloexecFlag(int(c.tid), c.fd()) {
		a.newfdFlags = unix.O_CLOEXEC
	}
	if _, e := s.t.addFD(&a); e != 0 {
		return e
	}
	s.state, s.shut = fresh, false
	return 0
}

// unlisten makes a listening socket a fresh one, as shutdown(2) and connect(2)
// with AF_UNSPEC do. The caller holds s.mu.
func (s *socket) unlisten(c *call, dup int) result {
	for _, p := range s.pending {
		p.drop()
	}
	s.pending, s.name, s.state = nil, nil, fresh
	unix.Shutdown(dup, unix.SHUT_RDWR) // for those who wait on a duplicate
	fd, e := s.renew(c)
	if e != 0 {
		return fail(e)
	}
	unix.Close(fd)
	s.tryWaiters()
	return success
}
