package netstack

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
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
	"github.com/alptrace/alptrace/stack/transport"
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
	// Interfaces are more links, each with addresses of its own. They come
	// after Links.
	Interfaces []Interface
	// Routes are routes beside those to the links' own subnets and the
	// gateways. The longest prefix wins, of equal ones the first.
	Routes []Route
	// Forwarding makes the engine a router: packets of IPv4 and IPv6 that are
	// for others go on by its routes.
	Forwarding bool
	// Masquerade are the links, counted from 0, whose outgoing packets get the
	// link's address as their source, by connection, as iptables' MASQUERADE.
	Masquerade []int
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
	// Rand is the source of all randomness: sequence numbers, ports, time
	// stamps, identifications, seeds of hashes. nil is the kernel's. One engine
	// reads it from one goroutine at a time.
	Rand io.Reader
	// Lockstep says that one goroutine drives the engine, with a Clock of its
	// own; see [Engine.Settle]. There are no IGMP and MLD then.
	Lockstep bool
	// Probe makes [Engine.Probe] work, which slows gVisor's TCP a little.
	Probe bool
	// TCP makes the TCP; nil is gVisor's, with CUBIC.
	TCP gstack.TransportProtocolFactory
	// Transports are more transport protocols, for sockets that name their
	// numbers.
	Transports []transport.Protocol
	// MapTCP names the one of Transports that sockets of TCP get; empty: TCP.
	MapTCP string
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
	tcpNumber uint8        // of the protocol that sockets of TCP get
	inStep    bool         // Config.Lockstep
	lockstep  *lockstepTCP // nil: not in lockstep, or another TCP than gVisor's
	probe     *prober      // nil: not Config.Probe

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
		inStep:    cfg.Lockstep,
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	quiet(e.log)
	var err error
	if e.tcpNumber, err = cfg.mapTCP(); err != nil {
		return nil, err
	}
	if cfg.Probe {
		e.probe = newProber(cfg.Lockstep)
	}
	e.st = gstack.New(e.stackOptions(cfg))
	if err := errors.Join(e.setDefaults(cfg), e.tapICMP()); err != nil {
		e.st.Destroy()
		return nil, err
	}
	if err := e.addInterfaces(cfg); err != nil {
		e.st.Destroy()
		return nil, err
	}
	e.probe.start(e.st, len(e.nics))
	for _, n := range e.nics {
		n.probe = e.probe
		if err := n.start(); err != nil {
			e.st.Destroy()
			return nil, fmt.Errorf("start link %s: %w", n.link.Name(), err)
		}
	}
	return e, nil
}

// stackOptions gives netstack's protocols. Duplicate address detection and
// router advertisements are off: addresses are the user's, and must work at once.
func (e *Engine) stackOptions(cfg Config) gstack.Options {
	ethernet := false
	for _, i := range cfg.interfaces() {
		ethernet = ethernet || i.Link.Medium() == link.Ethernet
	}
	groups := ethernet && !cfg.Lockstep
	rng, source := randomness(cfg.Rand)
	return gstack.Options{
		NetworkProtocols: []gstack.NetworkProtocolFactory{
			ipv4.NewProtocolWithOptions(ipv4.Options{
				IGMP:                         ipv4.IGMPOptions{Enabled: groups},
				AllowExternalLoopbackTraffic: cfg.Host != nil,
			}),
			ipv6.NewProtocolWithOptions(ipv6.Options{
				NDPConfigs:       ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
				AutoGenLinkLocal: ethernet,
				MLD:              ipv6.MLDOptions{Enabled: groups},
				DADConfigs:       gstack.DADConfigurations{},

				AllowExternalLoopbackTraffic: cfg.Host != nil,
			}),
			arp.NewProtocol,
		},
		TransportProtocols: slices.Concat([]gstack.TransportProtocolFactory{
			e.newTCPProtocol(cfg),
			udp.NewProtocol,
			icmp.NewProtocol4,
			icmp.NewProtocol6,
		}, ownProtocols(cfg.Transports), rawProtocols(cfg.RawProtocols, cfg.Transports)),
		Clock:       cfg.Clock,
		SecureRNG:   rng,
		RandSource:  source,
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

// lossRecovery is that of RFC 6675, without gVisor's RACK. With RACK a connection
// may be left without any timer (its tail loss probe was lost, and all that is
// outstanding is marked as lost), after an outage a window takes a timeout for
// each segment, and an acknowledgment costs a walk over all that is in flight.
// docs/sim.md has the figures.
const lossRecovery = tcpip.TCPRecovery(0)

// setDefaults gives the stack Linux's sysctl defaults.
func (e *Engine) setDefaults(cfg Config) error {
	for _, opt := range []tcpip.SettableTransportProtocolOption{
		ptr(tcpip.TCPSACKEnabled(true)),
		ptr(tcpip.TCPDelayEnabled(true)),
		ptr(tcpip.TCPModerateReceiveBufferOption(true)),
		ptr(lossRecovery),
		ptr(tcpip.TCPTimeWaitTimeoutOption(60 * time.Second)),
		ptr(tcpip.TCPLingerTimeoutOption(60 * time.Second)),
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcpRcvMin, Default: tcpRcvDefault, Max: e.tcpRcvMax},
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcpSndMin, Default: tcpSndDefault, Max: tcpSndMax},
	} {
		if err := e.st.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil && cfg.TCP == nil {
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
