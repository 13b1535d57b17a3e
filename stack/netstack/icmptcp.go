package netstack

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/alptrace/alptrace/stack"
)

// An ICMP error ends a connection that is being made (tcp_v4_err and tcp_v6_err
// in the kernel). Of ICMPv6 netstack knows only "no route" and "port
// unreachable", and neither protocol's "time exceeded": the handshake would go
// on to its timeout. It is told of the others here.
//
// Two of the kernel's numbers, EACCES and EPROTO, have no error in netstack,
// whose errors and kinds cannot be made outside it. They go through it as two
// that only ICMPv4 causes: ErrNoNet (source host isolated) and ErrNotSupported
// (source route failed).

// connectError is such an error; it implements stack.TransportError.
type connectError struct {
	*icmpError
	kind gstack.TransportErrorKind
}

func (c connectError) Kind() gstack.TransportErrorKind { return c.kind }
func (c connectError) Type() uint8                     { return c.typ }
func (c connectError) Code() uint8                     { return c.code }
func (c connectError) Info() uint32                    { return c.info }

func (c connectError) Origin() tcpip.SockErrOrigin {
	if c.v6 {
		return tcpip.SockExtErrorOriginICMP6
	}
	return tcpip.SockExtErrorOriginICMP
}

// kindOf is the kind that makes netstack fail with the error's number; ok is
// false for the errors that netstack handles by itself, and those that end
// nothing.
func kindOf(ie *icmpError) (kind gstack.TransportErrorKind, ok bool) {
	if !ie.v6 {
		exceeded := header.ICMPv4Type(ie.typ) == header.ICMPv4TimeExceeded
		return gstack.DestinationHostUnreachableTransportError, exceeded
	}
	switch ie.errno {
	case unix.EHOSTUNREACH:
		return gstack.DestinationHostUnreachableTransportError, true
	case unix.EACCES:
		return gstack.SourceHostIsolatedTransportError, true
	case unix.EPROTO:
		return gstack.SourceRouteFailedTransportError, true
	}
	return 0, false
}

// failConnect ends the handshake that the error is about.
func (e *Engine) failConnect(ie *icmpError, pkt *gstack.PacketBuffer) {
	kind, ok := kindOf(ie)
	if !ok {
		return
	}
	id := gstack.TransportEndpointID{
		LocalPort: ie.sport, LocalAddress: tcpip.AddrFromSlice(ie.local.AsSlice()),
		RemotePort: ie.dport, RemoteAddress: tcpip.AddrFromSlice(ie.dst.IP.AsSlice()),
	}
	ep := e.st.FindTransportEndpoint(pkt.NetworkProtocolNumber, tcp.ProtocolNumber, id, pkt.NICID)
	if s, ok := tcpStateOf(ep); ok && s == tcp.StateSynSent {
		ep.HandleError(connectError{ie, kind}, pkt)
	}
}

// errno is errno for an error of the connection.
func (t *tcpSock) errno(err tcpip.Error) stack.Errno {
	n := errno(err)
	if n != unix.ENONET && n != unix.EOPNOTSUPP {
		return n
	}
	info, ok := t.ep.Info().(*gstack.TransportEndpointInfo)
	if !ok || info.ID.RemoteAddress.Len() != header.IPv6AddressSize {
		return n
	}
	if n == unix.ENONET {
		return unix.EACCES
	}
	return unix.EPROTO
}
