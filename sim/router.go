package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
)

// Router forwards IPv4 and IPv6 between IP links (RFC 1812, RFC 8200): longest
// prefix, TTL, fragmentation of IPv4, ICMP errors, and answers to pings.
type Router struct {
	Name   string
	ports  []port
	routes []route             // longest prefix first
	cache  map[netip.Addr]int  // destination to index in routes, -1: none
	own    map[netip.Addr]bool // the router's addresses
	id     uint16              // of the ICMP packets that it sends
	pkt    [1]link.Packet      // scratch
	bufs   [1][]byte
	count  RouterStats
}

// port is an interface of a router.
type port struct {
	link   link.Link
	v4, v6 netip.Addr // the first address of each family, of ICMP errors
}

type route struct {
	dst  netip.Prefix
	port int // -1: the router's own
}

// RouterStats count the packets of a router.
type RouterStats struct {
	Forwarded  uint64 `json:"forwarded"`
	Fragmented uint64 `json:"fragmented"` // packets that were cut
	Expired    uint64 `json:"expired"`    // dropped: TTL
	Unroutable uint64 `json:"unroutable"` // dropped: no way
	TooBig     uint64 `json:"too_big"`    // dropped: larger than the link, not to be cut
	Malformed  uint64 `json:"malformed"`
	Local      uint64 `json:"local"` // for the router itself
}

func (s *Sim) addRouter(n *topo.Node, links []link.Link) error {
	r := &Router{Name: n.Name, cache: make(map[netip.Addr]int), own: make(map[netip.Addr]bool)}
	for i, l := range links {
		p := port{link: l}
		for _, a := range n.Ifaces[i].Addrs {
			r.own[a.Addr()] = true
			r.routes = append(r.routes, route{a.Masked(), i})
			switch {
			case a.Addr().Is4() && !p.v4.IsValid():
				p.v4 = a.Addr()
			case a.Addr().Is6() && !p.v6.IsValid():
				p.v6 = a.Addr()
			}
		}
		r.ports = append(r.ports, p)
	}
	for _, x := range n.Routes {
		if x.Iface < 0 || x.Iface >= len(links) {
			return fmt.Errorf("router %s: route to %s by interface %d of %d", n.Name, x.Dst, x.Iface, len(links))
		}
		r.routes = append(r.routes, route{x.Dst.Masked(), x.Iface})
	}
	slices.SortStableFunc(r.routes, func(a, b route) int { return b.dst.Bits() - a.dst.Bits() })
	s.routers = append(s.routers, r)
	for i, p := range r.ports {
		s.closers = append(s.closers, p.link.Close)
		if err := p.link.Start(func(pkts []link.Packet) { r.receive(i, pkts) }); err != nil {
			return err
		}
	}
	return nil
}

// way is the port to an address, -1 if there is none.
func (r *Router) way(dst netip.Addr) int {
	if i, ok := r.cache[dst]; ok {
		return i
	}
	to := -1
	for _, x := range r.routes {
		if x.dst.Contains(dst) {
			to = x.port
			break
		}
	}
	r.cache[dst] = to
	return to
}

func (r *Router) receive(from int, pkts []link.Packet) {
	for i := range pkts {
		r.forward(from, &pkts[i])
	}
}

// forward sends a packet on, which it may change in place: it is its last user.
func (r *Router) forward(from int, p *link.Packet) {
	b := p.Bufs[0]
	h, ok := parseIP(b)
	if !ok {
		r.count.Malformed++
		return
	}
	if r.own[h.dst] {
		r.count.Local++
		r.answer(from, b, h)
		return
	}
	if h.dst.IsMulticast() || h.dst.IsLinkLocalUnicast() || h.dst.IsUnspecified() || h.dst.IsLoopback() {
		r.count.Unroutable++ // quietly: RFC 1812 4.3.2.7
		return
	}
	if h.ttl <= 1 {
		r.count.Expired++
		r.refuse(from, b, h, timeExceeded, 0)
		return
	}
	to := r.way(h.dst)
	if to < 0 {
		r.count.Unroutable++
		r.refuse(from, b, h, noRoute, 0)
		return
	}
	h.decrement(b)
	out := &r.ports[to]
	if mtu := out.link.MTU(); len(b) > mtu {
		r.large(from, out, p, h, mtu)
		return
	}
	r.count.Forwarded++
	_, _ = out.link.Send(r.one(b, p.Offload)) // a full network card is the wire's own affair
}

// one is a packet alone.
func (r *Router) one(b []byte, o link.Offload) []link.Packet {
	r.bufs[0] = b
	r.pkt[0] = link.Packet{Bufs: r.bufs[:], Offload: o}
	return r.pkt[:]
}

// large cuts a packet that is larger than the MTU, or tells its sender.
func (r *Router) large(from int, out *port, p *link.Packet, h ipHeader, mtu int) {
	b := p.Bufs[0]
	if h.v6 || h.dontFragment {
		r.count.TooBig++
		r.refuse(from, b, h, tooBig, mtu)
		return
	}
	o := p.Offload
	_ = link.Complete(b, &o, link.IP) // malformed: the receiver will see
	parts := fragment4(b, h.length, mtu)
	if parts == nil {
		r.count.Malformed++
		return
	}
	r.count.Forwarded++
	r.count.Fragmented++
	for _, f := range parts {
		_, _ = out.link.Send(r.one(f, link.Offload{}))
	}
}

// ipHeader is what a router looks at.
type ipHeader struct {
	src, dst     netip.Addr
	v6           bool
	length       int // of the header, bytes
	ttl          byte
	proto        byte
	dontFragment bool
	first        bool // not a later fragment
}

// parseIP reads the header of a packet, and checks it (RFC 1812 5.2.2).
func parseIP(b []byte) (h ipHeader, ok bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		h.length = int(b[0]&15) * 4
		total := int(binary.BigEndian.Uint16(b[2:]))
		if h.length < 20 || total < h.length || total > len(b) || link.Checksum(b[:h.length], 0) != 0xffff {
			return h, false
		}
		frag := binary.BigEndian.Uint16(b[6:])
		h.ttl, h.proto = b[8], b[9]
		h.dontFragment, h.first = frag&0x4000 != 0, frag&0x1fff == 0
		h.src, h.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		return h, true
	case len(b) >= 40 && b[0]>>4 == 6:
		if 40+int(binary.BigEndian.Uint16(b[4:])) > len(b) {
			return h, false
		}
		h.v6, h.length, h.first = true, 40, true
		h.proto, h.ttl = b[6], b[7]
		h.src, h.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		return h, true
	}
	return h, false
}

// decrement takes one from the TTL, and corrects the checksum (RFC 1624).
func (h *ipHeader) decrement(b []byte) {
	if h.v6 {
		b[7]--
		return
	}
	b[8]--
	sum := uint32(^binary.BigEndian.Uint16(b[10:])) + 0xfeff // ~0x0100
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
}

// fragment4 cuts an IPv4 packet into fragments (RFC 791 3.2); options go into
// all of them. nil if the MTU leaves no room.
func fragment4(b []byte, hl, mtu int) [][]byte {
	room := (mtu - hl) &^ 7
	if room <= 0 {
		return nil
	}
	total := int(binary.BigEndian.Uint16(b[2:]))
	field := binary.BigEndian.Uint16(b[6:])
	const more = 0x2000
	offset := int(field&0x1fff) * 8
	var parts [][]byte
	for data := b[hl:total]; len(data) > 0; {
		n := min(room, len(data))
		f := slices.Concat(b[:hl], data[:n])
		data = data[n:]
		flags := field & more
		if len(data) > 0 {
			flags = more
		}
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		binary.BigEndian.PutUint16(f[6:], flags|uint16(offset/8))
		f[10], f[11] = 0, 0
		binary.BigEndian.PutUint16(f[10:], ^link.Checksum(f[:hl], 0))
		parts = append(parts, f)
		offset += n
	}
	return parts
}
