package alptcp

import (
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack/tcp"
)

// listener has the connections that came to a listening endpoint and that
// nobody has accepted yet. Its lock is the innermost.
type listener struct {
	queue *waiter.Queue

	mu      sync.Mutex
	backlog tcp.Backlog
	half    []*endpoint // each knows its place
	ready   []*endpoint
	early   int // open by Fast Open, the handshake not ended
}

// countEarly counts what is open by Fast Open, and gives the number.
func (l *listener) countEarly(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.early += n
	return l.early
}

// any says whether a connection waits to be accepted.
func (l *listener) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ready) > 0
}

// take is the next connection, nil if there is none.
func (l *listener) take() *endpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ready) == 0 {
		return nil
	}
	e := l.ready[0]
	l.ready = slices.Delete(l.ready, 0, 1)
	l.backlog.Ready--
	return e
}

// begin counts a handshake that begins.
func (l *listener) begin(e *endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.place = len(l.half)
	l.half = append(l.half, e)
	l.backlog.Half++
}

// admit puts a connection whose handshake is over into the accept queue, if
// there is room.
func (l *listener) admit(e *endpoint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.backlog.Full() || !l.remove(e) {
		return false
	}
	l.backlog.Ready++
	l.ready = append(l.ready, e)
	return true
}

// forget drops a handshake that failed; it says whether it was one.
func (l *listener) forget(e *endpoint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remove(e)
}

// remove takes e out of half, if it is there.
func (l *listener) remove(e *endpoint) bool {
	i, last := e.place, len(l.half)-1
	if i > last || l.half[i] != e {
		return false
	}
	l.half[i] = l.half[last]
	l.half[i].place = i
	l.half[last] = nil
	l.half = l.half[:last]
	l.backlog.Half--
	return true
}

// Listen implements tcpip.Endpoint.
func (e *endpoint) Listen(backlog int) tcpip.Error {
	e.lock()
	defer e.unlock()
	if e.listen != nil {
		e.listen.mu.Lock()
		e.listen.backlog.Limit = backlog
		e.listen.mu.Unlock()
		return nil
	}
	if e.started || e.closed {
		return &tcpip.ErrInvalidEndpointState{}
	}
	if !e.bound {
		if err := e.bind(tcpip.FullAddress{}); err != nil {
			return err
		}
	}
	nets := e.res.Networks
	if err := e.p.st.RegisterTransportEndpoint(nets, number, e.ID, e, e.flags, e.device); err != nil {
		return err
	}
	e.networks, e.regFlags = nets, e.flags
	e.listen = &listener{queue: e.queue, backlog: tcp.Backlog{Limit: backlog}}
	return nil
}

// stopListening resets the connections that nobody accepted.
func (e *endpoint) stopListening() {
	l := e.listen
	e.unregister()
	e.listen = nil
	l.mu.Lock()
	list := slices.Concat(l.ready, l.half)
	l.ready, l.half, l.backlog = nil, nil, tcp.Backlog{}
	l.mu.Unlock()
	for _, c := range list {
		c.Abort()
	}
}

// arrive is a segment for the listener (RFC 9293 3.10.7.2).
func (e *endpoint) arrive(a *arrived, s *tcp.Segment) {
	switch {
	case s.Flags&tcp.RST != 0:
	case s.Flags&tcp.ACK != 0:
		if s.Flags&tcp.SYN == 0 && e.byCookie(a, s) {
			return
		}
		e.p.reset(a.id, a.pkt, s)
	case s.Flags&tcp.SYN != 0:
		e.syn(a, s)
	}
}

// syn is a SYN for the listener.
func (e *endpoint) syn(a *arrived, s *tcp.Segment) {
	l := e.listen
	l.mu.Lock()
	verdict := l.backlog.OnSYN(e.p.cfg)
	l.mu.Unlock()
	switch verdict {
	case tcp.DropSYN:
		e.p.counts.ListenOverflowSynDrop.Increment()
	case tcp.CookieSYN:
		e.cookie(a, s)
	case tcp.TakeSYN:
		c := e.child(a)
		if c == nil {
			return
		}
		l.begin(c)
		peer := remote(c.ID)
		fast := e.conn.FastOpen()
		if fast > 0 && s.Options.Has&tcp.HasFastOpen != 0 && s.DataLen > 0 {
			*s = tcp.Segment{}
			parse(a.pkt, s, true)
		}
		c.conn.OpenPassiveFrom(peer.Addr(), l.countEarly(0) < fast, s, tcp.InitialSeq(e.p.cfg, local(c.ID), peer, e.Now()), c.path())
		if c.conn.FastOpenPending() {
			c.early = true
			l.countEarly(1)
		}
		c.unlock()
	}
}

// cookie answers a SYN without keeping anything.
func (e *endpoint) cookie(a *arrived, s *tcp.Segment) {
	route, err := e.p.st.FindRoute(a.pkt.NICID, a.id.LocalAddress, a.id.RemoteAddress, a.pkt.NetworkProtocolNumber, false)
	if err != nil {
		return
	}
	defer route.Release()
	c := endpoint{p: e.p, out: outgoing{counts: &e.p.counts, route: route, ttl: route.DefaultTTL(), df: true}}
	var r tcp.Segment
	tcp.MakeCookie(e.p.cfg, s, local(a.id), remote(a.id), c.path(), e.Now(), &r)
	c.out.send(&r)
	e.p.counts.ListenOverflowSynCookieSent.Increment()
}

// byCookie makes the connection of a cookie; false if the segment has none.
func (e *endpoint) byCookie(a *arrived, s *tcp.Segment) bool {
	if !e.p.cfg.SYNCookies || e.p.cfg.Counters.CookiesSent.Load() == 0 || !tcp.CookieValid(e.p.cfg, s, local(a.id), remote(a.id), e.Now()) {
		return false
	}
	c := e.child(a)
	if c == nil {
		return true
	}
	defer c.unlock()
	if !c.conn.OpenCookie(s, local(a.id), remote(a.id), c.path()) {
		c.over()
		return false
	}
	e.listen.begin(c)
	full := tcp.Segment{}
	if parse(a.pkt, &full, true) {
		c.conn.Input(&full)
	}
	if c.conn.State() == tcp.SynReceived { // no room: the peer will send again
		c.closed = true
		c.conn.Abandon()
		c.over()
	}
	return true
}

// child makes the endpoint of a connection that begins, and locks it; nil if
// there is no way back.
func (e *endpoint) child(a *arrived) *endpoint {
	net := a.pkt.NetworkProtocolNumber
	route, err := e.p.st.FindRoute(a.pkt.NICID, a.id.LocalAddress, a.id.RemoteAddress, net, false)
	if err != nil {
		return nil
	}
	c := newEndpoint(e.p, e.NetProto, &waiter.Queue{})
	c.lock()
	c.ID = a.id
	c.BindAddr, c.BindNICID, c.RegisterNICID = e.BindAddr, e.BindNICID, a.pkt.NICID
	c.conn.Inherit(e.conn)
	c.ttl, c.hops, c.tos, c.tclass, c.pmtud, c.flags, c.device = e.ttl, e.hops, e.tos, e.tclass, e.pmtud, e.flags, e.device
	c.parent = e.listen
	nets := []tcpip.NetworkProtocolNumber{net}
	if err := e.p.st.RegisterTransportEndpoint(nets, number, c.ID, c, c.flags, c.device); err != nil {
		route.Release()
		c.unlock()
		return nil
	}
	c.networks, c.regFlags = nets, c.flags
	c.res = ports.Reservation{
		Networks: nets, Transport: number, Addr: c.ID.LocalAddress, Port: c.ID.LocalPort, Flags: c.flags, BindToDevice: c.device,
		Dest: tcpip.FullAddress{Addr: c.ID.RemoteAddress, Port: c.ID.RemotePort},
	}
	c.reserved = e.p.st.ReserveTuple(c.res)
	c.start(route)
	return c
}

// Admit implements tcp.Env.
func (e *endpoint) Admit() bool {
	if e.parent == nil {
		return true
	}
	if !e.parent.admit(e) {
		e.p.counts.ListenOverflowAckDrop.Increment()
		return false
	}
	e.parent.queue.Notify(waiter.ReadableEvents)
	return true
}

// reopened is a SYN that ends the TIME-WAIT that the connection is in: the
// listener gets it, if there is one.
func (e *endpoint) reopened(a *arrived) {
	e.conn.Abandon()
	e.over()
	st := e.p.st
	id := a.id
	find := func() stack.TransportEndpoint {
		return st.FindTransportEndpoint(a.pkt.NetworkProtocolNumber, number, id, a.pkt.NICID)
	}
	l, ok := find().(*endpoint)
	if !ok || l == e {
		var s tcp.Segment
		if parse(a.pkt, &s, false) {
			e.p.reset(a.id, a.pkt, &s)
		}
		return
	}
	l.HandlePacket(a.id, a.pkt)
}
