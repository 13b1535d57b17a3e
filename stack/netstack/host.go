package netstack

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack"
)

// Host is the host whose addresses an engine shares with the host's kernel.
// All its methods are safe for concurrent use.
//
// The engine then has one interface, the link, with all of the host's
// addresses, those of loopback included, and no loopback of its own: a packet
// to the host itself leaves by the link as any other, and who gets it is
// decided where the ports are given out. A port of the engine's is one that
// Reserve gave.
type Host interface {
	// Addrs are the host's addresses with the lengths of their prefixes,
	// 127.0.0.1/8 and ::1/128 among them, link-local ones left out.
	Addrs() []netip.Prefix
	// Interfaces are the host's interfaces, as Engine.Interfaces shows them.
	Interfaces() []stack.Interface
	// Source is the address that the host would send from to dst, and the
	// MTU of the way in bytes (0: that of the link). ENETUNREACH and the
	// other errnos of ip(7) where there is no way. It does not wait long.
	Source(dst netip.Addr) (src netip.Addr, mtu int, err stack.Errno)
	// Reserve asks for a port (of ICMP echo: an identifier) of an IP
	// protocol at an address; the unspecified address is any of its family,
	// and with dual :: is any of both. Port 0 is one of the host's ephemeral
	// ports. reuse is SO_REUSEADDR. What was reserved may be reserved again
	// and has then to be released as often. Errors are those of bind(2):
	// EADDRINUSE, EACCES, EADDRNOTAVAIL, ENOBUFS.
	Reserve(proto uint8, addr netip.Addr, dual bool, port uint16, reuse bool) (uint16, stack.Errno)
	// Release gives a port back, with Reserve's arguments. Nothing is left
	// of the port then, no connection in TIME_WAIT either. It does not wait.
	Release(proto uint8, addr netip.Addr, dual bool, port uint16)
}

// shared is the state of an engine that shares a host's addresses.
type shared struct {
	host  Host
	ways  ways
	reap  reaper
	addrs atomic.Pointer[map[netip.Addr]struct{}]

	mu   sync.Mutex // serializes addrsChanged
	have map[netip.Prefix]struct{}
}

// addHost adds the link of an engine that shares a host's addresses.
func (e *Engine) addHost(cfg Config) error {
	if len(cfg.Links) != 1 || len(cfg.Addrs)+len(cfg.Gateways)+len(cfg.Interfaces)+len(cfg.Routes)+len(cfg.Masquerade) > 0 || cfg.Forwarding {
		return errors.New("an engine that shares the host's addresses has one link, and no addresses of its own")
	}
	s := &shared{host: cfg.Host, have: make(map[netip.Prefix]struct{})}
	s.reap.clock = e.st.Clock()
	s.ways.init(e, cfg.Links[0].MTU())
	e.shared = s
	l := &cutter{Link: cfg.Links[0], pathMTU: s.ways.mtu, id: e.st.InsecureRNG().Uint32}
	if err := e.addLink(0, l); err != nil {
		return err
	}
	// What arrives was granted, to whatever address of the host it goes.
	if err := e.st.SetPromiscuousMode(firstLinkNIC, true); err != nil {
		return fmt.Errorf("accept any address: %s", err)
	}
	if err := e.st.SetSpoofing(firstLinkNIC, true); err != nil {
		return fmt.Errorf("send from any address: %s", err)
	}
	if err := e.HostChanged(); err != nil {
		return err
	}
	for _, p := range []struct {
		network   tcpip.NetworkProtocolNumber
		transport tcpip.TransportProtocolNumber
	}{{ipv4Number, unix.IPPROTO_ICMP}, {ipv6Number, unix.IPPROTO_ICMPV6}} {
		if err := e.st.RegisterRawTransportEndpoint(p.network, p.transport, (*mtuTap)(e)); err != nil {
			return fmt.Errorf("listen for path MTUs: %s", err)
		}
	}
	return nil
}

// HostChanged takes over the host's addresses and forgets what was known of
// its routes. Call it when either has changed. Connections from an address
// that the host has no longer go on, as in the kernel.
func (e *Engine) HostChanged() error {
	s := e.shared
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	want := make(map[netip.Prefix]struct{})
	addrs := make(map[netip.Addr]struct{})
	list := s.host.Addrs()
	var errs []error
	for _, p := range list {
		if _, dup := addrs[p.Addr()]; dup {
			continue // the same address with two lengths, or on two interfaces
		}
		want[p], addrs[p.Addr()] = struct{}{}, struct{}{}
	}
	for p := range s.have {
		if _, ok := want[p]; !ok {
			if err := e.st.RemoveAddress(firstLinkNIC, fromIP(p.Addr())); err != nil {
				errs = append(errs, fmt.Errorf("remove address %s: %s", p, err))
			}
			delete(s.have, p)
		}
	}
	for _, p := range list {
		if _, ok := want[p]; !ok {
			continue
		}
		if _, ok := s.have[p]; ok {
			continue
		}
		if err := e.addAddr(firstLinkNIC, p); err != nil {
			errs = append(errs, err)
			continue
		}
		s.have[p] = struct{}{}
	}
	s.addrs.Store(&addrs)
	s.ways.reset(list)
	return errors.Join(errs...)
}

// isLocal says whether ip is the host's.
func (s *shared) isLocal(ip netip.Addr) bool {
	if ip.Is4() && ip.IsLoopback() {
		return true
	}
	_, ok := (*s.addrs.Load())[ip]
	return ok
}

// nicID is the interface to hand to netstack for the index that a program
// gave: the host's indices mean nothing there.
func (e *Engine) nicID(index uint32) tcpip.NICID {
	if e.shared != nil {
		return 0
	}
	return tcpip.NICID(index)
}

// hasNIC says whether programs see an interface of that index.
func (e *Engine) hasNIC(index uint32) bool {
	if e.shared == nil {
		return e.st.CheckNIC(tcpip.NICID(index))
	}
	return e.nicName(index) != ""
}

// nicName is the name of the interface of that index, empty if there is none.
func (e *Engine) nicName(index uint32) string {
	if e.shared == nil {
		return e.st.FindNICNameFromID(tcpip.NICID(index))
	}
	for _, i := range e.shared.host.Interfaces() {
		if i.Index == int(index) {
			return i.Name
		}
	}
	return ""
}

// nicIndex is the index of the interface of that name, 0 if there is none.
func (e *Engine) nicIndex(name string) uint32 {
	if e.shared == nil {
		for id, info := range e.st.NICInfo() {
			if info.Name == name {
				return uint32(id)
			}
		}
		return 0
	}
	for _, i := range e.shared.host.Interfaces() {
		if i.Name == name {
			return uint32(i.Index)
		}
	}
	return 0
}

// shownNIC is the index to show to a program for a packet that came to addr
// by netstack's interface id: on a shared host, that of the interface which
// has the address.
func (e *Engine) shownNIC(id tcpip.NICID, addr tcpip.Address) uint32 {
	if e.shared == nil {
		return uint32(id)
	}
	ip, _ := netip.AddrFromSlice(addr.AsSlice())
	ip = ip.Unmap()
	var loopback uint32
	for _, i := range e.shared.host.Interfaces() {
		for _, p := range i.Addrs {
			if p.Addr() == ip {
				return uint32(i.Index)
			}
		}
		if i.Flags&unix.IFF_LOOPBACK != 0 {
			loopback = uint32(i.Index)
		}
	}
	return loopback
}

// mtuTap is the raw endpoint that learns path MTUs from ICMP errors.
type mtuTap Engine

// HandlePacket implements stack.RawTransportEndpoint.
func (t *mtuTap) HandlePacket(pkt *gstack.PacketBuffer) {
	e := (*Engine)(t)
	if ie, ok := parseICMPError(pkt.NetworkProtocolNumber, flat(pkt)); ok && ie.errno == unix.EMSGSIZE {
		e.shared.ways.learn(ie.dst.IP, int(ie.info))
	}
}
