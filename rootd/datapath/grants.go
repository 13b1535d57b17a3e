package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Flags and bits of the maps (bpf/maps.h).
const (
	restricted = 1
	local      = 1
	broadcast  = 2
	leaseBits  = 32 // of a key of the map reach
)

// addr is struct addr: 16 bytes in network order, IPv4 mapped.
type addr [16]byte

func toAddr(a netip.Addr) addr { return a.As16() }

// words is the address as generated keys have it.
func (a addr) words() (w [4]uint32) {
	for i := range w {
		w[i] = uint32(a[4*i]) | uint32(a[4*i+1])<<8 | uint32(a[4*i+2])<<16 | uint32(a[4*i+3])<<24
	}
	return w
}

func fromWords(w [4]uint32) (a addr) {
	for i, v := range w {
		a[4*i], a[4*i+1], a[4*i+2], a[4*i+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
	return a
}

// netip is the address in its family: the BPF programs know IPv4 only mapped.
func (a addr) netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

func (g Grant) key() (k progGrantKey) {
	k.Proto, k.Port = g.Proto, g.Port<<8|g.Port>>8
	k.Addr.W = toAddr(g.Addr).words()
	return k
}

func (k *progGrantKey) grant() Grant {
	return Grant{Proto: k.Proto, Addr: fromWords(k.Addr.W).netip(), Port: k.Port<<8 | k.Port>>8}
}

// check says whether the grant is one that a packet can meet.
func (g Grant) check() error {
	a := g.Addr
	ok := a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsMulticast()
	switch g.Proto {
	case 6, 17:
	case 1:
		ok = ok && a.Is4()
	case 58:
		ok = ok && a.Is6()
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("%v: %w", g, ErrInvalid)
	}
	return nil
}

// Add gives grants to the lease whose device has the index ifindex. It returns
// nil, or as many errors as grants, nil for those that were added: ErrTaken,
// ErrFull, ErrInvalid, ErrNoLease. What the lease has already is no error.
func (d *Datapath) Add(id uint32, ifindex int, gs []Grant) []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	errs := make([]error, len(gs))
	l := d.leases[id]
	if l == nil || l.ending || l.ifindex != ifindex || d.closed {
		for i := range errs {
			errs[i] = fmt.Errorf("grant to lease %d with device %d: %w", id, ifindex, ErrNoLease)
		}
		return errs
	}
	keys := make([]progGrantKey, 0, len(gs))
	which := make([]int, 0, len(gs)) // of gs, for each key
	bad := false
	for i, g := range gs {
		owner, taken := d.owner[g]
		switch {
		case g.check() != nil:
			errs[i] = g.check()
		case taken && owner != id:
			errs[i] = fmt.Errorf("%v: %w", g, ErrTaken)
		case !taken:
			d.owner[g] = id // so that a second one of the same is no other
			keys, which = append(keys, g.key()), append(which, i)
		}
		bad = bad || errs[i] != nil
	}
	// The bits of the ports come first and go last.
	for _, i := range which {
		d.ports.add(gs[i])
	}
	if err := d.ports.write(d.objs.Ports); err != nil {
		d.log.Error("grants do not work", "lease", id, "err", err)
	}
	val := progGrant{Ifindex: uint32(ifindex), Lease: id, Flags: l.flags()}
	d.put(keys, val, func(i int, err error) {
		errs[which[i]] = fmt.Errorf("%v: %w", gs[which[i]], err)
		bad = true
	})
	for _, i := range which {
		if errs[i] != nil {
			d.ports.remove(gs[i])
			delete(d.owner, gs[i])
			continue
		}
		l.grants[gs[i]] = struct{}{}
	}
	if !bad {
		return nil
	}
	return errs
}

func (l *lease) flags() uint32 {
	if l.restricted {
		return restricted
	}
	return 0
}

// put writes val under all keys, in one call if it can, and tells which failed.
func (d *Datapath) put(keys []progGrantKey, val progGrant, failed func(i int, err error)) {
	if len(keys) == 0 {
		return
	}
	vals := make([]progGrant, len(keys))
	for i := range vals {
		vals[i] = val
	}
	done, err := d.objs.Grants.BatchUpdate(keys, vals, nil)
	if err == nil {
		return
	}
	// The rest one by one: each has an error of its own.
	for i := min(done, len(keys)); i < len(keys); i++ {
		var err error
		for range 3 { // ENOMEM while the kernel refills its cache of entries
			if err = d.objs.Grants.Put(&keys[i], &val); !errors.Is(err, unix.ENOMEM) {
				break
			}
		}
		if errors.Is(err, unix.E2BIG) {
			err = ErrFull
		}
		if err != nil {
			failed(i, err)
		}
	}
}

// Remove takes grants from a lease; those that it has not are ignored.
func (d *Datapath) Remove(id uint32, gs []Grant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.remove(id, gs)
	}
}

func (d *Datapath) remove(id uint32, gs []Grant) {
	l := d.leases[id]
	if l == nil {
		return
	}
	keys := make([]progGrantKey, 0, len(gs))
	for _, g := range gs {
		if _, ok := l.grants[g]; !ok {
			continue
		}
		keys = append(keys, g.key())
		delete(l.grants, g)
		delete(d.owner, g)
		d.ports.remove(g)
	}
	if len(keys) == 0 {
		return
	}
	defer func() {
		if err := d.ports.write(d.objs.Ports); err != nil {
			d.log.Error("bits of ports", "err", err) // a bit too many costs time only
		}
	}()
	if _, err := d.objs.Grants.BatchDelete(keys, nil); err == nil {
		return
	}
	for i := range keys {
		err := d.objs.Grants.Delete(&keys[i])
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			d.log.Error("grant cannot be removed", "lease", id, "grant", keys[i].grant(), "err", err)
		}
	}
}

// SetReach restricts a lease to destinations in the prefixes: other packets are
// dropped, and answered by an ICMP error (administratively prohibited).
// Loopback is always allowed. A nil slice lifts the restriction; an empty one
// leaves loopback only.
func (d *Datapath) SetReach(id uint32, to []netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.leases[id]
	if l == nil || l.ending || d.closed {
		return fmt.Errorf("restrict lease %d: %w", id, ErrNoLease)
	}
	return d.setReach(id, l, to)
}

func (d *Datapath) setReach(id uint32, l *lease, to []netip.Prefix) error {
	// In this order nothing is allowed in between that neither state allows.
	was := l.restricted
	l.restricted = to != nil
	if l.restricted && was {
		d.clearReach(id)
	}
	for _, p := range to {
		if !p.IsValid() {
			return fmt.Errorf("restrict lease %d to %v: %w", id, p, unix.EINVAL)
		}
		k := reachKey(id, p)
		if err := d.objs.Reach.Put(&k, uint32(1)); err != nil {
			return fmt.Errorf("restrict lease %d to %v: %w", id, p, err)
		}
	}
	if was == l.restricted {
		return nil
	}
	keys := make([]progGrantKey, 0, len(l.grants))
	for g := range l.grants {
		keys = append(keys, g.key())
	}
	var errs []error
	d.put(keys, progGrant{Ifindex: uint32(l.ifindex), Lease: id, Flags: l.flags()}, func(i int, err error) {
		errs = append(errs, fmt.Errorf("restrict %v: %w", keys[i].grant(), err))
	})
	if !l.restricted {
		d.clearReach(id)
	}
	return errors.Join(errs...)
}

func reachKey(id uint32, p netip.Prefix) (k progReachKey) {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	k.Bits, k.Lease = uint32(leaseBits+bits), id
	k.Addr.W = toAddr(p.Masked().Addr()).words()
	return k
}

func (d *Datapath) clearReach(id uint32) {
	var k progReachKey
	var v uint32
	var mine []progReachKey
	it := d.objs.Reach.Iterate()
	for it.Next(&k, &v) {
		if k.Lease == id {
			mine = append(mine, k)
		}
	}
	for i := range mine {
		_ = d.objs.Reach.Delete(&mine[i])
	}
}
