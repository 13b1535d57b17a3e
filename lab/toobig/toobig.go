// Package toobig completes the ICMPv6 errors of routers that are netstack.
package toobig

import (
	"encoding/binary"
	"net/netip"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
)

// router is a router's end of a link.
type router struct {
	link.Link
	node *topo.Node
}

// Wrap completes what a router sends by a link: netstack leaves the MTU out of its
// ICMPv6 "packet too big" (RFC 4443 3.2), without which no sender can do better.
func Wrap(l link.Link, n *topo.Node) link.Link { return &router{l, n} }

// Unwrap is the link underneath.
func (t *router) Unwrap() link.Link { return t.Link }

// Send sends the packets.
func (t *router) Send(pkts []link.Packet) (int, error) {
	for i := range pkts {
		t.complete(&pkts[i])
	}
	return t.Link.Send(pkts)
}

// Offsets in a "packet too big", from its IPv6 header: the message follows that
// header, the refused packet the message.
const (
	tooBigType, tooBigCsum, tooBigMTU = 40, 42, 44
	tooBigDst                         = 48 + 24 // of the refused packet
	tooBigLen                         = 48 + 40
	icmpv6, packetTooBig              = 58, 2
)

// complete fills in the MTU, in a copy.
func (t *router) complete(p *link.Packet) {
	off := 0
	if t.Medium() == link.Ethernet {
		off = 14
	}
	if p.Len() < off+tooBigLen {
		return
	}
	var start [14 + tooBigMTU]byte
	n := 0
	for _, b := range p.Bufs {
		n += copy(start[n:off+tooBigMTU], b)
	}
	ip := start[off:]
	if ip[0]>>4 != 6 || ip[6] != icmpv6 || ip[tooBigType] != packetTooBig {
		return
	}
	whole := p.AppendTo(nil)
	ip = whole[off:]
	mtu := uint32(t.mtuTo(netip.AddrFrom16([16]byte(ip[tooBigDst:tooBigLen]))))
	if binary.BigEndian.Uint32(ip[tooBigMTU:]) != 0 || mtu == 0 {
		return
	}
	binary.BigEndian.PutUint32(ip[tooBigMTU:], mtu)
	// RFC 1624: the field was 0, so the sum grows by what it is now.
	sum := uint32(^binary.BigEndian.Uint16(ip[tooBigCsum:])) + mtu>>16 + mtu&0xffff
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[tooBigCsum:], ^uint16(sum))
	p.Bufs = [][]byte{whole}
}

// mtuTo is the MTU of the link by which the router sends to a; 0 if it does not.
func (t *router) mtuTo(a netip.Addr) int {
	best, mtu := -1, 0
	for _, i := range t.node.Ifaces {
		for _, p := range i.Addrs {
			if p.Masked().Contains(a) && p.Bits() > best {
				best, mtu = p.Bits(), i.Link.MTU
			}
		}
	}
	for _, r := range t.node.Routes {
		if r.Dst.Contains(a) && r.Dst.Bits() > best {
			best, mtu = r.Dst.Bits(), t.node.Ifaces[r.Iface].Link.MTU
		}
	}
	return mtu
}
