package main

import (
	"net/netip"

	"github.com/alptrace/alptrace/rootd"
	"github.com/alptrace/alptrace/rootd/datapath"
	"github.com/alptrace/alptrace/rootd/guard"
)

// paths is the datapath as rootd wants it.
type paths struct{ d *datapath.Datapath }

func (p paths) NewDevice(lease uint32, reach []netip.Prefix) (rootd.Device, error) {
	dev, err := p.d.NewDevice(lease, reach)
	if err != nil {
		return rootd.Device{}, err
	}
	return rootd.Device(*dev), nil
}

func (p paths) SetReach(lease uint32, reach []netip.Prefix) error { return p.d.SetReach(lease, reach) }
func (p paths) RemoveDevice(index int) error                      { return p.d.RemoveDevice(index) }
func (p paths) Leases() map[uint32]int                            { return p.d.Leases() }
func (p paths) Locals() []netip.Prefix                            { return p.d.Locals() }

func (p paths) Add(lease uint32, ifindex int, gs []rootd.Grant) []error {
	return p.d.Add(lease, ifindex, grants(gs))
}

func (p paths) Remove(lease uint32, gs []rootd.Grant) { p.d.Remove(lease, grants(gs)) }

func (p paths) Grants(lease uint32) []rootd.Grant {
	return fromDatapath(p.d.Grants(lease))
}

func fromDatapath(from []datapath.Grant) []rootd.Grant {
	gs := make([]rootd.Grant, len(from))
	for i, g := range from {
		gs[i] = rootd.Grant(g)
	}
	return gs
}

func (p paths) Counters(lease uint32) (rootd.Counters, error) {
	from, err := p.d.Counters(lease)
	if err != nil {
		return rootd.Counters{}, err
	}
	c := rootd.Counters{
		RxPackets: from.RxPackets, RxBytes: from.RxBytes, TxPackets: from.TxPackets, TxBytes: from.TxBytes,
		Drops: make(map[string]uint64, len(from.Drops)),
	}
	for why, n := range from.Drops {
		c.Drops[string(why)] = n
	}
	return c, nil
}

func grants(from []rootd.Grant) []datapath.Grant {
	gs := make([]datapath.Grant, len(from))
	for i, g := range from {
		gs[i] = datapath.Grant(g)
	}
	return gs
}

// silence is the guard as rootd wants it.
type silence struct{ g *guard.Guard }

func (s silence) Add(gs []rootd.Grant) error    { return s.g.Add(grants(gs)) }
func (s silence) Remove(gs []rootd.Grant) error { return s.g.Remove(grants(gs)) }
func (s silence) Grants() []rootd.Grant         { return fromDatapath(s.g.Grants()) }
