package netstack

import (
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// maxProtocol is one more than the largest protocol number that socket(2)
// looks at (IPPROTO_MAX); larger ones are EINVAL.
const maxProtocol = 263

// maxType is one more than the largest socket type (SOCK_MAX).
const maxType = 11

// Socket makes an endpoint as socket(2) does in a kernel with TCP, UDP, ICMP
// echo and raw sockets, and without the MPTCP, SCTP, DCCP and UDP-Lite modules.
func (e *Engine) Socket(family, typ, proto int) (stack.Endpoint, stack.Errno) {
	if e.closed.Load() {
		return nil, unix.ENETDOWN
	}
	if typ < 0 || typ >= maxType {
		return nil, unix.EINVAL
	}
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return nil, unix.EAFNOSUPPORT
	}
	if proto < 0 || proto >= maxProtocol {
		return nil, unix.EINVAL
	}
	ping := unix.IPPROTO_ICMP
	if family == unix.AF_INET6 {
		ping = unix.IPPROTO_ICMPV6
	}
	switch typ {
	case unix.SOCK_STREAM:
		if proto == 0 {
			proto = unix.IPPROTO_TCP
		}
		if proto != unix.IPPROTO_TCP && !e.hasStream(proto) {
			return nil, unix.EPROTONOSUPPORT
		}
		return e.newTCP(family, proto)
	case unix.SOCK_DGRAM:
		switch proto {
		case 0, unix.IPPROTO_UDP:
			return e.newDgram(family, kindUDP, unix.IPPROTO_UDP)
		case ping:
			return e.newDgram(family, kindPing, proto)
		default:
			return nil, unix.EPROTONOSUPPORT
		}
	case unix.SOCK_RAW:
		if proto == 0 || proto > 255 {
			return nil, unix.EPROTONOSUPPORT
		}
		if e.shared != nil {
			return nil, unix.EPERM // the host's kernel has them
		}
		return e.newDgram(family, kindRaw, proto)
	default:
		return nil, unix.ESOCKTNOSUPPORT
	}
}
