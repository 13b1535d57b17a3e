package tracer

import (
	"encoding/binary"
	"net/netip"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func firstIPv4(i stack.Interface) (netip.Prefix, bool) {
	for _, p := range i.Addrs {
		if p.Addr().Is4() {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// addressOf is the IPv4 address that the SIOCGIF command asks for.
func addressOf(cmd uint32, i stack.Interface, p netip.Prefix) (stack.Addr, bool) {
	ip := binary.BigEndian.Uint32(p.Addr().AsSlice())
	mask := uint32(uint64(0xffffffff) << (32 - p.Bits()))
	switch cmd {
	case unix.SIOCGIFNETMASK:
		ip = mask
	case unix.SIOCGIFBRDADDR:
		if i.Flags&unix.IFF_BROADCAST == 0 {
			return stack.Addr{}, false
		}
		ip |= ^mask
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], ip)
	return stack.Addr{IP: netip.AddrFrom4(b)}, true
}
