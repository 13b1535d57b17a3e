package plot

import (
	"encoding/binary"
	"net/netip"
)

// The flags of a TCP header, RFC 9293 3.1.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
)

// segment is what a TCP packet says, from a capture or a log.
type segment struct {
	t        int64 // ns since 1970
	src, dst netip.AddrPort
	flags    uint8
	seq, ack uint32
	len      int    // payload on the wire, bytes
	ipLen    int    // the IP packet, bytes
	hdrLen   int    // its headers, IP and TCP
	wnd      uint32 // as in the header, unless scaled
	scaled   bool
	wscale   int8   // of a SYN; -1: no option
	mss      uint16 // of a SYN; 0: no option
	hasTS    bool
	ts       [2]uint32 // value, echo reply
	nsack    int
	sack     [4][2]uint32
	ce       bool // congestion experienced, RFC 3168

	host string // of a log
	conn uint64 // of a log; 0: of a capture
	segs int    // of a log: how many segments were one packet; 0: not known
}

// seqLen is how much of the sequence space the segment takes.
func (s *segment) seqLen() uint64 {
	n := uint64(s.len)
	if s.flags&flagSYN != 0 {
		n++
	}
	if s.flags&flagFIN != 0 {
		n++
	}
	return n
}

// Link types, https://www.ietf.org/archive/id/draft-ietf-opsawg-pcaplinktype.
const (
	linkNull  = 0
	linkEther = 1
	linkRaw12 = 12 // DLT_RAW of some systems
	linkRaw14 = 14
	linkRaw   = 101
	linkLoop  = 108
	linkSLL   = 113
	linkIPv4  = 228
	linkIPv6  = 229
	linkSLL2  = 276
)

// stripLink gives the IP packet inside a frame, nil if there is none; known
// is whether the link type is one that this package reads.
func stripLink(linkType uint32, b []byte) (ip []byte, known bool) {
	etherType := func(off, next int) ([]byte, bool) {
		if len(b) < next {
			return nil, true
		}
		t := binary.BigEndian.Uint16(b[off:])
		for t == 0x8100 || t == 0x88a8 { // VLAN tags
			if len(b) < next+4 {
				return nil, true
			}
			t = binary.BigEndian.Uint16(b[next+2:])
			next += 4
		}
		if t != 0x0800 && t != 0x86dd {
			return nil, true
		}
		return b[next:], true
	}
	switch linkType {
	case linkRaw, linkRaw12, linkRaw14, linkIPv4, linkIPv6:
		return b, true
	case linkEther:
		return etherType(12, 14)
	case linkSLL:
		return etherType(14, 16)
	case linkSLL2:
		return etherType(0, 20)
	case linkNull, linkLoop:
		if len(b) < 4 {
			return nil, true
		}
		return b[4:], true
	}
	return nil, false
}

// decodeIP fills s from an IP packet, of which the end may be missing; false
// if it has no TCP header. s.ipLen is as the capture says; the IP header knows
// better, unless it says 0 (TSO, BIG TCP).
func decodeIP(b []byte, s *segment) bool {
	if len(b) < 20 {
		return false
	}
	var src, dst netip.Addr
	var proto uint8
	var hdr int
	switch b[0] >> 4 {
	case 4:
		hdr = int(b[0]&0xf) * 4
		if hdr < 20 || len(b) < hdr || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return false // or a fragment that is not the first
		}
		if n := int(binary.BigEndian.Uint16(b[2:])); n > 0 {
			s.ipLen = n
		}
		s.ce = b[1]&3 == 3
		proto = b[9]
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	case 6:
		if len(b) < 40 {
			return false
		}
		if n := int(binary.BigEndian.Uint16(b[4:])); n > 0 {
			s.ipLen = n + 40
		}
		s.ce = b[1]>>4&3 == 3
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		var ok bool
		if proto, hdr, ok = skipExtensions(b); !ok {
			return false
		}
	}
	if proto != 6 || len(b) < hdr+20 {
		return false
	}
	return decodeTCP(b[hdr:], hdr, src, dst, s)
}

// skipExtensions passes over IPv6's extension headers, RFC 8200 4.
func skipExtensions(b []byte) (proto uint8, hdr int, ok bool) {
	proto, hdr = b[6], 40
	for {
		switch proto {
		case 0, 43, 60: // hop-by-hop, routing, destination options
			if len(b) < hdr+2 {
				return 0, 0, false
			}
			proto, hdr = b[hdr], hdr+8+8*int(b[hdr+1])
		case 44: // fragment
			if len(b) < hdr+8 || binary.BigEndian.Uint16(b[hdr+2:])&0xfff8 != 0 {
				return 0, 0, false
			}
			proto, hdr = b[hdr], hdr+8
		default:
			return proto, hdr, true
		}
	}
}

// decodeTCP fills s from a TCP header that begins at ipHdr of its packet.
func decodeTCP(b []byte, ipHdr int, src, dst netip.Addr, s *segment) bool {
	off := int(b[12]>>4) * 4
	if off < 20 {
		return false
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	s.seq, s.ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	s.flags = b[13]
	s.wnd = uint32(binary.BigEndian.Uint16(b[14:]))
	s.hdrLen = ipHdr + off
	s.len = s.ipLen - s.hdrLen
	if s.len < 0 || s.len > maxBlock {
		return false
	}
	s.wscale = -1
	decodeOptions(b[20:min(off, len(b))], s)
	return true
}

// decodeOptions reads RFC 9293's, 7323's and 2018's.
func decodeOptions(b []byte, s *segment) {
	for len(b) > 0 {
		kind := b[0]
		if kind == 0 {
			return
		}
		if kind == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return
		}
		v := b[2:b[1]]
		switch {
		case kind == 2 && len(v) == 2 && s.flags&flagSYN != 0:
			s.mss = binary.BigEndian.Uint16(v)
		case kind == 3 && len(v) == 1 && s.flags&flagSYN != 0:
			s.wscale = int8(min(v[0], 14))
		case kind == 5:
			for ; len(v) >= 8 && s.nsack < len(s.sack); v = v[8:] {
				s.sack[s.nsack] = [2]uint32{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])}
				s.nsack++
			}
		case kind == 8 && len(v) == 8:
			s.hasTS = true
			s.ts = [2]uint32{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])}
		}
		b = b[b[1]:]
	}
}
