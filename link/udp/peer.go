package udp

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/mesh"
)

// peer is another member with whom there is a session.
type peer struct {
	mesh.Port
	l   *Link
	who hello

	to      atomic.Pointer[endpoint]
	session atomic.Pointer[session] // to send with: the newest
	sentAt  atomic.Int64            // when something was sent last, time.Duration
	waiting atomic.Int64            // when the first frame was sent since something came last; 0: none
	single  bool                    // no segmentation of runs; of whoever holds the transmitter

	// Of the receiving goroutine.
	sessions []*session    // the newest last
	heard    time.Duration // when something came last
	heardOf  time.Duration // when a frame came last
	asked    time.Duration // when it was last sent an initiation
}

// Send sends frames to the member and returns how many it was sent.
func (p *peer) Send(pkts []link.Packet) int {
	p.waiting.CompareAndSwap(0, int64(p.l.now()))
	n := p.l.tx.send(p, p.session.Load(), p.l.MTU(), pkts)
	p.l.net.Transmitted(n, len(pkts))
	return n
}

// control sends a control message.
func (p *peer) control(text []byte) { p.l.tx.control(p, p.session.Load(), text) }

// Operations of control messages. A message without one is a sign of life.
const (
	opLeave   = 1 // the sender leaves
	opMembers = 2 // where other members are: addresses of 16 bytes, ports of 2
)

const (
	addrLen  = 18
	maxAddrs = 64 // addresses in one message
)

// membersMessage says where members are.
func membersMessage(at []netip.AddrPort) []byte {
	b := []byte{opMembers}
	for _, a := range at[:min(len(at), maxAddrs)] {
		ip := a.Addr().As16()
		b = binary.BigEndian.AppendUint16(append(b, ip[:]...), a.Port())
	}
	return b
}

// parseMembers reads such a message, without the operation.
func parseMembers(b []byte) (at []netip.AddrPort) {
	for ; len(b) >= addrLen && len(at) < maxAddrs; b = b[addrLen:] {
		a := netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[16:]))
		if a.Port() != 0 && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast() {
			at = append(at, a)
		}
	}
	return at
}
