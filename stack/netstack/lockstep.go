package netstack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// gVisor's TCP handles received segments on goroutines of its own. A driver in
// virtual time has to know when they have finished: what they send belongs to
// the instant at which they were woken, whatever the scheduler of the Go
// runtime does. lockstepTCP knows whether they have something to do, and
// Settle waits until they have done it.

// lockstepTCP is gVisor's TCP, watched.
type lockstepTCP struct {
	gstack.TransportProtocol
	queue queuer
	// dirty says that a goroutine may have been woken.
	dirty atomic.Bool
}

// queuer is the part of a transport protocol that hands packets to goroutines.
type queuer interface {
	QueuePacket(gstack.TransportEndpoint, gstack.TransportEndpointID, *gstack.PacketBuffer)
}

// newTCPProtocol gives the factory of the engine's TCP.
func (e *Engine) newTCPProtocol(cfg Config) gstack.TransportProtocolFactory {
	switch {
	case cfg.TCP != nil:
		return cfg.TCP
	case !cfg.Lockstep:
		return gvisorTCP(e.probe)
	}
	return func(s *gstack.Stack) gstack.TransportProtocol {
		p := gvisorTCP(e.probe)(s)
		e.lockstep = &lockstepTCP{TransportProtocol: p, queue: p.(queuer)}
		return e.lockstep
	}
}

// QueuePacket hands a packet to the goroutine of an endpoint.
func (p *lockstepTCP) QueuePacket(ep gstack.TransportEndpoint, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) {
	p.dirty.Store(true)
	p.queue.QueuePacket(ep, id, pkt)
}

// SendBufferSize implements stack.SendBufSizeProto, which netstack asks TCP for.
func (p *lockstepTCP) SendBufferSize() tcpip.TCPSendBufferSizeRangeOption {
	return p.TransportProtocol.(gstack.SendBufSizeProto).SendBufferSize()
}

// settle waits until the goroutines sleep. There are none without gVisor's TCP.
func (p *lockstepTCP) settle() {
	if p == nil {
		return
	}
	for p.dirty.Swap(false) {
		p.Pause() // returns when nothing is queued for them
		p.Resume()
	}
}

// Settle returns when everything has happened that follows at once from what
// the engine was given: a packet, an expired timer, a call of an endpoint.
// With Config.Lockstep, the driver calls it after each of them. Packets that are
// received settle by themselves.
func (e *Engine) Settle() { e.lockstep.settle() }

// lateLoopback is the loopback interface in lockstep: what is sent arrives when
// the sender is done, by a timer. Otherwise the goroutine of the receiver would
// run beside the sender's.
type lateLoopback struct {
	gstack.LinkEndpoint
	clock tcpip.Clock
}

// WritePackets implements stack.LinkWriter.
func (l *lateLoopback) WritePackets(pkts gstack.PacketBufferList) (int, tcpip.Error) {
	var later gstack.PacketBufferList
	for _, p := range pkts.AsSlice() {
		later.PushBack(p.Clone())
	}
	l.clock.AfterFunc(0, func() {
		_, _ = l.LinkEndpoint.WritePackets(later) // cannot fail
		later.DecRef()
	})
	return pkts.Len(), nil
}
