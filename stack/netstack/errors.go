package netstack

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// errno gives Linux's number for one of netstack's errors; nil is 0. Where
// Linux's answer depends on the call, the caller decides before asking here.
func errno(err tcpip.Error) stack.Errno {
	switch err.(type) {
	case nil:
		return 0
	case *tcpip.ErrWouldBlock, *tcpip.ErrEndpointBusy:
		return unix.EAGAIN
	case *tcpip.ErrConnectStarted:
		return unix.EINPROGRESS
	case *tcpip.ErrAlreadyConnecting:
		return unix.EALREADY
	case *tcpip.ErrAlreadyConnected:
		return unix.EISCONN
	case *tcpip.ErrNotConnected:
		return unix.ENOTCONN
	case *tcpip.ErrConnectionRefused:
		return unix.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return unix.ECONNRESET
	case *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return unix.ECONNABORTED
	case *tcpip.ErrTimeout:
		return unix.ETIMEDOUT
	case *tcpip.ErrClosedForSend:
		return unix.EPIPE
	case *tcpip.ErrClosedForReceive:
		return unix.ENOTCONN
	default:
		return addressErrno(err)
	}
}

// addressErrno is the part of errno that is about addresses, routes and ports.
func addressErrno(err tcpip.Error) stack.Errno {
	switch err.(type) {
	case *tcpip.ErrPortInUse:
		return unix.EADDRINUSE
	case *tcpip.ErrNoPortAvailable:
		return unix.EAGAIN
	case *tcpip.ErrBadLocalAddress, *tcpip.ErrDuplicateAddress:
		return unix.EADDRNOTAVAIL
	case *tcpip.ErrNetworkUnreachable:
		return unix.ENETUNREACH
	case *tcpip.ErrHostUnreachable:
		return unix.EHOSTUNREACH
	case *tcpip.ErrHostDown:
		return unix.EHOSTDOWN
	case *tcpip.ErrNoNet:
		return unix.ENONET
	case *tcpip.ErrAddressFamilyNotSupported:
		return unix.EAFNOSUPPORT
	case *tcpip.ErrDestinationRequired:
		return unix.EDESTADDRREQ
	case *tcpip.ErrBroadcastDisabled, *tcpip.ErrNotPermitted:
		return unix.EACCES
	case *tcpip.ErrUnknownDevice, *tcpip.ErrUnknownNICID:
		return unix.ENODEV
	case *tcpip.ErrMessageTooLong:
		return unix.EMSGSIZE
	case *tcpip.ErrNoBufferSpace:
		return unix.ENOBUFS
	case *tcpip.ErrBadAddress, *tcpip.ErrBadBuffer:
		return unix.EFAULT
	case *tcpip.ErrUnknownProtocol:
		return unix.EPROTONOSUPPORT
	case *tcpip.ErrUnknownProtocolOption:
		return unix.ENOPROTOOPT
	case *tcpip.ErrNotSupported:
		return unix.EOPNOTSUPP
	case *tcpip.ErrNoSuchFile:
		return unix.ENOENT
	case *tcpip.ErrQueueSizeNotSupported:
		return unix.ENOTTY
	default: // ErrInvalidEndpointState, ErrInvalidOptionValue, ErrAlreadyBound, ErrMalformedHeader, ...
		return unix.EINVAL
	}
}
