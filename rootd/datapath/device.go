package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is the TUN device of a lease.
type Device struct {
	Name  string
	Index int
	MTU   int // bytes; it follows that of the default route
	// File is the device's descriptor, non-blocking, with vnet headers of 10
	// bytes. The device lives while it is open anywhere.
	File *os.File
}

// txQueueLen is how many packets wait for the client to read them.
const txQueueLen = 2000

// tunOffloads is what the kernel may leave undone in what the client reads.
const tunOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN

// NewDevice makes the device of a lease, with the tx program on it, which lets
// the lease send to reach only (as in SetReach; nil: to anywhere). A lease has
// one device: unix.EEXIST. A device of that name left over is deleted.
func (d *Datapath) NewDevice(id uint32, reach []netip.Prefix) (*Device, error) {
	d.links.Lock()
	defer d.links.Unlock()
	d.mu.Lock()
	closed, known := d.closed, d.leases[id] != nil
	d.mu.Unlock()
	if closed {
		return nil, os.ErrClosed
	}
	if known {
		return nil, fmt.Errorf("device of lease %d: %w", id, unix.EEXIST)
	}
	dev, err := d.newDevice(d.deviceName(id), id)
	if err != nil {
		return nil, fmt.Errorf("device of lease %d: %w", id, err)
	}
	if err := d.newLease(id, dev.Index, reach); err != nil {
		_ = dev.File.Close()
		d.forget(dev.Index)
		return nil, err
	}
	return dev, nil
}

func (d *Datapath) newLease(id uint32, index int, reach []netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := &lease{ifindex: index, grants: map[Grant]struct{}{}}
	if err := d.setReach(id, l, reach); err != nil {
		d.clearReach(id)
		return err
	}
	d.leases[id] = l
	d.devices[index] = id
	return nil
}

func (d *Datapath) newDevice(name string, id uint32) (_ *Device, err error) {
	if l, err := d.nl.LinkByName(name); err == nil {
		if l.Type() != "tuntap" && l.Type() != "tun" {
			return nil, fmt.Errorf("%s: %w", name, unix.EEXIST)
		}
		if err := deleteLink(d.nl, l.Attrs().Index); err != nil {
			return nil, err
		}
	}
	fd, err := openTUN(name, unix.IFF_VNET_HDR)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	dev := &Device{Name: name, MTU: d.mtu, File: file}
	defer func() {
		if err != nil {
			_ = file.Close() // and with it the device
			if dev.Index != 0 {
				d.forget(dev.Index)
			}
		}
	}()
	l, err := d.nl.LinkByName(name)
	if err != nil {
		return nil, err
	}
	dev.Index = l.Attrs().Index
	if err := closeOff(name); err != nil {
		return nil, err
	}
	if err := d.nl.LinkSetMTU(l, d.mtu); err != nil {
		return nil, fmt.Errorf("mtu of %s: %w", name, err)
	}
	if err := d.nl.LinkSetTxQLen(l, txQueueLen); err != nil {
		return nil, fmt.Errorf("queue of %s: %w", name, err)
	}
	if err := d.attach("tx", d.objs.Tx, dev.Index); err != nil {
		return nil, err
	}
	key := uint32(dev.Index)
	if err := d.objs.Stats.Put(key, make([]progCounters, ebpf.MustPossibleCPU())); err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	if err := d.objs.Leases.Put(key, id); err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	if err := d.nl.LinkSetUp(l); err != nil {
		return nil, fmt.Errorf("%s up: %w", name, err)
	}
	return dev, nil
}

// openTUN makes a TUN device that only root may attach to again, for the holder
// of a descriptor can make it persistent.
func openTUN(name string, flags uint16) (int, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	fail := func(what string, err error) (int, error) {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("%s %s: %w", what, name, err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fail("device", err)
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_TUN_EXCL | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fail("TUNSETIFF", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, 0); err != nil {
		return fail("TUNSETOWNER", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETGROUP, 0); err != nil {
		return fail("TUNSETGROUP", err)
	}
	if flags&unix.IFF_VNET_HDR == 0 {
		return fd, nil
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, 10); err != nil {
		return fail("TUNSETVNETHDRSZ", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads); err != nil {
		return fail("TUNSETOFFLOAD", err)
	}
	return fd, nil
}

// closeOff has the kernel drop what it might get from a device whose program is
// missing: every source that a lease may use is an address of the host, which
// strict rp_filter refuses, and nothing is forwarded. IPv6 has no rp_filter.
func closeOff(name string) error {
	for _, s := range []struct{ path, value string }{
		{"ipv4/conf/" + name + "/rp_filter", "1"},
		{"ipv4/conf/" + name + "/forwarding", "0"},
		{"ipv4/conf/" + name + "/accept_local", "0"},
		{"ipv4/conf/" + name + "/route_localnet", "0"},
		{"ipv6/conf/" + name + "/disable_ipv6", "1"},
		{"ipv6/conf/" + name + "/forwarding", "0"},
	} {
		if err := setSysctl(s.path, s.value); err != nil {
			return err
		}
	}
	return nil
}

// setSysctl sets net.path if it has another value; a kernel without IPv6 has
// nothing to set.
func setSysctl(path, value string) error {
	path = filepath.Join("/proc/sys/net", path)
	old, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(path, "/proc/sys/net/ipv6/") {
		return nil
	}
	if err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0o644)
}

// RemoveDevice deletes a lease's device, whoever has it open and whether or not
// the holder made it persistent, with the lease's grants and counters. A device
// that is gone already is no error; one that is no lease's is ErrNoLease.
//
// The grants go at once. The kernel takes tens of milliseconds for the device,
// in which other calls go on: the lease stays, and is given no grants. After an
// error it is so too, and RemoveDevice may be tried again.
func (d *Datapath) RemoveDevice(index int) error {
	id, err := d.endLease(index)
	if err != nil {
		return fmt.Errorf("remove device %d: %w", index, err)
	}
	defer d.removals.Done()
	if err := d.deleteDevice(index); err != nil {
		return err
	}
	d.forget(index)
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.devices[index]; ok { // not removed twice at a time
		delete(d.leases, id)
		delete(d.devices, index)
	}
	return nil
}

// endLease takes the grants from the lease of a device, which it returns, for
// good. The caller is to call removals.Done.
func (d *Datapath) endLease(index int) (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, os.ErrClosed
	}
	id, ok := d.devices[index]
	if !ok {
		return 0, ErrNoLease
	}
	l := d.leases[id]
	l.ending = true
	gs := make([]Grant, 0, len(l.grants))
	for g := range l.grants {
		gs = append(gs, g)
	}
	d.remove(id, gs)
	if l.restricted {
		d.clearReach(id)
	}
	d.removals.Add(1)
	return id, nil
}

// deleteDevice deletes a device with a netlink socket of its own, if there can
// be one: on the common one all other requests would wait for it.
func (d *Datapath) deleteDevice(index int) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return deleteLink(d.nl, index)
	}
	defer nl.Close()
	return deleteLink(nl, index)
}

// forget removes what is kept by a device's index.
func (d *Datapath) forget(index int) {
	_ = os.Remove(d.pin("tx", index))
	_ = d.objs.Stats.Delete(uint32(index))
	_ = d.objs.Leases.Delete(uint32(index))
}

func deleteLink(nl *netlink.Handle, index int) error {
	err := nl.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete device %d: %w", index, err)
	}
	return nil
}

// sweep deletes devices of ours that no lease has: a holder made them persistent
// and rootd died before it could delete them.
func (d *Datapath) sweep() error {
	links, err := retry(d.nl.LinkList)
	if err != nil {
		return err
	}
	for _, l := range links {
		a := l.Attrs()
		if _, ok := d.devices[a.Index]; ok || !isLeaseDevice(a.Name, d.cfg.Prefix) {
			continue
		}
		if l.Type() == "tuntap" || l.Type() == "tun" {
			d.log.Warn("deleting a device of no lease", "device", a.Name)
			if err := deleteLink(d.nl, a.Index); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Datapath) deviceName(lease uint32) string {
	return d.cfg.Prefix + strconv.FormatUint(uint64(lease), 10)
}

// isLeaseDevice says whether a name is one that NewDevice gives.
func isLeaseDevice(name, prefix string) bool {
	num, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	_, err := strconv.ParseUint(num, 10, 32)
	return err == nil
}
