// Package link is how packets enter and leave a stack.
//
// A [Link] is one way: a TUN or TAP device, a virtual Ethernet shared with
// other alptraces (wire), the host's own sockets (relay). Wrappers (capture,
// impairment, filters) are Links around Links. A Link knows nothing of sockets,
// and nothing of any engine's types: a packet is bytes and the offloads that
// the virtio network header describes.
package link

import "net"

// Medium says what a link's packets begin with.
type Medium int

// The media.
const (
	IP       Medium = iota // packets begin with an IPv4 or IPv6 header
	Ethernet               // packets begin with an Ethernet header
)

// Packet is one packet, or one batch of TCP segments still to be cut (GSO).
type Packet struct {
	// Bufs, one after the other, are the packet. They belong to the caller of
	// Send (or of the receive function) and are valid only during the call.
	Bufs [][]byte
	Offload
}

// Len is the packet's length in bytes.
func (p *Packet) Len() int {
	n := 0
	for _, b := range p.Bufs {
		n += len(b)
	}
	return n
}

// Offload is the work left to the receiver or to the link, as in struct
// virtio_net_hdr (VIRTIO 1.2, 5.1.6). Offsets are from the packet's first byte,
// the Ethernet header included where there is one.
type Offload struct {
	NeedsCsum  bool   // the checksum at CsumStart+CsumOffset covers only the pseudo header
	CsumStart  uint16 // where checksumming starts (the transport header)
	CsumOffset uint16 // where, from CsumStart, the checksum is stored
	CsumValid  bool   // received: the checksum is known to be right
	GSO        GSO    // the packet is to be cut into segments
	GSOSize    uint16 // payload bytes of each segment (MSS)
	HdrLen     uint16 // bytes of all headers, repeated on every segment
}

// GSO is a kind of segmentation, with the numbers of virtio_net_hdr.gso_type.
type GSO uint8

// Kinds of segmentation.
const (
	GSONone GSO = 0
	GSOTCP4 GSO = 1
	GSOTCP6 GSO = 4
)

// Features says what a link's Send takes off the stack's hands.
type Features struct {
	Csum   bool // packets with NeedsCsum
	TSO    bool // packets with GSOTCP4 and GSOTCP6
	GSOMax int  // largest packet with TSO, bytes (65535 at most)
}

// Link is a way for packets in and out. Its methods are safe for concurrent use.
type Link interface {
	// Name names the link in messages and captures ("tun0", "wire").
	Name() string
	Medium() Medium
	// MTU is the largest network-layer packet, bytes, without link header.
	MTU() int
	// HardwareAddr is this end's address on an Ethernet link, nil on an IP link.
	HardwareAddr() net.HardwareAddr
	Features() Features
	// Send sends packets in order, and returns how many were sent; the rest
	// are lost, as on a full queue of a network card. It waits only for
	// backpressure of the link itself, never for a peer to answer.
	Send(pkts []Packet) (int, error)
	// Start begins delivery: recv is called with received packets, from one
	// goroutine at a time. Packets received before Start may be lost.
	Start(recv func(pkts []Packet)) error
	// Close stops delivery and releases the link; recv is not called after it
	// has returned.
	Close() error
}
