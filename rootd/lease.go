package rootd

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd/proto"
)

// lease is all that one client has.
type lease struct {
	id      uint32
	token   [proto.TokenLen]byte
	program string // as the client calls itself
	since   time.Time
	dev     Device // without File
	journal journal

	mu     sync.Mutex
	peer   peer
	rights policy.Rights
	conn   *conn // nil while it waits to be resumed
	ended  bool
	naked  int           // grants without a dummy that should have one
	grants map[Grant]int // the dummy, or noDummy
	ports  map[portKey][]Grant
}

func newLease(id uint32, p peer, program string) *lease {
	return &lease{
		id: id, peer: p, program: program, since: time.Now(),
		grants: map[Grant]int{}, ports: map[portKey][]Grant{},
	}
}

func (l *lease) tokenIs(t [proto.TokenLen]byte) bool {
	return subtle.ConstantTimeCompare(l.token[:], t[:]) == 1
}

// keep writes a grant into the lease's books. mu is held.
func (l *lease) keep(g Grant, fd int) {
	l.grants[g] = fd
	if fd == noDummy && !g.isEcho() {
		l.naked++
	}
	l.ports[g.key()] = append(l.ports[g.key()], g)
}

// drop takes a grant out of the books. mu is held.
func (l *lease) drop(g Grant) (fd int, ok bool) {
	fd, ok = l.grants[g]
	if !ok {
		return noDummy, false
	}
	delete(l.grants, g)
	if fd == noDummy && !g.isEcho() {
		l.naked--
	}
	k := g.key()
	rest := l.ports[k][:0]
	for _, o := range l.ports[k] {
		if o != g {
			rest = append(rest, o)
		}
	}
	if len(rest) == 0 {
		delete(l.ports, k)
	} else {
		l.ports[k] = rest
	}
	return fd, true
}

// dummiesAt returns the lease's dummies at the port of g. mu is held.
func (l *lease) dummiesAt(k portKey) []int {
	var fds []int
	for _, g := range l.ports[k] {
		if fd := l.grants[g]; fd != noDummy {
			fds = append(fds, fd)
		}
	}
	return fds
}

// all returns the grants. mu is held.
func (l *lease) all() []Grant {
	gs := make([]Grant, 0, len(l.grants))
	for g := range l.grants {
		gs = append(gs, g)
	}
	return gs
}

// beginLease makes a lease with its device for a client that said Hello. The
// file is the device's.
func (s *Server) beginLease(c *conn, program string) (*lease, *os.File, error) {
	rights := s.rightsOf(c.peer)
	if rights.Deny {
		return nil, nil, refuse(unix.EACCES, "policy (%s): access denied", rights.Rule)
	}
	l := newLease(0, c.peer, program)
	l.rights, l.conn = rights, c
	if _, err := rand.Read(l.token[:]); err != nil {
		return nil, nil, err
	}
	file, err := s.equip(l)
	if err != nil {
		return nil, nil, err
	}
	s.saveLeases()
	s.log.Info("lease begins", "lease", l.id, "uid", c.peer.UID, "pid", c.peer.PID, "command", c.peer.Comm,
		"program", program, "device", l.dev.Name, "rule", rights.Rule)
	return l, file, nil
}

// equip enters l into the books and gets it a device. The lock of l is held all
// the while, so that nobody sees it half made.
func (s *Server) equip(l *lease) (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := s.admit(l); err != nil {
		return nil, err
	}
	dev, err := s.cfg.Datapath.NewDevice(l.id, l.rights.Reach)
	if err != nil {
		l.ended = true
		s.forget(l)
		s.log.Error("no device for a lease", "lease", l.id, "uid", l.peer.UID, "err", err)
		return nil, refuse(unix.ENOBUFS, "no device: %v", err)
	}
	file := dev.File
	dev.File = nil
	l.dev = dev
	s.mu.Lock()
	s.records[l.id] = l.record()
	s.mu.Unlock()
	return file, nil
}

// admit enters l into the books if the limits allow, and numbers it.
func (s *Server) admit(l *lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.account(l.peer.UID)
	switch {
	case s.stopped:
		return refuse(unix.EAGAIN, "rootd stops")
	case a.leases >= l.rights.Leases:
		return refuse(unix.ENOBUFS, "policy (%s): user %d has %d leases, the limit", l.rights.Rule, l.peer.UID, a.leases)
	case len(s.leases) >= s.access.Leases:
		return refuse(unix.ENOBUFS, "%d leases, the limit of all users", len(s.leases))
	}
	for l.id == 0 || s.leases[l.id] != nil {
		l.id = randomUint32()
	}
	s.leases[l.id] = l
	a.leases++
	return nil
}

// forget takes l out of the books.
func (s *Server) forget(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[l.id] == l {
		delete(s.leases, l.id)
		delete(s.records, l.id)
		s.account(l.peer.UID).leases--
	}
}

// endLease takes back all that l has. It may be called twice.
func (s *Server) endLease(l *lease, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	count, _ := s.cfg.Datapath.Counters(l.id) // for the log; zeros will do
	if l.dev.Index > 0 {
		if err := s.cfg.Datapath.RemoveDevice(l.dev.Index); err != nil {
			s.log.Error("device not removed", "lease", l.id, "device", l.dev.Name, "err", err)
		}
	}
	n := len(l.grants)
	held := s.takeBack(l, l.all(), true)
	s.forget(l)
	s.stale.Store(true)
	s.flush(l)
	s.log.Info("lease ends", "lease", l.id, "uid", l.peer.UID, "pid", l.peer.PID, "program", l.program, "why", why,
		"grants", n, "held_back", held, "duration", time.Since(l.since).Round(time.Millisecond),
		"rx_packets", count.RxPackets, "rx_bytes", count.RxBytes,
		"tx_packets", count.TxPackets, "tx_bytes", count.TxBytes, "drops", count.Drops)
}

// takeBack removes grants of l from the datapath and, unless they are TCP's
// and hold is set, from the kernel. It returns how many are held back. l.mu is
// held.
func (s *Server) takeBack(l *lease, gs []Grant, hold bool) (held int) {
	if len(gs) == 0 {
		return 0
	}
	s.cfg.Datapath.Remove(l.id, gs)
	var free []Grant
	var fds []int
	for _, g := range gs {
		fd, ok := l.drop(g)
		if !ok {
			continue
		}
		if g.isEcho() {
			s.unclaimEcho(g.Port)
		}
		if hold && g.Proto == proto.TCP {
			s.held.add(g, fd, l.peer.UID, time.Now().Add(s.cfg.HoldBack))
			held++
			continue
		}
		free, fds = append(free, g), append(fds, fd)
	}
	s.letGo(l.peer.UID, free, fds)
	return held
}

// letGo gives ports back to the kernel.
func (s *Server) letGo(uid uint32, gs []Grant, fds []int) {
	if len(gs) == 0 {
		return
	}
	if err := s.cfg.Guard.Remove(gs); err != nil {
		s.log.Error("guard", "err", err)
	}
	for _, fd := range fds {
		closeFD(fd)
	}
	s.unreserve(uid, len(gs))
}

func randomUint32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.NativeEndian.Uint32(b[:])
}

// families lists the unspecified addresses of a set.
func families(f proto.Families) []netip.Addr {
	var as []netip.Addr
	if f&proto.IPv4 != 0 {
		as = append(as, netip.IPv4Unspecified())
	}
	if f&proto.IPv6 != 0 {
		as = append(as, netip.IPv6Unspecified())
	}
	return as
}
