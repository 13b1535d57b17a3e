// Package datapath shares the host's addresses between the kernel and the
// stacks of leases: it is rootd's packet demultiplexer, in eBPF.
//
// A [Grant] gives a lease a protocol, local address and local port. A lease has
// one TUN [Device]; its descriptor is the only thing that a client gets. A TCX
// program (rx) on ingress of every device of the host, and of lo, looks up
// where a packet goes: what meets a grant is redirected to the device of the
// lease, and the kernel's stack never sees it. Another (tx) on each lease's
// device lets a packet out only if it comes from a grant of that lease, and
// hands it to the device and neighbour that the kernel's routes name. See
// bpf/datapath.c.
//
// Life. Maps and links are pinned, so packets flow while no rootd runs: [Open]
// adopts what it finds, [Datapath.Detach] leaves all in place, and
// [Datapath.Destroy] leaves nothing. A device lives while a descriptor of it is
// open, at the client or here: close Device.File once it is handed over. A
// grant whose device is gone drops its packets until it is removed, so the
// kernel stays silent on it. Leases that did not come back are for the caller
// to end with [Datapath.RemoveDevice].
//
// What is where the kernel would do otherwise:
//   - Host firewall rules (INPUT, OUTPUT, conntrack) do not see leases' packets;
//     nor do rp_filter, IPsec policies and raw sockets. What arrives from the network with a
//     loopback address, or with one of this host's own as its source, is left
//     to the kernel, which drops it as martian. Routes, ip rules (which see
//     a packet that came in on the device Prefix+"fib"), neighbours, qdiscs and
//     the route's MTU hold.
//   - Traffic between this host's addresses, and 127.0.0.0/8 and ::1, goes from
//     lease to lease directly, else over lo. It may be longer than the MTU. What
//     goes over lo, TCP's aggregates apart, is at most 16000 bytes of IP packet (or
//     a fragment): the kernel makes room for a link header only up to the length of
//     four pages less its overhead (bpf_skb_change_head in bpf-helpers(7)), 16050 bytes with
//     pages of 4 KiB. Longer ones are counted as [Internal].
//   - A lease's TCP segment for which the kernel has no socket at the IPv4 address
//     that it is for is answered by the reset of RFC 9293 section 3.10.7.1, by the
//     program instead of the kernel, which takes the segment's route for wrong.
//     Other refusals are the kernel's.
//   - Multicast, broadcast and IPv6 extension headers (but Fragment) are not
//     sent and not delivered; ICMP errors that tell of a path MTU are not sent.
//   - A packet longer than the MTU of its route is dropped, and answered to the
//     lease by Fragmentation Needed or Packet Too Big with the MTU, also if DF
//     is not set: the stack fragments, not this. No route is answered by
//     Unreachable. The errors come from the packet's own source address.
//     Where the neighbour does not answer, the kernel says Host Unreachable.
//   - A fragment that overtakes the first one of its packet is lost.
//   - Packets and bytes are counted as handed over: an aggregate of segments
//     (GSO, GRO) is one packet.
//
// Devices that are ports of a bridge, bond or team get no program: their
// master has it. VLAN-tagged frames are left to the VLAN's device.
//
// Needs: Linux 6.6 (TCX) with its type information (CONFIG_DEBUG_INFO_BTF),
// CAP_NET_ADMIN and CAP_BPF throughout, CAP_PERFMON in Open (and CAP_SYS_ADMIN
// where it has to mount the BPF file system), /dev/net/tun, a BPF file system,
// and /proc/sys/net writable (a device's rp_filter, forwarding and
// disable_ipv6 have no other interface; systemd's ProtectKernelTunables= would
// forbid it). All calls on one Datapath must come from threads in the network
// namespace that it serves.
package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
)

// Grant is the right to a protocol, local address and local port.
type Grant struct {
	Proto uint8      // 6 TCP, 17 UDP; 1 and 58: echo identifiers of ICMP and ICMPv6
	Addr  netip.Addr // of the host, loopback, or unspecified: any of its family
	Port  uint16     // or the identifier of an echo request
}

// String is the grant as "tcp 192.0.2.1:80".
func (g Grant) String() string {
	name, ok := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}[g.Proto]
	if !ok {
		name = fmt.Sprint(g.Proto)
	}
	return name + " " + netip.AddrPortFrom(g.Addr, g.Port).String()
}

// Errors of [Datapath.Add] and others.
var (
	ErrFull     = errors.New("the map of grants is full")
	ErrTaken    = errors.New("granted to another lease")
	ErrNoLease  = errors.New("no such lease")
	ErrInvalid  = errors.New("not a grant")
	ErrNoTCX    = errors.New("the kernel has no TCX (Linux 6.6 and later have)")
	ErrNotBPFFS = errors.New("not on a BPF file system")
)

// Config says where a Datapath keeps its things; the zero value works.
type Config struct {
	PinDir string // on a BPF file system; "" is /sys/fs/bpf/alptrace
	Prefix string // of device names, at most 5 bytes; "" is "alp". TUN devices
	// named Prefix and a number are taken for leases', and deleted where there is none
	MaxGrants int          // room in the map; 0 is 131072. What is adopted keeps its size
	Logger    *slog.Logger // nil is silence
}

// Datapath is the programs and maps in one network namespace. Its methods are
// safe for concurrent use.
type Datapath struct {
	cfg Config
	log *slog.Logger
	nl  *netlink.Handle

	objs     progObjects
	mon      *monitor
	done     chan struct{}  // closed when follow has ended
	removals sync.WaitGroup // added to under mu, and not once closed

	// The kernel deals with links one at a time, and a request may wait for the
	// end of many devices. So it is made under links, and never under mu, for
	// which grants wait. Who needs both takes links first.
	links    sync.Mutex
	attached map[int]bool // devices that have rx
	failed   map[int]bool // of which it was logged that rx cannot be attached
	locals   map[addr]progLocal
	mtu      int // that lease devices have, bytes
	fib      int // the index of the device from which routes are looked up

	mu      sync.Mutex
	closed  bool
	leases  map[uint32]*lease
	owner   map[Grant]uint32 // what is in the map grants
	ports   portSet
	devices map[int]uint32 // the lease of each device
	addrs   []netip.Prefix
}

type lease struct {
	ifindex    int
	restricted bool
	ending     bool // RemoveDevice was called
	grants     map[Grant]struct{}
}

// Locals are what is local to this host, sorted: each of its addresses, of full
// length and without tentative ones, 127.0.0.0/8 and ::1 (where lo has them).
func (d *Datapath) Locals() []netip.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.addrs)
}

// Leases are the leases that have a device, with its index, until RemoveDevice
// has returned. After Open these are the leases of an earlier run; their devices
// may be gone.
func (d *Datapath) Leases() map[uint32]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := make(map[uint32]int, len(d.leases))
	for id, l := range d.leases {
		m[id] = l.ifindex
	}
	return m
}

// Grants are the grants of a lease, in no order.
func (d *Datapath) Grants(lease uint32) []Grant {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.leases[lease]
	if l == nil {
		return nil
	}
	gs := make([]Grant, 0, len(l.grants))
	for g := range l.grants {
		gs = append(gs, g)
	}
	return gs
}

// Detach ends this process's part: the programs go on, for another Open to adopt.
func (d *Datapath) Detach() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.removals.Wait()
	d.mon.close()
	<-d.done
	d.links.Lock()
	defer d.links.Unlock()
	d.nl.Close()
	return d.objs.Close()
}

func (d *Datapath) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// Destroy takes everything away: devices, programs, maps, pins.
func (d *Datapath) Destroy() error {
	var errs []error
	for id, index := range d.Leases() {
		if err := d.RemoveDevice(index); err != nil {
			errs = append(errs, fmt.Errorf("lease %d: %w", id, err))
		}
	}
	d.mon.close()
	<-d.done
	d.links.Lock()
	if !d.isClosed() {
		if err := deleteLink(d.nl, d.fib); err != nil {
			errs = append(errs, err)
		}
	}
	d.links.Unlock()
	if err := d.Detach(); err != nil {
		errs = append(errs, err)
	}
	if err := removePins(d.cfg.PinDir); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
