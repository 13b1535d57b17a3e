package netstack

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/alptrace/alptrace/stack"
)

// listeners are the listening sockets by their port. With SO_REUSEADDR,
// netstack lets a socket be bound beside one that listens at the wildcard
// address; Linux does not (inet_csk_bind_conflict).
type listeners struct {
	mu sync.Mutex
	m  map[uint16][]listener
}

type listener struct {
	t         *tcpSock
	ip        netip.Addr // invalid or unspecified: any
	only6     bool
	reusePort bool
}

func listenerOf(t *tcpSock, a stack.Addr) listener {
	return listener{t, a.IP, t.v6only(), t.opts.get(optReusePort) != 0}
}

// any says whether the listener is at the wildcard address.
func (l listener) any() bool { return !l.ip.IsValid() || l.ip.IsUnspecified() }

// serves says whether the listener takes connections to IPv4 or IPv6 addresses.
func (l listener) serves() (v4, v6 bool) {
	switch {
	case !l.t.is6(), l.ip.Is4In6():
		return true, false
	case l.any():
		return !l.only6, true
	default:
		return false, true
	}
}

// overlaps says whether a connection could be for both.
func (l listener) overlaps(o listener) bool {
	l4, l6 := l.serves()
	o4, o6 := o.serves()
	if !(l4 && o4 || l6 && o6) {
		return false
	}
	return l.any() || o.any() || l.ip.Unmap() == o.ip.Unmap()
}

// add notes that t listens at a.
func (ls *listeners) add(t *tcpSock, a stack.Addr) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.m == nil {
		ls.m = make(map[uint16][]listener)
	}
	t.listenPort = a.Port
	ls.m[a.Port] = append(ls.m[a.Port], listenerOf(t, a))
}

// remove notes that t listens no more.
func (ls *listeners) remove(t *tcpSock) {
	if t.listenPort == 0 {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	rest := slices.DeleteFunc(ls.m[t.listenPort], func(l listener) bool { return l.t == t })
	if len(rest) == 0 {
		delete(ls.m, t.listenPort)
	} else {
		ls.m[t.listenPort] = rest
	}
	t.listenPort = 0
}

// conflict says whether a listener forbids t to be bound to a.
func (ls *listeners) conflict(t *tcpSock, a stack.Addr) bool {
	if a.Port == 0 {
		return false
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	self := listenerOf(t, a)
	return slices.ContainsFunc(ls.m[a.Port], func(l listener) bool {
		return l.t != t && l.t.number() == t.number() && l.overlaps(self) && !(l.reusePort && self.reusePort)
	})
}
