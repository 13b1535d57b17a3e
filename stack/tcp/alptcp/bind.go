package alptcp

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack/tcp"
)

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
	bindAddr := addr.Addr
	addr, net, err := e.AddrNetProtoLocked(addr, e.ops.GetV6Only(), true)
	if err != nil {
		return err
	}
	nets := []tcpip.NetworkProtocolNumber{net}
	e.dual = net == header.IPv6ProtocolNumber && !e.ops.GetV6Only() && addr.Addr.Len() == 0
	if e.dual {
		nets = append(nets, header.IPv4ProtocolNumber)
	}
	if addr.Addr.Len() != 0 {
		nic := e.p.st.CheckLocalAddress(addr.NIC, net, addr.Addr)
		if nic == 0 {
			return &tcpip.ErrBadLocalAddress{}
		}
		e.BindNICID = nic
	}
	id := stack.TransportEndpointID{LocalAddress: addr.Addr}
	device := tcpip.NICID(e.ops.GetBindToDevice())
	res := ports.Reservation{Networks: nets, Transport: number, Addr: addr.Addr, Port: addr.Port, Flags: e.flags, BindToDevice: device}
	port, err := e.p.st.ReservePort(e.p.st.SecureRNG(), res, func(p uint16) (bool, tcpip.Error) {
		id.LocalPort = p
		return e.p.st.CheckRegisterTransportEndpoint(nets, number, id, e.flags, device) == nil, nil
	})
	if err != nil {
		return err
	}
	res.Port, id.LocalPort = port, port
	e.res, e.reserved, e.bound = res, true, true
	e.ID, e.BindAddr = id, bindAddr
	e.device = device
	return nil
}

// Connect implements tcpip.Endpoint.
func (e *endpoint) Connect(addr tcpip.FullAddress) tcpip.Error {
	e.lock()
	defer e.unlock()
	switch {
	case e.started && (e.conn.State() == tcp.SynSent || e.conn.State() == tcp.SynReceived):
		return &tcpip.ErrAlreadyConnecting{}
	case e.started && e.conn.State() != tcp.Closed:
		return &tcpip.ErrAlreadyConnected{}
	case e.started || e.listen != nil || e.closed:
		return &tcpip.ErrInvalidEndpointState{}
	}
	to := addr
	addr, net, err := e.AddrNetProtoLocked(addr, e.ops.GetV6Only(), false)
	if err != nil {
		return err
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
	if err := e.register(net, addr); err != nil {
		e.ID = old
		route.Release()
		return err
	}
	e.RegisterNICID = to.NIC
	e.start(route)
	peer := remote(e.ID)
	e.conn.ConnectTo(peer.Addr(), e.ID.LocalPort, e.ID.RemotePort, tcp.InitialSeq(e.p.cfg, local(e.ID), peer, e.Now()), e.path())
	if e.conn.FastOpenWaits() {
		return nil
	}
	return &tcpip.ErrConnectStarted{}
}

// register makes packets of the connection arrive. An endpoint that is not
// bound gets an ephemeral port.
func (e *endpoint) register(net tcpip.NetworkProtocolNumber, to tcpip.FullAddress) tcpip.Error {
	st := e.p.st
	nets := []tcpip.NetworkProtocolNumber{net}
	if e.ID.LocalPort != 0 {
		if err := st.RegisterTransportEndpoint(nets, number, e.ID, e, e.flags, e.device); err != nil {
			return err
		}
		e.networks, e.regFlags = nets, e.flags
		return nil
	}
	e.device = tcpip.NICID(e.ops.GetBindToDevice())
	self := e.ID.LocalAddress == e.ID.RemoteAddress
	_, err := st.PickEphemeralPort(st.SecureRNG(), func(p uint16) (bool, tcpip.Error) {
		if self && p == e.ID.RemotePort {
			return false, nil
		}
		res := ports.Reservation{Networks: nets, Transport: number, Addr: e.ID.LocalAddress, Port: p, Flags: e.flags, BindToDevice: e.device, Dest: to}
		if _, err := st.ReservePort(st.SecureRNG(), res, nil); err != nil {
			return false, nil
		}
		id := e.ID
		id.LocalPort = p
		if err := st.RegisterTransportEndpoint(nets, number, id, e, e.flags, e.device); err != nil {
			st.ReleasePort(res)
			return false, nil
		}
		e.ID, e.res, e.reserved = id, res, true
		e.networks, e.regFlags = nets, e.flags
		return true, nil
	})
	return err
}

// start makes the endpoint one of a connection by the route.
func (e *endpoint) start(route *stack.Route) {
	e.started = true
	e.out = outgoing{route: route, counts: &e.p.counts}
	e.header()
}

// header brings what the IP header has of the socket's options up to date.
func (e *endpoint) header() {
	r := e.out.route
	if r == nil {
		return
	}
	e.out.tos, e.out.ttl = e.tos, uint8(e.ttl)
	if r.NetProto() == header.IPv6ProtocolNumber {
		e.out.tos, e.out.ttl = e.tclass, uint8(e.hops)
		if e.hops < 0 {
			e.out.ttl = r.DefaultTTL()
		}
	} else if e.ttl <= 0 {
		e.out.ttl = r.DefaultTTL()
	}
	e.out.df = e.pmtud != tcpip.PMTUDiscoveryDont
}

// headerLen is the length of the IP header, bytes.
func (e *endpoint) headerLen() int {
	if e.out.route.NetProto() == header.IPv6ProtocolNumber {
		return header.IPv6MinimumSize
	}
	return header.IPv4MinimumSize
}

// path is what the route says of the way.
func (e *endpoint) path() tcp.Path {
	r := e.out.route
	p := tcp.Path{MTU: int(r.MTU()) + e.headerLen(), IPHeader: e.headerLen()}
	if r.HasHostGSOCapability() || r.HasGVisorGSOCapability() {
		const most = 65535 - header.IPv6MinimumSize - tcp.MaxHeaderLen
		p.GSOMax = min(int(r.GSOMaxSize())-tcp.MaxHeaderLen-p.IPHeader, most)
	}
	return p
}

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(ip, port)
}

func local(id stack.TransportEndpointID) netip.AddrPort {
	return addrPort(id.LocalAddress, id.LocalPort)
}

func remote(id stack.TransportEndpointID) netip.AddrPort {
	return addrPort(id.RemoteAddress, id.RemotePort)
}

// Disconnect implements tcpip.Endpoint; sockets get a fresh endpoint instead.
func (*endpoint) Disconnect() tcpip.Error { return &tcpip.ErrNotSupported{} }

// GetLocalAddress implements tcpip.Endpoint.
func (e *endpoint) GetLocalAddress() (tcpip.FullAddress, tcpip.Error) {
	e.lock()
	defer e.unlock()
	return tcpip.FullAddress{Addr: e.ID.LocalAddress, Port: e.ID.LocalPort, NIC: e.BindNICID}, nil
}

// GetRemoteAddress implements tcpip.Endpoint.
func (e *endpoint) GetRemoteAddress() (tcpip.FullAddress, tcpip.Error) {
	e.lock()
	defer e.unlock()
	if !e.started || e.conn.State() == tcp.Closed {
		return tcpip.FullAddress{}, &tcpip.ErrNotConnected{}
	}
	return tcpip.FullAddress{Addr: e.ID.RemoteAddress, Port: e.ID.RemotePort, NIC: e.RegisterNICID}, nil
}

// Accept implements tcpip.Endpoint.
func (e *endpoint) Accept(peer *tcpip.FullAddress) (tcpip.Endpoint, *waiter.Queue, tcpip.Error) {
	e.lock()
	l := e.listen
	e.unlock()
	if l == nil {
		return nil, nil, &tcpip.ErrInvalidEndpointState{}
	}
	n := l.take()
	if n == nil {
		return nil, nil, &tcpip.ErrWouldBlock{}
	}
	if peer != nil {
		*peer = tcpip.FullAddress{Addr: n.ID.RemoteAddress, Port: n.ID.RemotePort}
	}
	return n, n.queue, nil
}
