package netstack

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// broadcast4 is 255.255.255.255.
var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// fromIP gives netstack's form of an address: 4 or 16 bytes, none when ip is
// invalid or the unspecified address of its own family. The unspecified
// IPv4-mapped address stays, since binding to it leaves IPv6 out.
func fromIP(ip netip.Addr) tcpip.Address {
	switch {
	case !ip.IsValid() || ip.IsUnspecified():
		return tcpip.Address{}
	case ip.Is4():
		return tcpip.AddrFrom4(ip.As4())
	default:
		return tcpip.AddrFrom16(ip.As16())
	}
}

// toIP is the opposite of fromIP: the address as a socket of the family shows
// it, IPv4 addresses mapped on an AF_INET6 socket.
func toIP(family int, a tcpip.Address) netip.Addr {
	ip, ok := netip.AddrFromSlice(a.AsSlice())
	if !ok {
		return netip.Addr{}
	}
	if family == unix.AF_INET6 && ip.Is4() {
		return netip.AddrFrom16(ip.As16())
	}
	return ip
}

// scoped says whether sin6_scope_id matters for the address (RFC 4007).
func scoped(ip netip.Addr) bool {
	return ip.Is6() && !ip.Is4In6() &&
		(ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsInterfaceLocalMulticast())
}

// toFull gives the address to hand to an endpoint of the family.
func toFull(family int, a stack.Addr) tcpip.FullAddress {
	ip := a.IP
	if family == unix.AF_INET6 && ip.Is4() {
		ip = netip.AddrFrom16(ip.As16())
	}
	full := tcpip.FullAddress{Addr: fromIP(ip), Port: a.Port}
	if scoped(ip) {
		full.NIC = tcpip.NICID(a.Scope)
	}
	return full
}

// toAddr is the opposite of toFull.
func toAddr(family int, full tcpip.FullAddress) stack.Addr {
	a := stack.Addr{IP: toIP(family, full.Addr), Port: full.Port}
	if scoped(a.IP) {
		a.Scope = uint32(full.NIC)
	}
	return a
}

// unmap gives the IPv4 address in an IPv4-mapped one, any other as it is.
func unmap(ip netip.Addr) netip.Addr { return ip.Unmap() }

// isBroadcast says whether ip is the limited broadcast address or that of one
// of the stack's subnets.
func (e *Engine) isBroadcast(ip netip.Addr) bool {
	ip = unmap(ip)
	if !ip.Is4() {
		return false
	}
	return ip == broadcast4 || e.st.IsSubnetBroadcast(0, ipv4Number, fromIP(ip))
}

// isLocal says whether the stack owns the address.
func (e *Engine) isLocal(ip netip.Addr) bool {
	ip = unmap(ip)
	if e.shared != nil {
		return e.shared.isLocal(ip)
	}
	n := ipv6Number
	if ip.Is4() {
		n = ipv4Number
	}
	return e.st.CheckLocalAddress(0, n, fromIP(ip)) != 0
}
