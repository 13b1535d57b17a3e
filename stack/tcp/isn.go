package tcp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"time"
)

// InitialSeq is the initial sequence number of a connection: a clock of 4 us
// and a keyed hash of the addresses (RFC 6528 3).
func InitialSeq(cfg *Config, local, remote netip.AddrPort, now time.Duration) Seq {
	return Seq(uint32(hashAddrs(cfg.Secret, local, remote)) + uint32(now/(4*time.Microsecond)))
}

// tsOffset is where a connection's timestamps begin (RFC 7323 5.4).
func tsOffset(cfg *Config, iss Seq) uint32 {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(iss))
	return uint32(sipHash(cfg.Secret, b[:]))
}

func hashAddrs(key [2]uint64, local, remote netip.AddrPort) uint64 {
	var b [36]byte
	l, r := local.Addr().As16(), remote.Addr().As16()
	copy(b[:], l[:])
	copy(b[16:], r[:])
	binary.BigEndian.PutUint16(b[32:], local.Port())
	binary.BigEndian.PutUint16(b[34:], remote.Port())
	return sipHash(key, b[:])
}

// sipHash is SipHash-2-4 (Aumasson and Bernstein, 2012).
func sipHash(key [2]uint64, b []byte) uint64 {
	v0 := key[0] ^ 0x736f6d6570736575
	v1 := key[1] ^ 0x646f72616e646f6d
	v2 := key[0] ^ 0x6c7967656e657261
	v3 := key[1] ^ 0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	block := func(m uint64) {
		v3 ^= m
		round()
		round()
		v0 ^= m
	}
	last := uint64(len(b)) << 56
	for ; len(b) >= 8; b = b[8:] {
		block(binary.LittleEndian.Uint64(b))
	}
	for i, x := range b {
		last |= uint64(x) << (8 * i)
	}
	block(last)
	v2 ^= 0xff
	for range 4 {
		round()
	}
	return v0 ^ v1 ^ v2 ^ v3
}
