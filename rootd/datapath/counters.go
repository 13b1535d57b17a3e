package datapath

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Reason is why a packet of a lease was dropped.
type Reason string

// The reasons, of packets that the lease sent except QueueFull.
const (
	NotIP      Reason = "not IP"
	Malformed  Reason = "malformed"             // lengths or versions that contradict
	Protocol   Reason = "protocol"              // none that can be granted, or IPv6 extension headers
	NotGranted Reason = "not granted"           // source address, protocol and port
	NotLocal   Reason = "source not local"      // granted, but no (longer an) address of this host
	Fragment   Reason = "fragment"              // of a packet whose first fragment was not sent
	Multicast  Reason = "multicast"             // or broadcast
	Loopback   Reason = "loopback source"       // to another host
	Forbidden  Reason = "destination forbidden" // SetReach
	NoRoute    Reason = "no route"
	TooBig     Reason = "too big" // for its route's MTU
	Internal   Reason = "internal"
	QueueFull  Reason = "queue full" // received, and the lease did not read in time
)

// reasons is enum reason (bpf/maps.h).
var reasons = [...]Reason{NotIP, Malformed, Protocol, NotGranted, NotLocal, Fragment, Multicast, Loopback, Forbidden, NoRoute, TooBig, Internal}

// Counters count what a lease sent and received since its device was made.
// Bytes are those of IP packets.
type Counters struct {
	RxPackets, RxBytes uint64 // to the lease
	TxPackets, TxBytes uint64 // from the lease, that were let out
	Drops              map[Reason]uint64
}

// txDropped is what a device dropped because its queue was full; 0 if it is gone.
// Netlink would wait for devices that go.
func txDropped(name string) uint64 {
	b, err := os.ReadFile("/sys/class/net/" + name + "/statistics/tx_dropped")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Counters sums up a lease's counters; Drops has the reasons that occurred.
func (d *Datapath) Counters(id uint32) (Counters, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.leases[id]
	if l == nil || d.closed {
		return Counters{}, fmt.Errorf("counters of lease %d: %w", id, ErrNoLease)
	}
	var cpus []progCounters
	if err := d.objs.Stats.Lookup(uint32(l.ifindex), &cpus); err != nil {
		return Counters{}, fmt.Errorf("counters of lease %d: %w", id, err)
	}
	c := Counters{Drops: map[Reason]uint64{}}
	for i := range cpus {
		c.RxPackets += cpus[i].RxPackets
		c.RxBytes += cpus[i].RxBytes
		c.TxPackets += cpus[i].TxPackets
		c.TxBytes += cpus[i].TxBytes
		for j, why := range reasons {
			if n := cpus[i].Drops[j]; n > 0 {
				c.Drops[why] += n
			}
		}
	}
	if n := txDropped(d.deviceName(id)); n > 0 {
		c.Drops[QueueFull] = n
	}
	return c, nil
}
