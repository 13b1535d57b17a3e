package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ackHold keeps the acknowledgments that received packets cause until what they
// carried has reached the program: who waits for an answer waits for that, not
// for the acknowledgment. Any other packet goes behind them, so the order of
// what is sent stays as it was.
type ackHold struct {
	mu   sync.Mutex
	on   bool
	held []*gstack.PacketBuffer
}

// maxHeld is how many are held; each is one more small packet at once.
const maxHeld = 16

// begin holds what keep is given from now on.
func (a *ackHold) begin() {
	a.mu.Lock()
	a.on = true
	a.mu.Unlock()
}

// end gives what has been held, to be sent, and holds no more.
func (a *ackHold) end() gstack.PacketBufferList {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.on = false
	return a.take()
}

// keep holds the only packet of list if it is a bare acknowledgment. If it is
// not, before are the packets to be sent first.
func (a *ackHold) keep(list gstack.PacketBufferList) (before gstack.PacketBufferList, kept bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.on && list.Len() == 1 && len(a.held) < maxHeld {
		if p := list.AsSlice()[0]; bareAck(p) {
			a.held = append(a.held, p.IncRef())
			return before, true
		}
	}
	return a.take(), false
}

func (a *ackHold) take() (list gstack.PacketBufferList) {
	for i, p := range a.held {
		list.PushBack(p)
		a.held[i] = nil
	}
	a.held = a.held[:0]
	return list
}

// bareAck says whether the packet is TCP, has no data and no flag but ACK.
func bareAck(p *gstack.PacketBuffer) bool {
	if p.TransportProtocolNumber != header.TCPProtocolNumber || p.Data().Size() != 0 {
		return false
	}
	tcp := header.TCP(p.TransportHeader().Slice())
	return len(tcp) >= header.TCPMinimumSize && tcp.Flags() == header.TCPFlagAck
}
