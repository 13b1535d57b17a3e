package host

import (
	"encoding/binary"
	"net/netip"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// sockaddr is a sockaddr_in or sockaddr_in6 as the kernel has it.
type sockaddr struct {
	raw [unix.SizeofSockaddrInet6]byte
	len uint32
}

// unspec is the address that connect(2) takes to dissolve an association.
func unspec() *sockaddr {
	return &sockaddr{len: unix.SizeofSockaddrInet4} // AF_UNSPEC is 0
}

// encode writes a as a sockaddr. The address decides the family; without one
// it is the socket's. Which mixtures are wrong, and with what errno, is for the
// kernel to say.
func encode(a stack.Addr, family int) *sockaddr {
	sa := new(sockaddr)
	if a.IP.Is4() {
		family = unix.AF_INET
	} else if a.IP.Is6() {
		family = unix.AF_INET6
	}
	binary.NativeEndian.PutUint16(sa.raw[0:], uint16(family))
	binary.BigEndian.PutUint16(sa.raw[2:], a.Port)
	if family == unix.AF_INET {
		sa.len = unix.SizeofSockaddrInet4
		if a.IP.IsValid() {
			ip := a.IP.As4()
			copy(sa.raw[4:], ip[:])
		}
		return sa
	}
	sa.len = unix.SizeofSockaddrInet6
	binary.NativeEndian.PutUint32(sa.raw[4:], a.Flow)
	if a.IP.IsValid() {
		ip := a.IP.As16()
		copy(sa.raw[8:], ip[:])
	}
	binary.NativeEndian.PutUint32(sa.raw[24:], a.Scope)
	return sa
}

// decode reads a sockaddr. It reports false if there is no address, or one of
// another family. An unspecified IP comes out as the zero netip.Addr.
func decode(sa *sockaddr) (stack.Addr, bool) {
	if sa.len < 2 {
		return stack.Addr{}, false
	}
	var a stack.Addr
	switch family := binary.NativeEndian.Uint16(sa.raw[0:]); {
	case family == unix.AF_INET && sa.len >= 8:
		a.IP = netip.AddrFrom4([4]byte(sa.raw[4:8]))
	case family == unix.AF_INET6 && sa.len >= 24:
		a.IP = netip.AddrFrom16([16]byte(sa.raw[8:24]))
		a.Flow = binary.NativeEndian.Uint32(sa.raw[4:])
		if sa.len >= unix.SizeofSockaddrInet6 {
			a.Scope = binary.NativeEndian.Uint32(sa.raw[24:])
		}
	default:
		return stack.Addr{}, false
	}
	a.Port = binary.BigEndian.Uint16(sa.raw[2:])
	if a.IP.IsUnspecified() {
		a.IP = netip.Addr{}
	}
	return a, true
}
