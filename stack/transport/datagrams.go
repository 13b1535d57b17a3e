package transport

import (
	"net/netip"
	"time"
)

// Peer is the other end of a datagram: its address and port, the address here,
// and how large a packet may be, bytes after the ports.
type Peer struct {
	Remote    netip.AddrPort
	Local     netip.Addr
	MaxPacket int
}

// DatagramHost is what [Datagrams] stands on.
type DatagramHost interface {
	Now() time.Duration
	Rand() uint64
	// SendTo sends a packet to a peer; false: there was no way.
	SendTo(to Peer, pkt []byte) bool
	// SetTimer has Datagram.Timer called at a time; 0: never.
	SetTimer(at time.Duration)
	// Deliver gives the program a message; false: its buffer is full.
	Deliver(from Peer, msg []byte) bool
}

// Datagrams is what is at hand for a [Datagram].
type Datagrams struct{ Host DatagramHost }

// Now is the time since some moment before.
func (d *Datagrams) Now() time.Duration { return d.Host.Now() }

// Rand gives random bits.
func (d *Datagrams) Rand() uint64 { return d.Host.Rand() }

// SetTimer has Datagram.Timer called once, in t; what was set before is forgotten.
func (d *Datagrams) SetTimer(t time.Duration) { d.Host.SetTimer(d.Host.Now() + max(t, 1)) }

// Send sends a packet, which it does not keep.
func (d *Datagrams) Send(to Peer, pkt []byte) bool { return d.Host.SendTo(to, pkt) }

// Deliver gives the program a message, which it does not keep; false: there is no
// room.
func (d *Datagrams) Deliver(from Peer, msg []byte) bool { return d.Host.Deliver(from, msg) }
