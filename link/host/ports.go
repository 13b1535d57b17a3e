package host

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
)

// unit is what rootd grants.
type unit struct {
	proto uint8
	addr  netip.Addr // unspecified: any of the family
	port  uint16
}

func (u unit) item(flags proto.Flags) proto.Item {
	return proto.Item{Proto: u.proto, Addr: u.addr, Port: u.port, Flags: flags | proto.V6Only}
}

// ports keeps account of the lease's grants. rootd does not count: what
// several sockets have, it gave once.
type ports struct {
	rpc func(wait bool) *proto.Conn
	log *slog.Logger

	// call serializes the requests that change units, so that mu need not be
	// held while rootd is asked.
	call sync.Mutex

	mu    sync.Mutex
	units map[unit]int    // granted, with the number of holders
	loans map[loan]*spare // ephemeral ports in use
	pools map[kind]*pool
	drop  []unit // of which the last holder is gone
	kick  chan struct{}
	done  chan struct{}
	wg    sync.WaitGroup
	ended bool
}

func newPorts(rpc func(bool) *proto.Conn, log *slog.Logger) *ports {
	return &ports{
		rpc:   rpc,
		log:   log,
		units: make(map[unit]int),
		loans: make(map[loan]*spare),
		pools: make(map[kind]*pool),
		kick:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
}

// start fills the pools that most programs use, in the background.
func (p *ports) start() {
	p.wg.Add(1)
	go p.work()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refillLocked(kind{proto.TCP, proto.IPv4})
	p.refillLocked(kind{proto.UDP, proto.IPv4})
}

// Reserve asks for a port; see netstack's Host.
func (l *Link) Reserve(proto uint8, addr netip.Addr, dual bool, port uint16, reuse bool) (uint16, unix.Errno) {
	if port == 0 {
		return l.ports.lend(proto, addr, dual)
	}
	return port, l.ports.take(proto, addr, dual, port, reuse)
}

// Release gives a port back; see netstack's Host.
func (l *Link) Release(proto uint8, addr netip.Addr, dual bool, port uint16) {
	l.ports.put(proto, addr, dual, port)
}

// units are what a reservation needs.
func unitsOf(num uint8, addr netip.Addr, dual bool, port uint16) []unit {
	us := []unit{{num, addr, port}}
	if dual {
		us = append(us, unit{num, netip.IPv4Unspecified(), port})
	}
	return us
}

// take reserves a port that the program named.
func (p *ports) take(num uint8, addr netip.Addr, dual bool, port uint16, reuse bool) unix.Errno {
	us := unitsOf(num, addr, dual, port)
	at := loan{num, addr, dual, port}
	if p.have(at, us) {
		return 0
	}
	p.call.Lock()
	defer p.call.Unlock()
	if p.have(at, us) {
		return 0
	}
	p.mu.Lock()
	var items []proto.Item
	for _, u := range us {
		if _, ok := p.units[u]; !ok {
			var flags proto.Flags
			if reuse {
				flags = proto.ReuseAddr
			}
			items = append(items, u.item(flags))
		}
	}
	p.mu.Unlock()
	conn := p.rpc(true)
	if conn == nil {
		return unix.ENOBUFS
	}
	rs, err := conn.Grant(items)
	if err != nil {
		p.log.Warn("ask rootd for a port", "proto", num, "addr", addr, "port", port, "err", err)
		return errnoOf(err)
	}
	var failed unix.Errno
	var got []proto.Item
	for i, r := range rs {
		if r.Errno != 0 {
			failed = r.Errno
			continue
		}
		got = append(got, items[i])
	}
	if failed == unix.EAFNOSUPPORT && dual && len(got) > 0 {
		failed = 0 // a host without IPv6
	}
	if failed != 0 {
		if len(got) > 0 {
			_, _ = conn.Release(got) // both or neither
		}
		return failed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range us {
		p.units[u]++
	}
	return 0
}

// have counts one more holder of the units if all are granted.
func (p *ports) have(at loan, us []unit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sp := p.loans[at]; sp != nil {
		sp.loans[at]++
		return true
	}
	for _, u := range us {
		if _, ok := p.units[u]; !ok {
			return false
		}
	}
	for _, u := range us {
		p.units[u]++
	}
	return true
}

// put counts one holder less.
func (p *ports) put(num uint8, addr netip.Addr, dual bool, port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := loan{num, addr, dual, port}
	if sp := p.loans[at]; sp != nil {
		if sp.loans[at]--; sp.loans[at] == 0 {
			delete(sp.loans, at)
			delete(p.loans, at)
			p.restLocked(sp)
		}
		return
	}
	for _, u := range unitsOf(num, addr, dual, port) {
		p.leaveLocked(u)
	}
}

// leaveLocked counts one holder of u less; the last one gives it up.
func (p *ports) leaveLocked(u unit) {
	n, ok := p.units[u]
	if !ok || n == 0 {
		return // revoked meanwhile
	}
	p.units[u] = n - 1
	if n == 1 {
		p.dropLocked(u)
	}
}

// dropLocked has the worker give u back unless it finds a holder before.
func (p *ports) dropLocked(u unit) {
	p.drop = append(p.drop, u)
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// work gives back what nobody holds.
func (p *ports) work() {
	defer p.wg.Done()
	for {
		select {
		case <-p.kick:
			p.flush(p.rpc(true))
		case <-p.done:
			return
		}
	}
}

// flush gives back what nobody holds.
func (p *ports) flush(conn *proto.Conn) {
	p.call.Lock()
	defer p.call.Unlock()
	p.mu.Lock()
	var items []proto.Item
	for _, u := range p.drop {
		if n, ok := p.units[u]; ok && n == 0 {
			delete(p.units, u)
			items = append(items, u.item(0))
		}
	}
	p.drop = nil
	p.mu.Unlock()
	if len(items) == 0 || conn == nil {
		return // without rootd: it ends what its successor is not asked for
	}
	if _, err := conn.Release(items); err != nil {
		p.log.Warn("give ports back", "ports", len(items), "err", err)
	}
}

// revoked forgets what rootd took back.
func (p *ports) revoked(items []proto.Item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, it := range items {
		u := unit{it.Proto, it.Addr, it.Port}
		delete(p.units, u)
		for _, pl := range p.pools {
			pl.queue = slices.DeleteFunc(pl.queue, func(sp *spare) bool { return slices.Contains(sp.units(), u) })
		}
		for at, sp := range p.loans {
			if slices.Contains(sp.units(), u) {
				delete(p.loans, at) // what is left of it is not lent again
			}
		}
	}
}

// renew asks another lease for all that the former one had in use.
func (p *ports) renew(conn *proto.Conn) {
	p.call.Lock()
	defer p.call.Unlock()
	p.mu.Lock()
	for _, pl := range p.pools { // what is idle is not worth the asking
		for _, sp := range pl.queue {
			for _, u := range sp.units() {
				p.units[u]--
			}
		}
		pl.queue = nil
	}
	p.drop = nil
	var items []proto.Item
	for u, n := range p.units {
		if n <= 0 {
			delete(p.units, u)
			continue
		}
		items = append(items, u.item(proto.ReuseAddr))
	}
	p.mu.Unlock()
	rs, err := conn.Grant(items)
	if err != nil {
		p.log.Error("ask for the lost ports", "ports", len(items), "err", err)
	}
	for i, r := range rs {
		if r.Errno != 0 {
			p.log.Error("port lost", "proto", items[i].Proto, "addr", items[i].Addr, "port", items[i].Port, "err", r.Errno)
		}
	}
}

// close gives back what nobody holds, so that rootd need not hold it back, and
// ends the account.
func (p *ports) close(conn *proto.Conn) {
	p.mu.Lock()
	p.ended = true
	for _, pl := range p.pools {
		for _, sp := range pl.queue {
			p.spendLocked(sp)
		}
		pl.queue = nil
	}
	p.mu.Unlock()
	close(p.done)
	p.flush(conn)
	if conn != nil {
		_ = conn.Close() // ends a fill that waits
	}
	p.wg.Wait()
}

// errnoOf is what the program is told of a request that failed.
func errnoOf(err error) unix.Errno {
	var e syscall.Errno
	var refused *proto.Error
	if errors.As(err, &refused) && refused.Errno != 0 {
		return refused.Errno
	}
	if errors.As(err, &e) && e == unix.EADDRINUSE {
		return e
	}
	return unix.ENOBUFS
}
