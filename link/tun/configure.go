package tun

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's end of a device is configured by netdevice(7) requests, which
// work on the network namespace of the calling thread.

// ioctl is one request on a socket of the family.
func ioctl(family int, f func(s int) error) error {
	s, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	return f(s)
}

// request is one request about the interface name.
func request(name string, req uint, fill func(*unix.Ifreq)) (*unix.Ifreq, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	if fill != nil {
		fill(ifr)
	}
	return ifr, ioctl(unix.AF_UNIX, func(s int) error { return unix.IoctlIfreq(s, req, ifr) })
}

func ifindex(name string) (int, error) {
	ifr, err := request(name, unix.SIOCGIFINDEX, nil)
	if err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}

// configure gives a new device its MTU and addresses, and sets it up.
func configure(name string, o *Options) error {
	if o.MTU > 0 {
		if _, err := request(name, unix.SIOCSIFMTU, func(r *unix.Ifreq) { r.SetUint32(uint32(o.MTU)) }); err != nil {
			return fmt.Errorf("set mtu %d: %w", o.MTU, err)
		}
	}
	ifr, err := request(name, unix.SIOCGIFFLAGS, nil)
	if err == nil {
		flags := ifr.Uint16()
		_, err = request(name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) { r.SetUint16(flags | unix.IFF_UP) })
	}
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	labels := 0
	for _, a := range o.HostAddrs {
		if a.Addr().Is4() {
			err = addAddr4(name, labels, a)
			labels++
		} else {
			err = addAddr6(name, a)
		}
		if err != nil {
			return fmt.Errorf("give the host's end %v: %w", a, err)
		}
	}
	return nil
}

// addAddr4 adds an IPv4 address. By these requests an interface has one under
// its own name and more under labels ("tun0:1").
func addAddr4(name string, label int, a netip.Prefix) error {
	if label > 0 {
		name = fmt.Sprintf("%s:%d", name, label)
	}
	set := func(req uint, v [4]byte) error {
		ifr, err := unix.NewIfreq(name)
		if err == nil {
			err = ifr.SetInet4Addr(v[:])
		}
		if err == nil {
			err = ioctl(unix.AF_INET, func(s int) error { return unix.IoctlIfreq(s, req, ifr) })
		}
		return err
	}
	if err := set(unix.SIOCSIFADDR, a.Addr().As4()); err != nil {
		return err
	}
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-a.Bits())) // a shift by 32 is 0
	return set(unix.SIOCSIFNETMASK, mask)
}

// in6Ifreq is struct in6_ifreq of linux/ipv6.h.
type in6Ifreq struct {
	addr    [16]byte
	bits    uint32
	ifindex int32
}

// addAddr6 adds an IPv6 address.
func addAddr6(name string, a netip.Prefix) error {
	i, err := ifindex(name)
	if err != nil {
		return err
	}
	req := in6Ifreq{a.Addr().As16(), uint32(a.Bits()), int32(i)}
	return ioctl(unix.AF_INET6, func(s int) error {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&req))); e != 0 {
			return e
		}
		return nil
	})
}
