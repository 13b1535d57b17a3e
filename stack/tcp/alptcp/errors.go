package alptcp

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// failures are the errors that end a connection, in both languages. Those that
// netstack's errors have no name for go as others do; see package netstack.
var failures = []struct {
	errno unix.Errno
	err   tcpip.Error
	kind  stack.TransportErrorKind
}{
	{unix.ECONNREFUSED, &tcpip.ErrConnectionRefused{}, stack.DestinationPortUnreachableTransportError},
	{unix.EHOSTUNREACH, &tcpip.ErrHostUnreachable{}, stack.DestinationHostUnreachableTransportError},
	{unix.ENETUNREACH, &tcpip.ErrNetworkUnreachable{}, stack.DestinationNetworkUnreachableTransportError},
	{unix.ENOPROTOOPT, &tcpip.ErrUnknownProtocolOption{}, stack.DestinationProtoUnreachableTransportError},
	{unix.EOPNOTSUPP, &tcpip.ErrNotSupported{}, stack.SourceRouteFailedTransportError},
	{unix.ENONET, &tcpip.ErrNoNet{}, stack.SourceHostIsolatedTransportError},
	{unix.EHOSTDOWN, &tcpip.ErrHostDown{}, stack.DestinationHostDownTransportError},
	{unix.ECONNRESET, &tcpip.ErrConnectionReset{}, -1},
	{unix.ETIMEDOUT, &tcpip.ErrTimeout{}, -1},
}

func toError(e unix.Errno) tcpip.Error {
	if e == 0 {
		return nil
	}
	for _, f := range failures {
		if f.errno == e {
			return f.err
		}
	}
	return &tcpip.ErrConnectionAborted{}
}

// ofKind is the error number of an ICMP error; 0 if it ends nothing.
func ofKind(k stack.TransportErrorKind) unix.Errno {
	for _, f := range failures {
		if f.kind == k {
			return f.errno
		}
	}
	return 0
}
