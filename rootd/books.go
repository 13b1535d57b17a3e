package rootd

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd/proto"
)

// Descriptors that are not for dummies.
const (
	spareFiles     = 256 // the daemon's own
	filesPerClient = 4   // its connection, its device on the way, a reply's
)

// account is what one user has of everything. Server.mu guards it.
type account struct {
	leases int
	conns  int
	grants int // held-back ports included
	pace   *rate.Limiter
}

// account returns the account of uid, new if need be. mu is held.
func (s *Server) account(uid uint32) *account {
	a := s.accounts[uid]
	if a == nil {
		a = &account{pace: rate.NewLimiter(0, 0)}
		s.accounts[uid] = a
	}
	return a
}

// tidyAccounts forgets those who have nothing and whose pace has recovered.
// mu is held.
func (s *Server) tidyAccounts() {
	for uid, a := range s.accounts {
		if a.leases == 0 && a.conns == 0 && a.grants == 0 && a.pace.Tokens() >= float64(a.pace.Burst()) {
			delete(s.accounts, uid)
		}
	}
}

// maxGrants is how many dummies there may be in all. mu is held.
func (s *Server) maxGrants() int {
	n := max(0, s.maxFiles-spareFiles-filesPerClient*s.access.Leases)
	if s.cfg.Room > 0 {
		n = min(n, s.cfg.Room)
	}
	if s.access.Grants > 0 {
		n = min(n, s.access.Grants)
	}
	return n
}

// reserve takes n grants off what uid and all may have; it returns how many
// there were to take.
func (s *Server) reserve(uid uint32, n, limit int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.account(uid)
	n = max(0, min(n, limit-a.grants, s.maxGrants()-s.grants))
	a.grants += n
	s.grants += n
	return n
}

// unreserve gives n grants back.
func (s *Server) unreserve(uid uint32, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(uid).grants -= n
	s.grants -= n
}

// pace says how long a user has to wait before n more items are worked
// through; false means for ever.
func (s *Server) pace(uid uint32, n int, r policy.Rights) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.account(uid).pace
	if l.Limit() != rate.Limit(r.Rate) {
		l.SetLimit(rate.Limit(r.Rate))
		l.SetBurst(max(r.Rate, proto.MaxBatch))
	}
	res := l.ReserveN(time.Now(), n)
	d := res.Delay()
	if !res.OK() || d == rate.InfDuration {
		return 0, false
	}
	return d, true
}

// claimEcho makes echo identifier id the lease's, since the kernel does not
// judge those where nobody may have ping sockets; 0 chooses one. Identifiers
// of the two families are one space, as they are in the kernel.
func (s *Server) claimEcho(id uint16, lease uint32) (uint16, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 {
		for range 64 {
			if id = uint16(randomUint32()); id != 0 && s.echoes[id] == (echoClaim{}) {
				break
			}
		}
	}
	c := s.echoes[id]
	if id == 0 || c.n > 0 && c.lease != lease {
		return 0, unix.EADDRINUSE
	}
	s.echoes[id] = echoClaim{lease, c.n + 1}
	return id, nil
}

type echoClaim struct {
	lease uint32
	n     int // grants of the lease with this identifier
}

func (s *Server) unclaimEcho(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.echoes[id]
	if c.n--; c.n <= 0 {
		delete(s.echoes, id)
		return
	}
	s.echoes[id] = c
}

// isLocal reports whether a is an address of this host, or unspecified.
func isLocal(a netip.Addr, locals []netip.Prefix) bool {
	if a.IsUnspecified() {
		return true
	}
	if a.IsLoopback() {
		return a.Is4() || a == netip.IPv6Loopback()
	}
	for _, p := range locals {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// portKey is a port as conflicts go: the echo protocols are one.
type portKey struct {
	proto uint8
	port  uint16
}

func (g Grant) key() portKey {
	if g.Proto == proto.ICMPv6 {
		return portKey{proto.ICMP, g.Port}
	}
	return portKey{g.Proto, g.Port}
}

func (g Grant) isEcho() bool { return g.Proto == proto.ICMP || g.Proto == proto.ICMPv6 }

// valid reports whether the protocol is one that can be had, and for the
// address's family.
func (g Grant) valid() error {
	switch g.Proto {
	case proto.TCP, proto.UDP:
		return nil
	case proto.ICMP, proto.ICMPv6:
		if g.Addr.Is4() != (g.Proto == proto.ICMP) {
			return fmt.Errorf("%s over the other family: %w", protoName(g.Proto), unix.EINVAL)
		}
		return nil
	default:
		return fmt.Errorf("protocol %d: %w", g.Proto, unix.EPROTONOSUPPORT)
	}
}

// clampU32 is n as a message has it.
func clampU32(n int) uint32 {
	return uint32(min(max(n, 0), math.MaxUint32))
}
