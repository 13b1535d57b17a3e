package relay

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// flowKey names a flow of datagrams: the near stack's address and port, and the
// other end's as the near stack knows it. For ICMP echo near's port is the
// identifier and far's is 0.
type flowKey struct {
	near, far netip.AddrPort
	ping      bool
}

// flow is a flow of datagrams with a socket of the host: a dgramFlow, or a
// session of a udpPublish.
type flow interface {
	// send passes a datagram of the near stack on; q quotes its packet. It
	// does not wait, and keeps neither.
	send(payload []byte, q quote)
	// idleSince is when the flow last moved; timeout how long it may be idle.
	idleSince() time.Duration
	timeout() time.Duration
	// close releases the flow, which has left the table.
	close()
}

// flowTable is the datagram flows.
type flowTable struct {
	mu     sync.Mutex
	flows  map[flowKey]flow
	closed bool
	start  time.Time
}

func (t *flowTable) init() {
	t.flows = make(map[flowKey]flow)
	t.start = time.Now()
}

// now is the time since the table began: monotonic, and small enough for an atomic.
func (t *flowTable) now() time.Duration { return time.Since(t.start) }

func (t *flowTable) get(k flowKey) flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flows[k]
}

// put enters f, unless the key is taken or the table closed.
func (t *flowTable) put(k flowKey, f flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.flows[k]; taken || t.closed {
		return false
	}
	t.flows[k] = f
	return true
}

// remove takes f out and closes it, if it is still there.
func (t *flowTable) remove(k flowKey, f flow) {
	t.mu.Lock()
	had := t.flows[k] == f
	if had {
		delete(t.flows, k)
	}
	t.mu.Unlock()
	if had {
		f.close()
	}
}

// expire removes the flows that have been idle for too long.
func (t *flowTable) expire() {
	now := t.now()
	var old []flow
	t.mu.Lock()
	for k, f := range t.flows {
		if now-f.idleSince() > f.timeout() {
			delete(t.flows, k)
			old = append(old, f)
		}
	}
	t.mu.Unlock()
	for _, f := range old {
		f.close()
	}
}

// evict removes the flow that has been idle longest, for want of descriptors.
func (t *flowTable) evict() bool {
	var (
		key   flowKey
		found flow
	)
	t.mu.Lock()
	for k, f := range t.flows {
		if found == nil || f.idleSince() < found.idleSince() {
			key, found = k, f
		}
	}
	delete(t.flows, key)
	t.mu.Unlock()
	if found == nil {
		return false
	}
	found.close()
	return true
}

// closeAll closes every flow and lets no more in.
func (t *flowTable) closeAll() {
	t.mu.Lock()
	flows := t.flows
	t.flows = nil
	t.closed = true
	t.mu.Unlock()
	for _, f := range flows {
		f.close()
	}
}

// reap expires idle flows until the relay closes.
func (r *Relay) reap() {
	period := max(min(r.cfg.UDPTimeout/4, 5*time.Second), 10*time.Millisecond)
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
			r.table.expire()
		}
	}
}

// stamp is a time of [flowTable.now].
type stamp struct{ atomic.Int64 }

func (s *stamp) set(d time.Duration)      { s.Store(int64(d)) }
func (s *stamp) idleSince() time.Duration { return time.Duration(s.Load()) }

// noDescriptors reports whether err says that this process or host has no
// descriptor left.
func noDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}
