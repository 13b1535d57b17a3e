package onip

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack/transport"
)

// SetSockOpt implements tcpip.Endpoint: TCP's options mean nothing here.
func (*endpoint) SetSockOpt(tcpip.SettableSocketOption) tcpip.Error { return nil }

// SetSockOptInt implements tcpip.Endpoint.
func (e *endpoint) SetSockOptInt(o tcpip.SockOptInt, v int) tcpip.Error {
	e.lock()
	defer e.unlock()
	switch o {
	case tcpip.IPv4TOSOption:
		e.tos = uint8(v)
	case tcpip.IPv6TrafficClassOption:
		e.tc = uint8(v)
	case tcpip.IPv4TTLOption:
		e.ttl = int16(v)
	case tcpip.IPv6HopLimitOption:
		e.hops = int16(v)
	}
	return nil
}

// GetSockOpt implements tcpip.Endpoint.
func (*endpoint) GetSockOpt(tcpip.GettableSocketOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}

// GetSockOptInt implements tcpip.Endpoint.
func (e *endpoint) GetSockOptInt(o tcpip.SockOptInt) (int, tcpip.Error) {
	e.lock()
	defer e.unlock()
	switch o {
	case tcpip.ReceiveQueueSizeOption:
		if e.listen != nil {
			return 0, &tcpip.ErrInvalidEndpointState{}
		}
		return e.conn.Readable(), nil
	case tcpip.SendQueueSizeOption:
		return e.conn.Pending(), nil
	case tcpip.IPv4TTLOption:
		return int(e.ttl), nil
	case tcpip.IPv4TOSOption:
		return int(e.tos), nil
	case tcpip.IPv6TrafficClassOption:
		return int(e.tc), nil
	case tcpip.IPv6HopLimitOption:
		return int(e.hops), nil
	}
	return 0, &tcpip.ErrUnknownProtocolOption{}
}

// Unacked is how many bytes were written and not acknowledged, for SIOCOUTQ.
func (e *endpoint) Unacked() int {
	e.lock()
	defer e.unlock()
	return e.conn.Pending()
}

// OnReuseAddressSet implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnReuseAddressSet(v bool) {
	e.lock()
	defer e.unlock()
	e.port.flags.TupleOnly = v
}

// OnReusePortSet implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnReusePortSet(v bool) {
	e.lock()
	defer e.unlock()
	e.port.flags.LoadBalanced = v
}

// OnSetSendBufferSize implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnSetSendBufferSize(v int64) int64 {
	e.socketSizes(v, 0)
	return v
}

// OnSetReceiveBufferSize implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnSetReceiveBufferSize(v, _ int64) (int64, func()) {
	e.socketSizes(0, v)
	return v, nil
}

// GetAcceptConn implements tcpip.SocketOptionsHandler.
func (e *endpoint) GetAcceptConn() bool {
	e.lock()
	defer e.unlock()
	return e.listen != nil
}

// HasNIC implements tcpip.SocketOptionsHandler.
func (e *endpoint) HasNIC(id int32) bool { return id == 0 || e.p.st.HasNIC(tcpip.NICID(id)) }

// LastError implements tcpip.Endpoint and tcpip.SocketOptionsHandler.
func (e *endpoint) LastError() tcpip.Error {
	e.lock()
	defer e.unlock()
	return e.takeFailure()
}

// State implements tcpip.Endpoint.
func (e *endpoint) State() uint32 { return e.shown.Load() }

// ModerateRecvBuf implements tcpip.Endpoint.
func (*endpoint) ModerateRecvBuf(int) {}

// Info implements tcpip.Endpoint.
func (e *endpoint) Info() tcpip.EndpointInfo {
	e.lock()
	defer e.unlock()
	i := e.TransportEndpointInfo
	return &i
}

// Stats implements tcpip.Endpoint.
func (*endpoint) Stats() tcpip.EndpointStats { return nil }

// SetOwner implements tcpip.Endpoint.
func (*endpoint) SetOwner(tcpip.PacketOwner) {}

// SocketOptions implements tcpip.Endpoint.
func (e *endpoint) SocketOptions() *tcpip.SocketOptions { return &e.ops }

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
	if !e.started || e.conn.Phase() == transport.Closed {
		return tcpip.FullAddress{}, &tcpip.ErrNotConnected{}
	}
	return tcpip.FullAddress{Addr: e.ID.RemoteAddress, Port: e.ID.RemotePort, NIC: e.RegisterNICID}, nil
}

// toError is the error that ended a connection as gVisor has it.
func toError(e unix.Errno) tcpip.Error {
	switch e {
	case 0:
		return nil
	case unix.ECONNREFUSED:
		return &tcpip.ErrConnectionRefused{}
	case unix.ECONNRESET:
		return &tcpip.ErrConnectionReset{}
	case unix.ETIMEDOUT:
		return &tcpip.ErrTimeout{}
	case unix.EHOSTUNREACH:
		return &tcpip.ErrHostUnreachable{}
	case unix.ENETUNREACH:
		return &tcpip.ErrNetworkUnreachable{}
	}
	return &tcpip.ErrConnectionAborted{}
}

// errnoOf is the error number of an ICMP error; 0 if it is none that concerns
// connections.
func errnoOf(k stack.TransportErrorKind) unix.Errno {
	switch k {
	case stack.PacketTooBigTransportError:
		return unix.EMSGSIZE
	case stack.DestinationPortUnreachableTransportError, stack.DestinationProtoUnreachableTransportError:
		return unix.ECONNREFUSED
	case stack.DestinationHostUnreachableTransportError, stack.DestinationHostDownTransportError, stack.SourceHostIsolatedTransportError:
		return unix.EHOSTUNREACH
	case stack.DestinationNetworkUnreachableTransportError:
		return unix.ENETUNREACH
	}
	return 0
}
