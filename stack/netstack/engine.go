package netstack

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

const (
	ipv4Number = header.IPv4ProtocolNumber
	ipv6Number = header.IPv6ProtocolNumber

	loopbackNIC  tcpip.NICID = 1 // "lo"
	firstLinkNIC tcpip.NICID = 2 // "eth0"

	// The defaults of Linux's net.ipv4.ip_local_port_range.
	firstEphemeral, lastEphemeral = 32768, 60999
)

// Config says what an engine is made of. The zero Config is a stack with
// nothing but its loopback interface.
type Config struct {
	// Links are the ways out; the first is eth0, the next eth1. The engine
	// owns them and closes them.
	Links []link.Link
	// Addrs are the addresses of the first link, with the lengths of their
	// prefixes.
	Addrs []netip.Prefix
	// Host, if set, is the host whose addresses the engine shares; then Links
	// is the one link to it, and Addrs and Gateways are empty.
	Host Host
	// Gateways are default gateways, reached by the first link: at most one
	// for each family counts. On an IP link a gateway need not be a neighbour.
	Gateways []netip.Addr
	// RawProtocols are protocol numbers that raw sockets may name beside ICMP,
	// TCP, UDP and the common ones; see commonRaw. Others are EPROTONOSUPPORT.
	RawProtocols []uint8
	// Admin lets sockets do what needs CAP_NET_ADMIN or CAP_NET_RAW in a kernel
	// (SO_MARK, SO_RCVBUFFORCE, a high SO_PRIORITY, ...); otherwise EPERM.
	Admin bool
	// RcvBufMax, SndBufMax and TCPRcvMax are net.core.rmem_max, wmem_max and
	// the third of net.ipv4.tcp_rmem, in bytes; 0 is Linux's default.
	RcvBufMax, SndBufMax, TCPRcvMax int
	// Clock is the source of time and of timers; nil is the real one.
	Clock tcpip.Clock
	// Logger receives diagnostics; nil discards them.
	Logger *slog.Logger
}

// Engine is a network stack; it implements [stack.Engine].
type Engine struct {
	st      *gstack.Stack
	log     *slog.Logger
	nics    []*nic
	closed  atomic.Bool
	sockets atomic.Uint64
	cookies atomic.Uint64
	count   counters
	errs    errRegistry

	listeners listeners
	shared    *shared // nil: the addresses are the engine's own
	orphans   orphans

	admin                           bool
	rcvBufMax, sndBufMax, tcpRcvMax int
}

var _ stack.Engine = (*Engine)(nil)

// New makes an engine. On error the links are left open.
func New(cfg Config) (*Engine, error) {
	e := &Engine{
		log:       cfg.Logger,
		admin:     cfg.Admin,
		rcvBufMax: cmp.Or(cfg.RcvBufMax, memMax),
		sndBufMax: cmp.Or(cfg.SndBufMax, memMax),
		tcpRcvMax: cmp.Or(cfg.TCPRcvMax, tcpRcvMax),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	quiet(e.log)
	e.st = gstack.New(stackOptions(cfg))
	if err := errors.Join(e.setDefaults(), e.tapICMP()); err != nil {
		e.st.Destroy()
		return nil, err
	}
	if err := e.addInterfaces(cfg); err != nil {
		e.st.Destroy()
		return nil, err
	}
	for _, n := range e.nics {
		if err := n.start(); err != nil {
			e.st.Destroy()
			return nil, fmt.Errorf("start link %s: %w", n.link.Name(), err)
		}
	}
	return e, nil
}

// addInterfaces makes the interfaces, with addresses and routes.
func (e *Engine) addInterfaces(cfg Config) error {
	if cfg.Host != nil {
		return e.addHost(cfg)
	}
	if err := e.addLoopback(); err != nil {
		return err
	}
	for i, l := range cfg.Links {
		if err := e.addLink(i, l); err != nil {
			return err
		}
	}
	return e.addAddrs(cfg)
}

// stackOptions gives netstack's protocols. Duplicate address detection and
// router advertisements are off: addresses are the user's, and must work at once.
func stackOptions(cfg Config) gstack.Options {
	ethernet := false
	for _, l := range cfg.Links {
		ethernet = ethernet || l.Medium() == link.Ethernet
	}
	return gstack.Options{
		NetworkProtocols: []gstack.NetworkProtocolFactory{
			ipv4.NewProtocolWithOptions(ipv4.Options{
				IGMP:                         ipv4.IGMPOptions{Enabled: ethernet},
				AllowExternalLoopbackTraffic: cfg.Host != nil,
			}),
			ipv6.NewProtocolWithOptions(ipv6.Options{
				NDPConfigs:       ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
				AutoGenLinkLocal: ethernet,
				MLD:              ipv6.MLDOptions{Enabled: ethernet},
				DADConfigs:       gstack.DADConfigurations{},

				AllowExternalLoopbackTraffic: cfg.Host != nil,
			}),
			arp.NewProtocol,
		},
		TransportProtocols: append([]gstack.TransportProtocolFactory{
			tcp.NewProtocolCUBIC,
			udp.NewProtocol,
			icmp.NewProtocol4,
			icmp.NewProtocol6,
		}, rawProtocols(cfg.RawProtocols)...),
		Clock:       cfg.Clock,
		HandleLocal: cfg.Host == nil,
		RawFactory:  raw.EndpointFactory{},
	}
}

// Linux's defaults of net.ipv4.tcp_rmem, tcp_wmem and net.core.[rw]mem_*.
const (
	tcpRcvMin, tcpRcvDefault, tcpRcvMax = 4096, 131072, 6291456
	tcpSndMin, tcpSndDefault, tcpSndMax = 4096, 16384, 4194304
	memDefault, memMax                  = 212992, 212992
)

// setDefaults gives the stack Linux's sysctl defaults.
func (e *Engine) setDefaults() error {
	for _, opt := range []tcpip.SettableTransportProtocolOption{
		ptr(tcpip.TCPSACKEnabled(true)),
		ptr(tcpip.TCPDelayEnabled(true)),
		ptr(tcpip.TCPModerateReceiveBufferOption(true)),
		ptr(tcpip.TCPRACKLossDetection),
		ptr(tcpip.TCPTimeWaitTimeoutOption(60 * time.Second)),
		ptr(tcpip.TCPLingerTimeoutOption(60 * time.Second)),
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcpRcvMin, Default: tcpRcvDefault, Max: e.tcpRcvMax},
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcpSndMin, Default: tcpSndDefault, Max: tcpSndMax},
	} {
		if err := e.st.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("set TCP option %T: %s", opt, err)
		}
	}
	for _, opt := range []any{
		tcpip.SendBufferSizeOption{Min: gstack.MinBufferSize, Default: memDefault, Max: 2 * memMax},
		tcpip.ReceiveBufferSizeOption{Min: gstack.MinBufferSize, Default: memDefault, Max: 2 * memMax},
	} {
		if err := e.st.SetOption(opt); err != nil {
			return fmt.Errorf("set stack option %T: %s", opt, err)
		}
	}
	if err := e.st.SetPortRange(firstEphemeral, lastEphemeral); err != nil {
		return fmt.Errorf("set port range: %s", err)
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

func (e *Engine) addLoopback() error {
	if err := e.st.CreateNICWithOptions(loopbackNIC, loopback.New(), gstack.NICOptions{Name: "lo"}); err != nil {
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
	n.reopen = (&reopener{st: e.st, nic: firstLinkNIC + tcpip.NICID(i)}).begun
	name := fmt.Sprintf("eth%d", i)
	if err := e.st.CreateNICWithOptions(firstLinkNIC+tcpip.NICID(i), n, gstack.NICOptions{Name: name}); err != nil {
		return fmt.Errorf("create %s on link %s: %s", name, l.Name(), err)
	}
	e.nics = append(e.nics, n)
	return nil
}

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

// addAddrs gives the first link its addresses and makes the routing table:
// subnets, multicast, and the default gateways.
func (e *Engine) addAddrs(cfg Config) error {
	var routes []tcpip.Route
	nic := loopbackNIC
	add := func(p netip.Prefix, gw netip.Addr) {
		p = p.Masked()
		subnet := tcpip.AddressWithPrefix{Address: addrBytes(p.Addr()), PrefixLen: p.Bits()}.Subnet()
		routes = append(routes, tcpip.Route{Destination: subnet, Gateway: fromIP(gw), NIC: nic})
	}
	add(netip.MustParsePrefix("127.0.0.0/8"), netip.Addr{})
	add(netip.MustParsePrefix("::1/128"), netip.Addr{})
	if len(e.nics) == 0 {
		if len(cfg.Addrs) > 0 || len(cfg.Gateways) > 0 {
			return errors.New("addresses and gateways need a link")
		}
		e.st.SetRouteTable(routes)
		return nil
	}
	nic = firstLinkNIC
	for _, p := range cfg.Addrs {
		if !p.IsValid() || p.Addr().IsUnspecified() {
			return fmt.Errorf("invalid address %s", p)
		}
		if err := e.addAddr(firstLinkNIC, p); err != nil {
			return err
		}
		add(p, netip.Addr{})
	}
	add(netip.MustParsePrefix("224.0.0.0/4"), netip.Addr{})
	add(netip.MustParsePrefix("ff00::/8"), netip.Addr{})
	if e.nics[0].ethernet {
		add(netip.MustParsePrefix("fe80::/64"), netip.Addr{})
	}
	for _, gw := range cfg.Gateways {
		switch {
		case gw.Is4():
			add(netip.PrefixFrom(netip.IPv4Unspecified(), 0), gw)
		case gw.Is6() && !gw.Is4In6():
			add(netip.PrefixFrom(netip.IPv6Unspecified(), 0), gw.WithZone(""))
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

// Name is the engine's name.
func (*Engine) Name() string { return "netstack" }

// Interfaces lists lo and the links.
func (e *Engine) Interfaces() []stack.Interface {
	if e.shared != nil {
		return e.shared.host.Interfaces()
	}
	infos := e.st.NICInfo()
	list := make([]stack.Interface, 0, len(infos))
	for id := loopbackNIC; int(id) <= len(e.nics)+1; id++ {
		info, ok := infos[id]
		if !ok {
			continue
		}
		i := stack.Interface{
			Index: int(id),
			Name:  info.Name,
			MTU:   int(info.MTU),
			Flags: unix.IFF_UP | unix.IFF_RUNNING,
		}
		switch {
		case id == loopbackNIC:
			i.Flags |= unix.IFF_LOOPBACK
			i.HardwareType = unix.ARPHRD_LOOPBACK
			i.HardwareAddr = make(net.HardwareAddr, 6)
		case e.nics[id-firstLinkNIC].ethernet:
			i.Flags |= unix.IFF_BROADCAST | unix.IFF_MULTICAST
			i.HardwareType = unix.ARPHRD_ETHER
			i.HardwareAddr = net.HardwareAddr(info.LinkAddress)
		default:
			i.Flags |= unix.IFF_POINTOPOINT | unix.IFF_NOARP | unix.IFF_MULTICAST
			i.HardwareType = unix.ARPHRD_NONE
		}
		for _, a := range info.ProtocolAddresses {
			if ip, ok := netip.AddrFromSlice(a.AddressWithPrefix.Address.AsSlice()); ok {
				i.Addrs = append(i.Addrs, netip.PrefixFrom(ip, a.AddressWithPrefix.PrefixLen))
			}
		}
		list = append(list, i)
	}
	return list
}

// Stats counts what the engine has done so far.
func (e *Engine) Stats() stack.Stats {
	return stack.Stats{
		Sockets:         e.sockets.Load(),
		PacketsIn:       e.count.packetsIn.Load(),
		PacketsOut:      e.count.packetsOut.Load(),
		BytesIn:         e.count.bytesIn.Load(),
		BytesOut:        e.count.bytesOut.Load(),
		Retransmissions: e.st.Stats().TCP.Retransmits.Value(),
	}
}

// resolving says whether packets may wait for ARP or neighbour discovery.
func (e *Engine) resolving() bool {
	for i, n := range e.nics {
		if !n.ethernet {
			continue
		}
		for _, proto := range []tcpip.NetworkProtocolNumber{ipv4Number, ipv6Number} {
			neighbors, _ := e.st.Neighbors(firstLinkNIC+tcpip.NICID(i), proto)
			for _, nb := range neighbors {
				if nb.State == gstack.Incomplete {
					return true
				}
			}
		}
	}
	return false
}

// Close ends the stack and closes its links.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	var errs []error
	if e.shared != nil {
		e.shared.reap.stop()
	}
	for _, n := range e.nics {
		n.Attach(nil)
		if err := n.close(); err != nil {
			errs = append(errs, fmt.Errorf("close link %s: %w", n.link.Name(), err))
		}
	}
	e.st.Close()
	for id := range e.st.NICInfo() {
		if err := e.st.RemoveNIC(id); err != nil {
			errs = append(errs, fmt.Errorf("remove interface %d: %s", id, err))
		}
	}
	return errors.Join(errs...)
}
