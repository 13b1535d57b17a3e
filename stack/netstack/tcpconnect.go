package netstack

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/alptrace/alptrace/stack"
)

// Connect is connect(2) of a non-blocking socket (__inet_stream_connect).
func (t *tcpSock) Connect(a stack.Addr) stack.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.state {
	case connected:
		return unix.EISCONN
	case connecting:
		return t.connectOutcome()
	}
	if t.linuxState() != tcpClose {
		return unix.EISCONN
	}
	if t.gone() { // an ended connection whose error was never asked for
		t.reopen()
	}
	full, err := t.checkConnect(a)
	if err != 0 {
		return err
	}
	t.err = 0
	if err := t.prepare(full); err != 0 {
		return err
	}
	switch err := t.ep.Connect(full); err.(type) {
	case nil: // Fast Open: the SYN goes with the first data
		t.state = connected
		return 0
	case *tcpip.ErrConnectStarted:
		t.state = connecting
		return unix.EINPROGRESS
	case *tcpip.ErrBadLocalAddress, *tcpip.ErrPortInUse, *tcpip.ErrNoPortAvailable:
		t.reopen()
		return unix.EADDRNOTAVAIL
	default:
		if t.hold != nil && !t.hasPort {
			t.reopen() // the port was for this destination
		}
		return errno(err)
	}
}

// prepare gives a socket that is to be connected its source address and port,
// where a shared host chooses them.
func (t *tcpSock) prepare(to tcpip.FullAddress) stack.Errno {
	if t.engine.shared == nil {
		return 0
	}
	dst := toIP(int(t.family), to.Addr)
	if !dst.IsValid() || dst.IsUnspecified() || isMappedAny(dst) {
		dst = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // netstack connects to it
		if t.is6() && !isMappedAny(toIP(int(t.family), to.Addr)) {
			dst = netip.IPv6Loopback()
		}
	}
	src, err := t.source(dst)
	if err != 0 || tcp.EndpointState(t.ep.State()) != tcp.StateInitial {
		return err
	}
	if err := t.bindPort(stack.Addr{IP: src}); err != unix.EADDRINUSE {
		return err
	}
	return unix.EADDRNOTAVAIL
}

// connectOutcome answers connect(2) after EINPROGRESS.
func (t *tcpSock) connectOutcome() stack.Errno {
	switch t.linuxState() {
	case tcpSynSent, tcpSynRecv:
		return unix.EALREADY
	case tcpClose:
		t.engine.probe.called(t.ep)
		t.harvest()
		err := t.takeErr()
		if err == 0 {
			err = unix.ECONNABORTED
		}
		t.reopen()
		return err
	default:
		t.state = connected
		t.engine.probe.called(t.ep)
		return 0
	}
}

// checkConnect does the checks of tcp_v4_connect and tcp_v6_connect, and gives
// the address for netstack.
func (t *tcpSock) checkConnect(a stack.Addr) (tcpip.FullAddress, stack.Errno) {
	var none tcpip.FullAddress
	ip := a.IP
	if !ip.IsValid() || ip.IsUnspecified() {
		if t.is6() && t.bound.IP.Is4In6() {
			a.IP = netip.AddrFrom16(netip.AddrFrom4([4]byte{}).As16())
		}
		return t.full(a), 0
	}
	if t.is6() && ip.Is4() {
		return none, unix.EINVAL // a sockaddr_in is too short
	}
	if !t.is6() && !ip.Is4() {
		return none, unix.EAFNOSUPPORT
	}
	if ip.Is4In6() && t.v6only() {
		return none, unix.ENETUNREACH
	}
	v4 := unmap(ip)
	if v4.IsMulticast() || t.engine.isBroadcast(v4) {
		return none, unix.ENETUNREACH
	}
	if scoped(ip) && a.Scope == 0 && t.opts.get(optBindToDevice) == 0 {
		return none, unix.EINVAL
	}
	if b := unmap(t.bound.IP); b.Is4() && b.IsLoopback() && v4.Is4() && !t.engine.isLocal(v4) {
		return none, unix.EINVAL // a loopback source does not leave the host (ip_route_output)
	}
	full := t.full(a)
	if full.NIC == 0 {
		full.NIC = t.engine.nicID(uint32(t.opts.get(optBindToDevice)))
	}
	return full, 0
}

// Disconnect is connect(2) with AF_UNSPEC (tcp_disconnect).
func (t *tcpSock) Disconnect() stack.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disconnect()
	return 0
}

func (t *tcpSock) disconnect() {
	var err stack.Errno
	switch t.linuxState() {
	case tcpEstablished, tcpCloseWait, tcpFinWait1, tcpFinWait2, tcpSynRecv, tcpSynSent:
		err = unix.ECONNRESET
	}
	if tcp.EndpointState(t.ep.State()) == tcp.StateInitial && t.shut == 0 {
		return
	}
	t.reopen()
	t.err = err
	t.wake()
}
