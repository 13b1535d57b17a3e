package netstack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack"
)

// kind is what a socket is: the options that it has depend on it.
type kind uint8

const (
	kindTCP kind = 1 << iota
	kindUDP
	kindPing // ICMP echo, icmp(7)
	kindRaw
)

// shutdown flags, as the kernel's sk_shutdown.
const (
	rcvShutdown = 1
	sndShutdown = 2
	allShutdown = rcvShutdown | sndShutdown
)

// sock is what every socket has. Its mutex guards everything but the atomics;
// netstack is called with it held, and netstack's notifications do not take it.
type sock struct {
	engine *Engine
	notify atomic.Pointer[func()]
	queue  *waiter.Queue
	entry  waiter.Entry

	mu     sync.Mutex
	ep     tcpip.Endpoint
	opts   options
	cookie uint64 // SO_COOKIE, made when first asked for

	family uint16
	proto  uint16
	kind   kind
	shut   uint8 // shutdown flags
	closed bool

	// What the program bound, so that a fresh netstack endpoint can be bound
	// alike. hasAddr and hasPort are SOCK_BINDADDR_LOCK and SOCK_BINDPORT_LOCK.
	hasAddr, hasPort bool
	hold             *hold // the port, on a shared host
	bound            stack.Addr

	err stack.Errno // the pending error (sk_err)

	ipOpts []byte // IP_OPTIONS
}

// init makes the socket ready for use with the netstack endpoint and its queue.
func (s *sock) init(e *Engine, family int, k kind, proto int, ep tcpip.Endpoint, q *waiter.Queue) {
	s.engine, s.family, s.kind, s.proto = e, uint16(family), k, uint16(proto)
	s.ep, s.queue = ep, q
	s.entry.Init(s, waiter.AllEvents)
	q.EventRegister(&s.entry)
	e.sockets.Add(1)
}

// NotifyEvent implements waiter.EventListener.
func (s *sock) NotifyEvent(waiter.EventMask) {
	if f := s.notify.Load(); f != nil {
		(*f)()
	}
}

// Notify sets the function to call when readiness may have changed.
func (s *sock) Notify(f func()) {
	if f == nil {
		s.notify.Store(nil)
		return
	}
	s.notify.Store(&f)
}

// wake calls the notify function, for changes that netstack does not know of.
func (s *sock) wake() { s.NotifyEvent(0) }

// endpoint gives the netstack endpoint of the moment.
func (s *sock) endpoint() tcpip.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ep
}

// network is the network protocol of the socket's family.
func (s *sock) network() tcpip.NetworkProtocolNumber {
	if s.family == unix.AF_INET6 {
		return ipv6Number
	}
	return ipv4Number
}

// is6 says whether the socket's family is AF_INET6.
func (s *sock) is6() bool { return s.family == unix.AF_INET6 }

// v6only is IPV6_V6ONLY.
func (s *sock) v6only() bool { return s.is6() && s.opts.get(optV6Only) != 0 }

// ipOptions is the value of IP_OPTIONS.
func (s *sock) ipOptions() []byte { return s.ipOpts }

func (s *sock) setIPOptions(b []byte) { s.ipOpts = b }

// takeErr gives the pending error and clears it.
func (s *sock) takeErr() stack.Errno {
	err := s.err
	s.err = 0
	return err
}

// checkBind does the checks of bind(2) that come before the port is looked at
// (__inet_bind and __inet6_bind in the kernel).
func (s *sock) checkBind(a stack.Addr) stack.Errno {
	ip := a.IP
	if !ip.IsValid() || ip.IsUnspecified() {
		return 0
	}
	if !s.is6() {
		if !ip.Is4() {
			return unix.EAFNOSUPPORT
		}
		if ip.IsMulticast() || s.engine.isBroadcast(ip) || s.engine.isLocal(ip) {
			return 0
		}
		return unix.EADDRNOTAVAIL
	}
	switch {
	case ip.Is4():
		return unix.EINVAL // a sockaddr_in is too short
	case ip.Is4In6():
		if s.v6only() {
			return unix.EINVAL
		}
		if v4 := ip.Unmap(); v4.IsUnspecified() || v4.IsMulticast() || s.engine.isBroadcast(v4) || s.engine.isLocal(v4) {
			return 0
		}
		return unix.EADDRNOTAVAIL
	case ip.IsMulticast():
		if s.kind == kindTCP {
			return unix.EINVAL
		}
		return 0
	}
	if ip.IsLinkLocalUnicast() && a.Scope == 0 && s.opts.get(optBindToDevice) == 0 {
		return unix.EINVAL
	}
	if a.Scope != 0 && scoped(ip) && !s.engine.hasNIC(a.Scope) {
		return unix.ENODEV
	}
	if !s.engine.isLocal(ip) {
		return unix.EADDRNOTAVAIL
	}
	return 0
}

// noteBound remembers what the program bound.
func (s *sock) noteBound(a stack.Addr) {
	s.bound = a
	s.hasPort = a.Port != 0
	s.hasAddr = a.IP.IsValid() && (!a.IP.IsUnspecified())
}

// localAddr makes netstack's local address into what getsockname(2) shows.
func (s *sock) localAddr(full tcpip.FullAddress) stack.Addr {
	a := toAddr(int(s.family), full)
	if !a.IP.IsValid() && isMappedAny(s.bound.IP) {
		a.IP = s.bound.IP
	}
	return a
}

// unspecified is no address at all.
var unspecified netip.Addr

// isMappedAny says whether ip is ::ffff:0.0.0.0.
func isMappedAny(ip netip.Addr) bool {
	return ip.Is4In6() && ip.Unmap().IsUnspecified()
}
