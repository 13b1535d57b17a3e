package topo

import (
	"net/netip"
	"slices"
)

// way is how a subnet leads to the destination: at what distance, in routers,
// and by whose interface; nil in the destination itself.
type way struct {
	reached bool
	dist    int
	gw      *Iface
}

// routes computes the shortest paths between all subnets, by breadth-first search
// from each; among equals the first in the order of the file is taken. What lies
// behind a NAT is not reached from outside.
func routes(lab *Lab, subnets []*subnet) {
	of := map[*Iface]int{}
	for i, s := range subnets {
		for _, e := range s.ifaces {
			of[e] = i
		}
	}
	for dst, s := range subnets {
		ways := search(subnets, of, dst)
		for _, nodes := range [][]*Node{lab.Hosts, lab.Routers} {
			for _, n := range nodes {
				n.addRoutes(s, ways, of)
			}
		}
	}
	var all []netip.Prefix
	for _, s := range subnets {
		all = append(all, s.prefixes...)
	}
	for _, n := range lab.Hosts {
		n.useDefaults(all)
	}
}

// search finds how each subnet leads to dst.
func search(subnets []*subnet, of map[*Iface]int, dst int) []way {
	ways := make([]way, len(subnets))
	ways[dst].reached = true
	seen := map[*Node]bool{}
	queue := []int{dst}
	for ; len(queue) > 0; queue = queue[1:] {
		x := queue[0]
		for _, e := range subnets[x].ifaces {
			n := e.Node
			if n.Kind != Router || seen[n] {
				continue
			}
			seen[n] = true
			for _, out := range n.Ifaces {
				y := of[out]
				if ways[y].reached || out.Index == n.NAT {
					continue
				}
				ways[y] = way{reached: true, dist: ways[x].dist + 1, gw: out}
				queue = append(queue, y)
			}
		}
	}
	return ways
}

// addRoutes adds the node's routes to a subnet.
func (n *Node) addRoutes(dst *subnet, ways []way, of map[*Iface]int) {
	var best *Iface
	for _, e := range n.Ifaces {
		w := ways[of[e]]
		switch {
		case !w.reached:
		case w.gw == nil:
			return // connected
		case w.gw.Node == n: // back to itself
		case best == nil || w.dist < ways[of[best]].dist:
			best = e
		}
	}
	if best == nil {
		return
	}
	gw := ways[of[best]].gw
	for _, p := range dst.prefixes {
		for _, a := range gw.Addrs {
			if a.Addr().Is4() == p.Addr().Is4() {
				n.Routes = append(n.Routes, Route{Dst: p, Via: a.Addr(), Iface: best.Index})
				break
			}
		}
	}
}

// useDefaults replaces a host's routes of a family by a default route if all
// lead to the same gateway, and to all subnets.
func (n *Node) useDefaults(subnets []netip.Prefix) {
	var out []Route
	for _, all := range []netip.Prefix{
		netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	} {
		var l []Route
		same := true
		for _, r := range n.Routes {
			if r.Dst.Addr().Is4() == all.Addr().Is4() {
				l = append(l, r)
				same = same && r.Via == l[0].Via && r.Iface == l[0].Iface
			}
		}
		for _, p := range subnets {
			same = same && (p.Addr().Is4() != all.Addr().Is4() || n.connected(p) ||
				slices.ContainsFunc(l, func(r Route) bool { return r.Dst == p }))
		}
		if len(l) > 0 && same {
			l = []Route{{Dst: all, Via: l[0].Via, Iface: l[0].Iface}}
		}
		out = append(out, l...)
	}
	n.Routes = out
}

// connected reports whether a prefix is one of the node's own subnets.
func (n *Node) connected(p netip.Prefix) bool {
	return slices.ContainsFunc(n.Ifaces, func(e *Iface) bool {
		return slices.ContainsFunc(e.Addrs, func(a netip.Prefix) bool { return a.Masked() == p })
	})
}
