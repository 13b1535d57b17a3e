package host

import (
	"errors"
	"log/slog"
	"net/netip"
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

// local names an ephemeral port of the pool: it is granted on any address.
type local struct {
	proto uint8
	port  uint16
}

// The pool of an IP protocol: it is filled when fewer than poolLow ports are
// idle, by poolFirst and then ever more; what exceeds poolMost is given back.
const (
	poolLow   = 8
	poolFirst = 24
	poolStep  = 512
	poolMost  = 2048
)

// ports keeps account of the lease's grants. rootd does not count: what
// several sockets have, it gave once.
type ports struct {
	rpc func(wait bool) *proto.Conn
	log *slog.Logger

	// call serializes the requests that change units, so that mu need not be
	// held while rootd is asked.
	call sync.Mutex

	mu    sync.Mutex
	units map[unit]int  // granted, with the number of holders
	loans map[local]int // of pool ports in use, with the number of holders
	idle  map[local]struct{}
	pools map[uint8]*pool
	drop  []unit // given up by the last holder, or by the pool
	kick  chan struct{}
	done  chan struct{}
	wg    sync.WaitGroup
	ended bool
}

// pool is the pool of one protocol. Ports are taken from the front and put
// back behind, so that one rests as long as it can.
type pool struct {
	fill     sync.Mutex // one fills
	queue    []uint16   // may have ports that are no longer idle
	count    int        // idle ones
	step     int
	filling  bool
	families proto.Families
}

func newPorts(rpc func(bool) *proto.Conn, log *slog.Logger) *ports {
	return &ports{
		rpc:   rpc,
		log:   log,
		units: make(map[unit]int),
		loans: make(map[local]int),
		idle:  make(map[local]struct{}),
		pools: make(map[uint8]*pool),
		kick:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
}

// start fills the pools of TCP and UDP in the background.
func (p *ports) start(proto.Welcome) {
	p.wg.Add(1)
	go p.work()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refillLocked(proto.TCP)
	p.refillLocked(proto.UDP)
}

// Reserve asks for a port; see netstack's Host.
func (l *Link) Reserve(proto uint8, addr netip.Addr, dual bool, port uint16, reuse bool) (uint16, unix.Errno) {
	if port == 0 {
		return l.ports.lend(proto, addr.Is4())
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
	if p.have(us) {
		return 0
	}
	p.call.Lock()
	defer p.call.Unlock()
	if p.have(us) {
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
func (p *ports) have(us []unit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := local{us[0].proto, us[0].port}
	if _, idle := p.idle[at]; idle || p.loans[at] > 0 {
		p.useLocked(at)
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

func (p *ports) useLocked(at local) {
	if _, idle := p.idle[at]; idle {
		delete(p.idle, at)
		p.pools[at.proto].count--
	}
	p.loans[at]++
}

// put counts one holder less.
func (p *ports) put(num uint8, addr netip.Addr, dual bool, port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := local{num, port}
	if n := p.loans[at]; n > 0 {
		if n > 1 {
			p.loans[at]--
			return
		}
		delete(p.loans, at)
		p.restLocked(at)
		return
	}
	for _, u := range unitsOf(num, addr, dual, port) {
		n, ok := p.units[u]
		if !ok || n == 0 {
			continue // revoked meanwhile
		}
		p.units[u] = n - 1
		if n == 1 {
			p.dropLocked(u)
		}
	}
}

// restLocked puts a port back into the pool, or gives it up if there are many.
func (p *ports) restLocked(at local) {
	pl := p.pools[at.proto]
	if pl.count < poolMost {
		p.idle[at] = struct{}{}
		pl.queue = append(pl.queue, at.port)
		pl.count++
		return
	}
	for _, addr := range pl.any() {
		u := unit{at.proto, addr, at.port}
		p.units[u] = 0
		p.dropLocked(u)
	}
}

// any are the wildcard addresses of the pool's families.
func (pl *pool) any() []netip.Addr {
	var as []netip.Addr
	if pl.families&proto.IPv4 != 0 {
		as = append(as, netip.IPv4Unspecified())
	}
	if pl.families&proto.IPv6 != 0 {
		as = append(as, netip.IPv6Unspecified())
	}
	return as
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

// families are what ports of the protocol are asked for.
func familiesOf(num uint8) proto.Families {
	switch num {
	case proto.ICMP:
		return proto.IPv4
	case proto.ICMPv6:
		return proto.IPv6
	}
	return proto.Both
}

func (p *ports) poolLocked(num uint8) *pool {
	pl := p.pools[num]
	if pl == nil {
		pl = &pool{step: poolFirst, families: familiesOf(num)}
		p.pools[num] = pl
	}
	return pl
}

// lend gives an ephemeral port.
func (p *ports) lend(num uint8, v4 bool) (uint16, unix.Errno) {
	p.mu.Lock()
	pl := p.poolLocked(num)
	port, ok := p.popLocked(num, pl)
	if pl.count < poolLow {
		p.refillLocked(num)
	}
	p.mu.Unlock()
	if ok {
		return port, 0
	}
	// Others may take what was got before we do.
	for range lendTries {
		if err := p.fill(num); err != 0 {
			return 0, err
		}
		p.mu.Lock()
		port, ok = p.popLocked(num, pl)
		p.mu.Unlock()
		if ok {
			return port, 0
		}
	}
	return 0, unix.EADDRINUSE
}

// lendTries bounds how often the pool is filled for one port.
const lendTries = 16

func (p *ports) popLocked(num uint8, pl *pool) (uint16, bool) {
	for len(pl.queue) > 0 {
		port := pl.queue[0]
		pl.queue = pl.queue[1:]
		at := local{num, port}
		if _, ok := p.idle[at]; ok {
			p.useLocked(at)
			return port, true
		}
	}
	return 0, false
}

// refillLocked fills the pool in the background.
func (p *ports) refillLocked(num uint8) {
	pl := p.poolLocked(num)
	if pl.filling || p.ended {
		return
	}
	pl.filling = true
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		_ = p.fill(num)
		p.mu.Lock()
		pl.filling = false
		p.mu.Unlock()
	}()
}

// fill asks rootd for more ports, if there are few.
func (p *ports) fill(num uint8) unix.Errno {
	p.mu.Lock()
	pl := p.poolLocked(num)
	p.mu.Unlock()
	pl.fill.Lock()
	defer pl.fill.Unlock()
	p.mu.Lock()
	n, families, enough := pl.step, pl.families, pl.count >= poolLow
	pl.step = min(2*pl.step, poolStep)
	p.mu.Unlock()
	if enough {
		return 0
	}
	conn := p.rpc(true)
	if conn == nil {
		return unix.ENOBUFS
	}
	got, err := conn.Ephemeral(num, families, n)
	if err != nil && families == proto.Both && errnoOf(err) == unix.EAFNOSUPPORT {
		families = proto.IPv4 // a host without IPv6
		got, err = conn.Ephemeral(num, families, n)
	}
	if err != nil {
		p.log.Warn("ask rootd for ephemeral ports", "proto", num, "err", err)
		return errnoOf(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pl.families = families
	for _, port := range got {
		at := local{num, port}
		if _, dup := p.idle[at]; dup || p.loans[at] > 0 {
			continue
		}
		p.idle[at] = struct{}{}
		pl.queue = append(pl.queue, port)
		pl.count++
	}
	return 0
}

// revoked forgets what rootd took back.
func (p *ports) revoked(items []proto.Item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, it := range items {
		delete(p.units, unit{it.Proto, it.Addr, it.Port})
		at := local{it.Proto, it.Port}
		if _, ok := p.idle[at]; ok && it.Addr.IsUnspecified() {
			delete(p.idle, at)
			p.pools[at.proto].count--
		}
	}
}

// renew asks another lease for all that the former one had.
func (p *ports) renew(conn *proto.Conn) {
	p.call.Lock()
	defer p.call.Unlock()
	p.mu.Lock()
	var items []proto.Item
	for u, n := range p.units {
		if n == 0 {
			delete(p.units, u)
			continue
		}
		items = append(items, u.item(proto.ReuseAddr))
	}
	for at := range p.loans {
		for _, addr := range p.pools[at.proto].any() {
			items = append(items, unit{at.proto, addr, at.port}.item(proto.ReuseAddr))
		}
	}
	// What is idle is not worth the asking.
	clear(p.idle)
	for _, pl := range p.pools {
		pl.queue, pl.count = nil, 0
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
	for at := range p.idle {
		for _, addr := range p.pools[at.proto].any() {
			u := unit{at.proto, addr, at.port}
			p.units[u] = 0
			p.drop = append(p.drop, u)
		}
	}
	clear(p.idle)
	for _, pl := range p.pools {
		pl.queue, pl.count = nil, 0
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
