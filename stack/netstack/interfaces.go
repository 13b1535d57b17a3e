package netstack

import (
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/link"
)

// Interface is a link with its addresses.
type Interface struct {
	Link  link.Link
	Addrs []netip.Prefix // with the lengths of their subnets
}

// Route is the way to a subnet.
type Route struct {
	Dst  netip.Prefix
	Via  netip.Addr // the router, invalid if Dst is on the link
	Link int        // which one, counted from 0: those of Config.Links, then Interfaces
}

// interfaces are all links with their addresses.
func (c *Config) interfaces() []Interface {
	list := make([]Interface, 0, len(c.Links)+len(c.Interfaces))
	for i, l := range c.Links {
		list = append(list, Interface{Link: l})
		if i == 0 {
			list[0].Addrs = c.Addrs
		}
	}
	return append(list, c.Interfaces...)
}

// addInterfaces makes the interfaces, with addresses and routes.
func (e *Engine) addInterfaces(cfg Config) error {
	if cfg.Host != nil {
		return e.addHost(cfg)
	}
	if err := e.addLoopback(); err != nil {
		return err
	}
	list := cfg.interfaces()
	if len(list) == 0 && len(cfg.Addrs)+len(cfg.Gateways)+len(cfg.Routes) > 0 {
		return errors.New("addresses, gateways and routes need a link")
	}
	for i, ifc := range list {
		if err := e.addLink(i, ifc.Link); err != nil {
			return err
		}
		for _, p := range ifc.Addrs {
			if !p.IsValid() || p.Addr().IsUnspecified() {
				return fmt.Errorf("invalid address %s", p)
			}
			if err := e.addAddr(nicOf(i), p); err != nil {
				return err
			}
		}
	}
	if err := e.addRoutes(cfg, list); err != nil {
		return err
	}
	if cfg.Forwarding {
		if err := e.forward(); err != nil {
			return err
		}
	}
	return e.masquerade(cfg.Masquerade)
}

// nicOf is the number of a link's interface.
func nicOf(i int) tcpip.NICID { return firstLinkNIC + tcpip.NICID(i) }

func (e *Engine) addLoopback() error {
	lo := loopback.New()
	if e.inStep {
		lo = &lateLoopback{lo, e.st.Clock()}
	}
	if err := e.st.CreateNICWithOptions(loopbackNIC, lo, gstack.NICOptions{Name: "lo"}); err != nil {
		return fmt.Errorf("create lo: %s", err)
	}
	for _, p := range []string{"127.0.0.1/8", "::1/128"} {
		if err := e.addAddr(loopbackNIC, netip.MustParsePrefix(p)); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) addLink(i int, l link.Link) error {
	n := newNIC(l, &e.count)
	n.inStep, n.lockstep = e.inStep, e.lockstep
	n.reopen = (&reopener{st: e.st, nic: nicOf(i)}).begun
	name := linkName(i)
	if err := e.st.CreateNICWithOptions(nicOf(i), n, gstack.NICOptions{Name: name}); err != nil {
		return fmt.Errorf("create %s on link %s: %s", name, l.Name(), err)
	}
	e.nics = append(e.nics, n)
	return nil
}

// linkName is the name of a link's interface.
func linkName(i int) string { return fmt.Sprintf("eth%d", i) }

func (e *Engine) addAddr(id tcpip.NICID, p netip.Prefix) error {
	proto := ipv6Number
	if p.Addr().Is4() {
		proto = ipv4Number
	}
	err := e.st.AddProtocolAddress(id, tcpip.ProtocolAddress{
		Protocol:          proto,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: fromIP(p.Addr()), PrefixLen: p.Bits()},
	}, gstack.AddressProperties{})
	if err != nil {
		return fmt.Errorf("add address %s: %s", p, err)
	}
	return nil
}

// addRoutes makes the routing table: subnets, multicast, the routes and the
// default gateways. netstack sorts it by the length of the prefix.
func (e *Engine) addRoutes(cfg Config, list []Interface) error {
	var routes []tcpip.Route
	add := func(nic tcpip.NICID, p netip.Prefix, gw netip.Addr) {
		p = p.Masked()
		subnet := tcpip.AddressWithPrefix{Address: addrBytes(p.Addr()), PrefixLen: p.Bits()}.Subnet()
		routes = append(routes, tcpip.Route{Destination: subnet, Gateway: fromIP(gw), NIC: nic})
	}
	none := netip.Addr{}
	add(loopbackNIC, netip.MustParsePrefix("127.0.0.0/8"), none)
	add(loopbackNIC, netip.MustParsePrefix("::1/128"), none)
	for i, ifc := range list {
		for _, p := range ifc.Addrs {
			add(nicOf(i), p, none)
		}
	}
	if len(list) > 0 {
		add(firstLinkNIC, netip.MustParsePrefix("224.0.0.0/4"), none)
		add(firstLinkNIC, netip.MustParsePrefix("ff00::/8"), none)
		if e.nics[0].ethernet {
			add(firstLinkNIC, netip.MustParsePrefix("fe80::/64"), none)
		}
	}
	for _, r := range cfg.Routes {
		if !r.Dst.IsValid() || r.Link < 0 || r.Link >= len(list) || r.Via.IsValid() && r.Via.Is4() != r.Dst.Addr().Is4() {
			return fmt.Errorf("invalid route to %s via %s by link %d", r.Dst, r.Via, r.Link)
		}
		add(nicOf(r.Link), r.Dst, r.Via)
	}
	for _, gw := range cfg.Gateways {
		switch {
		case gw.Is4():
			add(firstLinkNIC, netip.PrefixFrom(netip.IPv4Unspecified(), 0), gw)
		case gw.Is6() && !gw.Is4In6():
			add(firstLinkNIC, netip.PrefixFrom(netip.IPv6Unspecified(), 0), gw.WithZone(""))
		default:
			return fmt.Errorf("invalid gateway %s", gw)
		}
	}
	e.st.SetRouteTable(routes)
	return nil
}

// addrBytes is like fromIP but keeps the unspecified addresses.
func addrBytes(ip netip.Addr) tcpip.Address {
	return tcpip.AddrFromSlice(ip.AsSlice())
}
