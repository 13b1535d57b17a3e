package netstack

import (
	"encoding/binary"
	"io"
	"math/rand"
	"sync"
)

// randomness gives netstack's two sources for one reader; nil for nil, which
// is netstack's own choice.
func randomness(r io.Reader) (io.Reader, rand.Source) {
	if r == nil {
		return nil, nil
	}
	l := &lockedReader{r: r}
	return l, l
}

// lockedReader is a reader, and a source of random numbers, for several
// goroutines.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
	b  [8]byte
}

// Read fills p.
func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return io.ReadFull(l.r, p)
}

// Int63 implements rand.Source. A reader that fails is a programming error:
// nothing random can be had without it.
func (l *lockedReader) Int63() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := io.ReadFull(l.r, l.b[:]); err != nil {
		panic("netstack: Config.Rand: " + err.Error())
	}
	return int64(binary.LittleEndian.Uint64(l.b[:]) >> 1)
}

// Seed implements rand.Source, and does nothing.
func (l *lockedReader) Seed(int64) {}
