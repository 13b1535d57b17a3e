// Package sockaddr writes a stack.Addr as the kernel has addresses, and reads it.
package sockaddr

import (
	"encoding/binary"
	"net/netip"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Sockaddr is a sockaddr_in or sockaddr_in6 as the kernel has it.
type Sockaddr struct {
	Raw [unix.SizeofSockaddrInet6]byte
	Len uint32
}

// Unspec is the address that connect(2) takes to dissolve an association.
func Unspec() *Sockaddr {
	return &Sockaddr{Len: unix.SizeofSockaddrInet4} // AF_UNSPEC is 0
}

// Encode writes a as a sockaddr. The address decides the family; without one
// it is the socket's. Which mixtures are wrong, and with what errno, is for the
// kernel to say.
func Encode(a stack.Addr, family int) *Sockaddr {
	sa := new(Sockaddr)
	if a.IP.Is4() {
		family = unix.AF_INET
	} else if a.IP.Is6() {
		family = unix.AF_INET6
	}
	binary.NativeEndian.PutUint16(sa.Raw[0:], uint16(family))
	binary.BigEndian.PutUint16(sa.Raw[2:], a.Port)
	if family == unix.AF_INET {
		sa.Len = unix.SizeofSockaddrInet4
		if a.IP.IsValid() {
			ip := a.IP.As4()
			copy(sa.Raw[4:], ip[:])
		}
		return sa
	}
	sa.Len = unix.SizeofSockaddrInet6
	binary.NativeEndian.PutUint32(sa.Raw[4:], a.Flow)
	if a.IP.IsValid() {
		ip := a.IP.As16()
		copy(sa.Raw[8:], ip[:])
	}
	binary.NativeEndian.PutUint32(sa.Raw[24:], a.Scope)
	return sa
}

// Decode reads a sockaddr. It reports false if there is no address, or one of
// another family. An unspecified IP comes out as the zero netip.Addr.
func Decode(sa *Sockaddr) (stack.Addr, bool) {
	if sa.Len < 2 {
		return stack.Addr{}, false
	}
	var a stack.Addr
	switch family := binary.NativeEndian.Uint16(sa.Raw[0:]); {
	case family == unix.AF_INET && sa.Len >= 8:
		a.IP = netip.AddrFrom4([4]byte(sa.Raw[4:8]))
	case family == unix.AF_INET6 && sa.Len >= 24:
		a.IP = netip.AddrFrom16([16]byte(sa.Raw[8:24]))
		a.Flow = binary.NativeEndian.Uint32(sa.Raw[4:])
		if sa.Len >= unix.SizeofSockaddrInet6 {
			a.Scope = binary.NativeEndian.Uint32(sa.Raw[24:])
		}
	default:
		return stack.Addr{}, false
	}
	a.Port = binary.BigEndian.Uint16(sa.Raw[2:])
	if a.IP.IsUnspecified() {
		a.IP = netip.Addr{}
	}
	return a, true
}
