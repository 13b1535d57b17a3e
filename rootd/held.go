package rootd

import (
	"sync"
	"time"
)

// holdback keeps the TCP ports of leases that ended out of reach for as long
// as their connections might be in TIME_WAIT: the dummy stays, and the guard.
type holdback struct {
	mu    sync.Mutex
	ports map[portKey][]heldPort
	n     int
}

type heldPort struct {
	grant Grant
	fd    int
	uid   uint32
	until time.Time
}

func newHoldback() *holdback { return &holdback{ports: map[portKey][]heldPort{}} }

func (h *holdback) add(g Grant, fd int, uid uint32, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports[g.key()] = append(h.ports[g.key()], heldPort{g, fd, uid, until})
	h.n++
}

// dummiesAt returns the dummies that are held back at k after leases of uid.
func (h *holdback) dummiesAt(k portKey, uid uint32) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	var fds []int
	for _, p := range h.ports[k] {
		if p.uid == uid && p.fd != noDummy {
			fds = append(fds, p.fd)
		}
	}
	return fds
}

// take removes and returns those that which is true for.
func (h *holdback) take(which func(heldPort) bool) []heldPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []heldPort
	for k := range h.ports {
		out = append(out, h.takeAt(k, which)...)
	}
	return out
}

// covered removes and returns those after leases of uid that stand in g's
// place: the same, or a specific address under g's wildcard.
func (h *holdback) covered(g Grant, uid uint32) []heldPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.takeAt(g.key(), func(p heldPort) bool {
		return p.uid == uid && (p.grant == g || g.Addr.IsUnspecified() && p.grant.Addr.Is4() == g.Addr.Is4())
	})
}

func (h *holdback) takeAt(k portKey, which func(heldPort) bool) (out []heldPort) {
	var rest []heldPort
	for _, p := range h.ports[k] {
		if which(p) {
			out = append(out, p)
		} else {
			rest = append(rest, p)
		}
	}
	if len(rest) == 0 {
		delete(h.ports, k)
	} else {
		h.ports[k] = rest
	}
	h.n -= len(out)
	return out
}

func (h *holdback) list() []heldPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]heldPort, 0, h.n)
	for _, ps := range h.ports {
		out = append(out, ps...)
	}
	return out
}

func (h *holdback) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

// expireHeld lets go of what was held back long enough, or of all.
func (s *Server) expireHeld(now time.Time, all bool) {
	byUser := map[uint32][]heldPort{}
	for _, p := range s.held.take(func(p heldPort) bool { return all || !now.Before(p.until) }) {
		byUser[p.uid] = append(byUser[p.uid], p)
	}
	for uid, ps := range byUser {
		gs, fds := make([]Grant, len(ps)), make([]int, len(ps))
		for i, p := range ps {
			gs[i], fds[i] = p.grant, p.fd
		}
		s.letGo(uid, gs, fds)
	}
	if len(byUser) > 0 {
		s.stale.Store(true)
	}
}
