package transport

import (
	"encoding/binary"
	"net/netip"
)

// Checksum is the Internet checksum (RFC 1071) of a packet, its ports included,
// and of the pseudo header (RFC 9293 3.1, RFC 8200 8.1) for the protocol number.
// Over a packet whose checksum is filled in and right it is 0.
func Checksum(src, dst netip.Addr, number uint8, pkt []byte) uint16 {
	s := sum(0, src.AsSlice())
	s = sum(s, dst.AsSlice())
	s += uint64(number) + uint64(len(pkt))
	s = sum(s, pkt)
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// sum adds the 16-bit words of b; a last odd byte is the high one of a word.
func sum(s uint64, b []byte) uint64 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}
