package rootd

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
)

// chooseTries is how many ports the kernel is asked for until one is free in
// both families and allowed by the policy.
const chooseTries = 32

// want is one item of a request on its way: the grants that it takes (two for
// a dual-stack address), all or none of them.
type want struct {
	item   proto.Item
	grants []Grant
	fresh  []Grant // those that the lease did not have before
	err    error
}

func (w *want) fail(err error) {
	if w.err == nil { // the first is the cause
		w.err = err
	}
}

// grant serves proto.Grant.
func (s *Server) grant(l *lease, items []proto.Item) []proto.Result {
	wants := make([]want, len(items))
	for i, it := range items {
		wants[i] = want{item: it, grants: grantsOf(it)}
	}
	return s.grantAll(l, wants)
}

// ephemeral serves proto.Ephemeral. It stops at the first that cannot be had.
func (s *Server) ephemeral(l *lease, m proto.Ephemeral) []proto.Result {
	wants := make([]want, m.N)
	for i := range wants {
		var gs []Grant
		for _, a := range families(m.Families) {
			gs = append(gs, Grant{m.Proto, a, 0})
		}
		if m.Proto == proto.ICMP && m.Families == proto.IPv6 {
			gs[0].Proto = proto.ICMPv6
		}
		wants[i] = want{item: proto.Item{Proto: m.Proto}, grants: gs}
	}
	var got []proto.Result
	var last proto.Result
	for _, r := range s.grantAll(l, wants) {
		if r.Errno == 0 {
			got = append(got, r)
			continue
		}
		last = r
	}
	if len(got) == 0 {
		return []proto.Result{last}
	}
	return got
}

// grantsOf lists what an item asks for: :: without V6Only is 0.0.0.0 as well.
func grantsOf(it proto.Item) []Grant {
	gs := []Grant{{it.Proto, it.Addr, it.Port}}
	if it.Addr == netip.IPv6Unspecified() && it.Flags&proto.V6Only == 0 && (it.Proto == proto.TCP || it.Proto == proto.UDP) {
		gs = append(gs, Grant{it.Proto, netip.IPv4Unspecified(), it.Port})
	}
	return gs
}

// grantAll gives l what it wants and may have.
func (s *Server) grantAll(l *lease, wants []want) []proto.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	results := make([]proto.Result, len(wants))
	if l.ended {
		for i := range results {
			results[i].Errno = unix.EACCES
		}
		return results
	}
	locals := s.cfg.Datapath.Locals()
	host := s.host.Load()
	full := false
	for i := range wants {
		w := &wants[i]
		if full {
			w.fail(errFull)
			continue
		}
		s.bindWant(l, w, locals, host)
		full = errors.Is(w.err, errFull)
	}
	s.install(l, wants)
	for i := range wants {
		results[i] = s.result(l, &wants[i])
	}
	return results
}

// errFull is a limit on grants; what follows in a request would meet it too.
var errFull = fmt.Errorf("too many grants: %w", unix.ENOBUFS)

// result is the answer to w, and a line in the journal. l.mu is held.
func (s *Server) result(l *lease, w *want) proto.Result {
	if w.err != nil {
		l.journal.refused(Grant{w.item.Proto, w.grants[0].Addr, w.item.Port}, w.err)
		return proto.Result{Errno: errnoOf(w.err)}
	}
	for _, g := range w.grants {
		if _, have := l.grants[g]; !have {
			// An item before this one had it, and lost it again.
			return proto.Result{Errno: unix.ENOBUFS}
		}
	}
	for _, g := range w.fresh {
		l.journal.granted(g)
	}
	return proto.Result{Port: w.grants[0].Port}
}

// bindWant checks w against the policy and the limits and binds its dummies,
// all or none. What is bound stands in the books at once, so that items of one
// request see each other. l.mu is held.
func (s *Server) bindWant(l *lease, w *want, locals []netip.Prefix, host *hostPorts) {
	var fresh int
	for _, g := range w.grants {
		if err := g.valid(); err != nil {
			w.fail(err)
			return
		}
		if !isLocal(g.Addr, locals) {
			w.fail(unix.EADDRNOTAVAIL)
			return
		}
		if g.Port != 0 && !l.rights.MayBind(g.Proto, g.Addr, g.Port, host.unprivileged) {
			w.fail(l.notAllowed())
			return
		}
		if _, have := l.grants[g]; !have {
			fresh++
		}
	}
	if fresh == 0 {
		return
	}
	if got := s.reserve(l.peer.UID, fresh, l.rights.Grants); got < fresh {
		s.unreserve(l.peer.UID, got)
		w.fail(errFull)
		return
	}
	if w.grants[0].Port == 0 {
		w.fail(s.chooseWant(l, w, host))
	} else {
		w.fail(s.bindAt(l, w))
	}
	s.unreserve(l.peer.UID, fresh-len(w.fresh))
}

func (l *lease) notAllowed() error {
	return fmt.Errorf("policy (%s): %w", l.rights.Rule, unix.EACCES)
}

// chooseWant lets the kernel choose a port. l.mu is held.
func (s *Server) chooseWant(l *lease, w *want, host *hostPorts) (err error) {
	for range chooseTries {
		for i := range w.grants {
			w.grants[i].Port = 0
		}
		err = s.bindAt(l, w)
		if err == nil {
			if l.mayAll(w.grants, host) {
				return nil
			}
			s.unbind(l, w)
			err = l.notAllowed()
			continue
		}
		if !errors.Is(err, unix.EADDRINUSE) || len(w.grants) == 1 {
			return err
		}
		// Free in one family but not in the other: another.
	}
	return err
}

func (l *lease) mayAll(gs []Grant, host *hostPorts) bool {
	for _, g := range gs {
		if !l.rights.MayBind(g.Proto, g.Addr, g.Port, host.unprivileged) {
			return false
		}
	}
	return true
}

// bindAt binds the dummies of w that the lease does not have, all or none. The
// first grant says which port the others are to have. l.mu is held.
func (s *Server) bindAt(l *lease, w *want) error {
	for i := range w.grants {
		g := &w.grants[i]
		g.Port = w.grants[0].Port
		if _, have := l.grants[*g]; have {
			continue
		}
		fd, err := s.bindOne(l, g, w.item.Flags&proto.ReuseAddr != 0)
		if err != nil {
			s.unbind(l, w)
			return err
		}
		l.keep(*g, fd)
		w.fresh = append(w.fresh, *g)
	}
	return nil
}

// bindOne binds one dummy and sets the port of g.
func (s *Server) bindOne(l *lease, g *Grant, reuse bool) (int, error) {
	own := l.dummiesAt(g.key())
	if g.isEcho() {
		return s.bindEcho(l, g, own)
	}
	if reuse {
		own = append(own, s.held.dummiesAt(g.key(), l.peer.UID)...)
	}
	fd, port, err := bindDummy(*g, own, reuse)
	if err != nil {
		return noDummy, err
	}
	g.Port = port
	return fd, nil
}

// bindEcho binds an echo identifier, if the kernel has sockets for that.
func (s *Server) bindEcho(l *lease, g *Grant, own []int) (int, error) {
	fd, id, err := bindDummy(*g, own, false)
	if errors.Is(err, unix.EACCES) { // net.ipv4.ping_group_range
		fd, id, err = noDummy, g.Port, nil
	}
	if err != nil {
		return noDummy, err
	}
	if id, err = s.claimEcho(id, l.id); err != nil {
		closeFD(fd)
		return noDummy, err
	}
	g.Port = id
	return fd, nil
}

// unbind takes back what bindAt did for w; the reservation stays. l.mu is held.
func (s *Server) unbind(l *lease, w *want) {
	for _, g := range w.fresh {
		fd, _ := l.drop(g)
		closeFD(fd)
		if g.isEcho() {
			s.unclaimEcho(g.Port)
		}
	}
	w.fresh = nil
}

// install has the guard and the datapath know what is bound. What fails there
// is undone. l.mu is held.
func (s *Server) install(l *lease, wants []want) {
	var gs []Grant
	var of []*want // whose each is
	for i := range wants {
		for _, g := range wants[i].fresh {
			gs, of = append(gs, g), append(of, &wants[i])
		}
	}
	if len(gs) == 0 {
		return
	}
	if err := s.cfg.Guard.Add(gs); err != nil {
		s.log.Error("guard", "lease", l.id, "err", err)
		for _, w := range of {
			w.fail(fmt.Errorf("guard: %w: %w", err, unix.ENOBUFS))
		}
	} else {
		for i, err := range s.cfg.Datapath.Add(l.id, l.dev.Index, gs) {
			if err != nil {
				of[i].fail(fmt.Errorf("datapath: %w: %w", err, unix.ENOBUFS))
			}
		}
	}
	var undo []Grant
	for i := range wants {
		w := &wants[i]
		if w.err == nil {
			s.inherit(l, w)
			continue
		}
		undo = append(undo, w.fresh...)
	}
	s.takeBack(l, undo, false)
}

// inherit ends the holding back of what w has now. l.mu is held.
func (s *Server) inherit(l *lease, w *want) {
	if w.item.Flags&proto.ReuseAddr == 0 {
		return
	}
	for _, g := range w.fresh {
		for _, p := range s.held.covered(g, l.peer.UID) {
			if p.grant == g { // the guard's entry is w's now
				closeFD(p.fd)
				s.unreserve(p.uid, 1)
				continue
			}
			s.letGo(p.uid, []Grant{p.grant}, []int{p.fd})
		}
	}
}

// release serves proto.Release.
func (s *Server) release(l *lease, items []proto.Item) []proto.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	results := make([]proto.Result, len(items))
	var hold, free []Grant
	seen := map[Grant]bool{}
	for i, it := range items {
		results[i].Port = it.Port
		for _, g := range grantsOf(it) {
			if _, have := l.grants[g]; !have || seen[g] {
				results[i].Errno = unix.EINVAL
				continue
			}
			seen[g] = true
			l.journal.released(g)
			if it.Flags&proto.Hold != 0 {
				hold = append(hold, g)
			} else {
				free = append(free, g)
			}
		}
	}
	s.takeBack(l, hold, true)
	s.takeBack(l, free, false)
	if len(hold) > 0 {
		s.stale.Store(true)
	}
	return results
}

// errnoOf is what the client is told of err: one of those that proto.Result
// lists.
func errnoOf(err error) unix.Errno {
	for _, e := range []unix.Errno{unix.EADDRINUSE, unix.EACCES, unix.EADDRNOTAVAIL, unix.ENOBUFS,
		unix.EPROTONOSUPPORT, unix.EINVAL} {
		if errors.Is(err, e) {
			return e
		}
	}
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return unix.EADDRNOTAVAIL
	}
	return unix.ENOBUFS // EMFILE, ENOMEM and what else is scarce
}
