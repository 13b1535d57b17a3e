package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// orphans are the connections that the program has closed while they still had
// bytes to send, so that not even their FIN has gone out. Of gVisor's states
// only those after the FIN tell that a connection was closed.
type orphans struct {
	mu    sync.Mutex
	eps   map[*tcp.Endpoint]struct{}
	sweep int // size at which finished ones are dropped
}

// add notes a connection that was closed just now, if it has bytes to send.
func (o *orphans) add(ep *tcp.Endpoint) {
	if !unsent(ep) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.eps == nil {
		o.eps, o.sweep = make(map[*tcp.Endpoint]struct{}), 64
	}
	o.eps[ep] = struct{}{}
	if len(o.eps) >= o.sweep {
		o.dropLocked()
		o.sweep = max(64, 2*len(o.eps))
	}
}

// any says whether there is such a connection now.
func (o *orphans) any() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropLocked()
	return len(o.eps) > 0
}

func (o *orphans) dropLocked() {
	for ep := range o.eps {
		if !unsent(ep) {
			delete(o.eps, ep)
		}
	}
}

// unsent says whether a closed connection has not sent its FIN.
func unsent(ep *tcp.Endpoint) bool {
	s := ep.EndpointState()
	return s == tcp.StateEstablished || s == tcp.StateCloseWait
}
