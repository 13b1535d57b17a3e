package tracer

import (
	"github.com/alptrace/alptrace/fdtable"
	"github.com/alptrace/alptrace/observe/owner"
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// accept answers accept(2) and accept4(2).
func (c *call) accept(s *socket, dup int) result {
	flags := 0
	if c.nr == unix.SYS_ACCEPT4 {
		flags = int(c.int32(3))
	}
	if flags&^(unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK) != 0 {
		return fail(unix.EINVAL)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isStream() {
		return fail(unix.EOPNOTSUPP)
	}
	if s.state != listening {
		return fail(unix.EINVAL)
	}
	r := s.takePending(c, dup, flags)
	if r.err != unix.EAGAIN || nonblocking(dup) {
		return r
	}
	if c.outOfDescriptors() {
		return fail(unix.EMFILE) // accept(2) takes the number before it waits
	}
	return s.wait(c, s.timeout.receive, unix.EAGAIN, func(c *call) result {
		if s.state != listening {
			return fail(unix.EINVAL)
		}
		if len(s.pending) == 0 {
			return later
		}
		dup, err := s.t.procs.Getfd(int(c.tid), c.fd())
		if err != nil {
			return fail(unix.EBADF)
		}
		defer unix.Close(dup)
		if cookie, err := fdtable.Cookie(dup); err != nil || cookie != s.cookie {
			return fail(unix.EBADF)
		}
		r := s.takePending(c, dup, flags)
		if r.err == unix.EAGAIN && r.how == answered {
			return later
		}
		return r
	})
}

// takePending gives the program the oldest pending connection: EAGAIN if there
// is none. The caller holds s.mu.
func (s *socket) takePending(c *call, dup, flags int) result {
	if len(s.pending) == 0 {
		s.takeConnections()
	}
	if len(s.pending) == 0 {
		return fail(unix.EAGAIN)
	}
	fd, err := s.t.streams.Accept(dup)
	if err != nil {
		return fail(unix.EAGAIN)
	}
	s.t.holding.RLock()
	defer s.t.holding.RUnlock()
	defer unix.Close(fd)
	p := s.pending[0]
	s.pending[0] = pendingConn{}
	s.pending = s.pending[1:]
	if p.ep == nil {
		var e unix.Errno
		if p.ep, e = s.ep.Accept(); e != 0 {
			unix.Close(p.end)
			return fail(e)
		}
	}
	child := &socket{t: s.t, family: s.family, typ: s.typ, proto: s.proto, ep: p.ep, end: -1, timeout: s.timeout}
	if c.args[1] != 0 {
		peer, _ := p.ep.PeerAddr()
		if e := c.writeSockaddr(c.args[1], c.args[2], s.family, peer); e != 0 {
			unix.Close(p.end)
			p.ep.Abort()
			return fail(e)
		}
	}
	if child.cookie, err = fdtable.Cookie(fd); err != nil {
		unix.Close(p.end)
		p.ep.Abort()
		return fail(unix.ENFILE)
	}
	child.events = s.t.loop.NewTask(func(uint32) { child.onEvent() })
	if flags&unix.SOCK_NONBLOCK != 0 {
		unix.SetNonblock(fd, true)
	}
	child.timeout.copy(fd)
	s.t.streams.SetBuffers(fd)
	s.t.sockets.Add(child.cookie, child)
	child.mu.Lock()
	defer child.mu.Unlock()
	var by owner.Owner
	if s.t.owners != nil { // the program may send before its descriptor is known here
		by = c.who(-1)
		child.own(c, by, stack.Addr{})
	}
	r, ok := c.giveFD(fd, flags&unix.SOCK_CLOEXEC != 0)
	if !ok {
		// Interrupted, or out of descriptors: the connection waits on.
		s.t.sockets.Remove(child.cookie)
		s.putBack(p)
		return r
	}
	child.sawAt(c.tid, int(r.val))
	if by.FD = int(r.val); s.t.owners != nil {
		child.own(c, by, stack.Addr{})
	}
	child.startStream(p.end)
	s.takeConnections() // there is room for one more
	return r
}

// putBack queues a connection again that could not be handed over.
func (s *socket) putBack(p pendingConn) {
	unix.Close(p.end)
	end, err := s.t.streams.Pending(s.name)
	if err != nil {
		p.ep.Abort()
		return
	}
	s.pending = append(s.pending, pendingConn{p.ep, end})
}

// outOfDescriptors tells whether the calling thread has no free descriptor.
func (c *call) outOfDescriptors() bool {
	var lim unix.Rlimit
	if unix.Prlimit(int(c.tid), unix.RLIMIT_NOFILE, nil, &lim) != nil || lim.Cur == 0 {
		return false
	}
	// The highest number is the last to be used, unless the program chose it.
	fd, err := c.t.procs.Getfd(int(c.tid), int(min(lim.Cur, 1<<30)-1))
	if err != nil {
		return false
	}
	unix.Close(fd)
	return c.t.procs.Descriptors(int(c.tid)) >= int(lim.Cur)
}
