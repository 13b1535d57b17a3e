package agent

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/host"
	"github.com/alptrace/alptrace/stack/linux/internal/proto"
)

const card = "eth0"

// configure sets the guest's network up as the engine says.
func configure(text []byte) (err error) {
	var s proto.Setup
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	// Addresses of IPv6 are used at once.
	for _, name := range []string{"all", "default", card} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0)
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_ra", []byte("0"), 0)
	}
	_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
	if err := up("lo", 0, false); err != nil {
		return err
	}
	for _, v := range s.Sysctls {
		if err := sysctl(v.Name, v.Value); err != nil {
			return err
		}
	}
	if s.Card {
		if err := configureCard(&s); err != nil {
			return err
		}
	}
	if !s.Admin {
		return dropAdmin()
	}
	return nil
}

func configureCard(s *proto.Setup) error {
	if err := up(card, s.MTU, s.NoARP); err != nil {
		return err
	}
	l, err := netlink.LinkByName(card)
	if err != nil {
		return fmt.Errorf("%s: %w", card, err)
	}
	for _, p := range s.Addrs {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return fmt.Errorf("address %v: %w", p, err)
		}
	}
	for _, g := range s.Gateways {
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: g.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if g.Is4() {
			r.Dst = &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		} else {
			r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		if err := netlink.RouteAdd(r); err != nil {
			return fmt.Errorf("gateway %v: %w", g, err)
		}
	}
	return nil
}

// up sets an interface up; the driver of the card may need a moment to make it.
func up(name string, mtu int, noARP bool) error {
	const wait = time.Second
	var l netlink.Link
	var err error
	for end := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
		if l, err = netlink.LinkByName(name); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w (CONFIG_VIRTIO_NET)", name, err)
	}
	if mtu > 0 {
		if err := netlink.LinkSetMTU(l, mtu); err != nil {
			return fmt.Errorf("%s: MTU %d: %w", name, mtu, err)
		}
	}
	if noARP {
		if err := netlink.LinkSetARPOff(l); err != nil {
			return fmt.Errorf("%s: no ARP: %w", name, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("%s: up: %w", name, err)
	}
	return nil
}

// sysctl sets a value. Names have dots, or slashes where a part has a dot.
func sysctl(name, value string) error {
	path := name
	if !strings.Contains(name, "/") {
		path = strings.ReplaceAll(name, ".", "/")
	}
	if err := os.WriteFile("/proc/sys/"+path, []byte(value+"\n"), 0); err != nil {
		return fmt.Errorf("sysctl %s=%s: %w", name, value, err)
	}
	return nil
}

// dropAdmin takes from this thread, and so from the sockets, what an ordinary
// user's sockets may not do either; what may be put back stays permitted.
func dropAdmin() error { return setAdmin(false) }

// setAdmin puts CAP_NET_ADMIN into the effective set, or takes it out.
func setAdmin(on bool) error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	const mask = 1 << unix.CAP_NET_ADMIN
	if on {
		d[0].Effective |= mask
	} else {
		d[0].Effective &^= mask
	}
	if err := unix.Capset(&h, &d[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// faces are the guest's interfaces, in JSON.
func faces() []byte {
	b, _ := json.Marshal(new(host.Engine).Interfaces())
	return b
}
