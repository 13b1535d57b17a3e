package rootd

import (
	"golang.org/x/sys/unix"

	"slices"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd/proto"
)

// Reload has a new policy hold. Leases that comply notice nothing; those of
// users who are denied end, and grants that are no longer allowed are revoked.
// Limits hold for what is asked for from now on.
func (s *Server) Reload(a *policy.Access) {
	s.mu.Lock()
	s.access = a
	limit := s.maxGrants()
	s.mu.Unlock()
	s.log.Info("policy reloaded", "grants", limit, "leases", a.Leases)
	for _, l := range s.allLeases() {
		if !s.comply(l) {
			s.endDenied(l)
		}
	}
}

// endDenied ends a lease that the policy no longer allows.
func (s *Server) endDenied(l *lease) {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	s.endLease(l, "policy")
	if c != nil {
		c.farewell(refuse(unix.EACCES, "policy (%s): access denied", s.rightsOf(c.peer).Rule))
		_ = c.c.Close()
	}
}

// comply gives l the rights that its user has now. It returns false where that
// is none.
func (s *Server) comply(l *lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return true
	}
	rights := s.rightsOf(l.peer)
	if rights.Deny {
		return false
	}
	if !slices.Equal(rights.Reach, l.rights.Reach) || (rights.Reach == nil) != (l.rights.Reach == nil) || l.conn == nil {
		if err := s.cfg.Datapath.SetReach(l.id, rights.Reach); err != nil {
			// What it may reach is not known to hold: better nothing.
			s.log.Error("reach not set, the lease ends", "lease", l.id, "err", err)
			return false
		}
	}
	l.rights = rights
	host := s.host.Load()
	var bad []Grant
	for _, g := range l.all() {
		if !rights.MayBind(g.Proto, g.Addr, g.Port, host.unprivileged) {
			bad = append(bad, g)
		}
	}
	s.revoke(l, bad)
	return true
}

// revoke takes grants back against the client's will. l.mu is held.
func (s *Server) revoke(l *lease, gs []Grant) {
	if len(gs) == 0 {
		return
	}
	s.takeBack(l, gs, true)
	s.stale.Store(true)
	s.log.Warn("revoked", "lease", l.id, "uid", l.peer.UID, "pid", l.peer.PID, "program", l.program,
		"rule", l.rights.Rule, "count", len(gs), "ports", brief(gs))
	if l.conn == nil {
		return
	}
	for part := range slices.Chunk(gs, proto.MaxBatch) {
		items := make([]proto.Item, len(part))
		for i, g := range part {
			items[i] = proto.Item{Proto: g.Proto, Addr: g.Addr, Port: g.Port, Flags: proto.V6Only}
		}
		if err := l.conn.send(0, proto.Revoked{Items: items}, nil, eventTime); err != nil {
			s.log.Warn("client does not listen, its connection is closed", "lease", l.id, "err", err)
			_ = l.conn.c.Close()
			return
		}
	}
}

// resumeLease gives the lease of a former daemon to the client that has its
// token.
func (s *Server) resumeLease(c *conn, m proto.Resume) (*lease, error) {
	s.mu.Lock()
	l := s.leases[m.Lease]
	s.mu.Unlock()
	unknown := refuse(unix.EACCES, "no such lease waits to be resumed")
	if l == nil {
		return nil, unknown
	}
	l.mu.Lock()
	if l.ended || l.conn != nil || !l.tokenIs(m.Token) || l.peer.UID != c.peer.UID {
		l.mu.Unlock()
		return nil, unknown
	}
	l.conn, l.peer = c, c.peer
	record := l.record()
	l.mu.Unlock()
	s.mu.Lock()
	s.records[l.id] = record
	s.mu.Unlock()
	s.stale.Store(true)
	if !s.comply(l) {
		s.endLease(l, "policy")
		return nil, refuse(unix.EACCES, "policy: access denied")
	}
	s.log.Info("lease resumed", "lease", l.id, "uid", c.peer.UID, "pid", c.peer.PID, "command", c.peer.Comm,
		"program", l.program, "device", l.dev.Name)
	return l, nil
}
