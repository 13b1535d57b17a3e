package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// portSet is the map ports: a bit for each port of each protocol that has a
// grant, whatever the address.
type portSet struct {
	count []uint32 // grants of each port
	words []uint64
	dirty map[uint32]struct{} // words to be written
}

func newPortSet() portSet {
	return portSet{count: make([]uint32, 4<<16), words: make([]uint64, 4<<16/64), dirty: map[uint32]struct{}{}}
}

// bit is the grant's place, as is_granted has it (bpf/parse.h).
func (g Grant) bit() uint32 {
	set := map[uint8]uint32{6: 0, 17: 1, 1: 2, 58: 3}[g.Proto]
	return set<<16 | uint32(g.Port)
}

func (p *portSet) add(g Grant) {
	b := g.bit()
	if p.count[b]++; p.count[b] == 1 {
		p.words[b/64] |= 1 << (b % 64)
		p.dirty[b/64] = struct{}{}
	}
}

func (p *portSet) remove(g Grant) {
	b := g.bit()
	if p.count[b]--; p.count[b] == 0 {
		p.words[b/64] &^= 1 << (b % 64)
		p.dirty[b/64] = struct{}{}
	}
}

// all has write write everything.
func (p *portSet) all() {
	for i := range p.words {
		p.dirty[uint32(i)] = struct{}{}
	}
}

// write brings the map up to date.
func (p *portSet) write(m *ebpf.Map) error {
	if len(p.dirty) == 0 {
		return nil
	}
	keys := make([]uint32, 0, len(p.dirty))
	vals := make([]uint64, 0, len(p.dirty))
	for k := range p.dirty {
		keys, vals = append(keys, k), append(vals, p.words[k])
	}
	if _, err := m.BatchUpdate(keys, vals, nil); err != nil {
		return fmt.Errorf("write ports: %w", err)
	}
	clear(p.dirty)
	return nil
}
