package tracer

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/alptrace/alptrace/fdtable"
	"github.com/alptrace/alptrace/internal/flow"
	"github.com/alptrace/alptrace/observe/owner"
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// owned is what the registry of owners knows of a socket.
type owned struct {
	mu     sync.Mutex
	socket flow.Flow // the key; Proto 0: nothing yet
	by     owner.Owner
	tid    uint32 // of by
}

// who is the process of the call, as the owner of descriptor fd.
func (c *call) who(fd int) owner.Owner {
	pid, err := fdtable.Tgid(int(c.tid))
	if err != nil {
		pid = int(c.tid)
	}
	name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return owner.Owner{PID: pid, Prog: strings.TrimSuffix(string(name), "\n"), FD: fd}
}

// transport is the number of the socket's protocol.
func (s *socket) transport() uint8 {
	switch {
	case s.isStream():
		return unix.IPPROTO_TCP
	case s.typ == unix.SOCK_DGRAM && s.proto == 0:
		return unix.IPPROTO_UDP
	}
	return uint8(s.proto)
}

// own notes that the process of the call has s, with the addresses that it has
// now; to is where it connects, if it does.
func (s *socket) own(c *call, by owner.Owner, to stack.Addr) {
	if s.t.owners == nil {
		return
	}
	remote := addrPort(to)
	if peer, e := s.ep.PeerAddr(); e == 0 {
		remote = addrPort(peer)
	}
	local := addrPort(s.ep.LocalAddr())
	s.owned.mu.Lock()
	defer s.owned.mu.Unlock()
	s.owned.socket = owner.Socket(s.transport(), local, remote)
	s.owned.by, s.owned.tid = by, c.tid
	s.t.owners.Set(s.owned.socket, by)
}

// ownNow is own after a call that may have given s an address.
func (s *socket) ownNow(c *call, r result) {
	if s.t.owners != nil && r.err == 0 {
		s.own(c, c.who(c.fd()), stack.Addr{})
	}
}

// owning runs f, in which s sends to an address and may get its own, such that
// the owner is known from the first packet on.
func (s *socket) owning(c *call, to stack.Addr, f func() unix.Errno) unix.Errno {
	if s.t.owners == nil {
		return f()
	}
	by := c.who(c.fd())
	s.t.owners.Begin(s.transport(), addrPort(to), by)
	defer s.t.owners.End()
	e := f()
	if e == 0 || e == unix.EINPROGRESS {
		if !s.isStream() {
			to = stack.Addr{}
		}
		s.own(c, by, to)
	}
	return e
}

// sendOwned sends a message; the first one may give s its address.
func (s *socket) sendOwned(c *call, m *stack.Message) (n int, e unix.Errno) {
	if s.t.owners == nil || !m.HasAddr || s.owned.known() {
		return s.ep.Send(m)
	}
	e = s.owning(c, m.Addr, func() (e unix.Errno) {
		n, e = s.ep.Send(m)
		return e
	})
	return n, e
}

// known says whether the registry knows the socket.
func (o *owned) known() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.socket.Proto != 0
}

// ownedBy notes that another process than before uses s: a child has it.
func (s *socket) ownedBy(c *call) {
	s.owned.mu.Lock()
	other := s.owned.socket.Proto != 0 && s.owned.tid != c.tid
	s.owned.mu.Unlock()
	if !other || c.nr == unix.SYS_ACCEPT || c.nr == unix.SYS_ACCEPT4 {
		return // a listener stays whose it is while its children accept
	}
	by := c.who(c.fd())
	s.owned.mu.Lock()
	defer s.owned.mu.Unlock()
	s.owned.tid = c.tid
	if by.PID != s.owned.by.PID {
		s.owned.by = by
		s.t.owners.Set(s.owned.socket, by)
	}
}

// disown notes that s was closed.
func (s *socket) disown() {
	if s.t.owners == nil {
		return
	}
	s.owned.mu.Lock()
	defer s.owned.mu.Unlock()
	if s.owned.socket.Proto != 0 {
		s.t.owners.Close(s.owned.socket, s.owned.by)
	}
}
