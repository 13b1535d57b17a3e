package tracer

import (
	"encoding/binary"
	"net/netip"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Sizes of the socket addresses (ip(7), ipv6(7), socket(7)).
const (
	sizeofSockaddrIn  = 16
	sizeofSockaddrIn6 = 28
	minSockaddrIn6    = 24 // SIN6_LEN_RFC2133: without sin6_scope_id
	maxSockaddr       = 128
)

// sockaddr is a socket address as the program gave it.
type sockaddr struct {
	family int // AF_UNSPEC where even the family is missing
	len    int
	addr   stack.Addr // of AF_INET and AF_INET6, if long enough
}

// readSockaddr reads an address argument: EINVAL for an impossible length,
// EFAULT for a bad pointer, as move_addr_to_kernel in the kernel.
func (c *call) readSockaddr(addr uint64, length int32) (sockaddr, unix.Errno) {
	if length < 0 || length > maxSockaddr {
		return sockaddr{}, unix.EINVAL
	}
	var buf [maxSockaddr]byte
	b := buf[:length]
	if e := c.read(addr, b); e != 0 {
		return sockaddr{}, e
	}
	sa := parseSockaddr(b)
	c.traceAddr(sa)
	return sa, 0
}

// parseSockaddr decodes a socket address of any length.
func parseSockaddr(b []byte) sockaddr {
	sa := sockaddr{len: len(b)}
	if len(b) < 2 {
		return sa
	}
	sa.family = int(binary.NativeEndian.Uint16(b))
	switch {
	case sa.family == unix.AF_INET6 && len(b) >= minSockaddrIn6:
		sa.addr.Port = binary.BigEndian.Uint16(b[2:])
		sa.addr.Flow = binary.NativeEndian.Uint32(b[4:])
		sa.addr.IP = netip.AddrFrom16([16]byte(b[8:24]))
		if len(b) >= sizeofSockaddrIn6 {
			sa.addr.Scope = binary.NativeEndian.Uint32(b[24:])
		}
	case sa.family != unix.AF_INET6 && len(b) >= sizeofSockaddrIn:
		sa.addr.Port = binary.BigEndian.Uint16(b[2:])
		sa.addr.IP = netip.AddrFrom4([4]byte(b[4:8]))
	}
	return sa
}

// need answers EINVAL unless the address is as long as the family wants.
func (sa *sockaddr) need(family int) unix.Errno {
	least := sizeofSockaddrIn
	if family == unix.AF_INET6 {
		least = minSockaddrIn6
	}
	if sa.len < least {
		return unix.EINVAL
	}
	return 0
}

// appendSockaddr encodes a as a socket of family shows it.
func appendSockaddr(b []byte, family int, a stack.Addr) []byte {
	if family == unix.AF_INET {
		ip := netip.IPv4Unspecified()
		if a.IP.IsValid() {
			ip = a.IP.Unmap()
		}
		b = binary.NativeEndian.AppendUint16(b, unix.AF_INET)
		b = binary.BigEndian.AppendUint16(b, a.Port)
		if ip.Is4() {
			b = append(b, ip.AsSlice()...)
		} else {
			b = append(b, 0, 0, 0, 0)
		}
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	ip := netip.IPv6Unspecified()
	if a.IP.IsValid() {
		ip = netip.AddrFrom16(a.IP.As16())
	}
	b = binary.NativeEndian.AppendUint16(b, unix.AF_INET6)
	b = binary.BigEndian.AppendUint16(b, a.Port)
	b = binary.NativeEndian.AppendUint32(b, a.Flow)
	b = append(b, ip.AsSlice()...)
	return binary.NativeEndian.AppendUint32(b, a.Scope)
}

// writeSockaddr stores an address where the program asked for it, cut to the
// space it said it has, and the whole length in *lenAddr (accept(2)).
func (c *call) writeSockaddr(addr, lenAddr uint64, family int, a stack.Addr) unix.Errno {
	space, e := c.readUint32(lenAddr)
	if e != 0 {
		return e
	}
	if int32(space) < 0 {
		return unix.EINVAL
	}
	var buf [sizeofSockaddrIn6]byte
	b := appendSockaddr(buf[:0], family, a)
	c.traceAddr(sockaddr{family: family, len: len(b), addr: a})
	if e := c.write(addr, b[:min(int(space), len(b))]); e != 0 {
		return e
	}
	return c.writeUint32(lenAddr, uint32(len(b)))
}

// in is the address as a socket of family has it: IPv4 is mapped for AF_INET6.
func (sa *sockaddr) in(family int) stack.Addr {
	a := sa.addr
	if family == unix.AF_INET6 && a.IP.Is4() {
		a.IP = netip.AddrFrom16(a.IP.As16())
	}
	return a
}
