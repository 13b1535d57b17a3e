package tcp

import (
	"io"
	"sync"
)

// recvBuffer has what waits to be read, in order.
type recvBuffer struct {
	chunks []Chunk
	head   int
	n      int  // bytes
	own    bool // the last chunk is memory of our own, which may have room
}

// Small payloads are copied together where there are many: the memory of a
// packet is larger than its payload.
const (
	smallPayload = 1024
	manyChunks   = 16
	ownBlock     = 8192
)

func (b *recvBuffer) append(data []Chunk) {
	for _, c := range data {
		b.n += len(c.B)
		if len(c.B) > smallPayload || len(b.chunks)-b.head < manyChunks {
			b.chunks = append(b.chunks, c)
			b.own = false
			continue
		}
		if last := len(b.chunks) - 1; !b.own || cap(b.chunks[last].B)-len(b.chunks[last].B) < len(c.B) {
			b.chunks = append(b.chunks, Chunk{B: make([]byte, 0, ownBlock)})
			b.own = true
		}
		last := &b.chunks[len(b.chunks)-1]
		last.B = append(last.B, c.B...)
		c.release()
	}
}

// gather is where small chunks are put together for a writer.
var gather = sync.Pool{New: func() any { return new([65536]byte) }}

// readTo moves bytes into w until there are no more or w takes less than it
// was given.
func (b *recvBuffer) readTo(w io.Writer) int {
	total := 0
	for b.n > 0 {
		c := b.chunks[b.head].B
		var n, want int
		if len(c) < 16384 && len(b.chunks)-b.head > 1 {
			buf := gather.Get().(*[65536]byte)
			want = b.peek(buf[:])
			n, _ = w.Write(buf[:want])
			gather.Put(buf)
		} else {
			want = len(c)
			n, _ = w.Write(c)
		}
		n = min(max(n, 0), want)
		b.discard(n)
		total += n
		if n < want {
			break
		}
	}
	return total
}

// peek copies bytes without taking them.
func (b *recvBuffer) peek(p []byte) int {
	n := 0
	for _, c := range b.chunks[b.head:] {
		k := copy(p[n:], c.B)
		n += k
		if k < len(c.B) {
			break
		}
	}
	return n
}

func (b *recvBuffer) discard(n int) {
	b.n -= n
	for n > 0 {
		c := &b.chunks[b.head]
		if n < len(c.B) {
			c.B = c.B[n:]
			return
		}
		n -= len(c.B)
		c.release()
		b.head++
	}
	if b.n == 0 {
		if cap(b.chunks) > 8 {
			b.chunks = nil
		}
		b.chunks, b.head, b.own = b.chunks[:0], 0, false
	} else if b.head > 64 && b.head > len(b.chunks)/2 {
		k := copy(b.chunks, b.chunks[b.head:])
		clear(b.chunks[k:])
		b.chunks, b.head = b.chunks[:k], 0
	}
}

func (b *recvBuffer) reset() {
	releaseAll(b.chunks[b.head:])
	*b = recvBuffer{}
}

// Readable is how many bytes wait to be read.
func (c *Conn) Readable() int { return c.rcv.buf.n }

// Peek copies bytes that wait to be read.
func (c *Conn) Peek(p []byte) int { return c.rcv.buf.peek(p) }

// Read moves received bytes into w, until there are no more or w takes less
// than it was given, and gives the number moved (RFC 9293 3.10.3).
func (c *Conn) Read(w io.Writer) int {
	n := c.rcv.buf.readTo(w)
	if n > 0 {
		c.didRead(n)
	}
	return n
}

// didRead tells the peer of the room, where that is worth a segment.
func (c *Conn) didRead(n int) {
	if c.state == Closed || c.state == TimeWait {
		return
	}
	c.rcv.tune.read(c, n)
	if c.finRcvd {
		return
	}
	if c.windowUpdateDue() {
		c.rcv.ackNow = true
		c.finish()
	}
}
