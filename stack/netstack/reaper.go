package netstack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// How often finished connections are looked for: those closed lately, of which
// most end within a round trip, and the others (TIME_WAIT, an absent peer).
const (
	reapSoon  = 20 * time.Millisecond
	reapLater = time.Second
)

// reaper gives ports back once the connections that were closed on them are
// over, TIME_WAIT included.
type reaper struct {
	clock tcpip.Clock

	mu     sync.Mutex
	fresh  []dying // closed less than reapLater ago
	old    []dying
	fastOn bool
	slowOn bool
	closed bool
}

type dying struct {
	ep    gstack.TransportEndpoint
	hold  *hold
	since tcpip.MonotonicTime
}

// over says whether nothing is left of the connection.
func (d dying) over() bool {
	switch s, _ := tcpStateOf(d.ep); s {
	case tcp.StateInitial, tcp.StateBound, tcp.StateListen, tcp.StateClose, tcp.StateError:
		return true // the endpoint was closed, so none of these can go on
	}
	return false
}

// waiting says whether the connection is in TIME_WAIT.
func (d dying) waiting() bool {
	s, _ := tcpStateOf(d.ep)
	return s == tcp.StateTimeWait
}

// add drops h once ep, which was closed or aborted, is over.
func (r *reaper) add(ep tcpip.Endpoint, h *hold) {
	if h == nil {
		return
	}
	t, ok := ep.(gstack.TransportEndpoint)
	d := dying{ep: t, hold: h, since: r.clock.NowMonotonic()}
	if !ok || d.over() {
		h.drop()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.fresh = append(r.fresh, d)
	r.armLocked()
}

// reaped drops h once ep, which was closed or aborted, is over.
func (s *shared) reaped(ep tcpip.Endpoint, h *hold) {
	if s != nil {
		s.reap.add(ep, h)
	}
}

func (r *reaper) armLocked() {
	if len(r.fresh) > 0 && !r.fastOn && !r.closed {
		r.fastOn = true
		r.clock.AfterFunc(reapSoon, r.sweepFresh)
	}
	if len(r.old) > 0 && !r.slowOn && !r.closed {
		r.slowOn = true
		r.clock.AfterFunc(reapLater, r.sweepOld)
	}
}

func (r *reaper) sweepFresh() {
	r.mu.Lock()
	r.fastOn = false
	now := r.clock.NowMonotonic()
	var done []*hold
	keep := r.fresh[:0]
	for _, d := range r.fresh {
		switch {
		case d.over():
			done = append(done, d.hold)
		case now.Sub(d.since) >= reapLater || d.waiting():
			r.old = append(r.old, d)
		default:
			keep = append(keep, d)
		}
	}
	clear(r.fresh[len(keep):])
	r.fresh = keep
	r.armLocked()
	r.mu.Unlock()
	dropAll(done)
}

func (r *reaper) sweepOld() {
	r.mu.Lock()
	r.slowOn = false
	var done []*hold
	keep := r.old[:0]
	for _, d := range r.old {
		if d.over() {
			done = append(done, d.hold)
		} else {
			keep = append(keep, d)
		}
	}
	clear(r.old[len(keep):])
	r.old = keep
	r.armLocked()
	r.mu.Unlock()
	dropAll(done)
}

// stop ends the reaper; ports that are still held stay the host's to free.
func (r *reaper) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed, r.fresh, r.old = true, nil, nil
}

func dropAll(hs []*hold) {
	for _, h := range hs {
		h.drop()
	}
}
