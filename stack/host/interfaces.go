package host

import (
	"net"
	"net/netip"
	"slices"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Interfaces lists the interfaces of the network namespace that the process is
// in, loopback first, else in the order of their indices. What cannot be read
// of an interface, because it has just gone say, is left out.
func (e *Engine) Interfaces() []stack.Interface {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	fd, errno := sysSocket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return nil
	}
	defer sysClose(fd)
	list := make([]stack.Interface, 0, len(all))
	for _, ifi := range all {
		in := stack.Interface{
			Index:        ifi.Index,
			Name:         ifi.Name,
			MTU:          ifi.MTU,
			HardwareAddr: ifi.HardwareAddr,
			Addrs:        prefixes(&ifi),
		}
		if in.Flags, err = ifreqShort(fd, ifi.Name, unix.SIOCGIFFLAGS); err != nil {
			continue
		}
		// The hardware type is the family of the address that the call gives.
		if in.HardwareType, err = ifreqShort(fd, ifi.Name, unix.SIOCGIFHWADDR); err != nil {
			continue
		}
		list = append(list, in)
	}
	slices.SortFunc(list, func(a, b stack.Interface) int {
		la, lb := a.Flags&unix.IFF_LOOPBACK, b.Flags&unix.IFF_LOOPBACK
		if la != lb {
			return int(lb) - int(la)
		}
		return a.Index - b.Index
	})
	return list
}

// ifreqShort makes a request of netdevice(7) whose answer begins with a short.
func ifreqShort(fd int, name string, req uint) (uint16, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, req, ifr); err != nil {
		return 0, err
	}
	return ifr.Uint16(), nil
}

// prefixes are an interface's addresses with their prefix lengths.
func prefixes(ifi *net.Interface) []netip.Prefix {
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil
	}
	var list []netip.Prefix
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ones, _ := n.Mask.Size()
		list = append(list, netip.PrefixFrom(ip.Unmap(), ones))
	}
	return list
}
