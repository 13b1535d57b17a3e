// Package rootd lets user-space stacks share the addresses of the host. It
// gives grants: the right to one (protocol, local address, local port). A
// client's connection is its lease: with it come a TUN device and grants, and
// they go when it closes.
//
// Three things stand behind each grant. A dummy, a socket of the kernel bound
// to the same port, keeps the kernel from giving it to another program, and is
// the judge of conflicts: whether two bindings may be had side by side is what
// bind(2) says. An entry in the maps of the datapath brings the packets to the
// lease's device, and lets those of the device out. An entry in the guard, a
// packet filter, keeps the kernel silent should the datapath be away.
//
// The package decides and keeps the books. The datapath and the guard are
// interfaces here; cmd/rootd brings the real ones.
package rootd

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/alptrace/alptrace/rootd/proto"
)

// Grant is the right to a local port.
type Grant struct {
	Proto uint8      // proto.TCP, UDP, ICMP or ICMPv6
	Addr  netip.Addr // unspecified: any address of the host, of that family
	Port  uint16     // for the echo protocols the identifier
}

// String is the grant as logs have it: "tcp 0.0.0.0:80".
func (g Grant) String() string {
	return protoName(g.Proto) + " " + netip.AddrPortFrom(g.Addr, g.Port).String()
}

func protoName(p uint8) string {
	switch p {
	case proto.TCP:
		return "tcp"
	case proto.UDP:
		return "udp"
	case proto.ICMP:
		return "icmp"
	case proto.ICMPv6:
		return "icmpv6"
	default:
		return fmt.Sprint(p)
	}
}

// Device is a lease's TUN device. File is closed once the client has it.
type Device struct {
	Name  string
	Index int
	MTU   int
	File  *os.File
}

// Counters counts the packets of one lease.
type Counters struct {
	// Rx is what went to the lease, Tx what came from it.
	RxPackets, RxBytes, TxPackets, TxBytes uint64
	// Drops counts packets dropped, by reason.
	Drops map[string]uint64
}

// Datapath brings packets to and from leases. Its methods may be called at the
// same time, but not for the same lease.
type Datapath interface {
	// NewDevice makes a lease's device, from which nothing gets out but what
	// the lease has grants for, to the networks of reach only (nil: all).
	NewDevice(lease uint32, reach []netip.Prefix) (Device, error)
	// SetReach changes reach.
	SetReach(lease uint32, reach []netip.Prefix) error
	RemoveDevice(index int) error
	// Add returns an error for each grant, or nil where all succeeded.
	Add(lease uint32, ifindex int, gs []Grant) []error
	Remove(lease uint32, gs []Grant)
	// Grants and Leases (with the index of the device of each) are what the
	// kernel has, also from a daemon before this one.
	Grants(lease uint32) []Grant
	Leases() map[uint32]int
	Counters(lease uint32) (Counters, error)
	// Locals are the addresses of the host, of full length, and its loopback
	// networks.
	Locals() []netip.Prefix
}

// Guard keeps the kernel silent on ports. Adding what is there and removing
// what is not are no errors.
type Guard interface {
	Add(gs []Grant) error
	Remove(gs []Grant) error
	// Grants are the ports that it has, also from a daemon before this one.
	Grants() []Grant
}

// Config configures a [Server]. Datapath and Guard are needed.
type Config struct {
	Datapath Datapath
	Guard    Guard
	Logger   *slog.Logger // nil: silent

	// State is the path of the file from which a daemon after this one takes
	// up the leases; "" keeps none.
	State string
	// MaxFiles is the limit on open files (RLIMIT_NOFILE), which bounds the
	// grants since each has a socket; 0 asks the kernel.
	MaxFiles int
	// Room is how many grants the datapath has room for; 0 is no limit.
	Room int
	// HoldBack is how long a TCP port of a lease that ended stays out of
	// reach; 0 is 60 s, the TIME_WAIT of Linux (TCP_TIMEWAIT_LEN).
	HoldBack time.Duration
	// Grace is how long leases of a daemon before this one wait to be
	// resumed; 0 is 5 s.
	Grace time.Duration
	// FirstWord is how long a connection may say nothing before it is
	// closed; 0 is 10 s.
	FirstWord time.Duration
}

// Defaults of Config.
const (
	timeWait  = 60 * time.Second
	grace     = 5 * time.Second
	firstWord = 10 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.HoldBack, timeWait}, {&c.Grace, grace}, {&c.FirstWord, firstWord}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	return c
}
