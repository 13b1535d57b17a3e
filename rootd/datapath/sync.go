package datapath

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bounds of the MTU of leases' devices: what IPv6 needs, and the largest packet.
const (
	minMTU     = 1280
	defaultMTU = 1500
	maxMTU     = 65535
)

// follow keeps up with the host's links and addresses until the monitor is
// closed.
func (d *Datapath) follow() {
	defer close(d.done)
	for d.mon.wait() {
		d.links.Lock()
		var err error
		if !d.isClosed() {
			err = d.sync()
		}
		d.links.Unlock()
		if err != nil {
			d.log.Error("following links and addresses", "err", err)
			// Looked at again after a while: nothing else may change.
			time.AfterFunc(time.Second, d.mon.kick)
		}
	}
}

// sync brings programs, addresses, MTU and route lookups up to date. links is
// held in all of it.
func (d *Datapath) sync() error {
	links, err := retry(d.nl.LinkList)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	return errors.Join(d.syncFIB(links), d.syncAttached(links), d.syncLocals(links), d.syncMTU(links))
}

// retry repeats a dump that a change has interrupted (NLM_F_DUMP_INTR).
func retry[T any](dump func() ([]T, error)) ([]T, error) {
	for range 10 {
		ts, err := dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return ts, err
		}
	}
	return dump()
}

// isLease says whether a device is a lease's.
func (d *Datapath) isLease(index int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.devices[index]
	return ok
}

// syncAttached attaches rx to new devices and forgets those that are gone.
func (d *Datapath) syncAttached(links []netlink.Link) error {
	masters := map[int]string{}
	for _, l := range links {
		masters[l.Attrs().Index] = l.Type()
	}
	want := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		if d.isLease(a.Index) || isLeaseDevice(a.Name, d.cfg.Prefix) || a.Index == d.fib {
			continue
		}
		switch masters[a.MasterIndex] {
		case "bridge", "bond", "team", "openvswitch":
			continue // what is for this host comes again on the master
		}
		want[a.Index] = true
	}
	var lo error
	for index := range want {
		if d.attached[index] {
			continue
		}
		err := d.attach("rx", d.objs.Rx, index)
		switch {
		case err == nil:
			d.attached[index] = true
			delete(d.failed, index)
		case errors.Is(err, unix.ENODEV): // went meanwhile
		case index == 1:
			lo = err
		case !d.failed[index]:
			d.failed[index] = true
			d.log.Error("packets of this device stay with the kernel", "err", err)
		}
	}
	for index := range d.attached {
		if !want[index] {
			_ = os.Remove(d.pin("rx", index))
			delete(d.attached, index)
		}
	}
	return lo
}

// syncLocals brings the map of local addresses up to date.
func (d *Datapath) syncLocals(links []netlink.Link) error {
	addrs, err := retry(func() ([]netlink.Addr, error) { return d.nl.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	lo := map[int]bool{}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			lo[l.Attrs().Index] = true
		}
	}
	want := map[addr]progLocal{}
	var list []netip.Prefix
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); !ok || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0 {
			continue
		}
		ones, _ := a.Mask.Size()
		p := netip.PrefixFrom(ip, ones)
		if ip.Is4() && ip.IsLoopback() {
			list = append(list, p.Masked())
		} else {
			list = append(list, netip.PrefixFrom(ip, ip.BitLen()))
		}
		want[toAddr(ip)] = progLocal{Flags: local, Ifindex: uint32(a.LinkIndex)}
		if !ip.Is4() || lo[a.LinkIndex] {
			continue
		}
		bc, _ := netip.AddrFromSlice(a.Broadcast)
		for _, b := range append(broadcasts(p), bc.Unmap()) {
			if _, ok := want[toAddr6(b)]; !ok && b.IsValid() {
				want[toAddr(b)] = progLocal{Flags: broadcast, Ifindex: uint32(a.LinkIndex)}
			}
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	d.mu.Lock()
	d.addrs = slices.Compact(list)
	d.mu.Unlock()
	var errs []error
	for a, v := range want {
		if d.locals[a] == v {
			continue
		}
		if err := d.objs.Locals.Put(a, &v); err != nil {
			errs = append(errs, fmt.Errorf("local address %v: %w", a.netip(), err))
			continue
		}
		d.locals[a] = v
	}
	for a := range d.locals {
		if _, ok := want[a]; !ok {
			_ = d.objs.Locals.Delete(a)
			delete(d.locals, a)
		}
	}
	return errors.Join(errs...)
}

// toAddr6 is toAddr that takes the invalid address too.
func toAddr6(a netip.Addr) addr {
	if !a.IsValid() {
		return addr{}
	}
	return toAddr(a)
}

// broadcasts are the addresses that Linux makes broadcast routes of: the last
// and the first of a subnet, from /30 up (fib_add_ifaddr).
func broadcasts(p netip.Prefix) []netip.Addr {
	if p.Bits() > 30 || p.Bits() == 0 {
		return nil
	}
	first := p.Masked().Addr().As4()
	last := first
	for i := p.Bits(); i < 32; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	return []netip.Addr{netip.AddrFrom4(first), netip.AddrFrom4(last)}
}

// syncMTU gives leases' devices the MTU of the default routes' devices.
func (d *Datapath) syncMTU(links []netlink.Link) error {
	mtu, err := d.wantedMTU(links)
	if err != nil {
		return err
	}
	d.mtu = mtu
	var errs []error
	for _, l := range links {
		if !d.isLease(l.Attrs().Index) || l.Attrs().MTU == mtu {
			continue
		}
		if err := d.nl.LinkSetMTU(l, mtu); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("mtu of %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// wantedMTU is the smaller MTU of the two families' default routes; without any,
// the smallest of all devices that are up.
func (d *Datapath) wantedMTU(links []netlink.Link) (int, error) {
	mtus := map[int]int{}
	least := math.MaxInt
	for _, l := range links {
		a := l.Attrs()
		mtus[a.Index] = a.MTU
		if d.attached[a.Index] && a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 {
			least = min(least, a.MTU)
		}
	}
	mtu := math.MaxInt
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := retry(func() ([]netlink.Route, error) {
			return d.nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		})
		if err != nil {
			return 0, fmt.Errorf("list default routes: %w", err)
		}
		best := math.MaxInt
		for _, r := range routes {
			m, ok := mtus[r.LinkIndex]
			if r.MTU > 0 {
				m, ok = r.MTU, true
			}
			if ok && r.Priority < best {
				best = r.Priority
				mtu = min(mtu, m)
			}
		}
	}
	if mtu == math.MaxInt {
		mtu = least
	}
	if mtu == math.MaxInt {
		mtu = defaultMTU
	}
	return max(minMTU, min(mtu, maxMTU)), nil
}

// syncFIB keeps the device from which routes are looked up: bpf_fib_lookup wants
// one that forwards, and no device of the host is touched for it. It is down,
// has no address, and nothing ever comes in on it.
func (d *Datapath) syncFIB(links []netlink.Link) error {
	name := d.cfg.Prefix + "fib"
	index := 0
	for _, l := range links {
		if l.Attrs().Name == name {
			index = l.Attrs().Index
		}
	}
	if index == 0 {
		fd, err := openTUN(name, 0)
		if err != nil {
			return err
		}
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("make %s persistent: %w", name, err)
		}
		l, err := d.nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		index = l.Attrs().Index
	}
	// Set again whenever net.ipv4.ip_forward changes: that resets all devices.
	for _, family := range []string{"ipv4", "ipv6"} {
		if err := setSysctl(family+"/conf/"+name+"/forwarding", "1"); err != nil {
			return err
		}
	}
	if index == d.fib {
		return nil
	}
	if err := d.objs.Settings.Put(uint32(0), &progConfig{FibIfindex: uint32(index)}); err != nil {
		return err
	}
	d.fib = index
	return nil
}
