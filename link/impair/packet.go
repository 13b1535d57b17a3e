package impair

import (
	"encoding/binary"
	"time"

	"github.com/alptrace/alptrace/link"
)

// Packet is one packet on its way through a [Core].
type Packet struct {
	Data []byte // the whole packet, from the link header
	link.Offload
	At time.Duration // when it leaves, by the Core's time

	queued time.Duration // when it joined the queue
	size   int           // what it takes on the line, bytes
	next   *Packet       // in the queue or the free list

	// Of a segment cut by the Core: which packet it is of, and its place in it.
	group  uint64 // 0: none, or changed since
	index  int
	layout layout
}

// layout is what a cut packet's segments have in common.
type layout struct {
	ip, tcp, payload int // offsets, bytes
	mss              int
	gso              link.GSO
	valid            bool // CsumValid
}

// Lengths and numbers of headers.
const (
	ethLen  = 14
	vlanLen = 4
	ip4Len  = 20
	ip6Len  = 40

	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoSCTP    = 132
	protoUDPLite = 136
)

// netOffset is where the network header begins, and the version of IP, 0 if it
// is none or not whole.
func netOffset(b []byte, m link.Medium) (off, version int) {
	if m == link.Ethernet {
		if len(b) < ethLen {
			return len(b), 0
		}
		off = ethLen
		typ := binary.BigEndian.Uint16(b[12:])
		for n := 0; n < 2 && (typ == 0x8100 || typ == 0x88a8) && len(b) >= off+vlanLen; n++ {
			typ = binary.BigEndian.Uint16(b[off+2:])
			off += vlanLen
		}
		if typ != 0x0800 && typ != 0x86dd {
			return off, 0
		}
	}
	if len(b) <= off {
		return off, 0
	}
	switch v := b[off] >> 4; {
	case v == 4 && len(b) >= off+ip4Len, v == 6 && len(b) >= off+ip6Len:
		return off, int(v)
	}
	return off, 0
}

// ECN code points (RFC 3168 5).
const (
	ecnMask = 3
	ecnCE   = 3
)

// markCE sets Congestion Experienced, and corrects the checksum of an IPv4
// header. It reports false for a packet that is not ECN-capable.
func markCE(b []byte, m link.Medium) bool {
	off, v := netOffset(b, m)
	ip := b[off:]
	switch v {
	case 4:
		old := ip[1] & ecnMask
		if old == 0 {
			return false
		}
		ip[1] |= ecnCE
		// RFC 1624 (3): HC' = ~(~HC + ~m + m').
		sum := uint32(^binary.BigEndian.Uint16(ip[10:])) + uint32(ecnCE-old)
		binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
		return true
	case 6:
		if ip[1]>>4&ecnMask == 0 {
			return false
		}
		ip[1] |= ecnCE << 4
		return true
	}
	return false
}

// flowHash is a number for the packet's flow: addresses, protocol and, where
// they can be seen, ports. All fragments of a packet have the same.
func flowHash(b []byte, m link.Medium, seed uint64) uint64 {
	off, v := netOffset(b, m)
	ip := b[off:]
	h := seed
	var proto byte
	var transport []byte
	switch v {
	case 4:
		h = mix(h, binary.BigEndian.Uint64(ip[12:]))
		proto = ip[9]
		if n := int(ip[0]&15) * 4; n >= ip4Len && len(ip) >= n && binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 {
			transport = ip[n:]
		}
	case 6:
		for i := 8; i < ip6Len; i += 8 {
			h = mix(h, binary.BigEndian.Uint64(ip[i:]))
		}
		proto, transport = skipExtensions(ip)
	default:
		for i := 0; i+2 <= min(off, ethLen); i += 2 {
			h = mix(h, uint64(binary.BigEndian.Uint16(b[i:])))
		}
	}
	h = mix(h, uint64(proto))
	switch proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if len(transport) >= 4 {
			h = mix(h, uint64(binary.BigEndian.Uint32(transport)))
		}
	}
	return h
}

// skipExtensions is the transport protocol of an IPv6 packet and its header,
// nil if it is in another fragment or cannot be found.
func skipExtensions(ip []byte) (proto byte, transport []byte) {
	proto, b := ip[6], ip[ip6Len:]
	for range 8 {
		switch proto {
		case 0, 43, 60, 135: // hop-by-hop, routing, destination options, mobility
			if len(b) < 8 || len(b) < int(b[1])*8+8 {
				return proto, nil
			}
			proto, b = b[0], b[int(b[1])*8+8:]
		case 44: // fragment
			if len(b) < 8 {
				return proto, nil
			}
			// The first fragment's ports are not in the others.
			return b[0], nil
		default:
			return proto, b
		}
	}
	return proto, nil
}

// mix adds v to the hash h (the finalizer of SplitMix64, Steele et al. 2014).
func mix(h, v uint64) uint64 {
	h += v + 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// fifo is a list of packets.
type fifo struct {
	head, tail *Packet
	n, bytes   int
}

func (f *fifo) push(p *Packet) {
	p.next = nil
	if f.tail == nil {
		f.head = p
	} else {
		f.tail.next = p
	}
	f.tail = p
	f.n++
	f.bytes += p.size
}

// pop is nil when f is empty.
func (f *fifo) pop() *Packet {
	p := f.head
	if p == nil {
		return nil
	}
	f.head, p.next = p.next, nil
	if f.head == nil {
		f.tail = nil
	}
	f.n--
	f.bytes -= p.size
	return p
}
