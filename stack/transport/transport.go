// Package transport is for transport protocols of one's own: what an author
// writes, and what is at hand for it.
//
// A protocol has an IP protocol number and a [Conn]: what one end of a connection
// does when a packet arrives, a timer goes off or the program wants something. The
// program has a socket of SOCK_STREAM. It runs to completion each time, under one lock, with the time
// and the randomness of its [Socket], so that the same code serves real programs
// and simulations. Ports, listeners, queues and buffers are not its business.
//
// Every packet begins with the source and the destination port, two bytes each,
// most significant first, as those of TCP, UDP, SCTP and DCCP do. The author sees
// what follows them.
//
// docs/tutorial-protocol.md begins with an example; examples/rdp is one.
package transport

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// PortsLen is the length of the ports in front of each packet, bytes.
const PortsLen = 4

// Protocol is a transport protocol.
type Protocol struct {
	// Name is what --map calls it.
	Name string
	// Number is its number in the IP header, and the third argument of
	// socket(2). 253 and 254 are for experiments (RFC 3692); netstack takes 253
	// for an extension header of IPv6, so that it is for IPv4 only.
	Number uint8
	// HeaderLen is the length of the shortest packet after its ports, bytes.
	// Shorter ones are dropped.
	HeaderLen int
	// Checksum is where, counted from the ports, the packet has 16 bits for the
	// checksum of TCP and UDP (RFC 1071, with the pseudo header). It is
	// filled in and checked; what fails is dropped. 0: there is none.
	Checksum int
	// Stream makes one end of a connection, for SOCK_STREAM.
	Stream func(*Socket) Conn
	// Opens says whether a packet asks a listener for a new connection, which
	// is then its first packet.
	Opens func(pkt []byte) bool
}

// Conn is one end of a connection. Nothing may block, and pkt is only lent.
type Conn interface {
	// Connect begins a connection. The other end does not get this call, but
	// Receive with the packet that opens.
	Connect()
	// Receive has a packet of the connection, after its ports.
	Receive(pkt []byte)
	// Timer is called when the time of Socket.SetTimer has come.
	Timer()
	// Written is called when there is more in Socket.Peek, or when Socket.Ended
	// says that there will be no more. It may come before the connection is
	// established only for the end.
	Written()
	// Consumed is called when the program has read: Socket.Room is larger.
	Consumed()
	// Error reports an ICMP error about a packet of the connection: ECONNREFUSED,
	// EHOSTUNREACH, ENETUNREACH, or EMSGSIZE after Socket.MaxPacket has
	// shrunk. Closing the socket gives it to the program.
	Error(err unix.Errno)
	// Abort ends it at once: the peer may be told. Nothing is called after it.
	Abort()
}

var registry struct {
	sync.Mutex
	list []Protocol
}

// Register makes a protocol known to the programs that are built with the
// caller's package. It panics if it is not complete, or if name or number are
// taken.
func Register(p Protocol) {
	if err := p.check(); err != nil {
		panic(err)
	}
	registry.Lock()
	defer registry.Unlock()
	for _, q := range registry.list {
		if q.Name == p.Name || q.Number == p.Number {
			panic(fmt.Sprintf("transport: %s (%d) and %s (%d) cannot both be registered", q.Name, q.Number, p.Name, p.Number))
		}
	}
	registry.list = append(registry.list, p)
}

// Registered are the registered protocols, by number.
func Registered() []Protocol {
	registry.Lock()
	defer registry.Unlock()
	return slices.SortedFunc(slices.Values(registry.list), func(a, b Protocol) int { return cmp.Compare(a.Number, b.Number) })
}

// ownNumbers are served by the stack itself, or are not transport protocols.
var ownNumbers = []uint8{0, unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6,
	unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_NONE, unix.IPPROTO_DSTOPTS, unix.IPPROTO_RAW}

func (p *Protocol) check() error {
	switch {
	case p.Name == "":
		return fmt.Errorf("transport: the protocol with number %d has no name", p.Number)
	case slices.Contains(ownNumbers, p.Number):
		return fmt.Errorf("transport: %s: the number %d is not free (253 and 254 are for experiments)", p.Name, p.Number)
	case p.Stream == nil || p.Opens == nil:
		return fmt.Errorf("transport: %s has no Stream or no Opens", p.Name)
	case p.HeaderLen < 0 || p.Checksum != 0 && (p.Checksum < PortsLen || p.Checksum+2 > PortsLen+p.HeaderLen):
		return fmt.Errorf("transport: %s: the checksum at %d is not within the ports and %d bytes", p.Name, p.Checksum, p.HeaderLen)
	}
	return nil
}
