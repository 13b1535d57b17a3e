package topo

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// subnet is what shares a link layer: one link, or all links of switches that
// are joined.
type subnet struct {
	links    []*Link
	ifaces   []*Iface // of hosts and routers
	prefixes []netip.Prefix
}

// finish makes what follows from the whole: subnets, addresses and routes.
func (r *reader) finish() {
	names := map[string]*Link{}
	for _, l := range r.lab.Links {
		if other := names[l.Name]; other != nil {
			r.fail(l.Pos, "another link is named %q, at %s; give one of them a name", l.Name, other.Pos)
		}
		names[l.Name] = l
	}
	for _, n := range r.lab.Routers {
		r.findNAT(n)
	}
	subnets := r.subnets()
	if len(r.errs) > 0 {
		return
	}
	r.explicit(subnets)
	for _, s := range subnets {
		r.complete(s)
	}
	r.assign(subnets)
	r.unique()
	if len(r.errs) == 0 {
		routes(r.lab, subnets)
	}
}

// findNAT finds the link of "nat".
func (r *reader) findNAT(n *Node) {
	v := r.nat[n]
	if v == nil {
		return
	}
	for _, i := range n.Ifaces {
		if i.Link.Name == v.text {
			n.NAT = i.Index
			return
		}
	}
	r.want(v, "the name of a link of "+n.Name)
}

// subnets finds what is joined by switches. Switches that form a loop would
// carry a broadcast for ever, as no spanning tree is made.
func (r *reader) subnets() []*subnet {
	of := map[*Node]*subnet{} // of a switch
	var all []*subnet
	for _, l := range r.lab.Links {
		s := &subnet{links: []*Link{l}}
		a, b := l.Ends[0].Node, l.Ends[1].Node
		if a.Kind == Switch && b.Kind == Switch && of[a] != nil && of[a] == of[b] {
			r.fail(l.Pos, "the link %s closes a loop of switches, which have no spanning tree", l.Name)
		}
		for _, e := range l.Ends {
			if e.Node.Kind != Switch {
				continue
			}
			if old := of[e.Node]; old != nil && old != s {
				// The older absorbs, so that the order of the file is kept.
				old.links = append(old.links, s.links...)
				all = slices.DeleteFunc(all, func(x *subnet) bool { return x == s })
				for n, x := range of {
					if x == s {
						of[n] = old
					}
				}
				s = old
			}
			of[e.Node] = s
		}
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for _, s := range all {
		for _, l := range s.links {
			for _, e := range l.Ends {
				if e.Node.Kind != Switch {
					s.ifaces = append(s.ifaces, e)
				}
			}
		}
	}
	return all
}

// explicit reads the given addresses.
func (r *reader) explicit(subnets []*subnet) {
	for _, s := range subnets {
		for _, l := range s.links {
			for _, e := range l.Ends {
				if v := r.addrs[e]; v != nil {
					r.address(s, e, v)
				}
			}
		}
	}
}

// address reads what "addrs" has for an end: prefixes with blanks between, or
// nothing.
func (r *reader) address(s *subnet, e *Iface, v *value) {
	if v.kind != unstable.String {
		r.want(v, `an address as "10.1.0.1/24", or several with blanks between`)
		return
	}
	for _, f := range strings.Fields(v.text) {
		p, err := netip.ParsePrefix(f)
		switch {
		case e.Node.Kind == Switch:
			r.fail(v.pos, "%q: a switch has no address", f)
			return
		case err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6():
			r.fail(v.pos, "%q: want an address with prefix length, as 10.1.0.1/24", f)
			return
		case p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().IsLoopback():
			r.fail(v.pos, "%q: not the address of an interface", f)
			return
		}
		e.Addrs = append(e.Addrs, p)
		if !slices.Contains(s.prefixes, p.Masked()) {
			s.prefixes = append(s.prefixes, p.Masked())
		}
	}
	sortAddrs(e)
}

// sortAddrs puts IPv4 before IPv6.
func sortAddrs(e *Iface) {
	slices.SortStableFunc(e.Addrs, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
}

// complete numbers the interfaces of a subnet that are yet without an address
// of one of its prefixes' families. For a subnet without prefixes it does nothing.
func (r *reader) complete(s *subnet) {
	used := map[netip.Addr]bool{}
	for _, e := range s.ifaces {
		for _, p := range e.Addrs {
			used[p.Addr()] = true
		}
	}
	for _, e := range s.ifaces {
		if len(e.Addrs) > 0 {
			continue
		}
		for _, is4 := range []bool{true, false} {
			i := slices.IndexFunc(s.prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == is4 })
			if i < 0 {
				continue
			}
			p := s.prefixes[i]
			a := p.Addr().Next()
			for used[a] {
				a = a.Next()
			}
			if !p.Contains(a) || is4 && p.Bits() < 31 && !p.Contains(a.Next()) {
				r.fail(e.Link.Pos, "no address is left in %s for %s", p, e.Node.Name)
				return
			}
			used[a] = true
			e.Addrs = append(e.Addrs, netip.PrefixFrom(a, p.Bits()))
		}
	}
}

// minIPv6MTU is the least MTU of a link that carries IPv6 (RFC 8200 5).
const minIPv6MTU = 1280

// assign gives prefixes to the subnets that have none, and completes them:
// 10.N.M.0/24 and fd00:a1b:N:M::/64, for more than 253 interfaces 10.N.0.0/16
// with N from 128.
func (r *reader) assign(subnets []*subnet) {
	var taken []netip.Prefix
	for _, s := range subnets {
		taken = append(taken, s.prefixes...)
	}
	free := func(p netip.Prefix) bool {
		return !slices.ContainsFunc(taken, func(t netip.Prefix) bool { return t.Overlaps(p) })
	}
	small, large := 0, 127<<8
	for _, s := range subnets {
		if len(s.prefixes) > 0 {
			continue
		}
		var p4, p6 netip.Prefix
		for p4 = (netip.Prefix{}); !p4.IsValid() || !free(p4) || !free(p6); {
			next, bits := &small, 24
			if len(s.ifaces) > 253 {
				next, bits = &large, 16
			}
			*next += 1 << (24 - bits)
			n, m := *next>>8, *next&0xff
			if n > 255 || bits == 24 && n > 127 {
				r.fail(s.links[0].Pos, "no subnet of 10.0.0.0/8 is left for link %s", s.links[0].Name)
				return
			}
			p4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), byte(m), 0}), bits)
			p6 = netip.MustParsePrefix(fmt.Sprintf("fd00:a1b:%x:%x::/64", n, m))
		}
		s.prefixes = append(s.prefixes, p4)
		if !slices.ContainsFunc(s.links, func(l *Link) bool { return l.MTU < minIPv6MTU }) {
			s.prefixes = append(s.prefixes, p6)
		}
		taken = append(taken, s.prefixes...)
		r.complete(s)
	}
}

// unique refuses an address that two interfaces have.
func (r *reader) unique() {
	seen := map[netip.Addr]*Iface{}
	for _, n := range r.lab.Nodes() {
		for _, i := range n.Ifaces {
			for _, p := range i.Addrs {
				if o := seen[p.Addr()]; o != nil {
					r.fail(i.Link.Pos, "%s and %s both have the address %s", o.Node.Name, n.Name, p.Addr())
				}
				seen[p.Addr()] = i
			}
		}
	}
}
