// Package host is the pass-through engine: every endpoint is a socket of the
// host's own kernel, made by the process that runs the engine.
//
// It exists as the baseline. A program behaves on it as on the kernel itself,
// unless the interception in front of it is at fault, and as on another engine,
// unless that engine is. It needs no privilege beyond what the kernel asks of
// the process (a port below 1024, a raw socket), and no link: packets leave as
// the host's own.
//
// The hard idea is who waits. No method of an endpoint blocks, and there is no
// goroutine for an endpoint: all sockets are in one epoll instance, edge
// triggered, and that instance is itself polled by the Go runtime. One
// goroutine takes its events and calls the functions given to Notify.
//
// The second idea is bytes in transit. ReadTo and WriteFrom copy between the
// socket and another descriptor, and either side may take less than the other
// gave. What is over stays in the endpoint, at most one buffer (64 KiB) each
// way, and counts: in Readiness, in Queued, in Shutdown and in Close, which
// flush first. A stream whose kernel socket is closed late for that reason is
// what Drain waits for.
//
// Options whose value holds a pointer or a descriptor of the caller's process
// cannot pass through another process; see SetOption.
package host

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// lingerTimeout is how long a closed endpoint whose peer takes nothing is kept
// for its last bytes, if the configuration does not say: what Linux gives an
// orphan whose peer keeps its window shut (8 probes from 200 ms, doubling, see
// tcp_orphan_retries in tcp(7)).
const lingerTimeout = 100 * time.Second

// Config configures an engine. The zero value works.
type Config struct {
	// LingerTimeout bounds how long a closed endpoint waits without progress
	// for its peer to take the bytes that the kernel's buffer had no room for.
	// Then it is reset. Zero is 100 s.
	LingerTimeout time.Duration
}

// Engine is the host kernel's stack. Its methods are safe for concurrent use.
type Engine struct {
	cfg    Config
	poll   *poller
	made   atomic.Uint64 // sockets, ever
	nextID atomic.Uint64

	mu        sync.RWMutex
	closed    bool
	endpoints map[uint64]*Endpoint // all that hold a socket, by identity
	lingering map[*Endpoint]struct{}
	lingerEnd chan struct{} // closed, and renewed, when lingering becomes empty
}

var _ stack.Engine = (*Engine)(nil)

// New starts an engine. It fails if the process has no descriptors left.
func New(cfg Config) (*Engine, error) {
	if cfg.LingerTimeout <= 0 {
		cfg.LingerTimeout = lingerTimeout
	}
	e := &Engine{
		cfg:       cfg,
		endpoints: make(map[uint64]*Endpoint),
		lingering: make(map[*Endpoint]struct{}),
		lingerEnd: make(chan struct{}),
	}
	p, err := newPoller(e.lookup)
	if err != nil {
		return nil, fmt.Errorf("host engine: %w", err)
	}
	e.poll = p
	return e, nil
}

// Name is "host".
func (e *Engine) Name() string { return "host" }

// Socket is socket(2) for AF_INET and AF_INET6; EAFNOSUPPORT for the others.
func (e *Engine) Socket(family, typ, proto int) (stack.Endpoint, stack.Errno) {
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return nil, unix.EAFNOSUPPORT
	}
	if typ&^0xf != 0 {
		return nil, unix.EINVAL
	}
	fd, errno := sysSocket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if errno != 0 {
		return nil, errno
	}
	return e.adopt(fd, family, typ)
}

// adopt makes the endpoint of a new non-blocking socket and takes the
// descriptor over. ENOBUFS when the engine is closed.
func (e *Engine) adopt(fd, family, typ int) (stack.Endpoint, stack.Errno) {
	ep := &Endpoint{
		engine: e,
		id:     e.nextID.Add(1),
		family: family,
		typ:    typ,
		fd:     fd,
		probe:  true,
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		sysClose(fd)
		return nil, unix.ENOBUFS
	}
	e.endpoints[ep.id] = ep
	e.made.Add(1)
	return ep, 0
}

// lookup finds the endpoint that an event is for; nil if it has gone.
func (e *Engine) lookup(id uint64) *Endpoint {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.endpoints[id]
}

// forget drops an endpoint that no longer holds a socket.
func (e *Engine) forget(ep *Endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.endpoints, ep.id)
	if _, ok := e.lingering[ep]; ok {
		delete(e.lingering, ep)
		if len(e.lingering) == 0 {
			close(e.lingerEnd)
			e.lingerEnd = make(chan struct{})
		}
	}
}

// linger notes an endpoint that is closed but has bytes to flush. It reports
// false if the engine is closed, so that nothing would flush them.
func (e *Engine) linger(ep *Endpoint) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.lingering[ep] = struct{}{}
	return true
}

// Stats counts sockets. What the kernel does with packets is not seen here.
func (e *Engine) Stats() stack.Stats {
	return stack.Stats{Sockets: e.made.Load()}
}

// Drain waits until every closed endpoint has given its last byte to the
// kernel, or until ctx is done. From there on the kernel delivers by itself,
// even after the end of the process.
func (e *Engine) Drain(ctx context.Context) {
	for {
		e.mu.RLock()
		n, end := len(e.lingering), e.lingerEnd
		e.mu.RUnlock()
		if n == 0 {
			return
		}
		select {
		case <-end:
		case <-ctx.Done():
			return
		}
	}
}

// Close closes every endpoint, those with bytes left to flush included, and
// ends the engine's goroutine.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	all := make([]*Endpoint, 0, len(e.endpoints))
	for _, ep := range e.endpoints {
		all = append(all, ep)
	}
	e.mu.Unlock()
	err := e.poll.close()
	for _, ep := range all {
		ep.Notify(nil)
		ep.wmu.Lock()
		ep.release(ep.closing)
		ep.wmu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("host engine: %w", err)
	}
	return nil
}
