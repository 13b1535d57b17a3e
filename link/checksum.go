package link

import (
	"encoding/binary"
	"math/bits"
)

// Checksum is the Internet checksum's sum (RFC 1071) of b, not complemented,
// begun with initial: the value of an earlier part, or of the pseudo header.
// A part before the last must have an even length.
func Checksum(b []byte, initial uint16) uint16 {
	// The sum commutes with swapping bytes (RFC 1071 2.B), so whole words are
	// added in little-endian order and the result is swapped once.
	var acc, c uint64
	for len(b) >= 32 {
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[8:]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[16:]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[24:]), c)
		acc += c // cannot carry again: acc is at most 2^64-2 after a carry
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc += c
		b = b[8:]
	}
	if len(b) > 0 {
		var tail [8]byte
		copy(tail[:], b)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(tail[:]), 0)
		acc += c
	}
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	s := uint32(acc>>16) + uint32(acc&0xffff)
	s = s>>16 + s&0xffff
	s = uint32(bits.ReverseBytes16(uint16(s))) + uint32(initial)
	return uint16(s>>16 + s&0xffff)
}

// pseudoSum is the sum of TCP's pseudo header (RFC 9293 3.1, RFC 8200 8.1) for a
// segment of n bytes in the IP packet whose header begins ip. The
// caller has checked that the header is whole.
func pseudoSum(ip []byte, n int) uint16 {
	addrs := ip[12:20]
	if ip[0]>>4 == 6 {
		addrs = ip[8:40]
	}
	s := uint32(Checksum(addrs, protoTCP)) + uint32(n>>16) + uint32(n&0xffff)
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s&0xffff)
}
