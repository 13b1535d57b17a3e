package alptcp

import (
	"sync/atomic"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/tcp"
)

// samples tells of connections to who wants to know.
type samples struct {
	f atomic.Pointer[func(stack.TCPSample)]
}

var _ stack.Prober = (*Protocol)(nil)

// Probe implements stack.Prober.
func (p *Protocol) Probe(f func(stack.TCPSample)) {
	if f == nil {
		p.samples.f.Store(nil)
		return
	}
	p.samples.f.Store(&f)
}

// take tells of a connection that is locked, if anything happened to it.
func (s *samples) take(e *endpoint) {
	f := s.f.Load()
	if f == nil || !e.stirred || !e.started {
		return
	}
	e.stirred = false
	i := e.conn.Info()
	t := stack.TCPSample{Local: local(e.ID), Remote: remote(e.ID), State: uint8(i.State)}
	if i.State != tcp.Closed {
		t.CAState, t.SndMSS, t.SndCwnd = uint8(i.CA), uint32(i.SndMSS), uint64(i.Cwnd)
		if i.Ssthresh < tcp.InfiniteSsthresh {
			t.SndSsthresh = uint64(i.Ssthresh)
		}
		t.InFlight, t.SndWnd = uint64(i.Pipe), uint64(i.SndWnd)
		t.RTT, t.RTTVar, t.RTO = i.SRTT, i.RTTVar, i.RTO
	}
	t.TotalRetrans, t.Timeouts = uint64(i.TotalRetrans), uint64(i.Timeouts)
	(*f)(t)
}
