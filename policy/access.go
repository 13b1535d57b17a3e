package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Access says who may share the host's address through rootd, and how much of
// it. The zero value is not useful; see [ParseAccess] and [DefaultAccess].
type Access struct {
	// Leases and Grants are the limits of all users together; Grants 0 means
	// as many as the daemon's limit on open files permits.
	Leases, Grants int

	fallback Rights
	rules    []accessRule
}

// accessRule is one [[access]] table, its names resolved.
type accessRule struct {
	everyone   bool
	uids, gids []uint32
	rights     Rights
}

// Peer is the one at the other end of the socket, as the kernel names it.
type Peer struct {
	UID  uint32
	GIDs []uint32 // the primary group and the supplementary ones
}

// Rights is what one user may do.
type Rights struct {
	// Rule names where the rights stand, for logs: "line 12" or "default".
	Rule string
	// Deny refuses everything.
	Deny bool
	// Bind lists what may be bound; one entry that allows is enough.
	Bind []Binding
	// Reach lists the networks that may be sent to; nil is all.
	Reach []netip.Prefix
	// Leases and Grants are how many of each the user may have at a time.
	Leases, Grants int
	// Rate is how many grants and releases a second are worked through for
	// the user; what comes faster waits.
	Rate int
}

// Binding allows the binding of each combination of what it lists.
type Binding struct {
	Protos    []uint8 // IP protocol numbers
	Addresses []netip.Prefix
	Ports     []Ports
}

// Ports is a range of local ports, both ends included, or all those that need
// no privilege.
type Ports struct {
	First, Last  uint16
	Unprivileged bool
}

// IP protocol numbers that may be bound; the echo protocols by their
// identifier. Raw sockets cannot be had.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// Limits of a user and of the daemon where the policy says nothing.
const (
	defaultLeases    = 32
	defaultGrants    = 16384
	defaultRate      = 20000 // a second
	defaultAllLeases = 512
)

func defaultRights() Rights {
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	return Rights{
		Rule: "default",
		Bind: []Binding{{
			Protos:    []uint8{protoTCP, protoUDP, protoICMP, protoICMPv6},
			Addresses: everywhere,
			Ports:     []Ports{{Unprivileged: true}},
		}},
		Leases: defaultLeases,
		Grants: defaultGrants,
		Rate:   defaultRate,
	}
}

// DefaultAccess is the policy of a host without a policy file: any user, any
// address of the host, the ports that need no privilege, any destination.
func DefaultAccess() *Access {
	return &Access{Leases: defaultAllLeases, fallback: defaultRights()}
}

// For returns the rights of p: those of the first rule that names the user or
// one of the groups, else those of [default].
func (a *Access) For(p Peer) Rights {
	for _, r := range a.rules {
		if r.names(p) {
			return r.rights
		}
	}
	return a.fallback
}

func (r *accessRule) names(p Peer) bool {
	return r.everyone || slices.Contains(r.uids, p.UID) ||
		slices.ContainsFunc(p.GIDs, func(g uint32) bool { return slices.Contains(r.gids, g) })
}

// MayBind reports whether addr and port of proto may be had. unprivileged is
// the host's first port that needs no privilege. For the echo protocols the
// port is the identifier, of which none needs privilege. The unspecified
// address needs an entry for all addresses of the family.
func (r *Rights) MayBind(proto uint8, addr netip.Addr, port, unprivileged uint16) bool {
	if r.Deny {
		return false
	}
	if proto == protoICMP || proto == protoICMPv6 {
		unprivileged = 0
	}
	return slices.ContainsFunc(r.Bind, func(b Binding) bool {
		return slices.Contains(b.Protos, proto) &&
			slices.ContainsFunc(b.Addresses, func(p netip.Prefix) bool { return covers(p, addr) }) &&
			slices.ContainsFunc(b.Ports, func(r Ports) bool { return r.has(port, unprivileged) })
	})
}

func covers(p netip.Prefix, addr netip.Addr) bool {
	if addr.IsUnspecified() {
		return p.Bits() == 0 && p.Addr().Is4() == addr.Is4()
	}
	return p.Contains(addr)
}

func (r Ports) has(port, unprivileged uint16) bool {
	if r.Unprivileged {
		return port >= unprivileged
	}
	return r.First <= port && port <= r.Last
}

// String is the range as the policy file has it.
func (r Ports) String() string {
	switch {
	case r.Unprivileged:
		return "unprivileged"
	case r.First == r.Last:
		return fmt.Sprint(r.First)
	default:
		return fmt.Sprintf("%d-%d", r.First, r.Last)
	}
}
