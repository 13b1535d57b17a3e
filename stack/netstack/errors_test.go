package netstack

import (
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		err  tcpip.Error
		want stack.Errno
	}{
		{nil, 0},
		{&tcpip.ErrWouldBlock{}, unix.EAGAIN},
		{&tcpip.ErrConnectStarted{}, unix.EINPROGRESS},
		{&tcpip.ErrConnectionRefused{}, unix.ECONNREFUSED},
		{&tcpip.ErrConnectionReset{}, unix.ECONNRESET},
		{&tcpip.ErrTimeout{}, unix.ETIMEDOUT},
		{&tcpip.ErrHostUnreachable{}, unix.EHOSTUNREACH},
		{&tcpip.ErrNetworkUnreachable{}, unix.ENETUNREACH},
		{&tcpip.ErrPortInUse{}, unix.EADDRINUSE},
		{&tcpip.ErrBadLocalAddress{}, unix.EADDRNOTAVAIL},
		{&tcpip.ErrBroadcastDisabled{}, unix.EACCES},
		{&tcpip.ErrMessageTooLong{}, unix.EMSGSIZE},
		{&tcpip.ErrClosedForSend{}, unix.EPIPE},
		{&tcpip.ErrNoBufferSpace{}, unix.ENOBUFS},
		{&tcpip.ErrDestinationRequired{}, unix.EDESTADDRREQ},
		{&tcpip.ErrUnknownProtocolOption{}, unix.ENOPROTOOPT},
		{&tcpip.ErrAlreadyBound{}, unix.EINVAL},
		{&tcpip.ErrMalformedHeader{}, unix.EINVAL},
	} {
		if got := errno(c.err); got != c.want {
			t.Errorf("%T: %v, want %v", c.err, got, c.want)
		}
	}
}
