// Package guard keeps the kernel silent on granted ports, with nftables.
//
// Package datapath takes the packets of leases before the kernel's stack sees
// them. Where its programs are not attached (a device a moment old, a daemon
// that is being replaced, a port that is held back) the kernel would answer
// those packets: with a reset, or port unreachable. The guard's table has one
// chain at the input hook that drops what is addressed to a granted TCP or UDP
// port, looked up in four sets without intervals, so its cost does not grow with
// their size. It needs no echo identifiers: the kernel answers no echo reply.
//
// The table stays when the process ends, until [Guard.Close]; [Open] takes over
// one that is there with what is in it, in one transaction. Nothing else of the
// host's nftables is read or changed.
package guard

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/datapath"
)

// Config says where the guard is; the zero value works.
type Config struct {
	Table string // in the family inet; "" is "alptrace"
}

// A transaction that deletes elements waits for a grace period of RCU, so few
// large ones are fast; an attribute of a message has 64 KiB at most.
const (
	batch      = 10000   // elements in one transaction
	perMessage = 500     // and in one of its messages
	sendBuffer = 4 << 20 // bytes, for a whole transaction
)

// Guard is the table. Its methods are safe for concurrent use.
type Guard struct {
	mu    sync.Mutex
	nft   *nftables.Conn
	table *nftables.Table
	sets  [kinds]*nftables.Set
	have  map[datapath.Grant]bool
}

// Open makes the table, or takes over the one of that name. Errors: EPERM, and
// ENOENT or EOPNOTSUPP where the kernel has no nftables.
func Open(cfg Config) (*Guard, error) {
	if cfg.Table == "" {
		cfg.Table = "alptrace"
	}
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(sendBuffer) }))
	if err != nil {
		return nil, fmt.Errorf("guard: nftables: %w", err)
	}
	g := &Guard{nft: c, have: map[datapath.Grant]bool{}}
	g.table = &nftables.Table{Name: cfg.Table, Family: nftables.TableFamilyINet}
	old, err := g.read()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if err := g.build(old); err != nil {
		return nil, fmt.Errorf("guard: make table inet %s: %w", cfg.Table, err)
	}
	return g, nil
}

// build replaces the table by a new one with these grants, whatever version made
// the old one. The first batch is in the same transaction; what is more follows,
// and is unguarded in between.
func (g *Guard) build(old []datapath.Grant) error {
	g.nft.AddTable(g.table) // so that there is one to delete
	g.nft.DelTable(g.table)
	g.nft.AddTable(g.table)
	policy := nftables.ChainPolicyAccept
	chain := g.nft.AddChain(&nftables.Chain{
		Name: "input", Table: g.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput,
		Priority: nftables.ChainPriorityRaw, Policy: &policy,
	})
	for k := range g.sets {
		s := kind(k).set(g.table)
		if err := g.nft.AddSet(s, nil); err != nil {
			return err
		}
		g.sets[k] = s
		g.nft.AddRule(&nftables.Rule{Table: g.table, Chain: chain, Exprs: kind(k).rule(s)})
	}
	first := old[:min(len(old), batch)]
	if err := g.queue(first, g.nft.SetAddElements); err != nil {
		return err
	}
	if err := g.nft.Flush(); err != nil {
		return err
	}
	for _, gr := range first {
		g.have[gr] = true
	}
	return g.add(old[len(first):])
}

// queue puts the grants' elements into the transaction that is being made.
func (g *Guard) queue(gs []datapath.Grant, f func(*nftables.Set, []nftables.SetElement) error) error {
	var elems [kinds][]nftables.SetElement
	for _, gr := range gs {
		k := kindOf(gr)
		elems[k] = append(elems[k], nftables.SetElement{Key: k.key(gr)})
	}
	for k, es := range elems {
		for part := range slices.Chunk(es, perMessage) {
			if err := f(g.sets[k], part); err != nil {
				return err
			}
		}
	}
	return nil
}

// Add guards ports; those that are guarded already, and echo identifiers, are no
// error. If some cannot be added, it is not said which.
func (g *Guard) Add(gs []datapath.Grant) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.add(gs); err != nil {
		return fmt.Errorf("guard: add %d ports: %w", len(gs), err)
	}
	return nil
}

func (g *Guard) add(gs []datapath.Grant) error {
	seen := make(map[datapath.Grant]bool, len(gs))
	fresh := make([]datapath.Grant, 0, len(gs))
	for _, gr := range gs {
		if guarded(gr) && !g.have[gr] && !seen[gr] {
			seen[gr] = true
			fresh = append(fresh, gr)
		}
	}
	return g.change(fresh, g.nft.SetAddElements, func(gr datapath.Grant) { g.have[gr] = true })
}

// Remove stops guarding ports; those that are not guarded are no error.
func (g *Guard) Remove(gs []datapath.Grant) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.remove(gs)
	if errors.Is(err, unix.ENOENT) { // somebody else changed the table
		var now []datapath.Grant
		if now, err = g.read(); err == nil {
			clear(g.have)
			for _, gr := range now {
				g.have[gr] = true
			}
			err = g.remove(gs)
		}
	}
	if err != nil {
		return fmt.Errorf("guard: remove %d ports: %w", len(gs), err)
	}
	return nil
}

func (g *Guard) remove(gs []datapath.Grant) error {
	seen := make(map[datapath.Grant]bool, len(gs))
	there := make([]datapath.Grant, 0, len(gs))
	for _, gr := range gs {
		if g.have[gr] && !seen[gr] {
			seen[gr] = true
			there = append(there, gr)
		}
	}
	return g.change(there, g.nft.SetDeleteElements, func(gr datapath.Grant) { delete(g.have, gr) })
}

// change applies f to the grants in batches, and done to each after its batch.
func (g *Guard) change(gs []datapath.Grant, f func(*nftables.Set, []nftables.SetElement) error, done func(datapath.Grant)) error {
	for len(gs) > 0 {
		part := gs[:min(len(gs), batch)]
		gs = gs[len(part):]
		if err := g.queue(part, f); err != nil {
			return err
		}
		if err := g.nft.Flush(); err != nil {
			return err
		}
		for _, gr := range part {
			done(gr)
		}
	}
	return nil
}

// Flush guards no port any more.
func (g *Guard) Flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sets {
		g.nft.FlushSet(s)
	}
	if err := g.nft.Flush(); err != nil {
		return fmt.Errorf("guard: flush: %w", err)
	}
	clear(g.have)
	return nil
}

// Close deletes the table. To leave it to the next process, do not call it: a
// Guard holds nothing open.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.have)
	g.nft.DelTable(g.table)
	if err := g.nft.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("guard: delete table inet %s: %w", g.table.Name, err)
	}
	return nil
}

// read is what an earlier process left in the table.
func (g *Guard) read() ([]datapath.Grant, error) {
	tables, err := g.nft.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	found := false
	for _, t := range tables {
		found = found || t.Name == g.table.Name
	}
	if !found {
		return nil, nil
	}
	sets, err := g.nft.GetSets(g.table)
	if err != nil {
		return nil, fmt.Errorf("list sets: %w", err)
	}
	var gs []datapath.Grant
	for _, s := range sets {
		k, ok := kindNamed(s.Name)
		if !ok {
			continue
		}
		elems, err := g.nft.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("read set %s: %w", s.Name, err)
		}
		for _, e := range elems {
			if gr, ok := k.grant(e.Key); ok {
				gs = append(gs, gr)
			}
		}
	}
	return gs, nil
}

// drop is the verdict of all rules.
var drop = &expr.Verdict{Kind: expr.VerdictDrop}
