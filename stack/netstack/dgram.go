package netstack

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack"
)

// dgramSock is a UDP, ICMP echo or raw socket; it implements stack.Endpoint.
//
// UDP sockets are connected in netstack, which finds sockets by their peer
// too. ICMP echo and raw sockets are connected here: netstack's forget to
// undo what an earlier connect registered.
type dgramSock struct {
	sock
	queueMem waiter.Queue

	connected bool
	peer      stack.Addr
	source    stack.Addr // of a connected ICMP echo or raw socket
	autobound bool       // netstack has a port that the program did not bind

	rx     appendWriter
	corked *corked   // UDP_CORK or MSG_MORE
	errq   *errQueue // once IP_RECVERR has been set, or the socket was connected
	groups []membership
	filter uint32                // ICMP_FILTER
	sticky *tcpip.IPv6PacketInfo // IPV6_PKTINFO as an option
}

var _ stack.Endpoint = (*dgramSock)(nil)

func (e *Engine) newDgram(family int, k kind, proto int) (stack.Endpoint, stack.Errno) {
	d := &dgramSock{}
	d.engine, d.family, d.kind, d.proto = e, uint16(family), k, uint16(proto)
	ep, err := d.newEndpoint(&d.queueMem)
	if err != 0 {
		return nil, err
	}
	d.init(e, family, k, proto, ep, &d.queueMem)
	return d, 0
}

// newEndpoint makes a netstack endpoint for the socket.
func (d *dgramSock) newEndpoint(q *waiter.Queue) (tcpip.Endpoint, stack.Errno) {
	st, n := d.engine.st, d.network()
	var ep tcpip.Endpoint
	var err tcpip.Error
	switch {
	case d.kind == kindUDP:
		ep, err = st.NewEndpoint(udp.ProtocolNumber, n, q)
	case d.kind == kindPing && d.is6():
		ep, err = st.NewEndpoint(header.ICMPv6ProtocolNumber, n, q)
	case d.kind == kindPing:
		ep, err = st.NewEndpoint(header.ICMPv4ProtocolNumber, n, q)
	case d.proto == unix.IPPROTO_RAW:
		ep, err = st.NewRawEndpoint(unix.IPPROTO_RAW, n, q, false)
	default:
		ep, err = raw.NewEndpoint(st, n, tcpip.TransportProtocolNumber(d.proto), q)
	}
	if err != nil {
		return nil, errno(err)
	}
	return ep, 0
}

// reopen puts a fresh netstack endpoint under the socket. Datagrams received
// and not read are lost with the old one.
func (d *dgramSock) reopen() {
	ep, err := d.newEndpoint(d.queue)
	if err != 0 {
		return
	}
	old := d.ep
	d.ep = ep
	old.Close()
	d.applyAll()
	d.rejoin()
	d.autobound = false
	if !d.hasPort {
		d.hold.drop()
		d.hold = nil
	}
	if d.kind != kindRaw && !d.hasPort {
		return // the address stays, for the next port; see prepare
	}
	if d.hasPort || d.hasAddr {
		if err := ep.Bind(d.full(d.held(d.bound))); err != nil {
			d.engine.log.Warn("bind again after disconnect", "addr", d.bound, "err", err.String())
		}
	}
}

// prepare binds a socket that kept its address and lost its port.
//
// One with an error queue is bound too: an error may come back while it is
// being bound by netstack, and must find it. So is one of an engine that shares
// a host's addresses, which gives the port.
func (d *dgramSock) prepare() stack.Errno {
	if d.hasPort || d.kind == kindRaw || !d.hasAddr && d.errq == nil && d.engine.shared == nil || d.isBound() {
		return 0
	}
	defer d.syncErrQueue()
	d.autobound = true
	if err := d.bindPort(d.bound); err != unix.EADDRINUSE {
		return err
	}
	return unix.EAGAIN
}

// Bind is bind(2).
func (d *dgramSock) Bind(a stack.Addr) stack.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkBind(a); err != 0 {
		return err
	}
	if d.kind == kindRaw {
		return d.bindRaw(a)
	}
	if d.isBound() || d.connected {
		return unix.EINVAL
	}
	if d.kind == kindPing && a.IP.IsValid() && (a.IP.IsMulticast() || d.engine.isBroadcast(a.IP)) {
		return unix.EADDRNOTAVAIL
	}
	if err := d.bindPort(a); err != 0 {
		return err
	}
	d.noteBound(a)
	d.syncErrQueue()
	return 0
}

// bindRaw binds a raw socket, which may be done again and again.
func (d *dgramSock) bindRaw(a stack.Addr) stack.Errno {
	a.Port = 0
	if d.connected {
		return unix.EINVAL
	}
	d.noteBound(a)
	d.reopen()
	d.bound = a
	return 0
}

// isBound says whether the socket has a local port.
func (d *dgramSock) isBound() bool {
	full, err := d.ep.GetLocalAddress()
	return err == nil && full.Port != 0
}

// Connect is connect(2), which only sets the peer.
func (d *dgramSock) Connect(a stack.Addr) stack.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.syncErrQueue()
	a, err := d.checkDest(a)
	if err != 0 {
		return err
	}
	if d.engine.isBroadcast(a.IP) && d.opts.get(optBroadcast) == 0 {
		return unix.EACCES
	}
	if err := d.route(a.IP); err != 0 {
		return err
	}
	if err := d.prepare(); err != 0 {
		return err
	}
	if d.kind != kindUDP {
		return d.connectHere(a)
	}
	if d.connected || d.autobound {
		d.rebind()
	}
	full := d.full(a)
	if full.NIC == 0 {
		full.NIC = d.engine.nicID(uint32(d.opts.get(optBindToDevice)))
	}
	switch err := d.ep.Connect(full); err.(type) {
	case nil:
		d.connected, d.peer = true, a
		d.needErrQueue()
		return 0
	case *tcpip.ErrPortInUse, *tcpip.ErrNoPortAvailable:
		return unix.EAGAIN
	default:
		d.connected = false
		return errno(err)
	}
}

// rebind leaves the socket with its port but without its peer and the source
// address that connect chose, so that the next connect chooses afresh.
func (d *dgramSock) rebind() {
	if d.hasAddr {
		_ = d.ep.Disconnect()
		return
	}
	full, err := d.ep.GetLocalAddress()
	if err != nil || full.Port == 0 {
		return
	}
	if d.connected {
		_ = d.ep.Disconnect()
	}
	if _, err := d.ep.GetRemoteAddress(); err == nil {
		return
	}
	bind := d.full(d.bound)
	bind.Port = full.Port
	if err := d.ep.Bind(bind); err == nil {
		d.autobound = true
	}
}

// connectHere sets the peer of an ICMP echo or raw socket.
func (d *dgramSock) connectHere(a stack.Addr) stack.Errno {
	full := d.full(a)
	local := d.full(d.bound).Addr
	n := d.network()
	if full.Addr.BitLen() == 0 {
		full.Addr = fromIP(d.loopback())
	}
	r, err := d.engine.st.FindRoute(full.NIC, local, full.Addr, n, false)
	if err != nil {
		return errno(err)
	}
	d.source = toAddr(int(d.family), tcpip.FullAddress{Addr: r.LocalAddress(), NIC: full.NIC})
	r.Release()
	if d.kind == kindPing && !d.isBound() {
		if err := d.ep.Bind(tcpip.FullAddress{}); err != nil {
			return errno(err)
		}
		d.autobound = true
	}
	d.connected, d.peer = true, a
	d.peer.IP = toIP(int(d.family), full.Addr)
	d.needErrQueue()
	return 0
}

// Disconnect is connect(2) with AF_UNSPEC.
func (d *dgramSock) Disconnect() stack.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.syncErrQueue()
	wasConnected := d.connected
	d.connected, d.peer, d.source = false, stack.Addr{}, stack.Addr{}
	if d.kind == kindRaw {
		return 0
	}
	if d.kind == kindUDP && (d.hasPort || wasConnected && !d.autobound && !d.hasAddr) {
		return errno(d.ep.Disconnect())
	}
	if d.isBound() && !d.hasPort {
		d.reopen()
	}
	return 0
}

// Listen is not for datagrams.
func (*dgramSock) Listen(int) stack.Errno { return unix.EOPNOTSUPP }

// Accept is not for datagrams.
func (*dgramSock) Accept() (stack.Endpoint, stack.Errno) { return nil, unix.EOPNOTSUPP }

// Shutdown is shutdown(2): the flags hold even where the answer is ENOTCONN.
func (d *dgramSock) Shutdown(how int) stack.Errno {
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return unix.EINVAL
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut |= uint8(how + 1)
	d.wake()
	if !d.connected {
		return unix.ENOTCONN
	}
	return 0
}

// LocalAddr is getsockname(2).
func (d *dgramSock) LocalAddr() stack.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.local()
}

func (d *dgramSock) local() stack.Addr {
	if d.kind == kindRaw {
		a := d.bound
		if d.connected && !d.hasAddr {
			a = d.source
		}
		a.Port = d.proto
		return a
	}
	full, err := d.ep.GetLocalAddress()
	if err != nil {
		return stack.Addr{}
	}
	a := d.localAddr(full)
	if full.Port == 0 && d.hasAddr {
		a = stack.Addr{IP: d.bound.IP, Scope: d.bound.Scope}
	}
	if d.connected && d.kind == kindPing && !d.hasAddr {
		a.IP, a.Scope = d.source.IP, d.source.Scope
	}
	return a
}

// PeerAddr is getpeername(2). A peer with port 0 is none, as in the kernel.
func (d *dgramSock) PeerAddr() (stack.Addr, stack.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peerAddr()
}

func (d *dgramSock) peerAddr() (stack.Addr, stack.Errno) {
	if !d.connected || d.peer.Port == 0 {
		return stack.Addr{}, unix.ENOTCONN
	}
	a := d.peer
	if !a.IP.IsValid() || a.IP.IsUnspecified() || isMappedAny(a.IP) {
		if full, err := d.ep.GetRemoteAddress(); err == nil {
			a.IP = toIP(int(d.family), full.Addr)
		}
	}
	return a, 0
}

// Close releases the socket.
func (d *dgramSock) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	d.queue.EventUnregister(&d.entry)
	if d.errq != nil {
		d.engine.errs.remove(d)
	}
	d.ep.Close()
	d.hold.drop()
	d.hold = nil
}

// Abort releases the socket.
func (d *dgramSock) Abort() { d.Close() }
