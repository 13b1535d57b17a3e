package onip

import (
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack/transport"
)

const ipv4, ipv6 = header.IPv4ProtocolNumber, header.IPv6ProtocolNumber

// Bind implements tcpip.Endpoint.
func (e *endpoint) Bind(addr tcpip.FullAddress) tcpip.Error {
	e.lock()
	defer e.unlock()
	if e.bound || e.started || e.listen != nil || e.closed {
		return &tcpip.ErrAlreadyBound{}
	}
	return e.bind(addr)
}

func (e *endpoint) bind(addr tcpip.FullAddress) tcpip.Error {
	asked := addr.Addr
	addr, net, err := e.AddrNetProtoLocked(addr, e.ops.GetV6Only(), true)
	if err != nil {
		return err
	}
	nets := []tcpip.NetworkProtocolNumber{net}
	if net == ipv6 && !e.ops.GetV6Only() && addr.Addr.Len() == 0 {
		nets = append(nets, ipv4)
	}
	if addr.Addr.Len() != 0 {
		if e.BindNICID = e.p.st.CheckLocalAddress(addr.NIC, net, addr.Addr); e.BindNICID == 0 {
			return &tcpip.ErrBadLocalAddress{}
		}
	}
	e.port.device = tcpip.NICID(e.ops.GetBindToDevice())
	id := stack.TransportEndpointID{LocalAddress: addr.Addr}
	res := ports.Reservation{Networks: nets, Transport: e.p.number, Addr: addr.Addr, Port: addr.Port, Flags: e.port.flags, BindToDevice: e.port.device}
	n, err := e.p.st.ReservePort(e.p.st.SecureRNG(), res, func(n uint16) (bool, tcpip.Error) {
		id.LocalPort = n
		return e.p.st.CheckRegisterTransportEndpoint(nets, e.p.number, id, e.port.flags, e.port.device) == nil, nil
	})
	if err != nil {
		return err
	}
	res.Port, id.LocalPort = n, n
	e.port.res, e.port.reserved, e.bound = res, true, true
	e.ID, e.BindAddr = id, asked
	return nil
}

// Connect implements tcpip.Endpoint.
func (e *endpoint) Connect(addr tcpip.FullAddress) tcpip.Error {
	e.lock()
	defer e.unlock()
	switch {
	case e.started && e.conn.Phase() == transport.Opening:
		return &tcpip.ErrAlreadyConnecting{}
	case e.started && e.conn.Phase() == transport.Open:
		return &tcpip.ErrAlreadyConnected{}
	case e.started || e.listen != nil || e.closed:
		return &tcpip.ErrInvalidEndpointState{}
	}
	nic := addr.NIC
	addr, net, err := e.AddrNetProtoLocked(addr, e.ops.GetV6Only(), false)
	if err != nil {
		return err
	}
	if net == ipv6 && e.p.number == tcpip.TransportProtocolNumber(header.IPv6ExperimentExtHdrIdentifier) {
		return &tcpip.ErrNetworkUnreachable{} // it would not arrive: netstack takes it for an extension header
	}
	if addr.NIC != 0 && e.BindNICID != 0 && addr.NIC != e.BindNICID {
		return &tcpip.ErrHostUnreachable{}
	}
	route, err := e.p.st.FindRoute(addr.NIC, e.ID.LocalAddress, addr.Addr, net, false)
	if err != nil {
		return err
	}
	old := e.ID
	e.ID.LocalAddress, e.ID.RemoteAddress, e.ID.RemotePort = route.LocalAddress(), route.RemoteAddress(), addr.Port
	if err := e.claim(net, addr); err != nil {
		e.ID = old
		route.Release()
		return err
	}
	e.RegisterNICID = nic
	e.started, e.route = true, route
	e.conn.Connect()
	return &tcpip.ErrConnectStarted{}
}

// claim makes packets of the connection arrive. An endpoint that is not bound
// gets an ephemeral port.
func (e *endpoint) claim(net tcpip.NetworkProtocolNumber, to tcpip.FullAddress) tcpip.Error {
	st, nets := e.p.st, []tcpip.NetworkProtocolNumber{net}
	if e.ID.LocalPort != 0 {
		return e.port.register(e, nets, e.ID)
	}
	e.port.device = tcpip.NICID(e.ops.GetBindToDevice())
	self := e.ID.LocalAddress == e.ID.RemoteAddress
	_, err := st.PickEphemeralPort(st.SecureRNG(), func(n uint16) (bool, tcpip.Error) {
		if self && n == e.ID.RemotePort {
			return false, nil
		}
		res := ports.Reservation{Networks: nets, Transport: e.p.number, Addr: e.ID.LocalAddress, Port: n, Flags: e.port.flags, BindToDevice: e.port.device, Dest: to}
		if _, err := st.ReservePort(st.SecureRNG(), res, nil); err != nil {
			return false, nil
		}
		id := e.ID
		id.LocalPort = n
		if err := e.port.register(e, nets, id); err != nil {
			st.ReleasePort(res)
			return false, nil
		}
		e.ID, e.port.res, e.port.reserved = id, res, true
		return true, nil
	})
	return err
}

// listener has the connections that came to a listening endpoint and that nobody
// has accepted yet. Its lock is the innermost.
type listener struct {
	queue *waiter.Queue

	mu      sync.Mutex
	backlog int
	half    []*endpoint
	ready   []*endpoint
}

func (l *listener) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ready) > 0
}

// begin takes a connection that begins, if there is room: the backlog counts all.
func (l *listener) begin(e *endpoint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.half)+len(l.ready) > l.backlog {
		return false
	}
	l.half = append(l.half, e)
	return true
}

// admit makes an established connection one to be accepted.
func (l *listener) admit(e *endpoint) {
	l.mu.Lock()
	i := slices.Index(l.half, e)
	if i >= 0 {
		l.half = slices.Delete(l.half, i, i+1)
		l.ready = append(l.ready, e)
	}
	l.mu.Unlock()
	if i >= 0 {
		e.parent = nil
		l.queue.Notify(waiter.ReadableEvents)
	}
}

func (l *listener) forget(e *endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.half, e); i >= 0 {
		l.half = slices.Delete(l.half, i, i+1)
	}
}

// Listen implements tcpip.Endpoint.
func (e *endpoint) Listen(backlog int) tcpip.Error {
	e.lock()
	defer e.unlock()
	if e.listen != nil {
		e.listen.mu.Lock()
		e.listen.backlog = backlog
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
	if err := e.port.register(e, e.port.res.Networks, e.ID); err != nil {
		return err
	}
	e.listen = &listener{queue: e.queue, backlog: backlog}
	return nil
}

// stopListening ends the connections that nobody accepted.
func (e *endpoint) stopListening() {
	l := e.listen
	e.port.unregister(e)
	e.listen = nil
	l.mu.Lock()
	list := slices.Concat(l.ready, l.half)
	l.ready, l.half, l.backlog = nil, nil, -1
	l.mu.Unlock()
	for _, c := range list {
		c.Abort()
	}
}

// Accept implements tcpip.Endpoint.
func (e *endpoint) Accept(peer *tcpip.FullAddress) (tcpip.Endpoint, *waiter.Queue, tcpip.Error) {
	e.lock()
	l := e.listen
	e.unlock()
	if l == nil {
		return nil, nil, &tcpip.ErrInvalidEndpointState{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ready) == 0 {
		return nil, nil, &tcpip.ErrWouldBlock{}
	}
	n := l.ready[0]
	l.ready = slices.Delete(l.ready, 0, 1)
	if peer != nil {
		*peer = tcpip.FullAddress{Addr: n.ID.RemoteAddress, Port: n.ID.RemotePort}
	}
	return n, n.queue, nil
}

// open is a packet for the listener: a new connection, if it opens one.
func (e *endpoint) open(a *arrived) {
	if !e.p.Opens(a.pkt) {
		return
	}
	route, err := e.p.st.FindRoute(a.nic, a.id.LocalAddress, a.id.RemoteAddress, a.net, false)
	if err != nil {
		return
	}
	c := newEndpoint(e.p, e.NetProto, &waiter.Queue{})
	c.lock()
	defer c.unlock()
	c.ID, c.BindAddr, c.BindNICID, c.RegisterNICID = a.id, e.BindAddr, e.BindNICID, a.nic
	c.ttl, c.hops, c.tos, c.tc = e.ttl, e.hops, e.tos, e.tc
	c.port.flags, c.port.device = e.port.flags, e.port.device
	send, receive := int(e.ops.GetSendBufferSize()), int(e.ops.GetReceiveBufferSize())
	c.ops.SetSendBufferSize(int64(send), false)
	c.ops.SetReceiveBufferSize(int64(receive), false)
	c.conn.SetBuffers(send, receive)
	nets := []tcpip.NetworkProtocolNumber{a.net}
	if !e.listen.begin(c) {
		route.Release()
		return
	}
	if err := c.port.register(c, nets, c.ID); err != nil {
		e.listen.forget(c)
		route.Release()
		return
	}
	c.port.res = ports.Reservation{
		Networks: nets, Transport: e.p.number, Addr: c.ID.LocalAddress, Port: c.ID.LocalPort, Flags: c.port.flags, BindToDevice: c.port.device,
		Dest: tcpip.FullAddress{Addr: c.ID.RemoteAddress, Port: c.ID.RemotePort},
	}
	c.port.reserved = e.p.st.ReserveTuple(c.port.res)
	c.parent, c.started, c.route = e.listen, true, route
	c.conn.Receive(a.pkt)
}
