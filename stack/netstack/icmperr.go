package netstack

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack"
)

// netstack tells a connected UDP socket that its peer's port is unreachable, and
// datagram sockets of no other ICMP error. Those that IP_RECVERR asks for, and the
// hard ones that any connected socket hears of, are therefore read here, from
// the packets themselves, by a raw endpoint; so are those that end the making of
// a connection (see icmptcp.go).

// maxErrors bounds a socket's error queue.
const maxErrors = 64

// errEntry is an entry of a socket's error queue (struct sock_extended_err).
type errEntry struct {
	errno    stack.Errno
	origin   uint8 // SO_EE_ORIGIN_*
	typ      uint8
	code     uint8
	info     uint32
	v6       bool       // the packet was IPv6
	offender netip.Addr // who sent the error; none if local
	dst      stack.Addr // where the datagram went
	payload  []byte
}

// errRegistry has the sockets that want errors: those with IP_RECVERR, and the
// connected ones.
type errRegistry struct {
	mu sync.Mutex
	m  map[*dgramSock]struct{}
}

func (r *errRegistry) add(d *dgramSock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = make(map[*dgramSock]struct{})
	}
	r.m[d] = struct{}{}
}

func (r *errRegistry) remove(d *dgramSock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.m, d)
}

func (r *errRegistry) list() []*dgramSock {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := make([]*dgramSock, 0, len(r.m))
	for d := range r.m {
		l = append(l, d)
	}
	return l
}

// icmpTap is the raw endpoint that sees every ICMP packet.
type icmpTap Engine

// HandlePacket implements stack.RawTransportEndpoint.
func (t *icmpTap) HandlePacket(pkt *gstack.PacketBuffer) {
	(*Engine)(t).seeICMP(pkt)
}

// tapICMP makes the engine see every ICMP packet.
func (e *Engine) tapICMP() error {
	for net, icmp := range map[tcpip.NetworkProtocolNumber]tcpip.TransportProtocolNumber{
		ipv4Number: header.ICMPv4ProtocolNumber, ipv6Number: header.ICMPv6ProtocolNumber,
	} {
		if err := e.st.RegisterRawTransportEndpoint(net, icmp, (*icmpTap)(e)); err != nil {
			return fmt.Errorf("watch ICMP: %s", err)
		}
	}
	return nil
}

// flat is the packet from its IP header on, in one piece.
func flat(pkt *gstack.PacketBuffer) []byte {
	return slices.Concat(pkt.NetworkHeader().Slice(), pkt.TransportHeader().Slice(), pkt.Data().AsRange().ToSlice())
}

// icmpError is an ICMP error message, parsed.
type icmpError struct {
	errEntry
	hard         bool       // reported to a connected socket even without IP_RECVERR
	proto        uint8      // of the datagram that the error is about
	local        netip.Addr // its source
	sport, dport uint16     // its ports; for an echo request sport is the identifier
}

// seeICMP looks at an incoming packet, and tells the sockets that it is about
// if it is an ICMP error.
func (e *Engine) seeICMP(pkt *gstack.PacketBuffer) {
	ie, ok := parseICMPError(pkt.NetworkProtocolNumber, flat(pkt))
	if !ok {
		return
	}
	if ie.proto == unix.IPPROTO_TCP {
		e.failConnect(&ie, pkt)
	}
	for _, d := range e.errs.list() {
		d.handleICMPError(&ie)
	}
}

// parseICMPError parses a packet if it is an ICMP or ICMPv6 error about UDP,
// an echo request, or another transport's packet.
func parseICMPError(proto tcpip.NetworkProtocolNumber, ip []byte) (icmpError, bool) {
	switch proto {
	case ipv4Number:
		return parseICMPv4Error(ip)
	case ipv6Number:
		return parseICMPv6Error(ip)
	}
	return icmpError{}, false
}

func parseICMPv4Error(b []byte) (icmpError, bool) {
	ip := header.IPv4(b)
	if !ip.IsValid(len(b)) || ip.Protocol() != unix.IPPROTO_ICMP || ip.FragmentOffset() != 0 {
		return icmpError{}, false
	}
	p := ip.Payload()
	if len(p) < 8+header.IPv4MinimumSize {
		return icmpError{}, false
	}
	h := header.ICMPv4(p)
	ie := icmpError{errEntry: errEntry{origin: unix.SO_EE_ORIGIN_ICMP, typ: uint8(h.Type()), code: uint8(h.Code())}}
	switch h.Type() {
	case header.ICMPv4DstUnreachable:
		ie.errno, ie.hard = unreachableErrno(ie.code)
		if h.Code() == header.ICMPv4FragmentationNeeded {
			ie.info = uint32(h.MTU())
		}
	case header.ICMPv4TimeExceeded:
		ie.errno = unix.EHOSTUNREACH
	case header.ICMPv4ParamProblem:
		ie.errno, ie.hard = unix.EPROTO, true
		ie.info = uint32(p[4]) << 24
	default:
		return icmpError{}, false
	}
	ie.offender = netip.AddrFrom4(ip.SourceAddress().As4())
	inner := header.IPv4(p[8:])
	hl := int(inner.HeaderLength())
	if inner[0]>>4 != 4 || hl < header.IPv4MinimumSize || len(inner) < hl+8 {
		return icmpError{}, false
	}
	ie.local = netip.AddrFrom4(inner.SourceAddress().As4())
	ie.dst.IP = netip.AddrFrom4(inner.DestinationAddress().As4())
	ie.proto = inner.Protocol()
	ie.transport(inner[hl:])
	return ie, true
}

func parseICMPv6Error(b []byte) (icmpError, bool) {
	ip := header.IPv6(b)
	if !ip.IsValid(len(b)) || ip.NextHeader() != unix.IPPROTO_ICMPV6 {
		return icmpError{}, false
	}
	p := ip.Payload()
	if len(p) < 8+header.IPv6MinimumSize+8 {
		return icmpError{}, false
	}
	h := header.ICMPv6(p)
	ie := icmpError{errEntry: errEntry{origin: unix.SO_EE_ORIGIN_ICMP6, typ: uint8(h.Type()), code: uint8(h.Code()), v6: true}}
	switch h.Type() {
	case header.ICMPv6DstUnreachable:
		ie.errno, ie.hard = unreachable6Errno(ie.code)
	case header.ICMPv6PacketTooBig:
		ie.errno, ie.info = unix.EMSGSIZE, h.MTU()
	case header.ICMPv6TimeExceeded:
		ie.errno = unix.EHOSTUNREACH
	case header.ICMPv6ParamProblem:
		ie.errno, ie.hard, ie.info = unix.EPROTO, true, h.TypeSpecific()
	default:
		return icmpError{}, false
	}
	ie.offender = netip.AddrFrom16(ip.SourceAddress().As16())
	inner := header.IPv6(p[8:])
	if inner[0]>>4 != 6 {
		return icmpError{}, false
	}
	ie.local = netip.AddrFrom16(inner.SourceAddress().As16())
	ie.dst.IP = netip.AddrFrom16(inner.DestinationAddress().As16())
	ie.proto = inner.NextHeader()
	ie.transport(inner[header.IPv6MinimumSize:])
	return ie, true
}

// transport reads the first 8 bytes of the transport header, and keeps what
// follows them.
func (ie *icmpError) transport(b []byte) {
	switch ie.proto {
	case unix.IPPROTO_UDP, unix.IPPROTO_TCP:
		ie.sport, ie.dport = be16(b), be16(b[2:])
		ie.dst.Port = ie.dport
		ie.payload = b[8:]
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		ie.sport = be16(b[4:])
		ie.payload = b
	default:
		ie.payload = b
	}
	ie.payload = append([]byte(nil), ie.payload...)
}

func be16(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }

// unreachableErrno is icmp_err_convert of the kernel.
func unreachableErrno(code uint8) (err stack.Errno, hard bool) {
	switch code {
	case 0, 6, 9, 11:
		return unix.ENETUNREACH, code == 6 || code == 9
	case 2:
		return unix.ENOPROTOOPT, true
	case 3:
		return unix.ECONNREFUSED, true
	case 4:
		return unix.EMSGSIZE, false
	case 5:
		return unix.EOPNOTSUPP, false
	case 7:
		return unix.EHOSTDOWN, true
	case 8:
		return unix.ENONET, true
	case 10, 13, 14, 15:
		return unix.EHOSTUNREACH, true
	default:
		return unix.EHOSTUNREACH, false
	}
}

// unreachable6Errno is tab_unreach of the kernel's net/ipv6/icmp.c.
func unreachable6Errno(code uint8) (err stack.Errno, hard bool) {
	switch code {
	case 0:
		return unix.ENETUNREACH, false
	case 1, 5, 6:
		return unix.EACCES, true
	case 2, 3:
		return unix.EHOSTUNREACH, false
	case 4:
		return unix.ECONNREFUSED, true
	default:
		return unix.EPROTO, true
	}
}

// handleICMPError queues the error if it is about this socket. It is called
// from netstack's goroutines, perhaps while this socket is sending to itself,
// so it may not wait for the socket's lock: the queue has its own.
func (d *dgramSock) handleICMPError(ie *icmpError) {
	d.errq.mu.Lock()
	told := d.errq.take(ie)
	d.errq.mu.Unlock()
	if told {
		d.wake()
	}
}

// errQueue is the error queue of a datagram socket, with what is needed to
// tell which errors are its.
type errQueue struct {
	mu   sync.Mutex
	in   bool // the registry
	on4  bool // IP_RECVERR
	on6  bool // IPV6_RECVERR
	list []errEntry
	err  stack.Errno // sk_err of the latest

	kind      kind
	proto     uint8
	local     netip.Addr // unspecified or invalid: any
	port      uint16
	connected bool
	peer      netip.Addr
	peerPort  uint16
}

// take takes the error as udp_err, ping_err and raw_err do: into the queue where
// IP_RECVERR asks for it; else a hard one of a connected socket is the socket's
// own. It reports whether the socket is to be told.
func (q *errQueue) take(ie *icmpError) bool {
	if !q.matches(ie) {
		return false
	}
	switch {
	case ie.v6 && q.on6 || !ie.v6 && q.on4:
		if len(q.list) < maxErrors {
			q.list = append(q.list, ie.errEntry)
			q.err = ie.errno
		}
		return true
	case !q.connected || !ie.hard:
		return false
	case q.kind == kindUDP && ie.errno == unix.ECONNREFUSED:
		return false // netstack tells it
	}
	q.err = ie.errno
	return true
}

// matches says whether the error is about a packet of this socket.
func (q *errQueue) matches(ie *icmpError) bool {
	if q.proto != ie.proto {
		return false
	}
	if ip := unmap(q.local); ip.IsValid() && !ip.IsUnspecified() && ip != ie.local {
		return false
	}
	if q.connected && unmap(q.peer) != ie.dst.IP {
		return false
	}
	switch q.kind {
	case kindUDP:
		return q.port == ie.sport && (!q.connected || q.peerPort == ie.dport)
	case kindPing:
		return q.port == ie.sport
	default:
		return true
	}
}
