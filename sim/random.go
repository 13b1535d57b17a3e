package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// Seed derives the seed of one thing in a simulation from the simulation's: what
// it is ("host", "link") and its name. A thing's randomness so stays the same
// when others come and go.
func Seed(seed uint64, what, name string) [32]byte {
	b := binary.LittleEndian.AppendUint64(nil, seed)
	b = append(b, what...)
	b = append(b, 0)
	return sha256.Sum256(append(b, name...))
}

// seed64 is the beginning of Seed.
func seed64(seed uint64, what, name string) uint64 {
	s := Seed(seed, what, name)
	return binary.LittleEndian.Uint64(s[:])
}

// random is a stream of random bytes; it implements io.Reader.
type random struct{ *rand.ChaCha8 }

func newRandom(seed uint64, what, name string) random {
	return random{rand.NewChaCha8(Seed(seed, what, name))}
}

// exponential is a number of the exponential distribution with mean 1, by von
// Neumann's comparisons (1951), which are the same on every machine; a logarithm
// is not.
func (r random) exponential() float64 {
	uniform := func() float64 { return float64(r.Uint64()>>11) * 0x1p-53 }
	for k := 0.0; ; k++ {
		first := uniform()
		odd := true
		for least := first; ; odd = !odd {
			u := uniform()
			if u >= least {
				break
			}
			least = u
		}
		if odd {
			return k + first
		}
	}
}

// digest is a fast hash of a packet: 128 bits, not for adversaries. It is
// multiplication and folding of 16 bytes at a time, in two lanes.
func digest(p []byte) (a, b uint64) {
	a, b = 0x9e3779b97f4a7c15^uint64(len(p)), 0xc2b2ae3d27d4eb4f
	for len(p) >= 32 {
		a = fold(a^binary.LittleEndian.Uint64(p), 0xa0761d6478bd642f^binary.LittleEndian.Uint64(p[8:]))
		b = fold(b^binary.LittleEndian.Uint64(p[16:]), 0xe7037ed1a0b428db^binary.LittleEndian.Uint64(p[24:]))
		p = p[32:]
	}
	var tail [32]byte
	copy(tail[:], p)
	a = fold(a^binary.LittleEndian.Uint64(tail[:]), 0x8ebc6af09c88c6e3^binary.LittleEndian.Uint64(tail[8:]))
	b = fold(b^binary.LittleEndian.Uint64(tail[16:]), 0x589965cc75374cc3^binary.LittleEndian.Uint64(tail[24:]))
	return a, b
}

func fold(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}
