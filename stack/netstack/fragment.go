package netstack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/alptrace/alptrace/link"
)

// cutter is a link that cuts packets which exceed the MTU of their path into
// fragments, so that netstack need not: it would cut by the link's MTU, and
// gives all fragments of IPv4 the same identification. A program that wants no
// fragments has been answered EMSGSIZE before. TCP keeps to the path MTU by
// itself, but knows none where loopback addresses are concerned; its segments
// are left to the link's segmentation.
type cutter struct {
	link.Link
	// pathMTU is the MTU of the path to an address in bytes, 0 if there is
	// no path.
	pathMTU func(dst netip.Addr) int
	// id is a random number to tell the packets' fragments apart by.
	id func() uint32
}

// MTU is that of the largest IPv4 packet: nothing is too large.
func (c *cutter) MTU() int { return link.MaxPacket }

// Send cuts what must be and sends.
func (c *cutter) Send(pkts []link.Packet) (int, error) {
	first := 0 // of those not sent
	for i := range pkts {
		c.segment(&pkts[i])
		parts := c.cut(&pkts[i])
		if parts == nil {
			continue
		}
		if n, err := c.Link.Send(pkts[first:i]); err != nil {
			return first + n, err
		}
		if _, err := c.Link.Send(parts); err != nil {
			return i, err
		}
		first = i + 1
	}
	n, err := c.Link.Send(pkts[first:])
	return first + n, err
}

// segment asks the link to cut a TCP packet that is larger than the link's MTU.
func (c *cutter) segment(p *link.Packet) {
	mtu := c.Link.MTU()
	if !p.NeedsCsum || p.GSO != link.GSONone || p.CsumOffset != header.TCPChecksumOffset || p.Len() <= mtu || int(p.HdrLen) >= mtu {
		return
	}
	p.GSO, p.GSOSize = link.GSOTCP4, uint16(mtu)-p.HdrLen
	if p.Bufs[0][0]>>4 == 6 {
		p.GSO = link.GSOTCP6
	}
}

// cut gives the fragments of a packet, nil if it need not be cut.
func (c *cutter) cut(p *link.Packet) []link.Packet {
	size := p.Len()
	if p.GSO != link.GSONone || p.NeedsCsum || size <= minPathMTU || len(p.Bufs) == 0 {
		return nil
	}
	var dst netip.Addr
	var proto uint8
	v6 := false
	switch ip := p.Bufs[0]; {
	case len(ip) >= header.IPv4MinimumSize && ip[0]>>4 == 4:
		dst, proto = netip.AddrFrom4([4]byte(ip[16:20])), ip[9]
	case len(ip) >= header.IPv6MinimumSize && ip[0]>>4 == 6:
		dst, proto, v6 = netip.AddrFrom16([16]byte(ip[24:40])), ip[6], true
	}
	if !dst.IsValid() || proto == unix.IPPROTO_TCP {
		return nil
	}
	mtu := c.pathMTU(dst)
	if mtu == 0 || size <= mtu {
		return nil
	}
	flat := p.AppendTo(make([]byte, 0, size))
	var parts [][]byte
	if v6 {
		parts = fragment6(flat, mtu, c.id())
	} else {
		parts = fragment4(flat, mtu, uint16(c.id()))
	}
	pkts := make([]link.Packet, 0, len(parts))
	for _, b := range parts {
		pkts = append(pkts, link.Packet{Bufs: [][]byte{b}})
	}
	return pkts
}

// fragment4 cuts an IPv4 packet, which may be a fragment itself, into
// fragments of at most mtu bytes (RFC 791 3.2). id is used if the packet has
// none. Options are not copied into later fragments but stay in the first.
func fragment4(b []byte, mtu int, id uint16) [][]byte {
	h := header.IPv4(b)
	hl := int(h.HeaderLength())
	if hl < header.IPv4MinimumSize || hl > len(b) || mtu < hl+8 {
		return [][]byte{b}
	}
	if h.ID() != 0 {
		id = h.ID()
	}
	const more, units = 0x2000, 0x1fff // flags and offset in 8-byte units
	field := binary.BigEndian.Uint16(b[6:])
	offset := int(field&units) * 8
	var out [][]byte
	for data := b[hl:]; len(data) > 0; {
		size := min(len(data), (mtu-hl)&^7)
		f := make([]byte, 0, hl+size)
		f = append(append(f, b[:hl]...), data[:size]...)
		flags := field & more
		if size < len(data) {
			flags = more
		}
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		binary.BigEndian.PutUint16(f[4:], id)
		binary.BigEndian.PutUint16(f[6:], flags|uint16(offset/8))
		binary.BigEndian.PutUint16(f[10:], 0)
		binary.BigEndian.PutUint16(f[10:], ^checksum.Checksum(f[:hl], 0))
		out = append(out, f)
		data = data[size:]
		offset += size
	}
	return out
}

// fragment6 cuts an IPv6 packet, which may be a fragment itself but has no
// other extension header, into fragments of at most mtu bytes (RFC 8200 4.5).
// id is used if the packet is no fragment.
func fragment6(b []byte, mtu int, id uint32) [][]byte {
	const hl, fl = header.IPv6MinimumSize, header.IPv6FragmentHeaderSize
	if len(b) < hl || mtu < hl+fl+8 {
		return [][]byte{b}
	}
	next, data, offset, last := b[6], b[hl:], 0, true
	if next == unix.IPPROTO_FRAGMENT {
		if len(data) < fl {
			return [][]byte{b}
		}
		field := binary.BigEndian.Uint16(data[2:])
		next, id = data[0], binary.BigEndian.Uint32(data[4:])
		offset, last = int(field&^7), field&1 == 0
		data = data[fl:]
	}
	var out [][]byte
	for len(data) > 0 {
		size := min(len(data), (mtu-hl-fl)&^7)
		f := make([]byte, hl+fl, hl+fl+size)
		copy(f, b[:hl])
		f[6] = unix.IPPROTO_FRAGMENT
		f[hl] = next
		field := uint16(offset)
		if size < len(data) || !last {
			field |= 1
		}
		binary.BigEndian.PutUint16(f[hl+2:], field)
		binary.BigEndian.PutUint32(f[hl+4:], id)
		f = append(f, data[:size]...)
		binary.BigEndian.PutUint16(f[4:], uint16(len(f)-hl))
		out = append(out, f)
		data = data[size:]
		offset += size
	}
	return out
}
