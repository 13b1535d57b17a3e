package host

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
)

// A pool is filled when fewer than poolLow of its ports are idle, by poolFirst
// and then ever more, at most poolStep; beyond poolMost they are given back.
const (
	poolLow   = 8
	poolFirst = 24
	poolStep  = 512
	poolMost  = 2048
)

// kind is what the ports of a pool are granted for.
type kind struct {
	proto    uint8
	families proto.Families
}

// spare is a port of a pool, granted on any address of its families. The pool
// is one holder of its units.
type spare struct {
	kind  kind
	port  uint16
	loans map[loan]int // in use, with the number of holders
}

// loan is the reservation for which a spare port was lent.
type loan struct {
	proto uint8
	addr  netip.Addr
	dual  bool
	port  uint16
}

// pool is the idle ports of one kind. They are taken from the front and put
// back behind, so that one rests as long as it can.
type pool struct {
	fill    chan struct{} // a semaphore: one fills
	queue   []*spare
	step    int
	filling bool // in the background
	// four says that a pool of both families is of IPv4 only, since the host
	// has no other.
	four bool
}

// units are what rootd granted for the port.
func (sp *spare) units() []unit {
	var us []unit
	if sp.kind.families&proto.IPv4 != 0 {
		us = append(us, unit{sp.kind.proto, netip.IPv4Unspecified(), sp.port})
	}
	if sp.kind.families&proto.IPv6 != 0 {
		us = append(us, unit{sp.kind.proto, netip.IPv6Unspecified(), sp.port})
	}
	return us
}

func (p *ports) poolLocked(k kind) *pool {
	pl := p.pools[k]
	if pl == nil {
		pl = &pool{step: poolFirst, fill: make(chan struct{}, 1)}
		p.pools[k] = pl
	}
	return pl
}

// lendTries bounds how often a pool is filled for one port, since others may
// take what was got.
const lendTries = 16

// lend gives an ephemeral port.
func (p *ports) lend(num uint8, addr netip.Addr, dual bool) (uint16, unix.Errno) {
	k := kind{num, proto.IPv6}
	switch {
	case addr.Is4():
		k.families = proto.IPv4
	case dual:
		k.families = proto.Both
	}
	at := loan{num, addr, dual, 0}
	if port := p.pop(k, at); port != 0 {
		return port, 0
	}
	for range lendTries {
		if err := p.fill(k); err != 0 {
			return 0, err
		}
		if port := p.pop(k, at); port != 0 {
			return port, 0
		}
	}
	return 0, unix.EADDRINUSE
}

// pop lends the port that has been idle longest; 0 if there is none.
func (p *ports) pop(k kind, at loan) uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.poolLocked(k)
	defer func() {
		if len(pl.queue) < poolLow {
			p.refillLocked(k)
		}
	}()
	for i, sp := range pl.queue {
		if at.port = sp.port; p.busyLocked(sp, at) {
			continue // who named it has it now
		}
		if i == 0 {
			pl.queue = pl.queue[1:]
		} else {
			pl.queue = append(pl.queue[:i:i], pl.queue[i+1:]...)
		}
		sp.loans = map[loan]int{at: 1}
		p.loans[at] = sp
		return sp.port
	}
	return 0
}

// busyLocked says whether the port has holders beside the pools.
func (p *ports) busyLocked(sp *spare, at loan) bool {
	if p.loans[at] != nil {
		return true
	}
	for _, u := range sp.units() {
		if p.units[u] > 1 {
			return true
		}
	}
	return false
}

// restLocked puts a port that nobody has any more back into its pool, or gives
// it up if there are many.
func (p *ports) restLocked(sp *spare) {
	if len(sp.loans) > 0 {
		return
	}
	pl := p.poolLocked(sp.kind)
	if len(pl.queue) < poolMost && !p.ended {
		pl.queue = append(pl.queue, sp)
		return
	}
	p.spendLocked(sp)
}

// spendLocked gives a port of a pool up.
func (p *ports) spendLocked(sp *spare) {
	for _, u := range sp.units() {
		p.leaveLocked(u)
	}
}

// refillLocked fills the pool in the background.
func (p *ports) refillLocked(k kind) {
	pl := p.poolLocked(k)
	if pl.filling || p.ended {
		return
	}
	pl.filling = true
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		_ = p.fill(k)
		p.mu.Lock()
		pl.filling = false
		p.mu.Unlock()
	}()
}

// fill asks rootd for more ports, if there are few.
func (p *ports) fill(k kind) unix.Errno {
	p.mu.Lock()
	pl := p.poolLocked(k)
	p.mu.Unlock()
	pl.fill <- struct{}{}
	defer func() { <-pl.fill }()
	p.mu.Lock()
	n, enough := pl.step, len(pl.queue) >= poolLow
	got := k
	if pl.four {
		got.families = proto.IPv4
	}
	p.mu.Unlock()
	if enough {
		return 0
	}
	conn := p.rpc(true)
	if conn == nil {
		return unix.ENOBUFS
	}
	list, err := conn.Ephemeral(got.proto, got.families, n)
	if err != nil && got.families == proto.Both && errnoOf(err) == unix.EAFNOSUPPORT {
		got.families = proto.IPv4
		list, err = conn.Ephemeral(got.proto, got.families, n)
	}
	if err != nil {
		p.log.Warn("ask rootd for ephemeral ports", "proto", k.proto, "err", err)
		return errnoOf(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pl.step = min(2*pl.step, poolStep)
	pl.four = got.families != k.families
	for _, port := range list {
		sp := &spare{kind: kind{k.proto, got.families}, port: port}
		for _, u := range sp.units() {
			p.units[u]++
		}
		if pl.four { // it rests where it is asked for
			sp.kind.families = k.families
		}
		pl.queue = append(pl.queue, sp)
	}
	return 0
}
