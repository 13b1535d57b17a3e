package udp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/alptrace/alptrace/link"
)

// Times of the members' lives.
const (
	tickEvery   = 250 * time.Millisecond
	aliveEvery  = 5 * time.Second  // a sign of life, if nothing else is sent
	answerAfter = time.Second      // the same, after a frame has come
	doubtAfter  = 3 * time.Second  // unanswered: try a new handshake
	goneAfter   = 15 * time.Second // nothing heard: the member is gone
	dialWait    = 5 * time.Second  // for the answer to an initiation
	maxDialGap  = 2 * time.Second  // between initiations
	lookupGap   = 5 * time.Second  // between lookups of a name
	forgetAfter = time.Minute      // for a member heard of who does not answer
)

// Bounds of what others can make us keep.
const (
	maxMembers = 256
	maxHalf    = 64   // sessions that the other side has not used yet
	maxSeen    = 4096 // initiations that are remembered
)

// target is an address to meet a member at.
type target struct {
	name    string           // HOST:PORT
	learned bool             // another member has told of it
	addrs   []netip.AddrPort // what name stands for
	next    int              // of addrs, to be tried
	looking bool             // a lookup is under way
	looked  time.Duration    // when one was begun
	peer    *peer            // who was met there
	self    bool             // it is our own
	born    time.Duration
	at      time.Duration // when to try next
	gap     time.Duration // to the try after that
}

// dialed is an initiation that waits for its answer.
type dialed struct {
	handshake
	target *target // nil: of a peer
	addr   netip.AddrPort
	at     time.Duration
}

// found is the answer of a lookup.
type found struct {
	t     *target
	addrs []netip.AddrPort
}

// members is the goroutine of a Link: it receives, and knows who there is.
type members struct {
	l        *Link
	ctx      context.Context
	noise    *suite
	me       hello
	targets  []*target
	byID     map[memberID]*peer
	dialed   map[uint32]*dialed
	sessions map[uint32]*session // by our index
	half     []*session          // of sessions: not used yet, the oldest first
	seen     map[[dhLen]byte]bool
	seenRing [][dhLen]byte
	seenNext int
	accept   *rate.Limiter // handshakes that we answer
	rekey    time.Duration // rekeyAfter
	found    chan found
	nextTick time.Duration
	rx       receiver
}

func newMembers(ctx context.Context, l *Link, s *suite, fd int) *members {
	m := &members{
		l: l, ctx: ctx, noise: s, byID: map[memberID]*peer{}, dialed: map[uint32]*dialed{},
		sessions: map[uint32]*session{}, seen: map[[dhLen]byte]bool{},
		accept: rate.NewLimiter(50, maxMembers), found: make(chan found, maxMembers),
	}
	m.rx.init(fd)
	return m
}

// loop serves until the link is closed.
func (m *members) loop() {
	defer close(m.l.done)
	bell := time.AfterFunc(0, m.l.lot.Ring)
	defer bell.Stop()
	m.l.lot.Wait(func() bool {
		for more := true; more && !m.l.closed.Load(); {
			more = m.receive()
			if now := m.l.now(); now >= m.nextTick || len(m.found) > 0 {
				m.nextTick = now + tickEvery
				m.tick(now)
				bell.Reset(tickEvery)
			}
			runtime.Gosched() // whatever comes, and from whom
		}
		return m.l.closed.Load()
	})
}

// tick does what is due.
func (m *members) tick(now time.Duration) {
	m.collect()
	for i, d := range m.dialed {
		if now-d.at > dialWait {
			delete(m.dialed, i)
		}
	}
	for len(m.half) > 0 && now-m.half[0].born > dialWait {
		m.forget(m.half[0])
	}
	m.targets = slices.DeleteFunc(m.targets, func(t *target) bool {
		return t.learned && (t.self || t.peer == nil && now-t.born > forgetAfter)
	})
	for _, t := range m.targets {
		m.try(t, now)
	}
	for _, p := range m.byID {
		m.look(p, now)
	}
}

// collect takes the answers of lookups.
func (m *members) collect() {
	for {
		select {
		case f := <-m.found:
			f.t.looking = false
			if len(f.addrs) > 0 {
				f.t.addrs, f.t.next = f.addrs, 0
			}
		default:
			return
		}
	}
}

// try sends an initiation to a target, if it is time.
func (m *members) try(t *target, now time.Duration) {
	if t.peer != nil && m.byID[t.peer.who.id] == t.peer || t.self && now-t.looked < forgetAfter {
		return
	}
	if t.peer != nil { // is gone
		t.peer, t.at, t.gap, t.born = nil, 0, 0, now
	}
	t.self = false
	if now < t.at {
		return
	}
	if !t.looking && (len(t.addrs) == 0 || now-t.looked > lookupGap) {
		m.lookup(t, now)
	}
	if len(t.addrs) == 0 {
		return
	}
	a := t.addrs[t.next%len(t.addrs)]
	t.next++
	m.dial(t, a, now)
	t.gap = min(max(2*t.gap, tickEvery), maxDialGap)
	t.at = now + t.gap
}

// lookup finds the addresses of a target; those of a literal one at once.
func (m *members) lookup(t *target, now time.Duration) {
	t.looked = now
	if a, err := netip.ParseAddrPort(t.name); err == nil {
		t.addrs = []netip.AddrPort{a}
		return
	}
	t.looking = true
	go func() {
		host, port, _ := net.SplitHostPort(t.name) // is known to be one
		n, _ := net.LookupPort("udp", port)
		ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
		defer cancel()
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			m.l.log.Info("udp: peer's name", "peer", t.name, "err", err)
		}
		f := found{t: t}
		for _, ip := range ips {
			f.addrs = append(f.addrs, netip.AddrPortFrom(ip.Unmap(), uint16(n)))
		}
		select {
		case m.found <- f:
			m.l.lot.Ring()
		case <-m.ctx.Done():
		}
	}()
}

// dial sends an initiation.
func (m *members) dial(t *target, a netip.AddrPort, now time.Duration) {
	to := newEndpoint(a, m.l.v6)
	if to == nil || len(m.dialed) >= 4*maxMembers {
		return
	}
	index := m.index()
	h, msg, err := m.noise.begin(index, &m.me)
	if err != nil {
		m.l.log.Warn("udp: handshake", "err", err)
		return
	}
	m.dialed[index] = &dialed{h, t, a, now}
	m.l.tx.plainTo(to, msg)
}

// index is one of ours that is free.
func (m *members) index() uint32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		i := binary.NativeEndian.Uint32(b[:])
		if m.dialed[i] == nil && m.sessions[i] == nil {
			return i
		}
	}
}

// look sees to a member: it may be gone, be in doubt, need new keys, or a sign
// of life.
func (m *members) look(p *peer, now time.Duration) {
	s, sent, waiting := p.session.Load(), time.Duration(p.sentAt.Load()), time.Duration(p.waiting.Load())
	switch {
	case now-p.heard > goneAfter, now-s.born > rejectAfter:
		m.remove(p, "silent")
		return
	case waiting != 0 && now-waiting > doubtAfter && now-p.asked > maxDialGap,
		now-s.born > m.rekey && s.initiator && now-p.asked > maxDialGap,
		now-s.born > 2*m.rekey && now-p.asked > maxDialGap:
		p.asked = now
		m.dial(nil, p.to.Load().addr, now)
	}
	if now-sent >= aliveEvery || p.heardOf > sent && now-sent >= answerAfter {
		p.control(nil)
	}
}

// attach gives a member a session that both sides know to work, which began at
// an address. It makes the member known if it was not.
func (m *members) attach(s *session, from netip.AddrPort) bool {
	p := m.byID[s.who.id]
	now := m.l.now()
	if p == nil {
		// Two processes cannot have one address: who was there before has ended.
		for _, q := range m.byID {
			if q.to.Load().addr == from {
				m.remove(q, "another has its address")
			}
		}
		if len(m.byID) >= maxMembers {
			m.l.log.Warn("udp: too many members", "from", from)
			return false
		}
		p = &peer{l: m.l, who: s.who}
	}
	s.peer = p
	p.heard = now
	if to := newEndpoint(from, m.l.v6); to != nil {
		p.to.Store(to)
	}
	p.sessions = append(p.sessions, s)
	p.session.Store(s)
	if len(p.sessions) > maxSessions {
		delete(m.sessions, p.sessions[0].local)
		p.sessions = p.sessions[1:]
	}
	if m.byID[s.who.id] == nil {
		m.add(p, from)
	}
	return true
}

// add makes a member known, to the others too.
func (m *members) add(p *peer, from netip.AddrPort) {
	m.byID[p.who.id] = p
	if p.who.mtu != m.me.mtu {
		m.l.log.Warn("udp: a member with another MTU", "member", from, "mtu", p.who.mtu, "ours", m.me.mtu)
	}
	m.l.log.Info("udp: member", "member", from)
	var others []netip.AddrPort
	news := membersMessage([]netip.AddrPort{from})
	for _, q := range m.l.net.Members() {
		others = append(others, q.to.Load().addr)
		q.control(news)
	}
	for at := range slices.Chunk(others, maxAddrs) {
		p.control(membersMessage(at))
	}
	m.l.net.Add(p)
	if pkts := m.l.early.take(m.l.now()); len(pkts) > 0 {
		p.Send(pkts)
	}
}

// remove forgets a member.
func (m *members) remove(p *peer, why string) {
	for _, s := range p.sessions {
		delete(m.sessions, s.local)
	}
	delete(m.byID, p.who.id)
	m.l.net.Remove(p)
	m.l.log.Info("udp: member gone", "member", p.to.Load().addr, "why", why)
}

// forget drops a session that was never used.
func (m *members) forget(s *session) {
	delete(m.sessions, s.local)
	m.half = slices.DeleteFunc(m.half, func(h *session) bool { return h == s })
}

// learn notes where other members are.
func (m *members) learn(at []netip.AddrPort) {
	for _, a := range at {
		known := len(m.targets) >= maxMembers
		for _, p := range m.byID {
			known = known || p.to.Load().addr == a
		}
		for _, t := range m.targets {
			known = known || slices.Contains(t.addrs, a) || t.name == a.String()
		}
		if !known {
			m.targets = append(m.targets, &target{name: a.String(), learned: true, born: m.l.now()})
			m.nextTick = 0
		}
	}
}

// deliver gives frames to the link's user.
func (m *members) deliver(pkts []link.Packet) {
	if recv := m.l.recv.Load(); len(pkts) > 0 && recv != nil && !m.l.closed.Load() {
		m.l.net.Received(len(pkts))
		(*recv)(pkts)
	}
}
