package tcp

import "io"

// Source is where Write reads from: Len is how many bytes can be read now.
type Source interface {
	io.Reader
	Len() int
}

// sendBuffer has what was written and is not acknowledged.
type sendBuffer struct {
	start  Seq // of the first byte
	blocks []Chunk
	head   int
	off    int // bytes of the first block that are acknowledged
	n      int // bytes
	// The block that was looked at last, and its first byte's number: most
	// look at the next.
	at    int
	atSeq Seq
}

// Sizes of blocks of memory, bytes.
const (
	minBlock = 512
	maxBlock = 65536
)

func (b *sendBuffer) len() int { return b.n }
func (b *sendBuffer) end() Seq { return b.start.Add(b.n) }

// write reads at most room bytes from src.
func (b *sendBuffer) write(src Source, room int, alloc func(int) Chunk) int {
	total := 0
	for room > 0 && src.Len() > 0 {
		var last *Chunk
		if len(b.blocks) > b.head {
			last = &b.blocks[len(b.blocks)-1]
		}
		if last == nil || cap(last.B) == len(last.B) {
			size := max(min(src.Len(), room, maxBlock), minBlock)
			if last != nil && len(last.B) < 4096 {
				size = max(size, 4096) // small writes come one after the other
			}
			c := alloc(size)
			c.B = c.B[:0:len(c.B)]
			b.blocks = append(b.blocks, c)
			last = &b.blocks[len(b.blocks)-1]
		}
		free := last.B[len(last.B):min(cap(last.B), len(last.B)+room)]
		n, err := src.Read(free)
		n = min(max(n, 0), len(free))
		last.B = last.B[:len(last.B)+n]
		b.n += n
		total += n
		room -= n
		if n == 0 || err != nil {
			break
		}
	}
	return total
}

// release gives back what lies below ack.
func (b *sendBuffer) release(ack Seq) {
	n := min(ack.Sub(b.start), b.n)
	if n <= 0 {
		return
	}
	b.start = b.start.Add(n)
	b.n -= n
	b.off += n
	for b.head < len(b.blocks) {
		c := &b.blocks[b.head]
		if b.off < len(c.B) {
			break
		}
		b.off -= len(c.B)
		c.release()
		b.head++
	}
	switch {
	case b.head == len(b.blocks):
		if cap(b.blocks) > 8 {
			b.blocks = nil
		}
		b.blocks, b.head, b.off = b.blocks[:0], 0, 0
	case b.head > 64 && b.head > len(b.blocks)/2:
		k := copy(b.blocks, b.blocks[b.head:])
		clear(b.blocks[k:])
		b.blocks, b.head = b.blocks[:k], 0
	}
	b.at = -1
}

// chunks appends the memory of the n bytes from seq to dst.
func (b *sendBuffer) chunks(dst []Chunk, seq Seq, n int) []Chunk {
	i, first := b.head, b.start.Add(-b.off)
	if b.at >= b.head && b.at < len(b.blocks) && b.atSeq.AtOrBefore(seq) && len(dst) == 0 && b.at > b.head {
		i, first = b.at, b.atSeq
	}
	for ; n > 0 && i < len(b.blocks); i++ {
		c := b.blocks[i]
		skip := seq.Sub(first)
		if skip < len(c.B) {
			k := min(n, len(c.B)-skip)
			dst = append(dst, Chunk{c.B[skip : skip+k], c.Owner})
			seq = seq.Add(k)
			n -= k
			b.at, b.atSeq = i, first
		}
		first = first.Add(len(c.B))
	}
	return dst
}

func (b *sendBuffer) reset(end Seq) {
	releaseAll(b.blocks[b.head:])
	*b = sendBuffer{start: end}
}

// Room is how many bytes Write takes now.
func (c *Conn) Room() int {
	room := c.snd.bufSize - c.snd.buf.len()
	if low := c.opt.notSentLowat; low > 0 {
		room = min(room, low-c.unsent())
	}
	return max(room, 0)
}

// Writable says whether there is room enough to be woken for: a third of the
// buffer, as Linux has it (sk_stream_is_writeable).
func (c *Conn) Writable() bool {
	if low := c.opt.notSentLowat; low > 0 && c.unsent() >= low {
		return false
	}
	return c.snd.bufSize-c.snd.buf.len() >= c.snd.bufSize/3
}

// CanWrite says whether the user may write in this state.
func (c *Conn) CanWrite() bool {
	return (c.state == Established || c.state == CloseWait || c.FastOpenWaits()) && !c.snd.finQueued
}

// Write takes bytes to be sent (RFC 9293 3.10.2), at most what there is room
// for, and gives their number. It takes none where CanWrite is false.
func (c *Conn) Write(src Source) int {
	if !c.CanWrite() || c.wantOut && !c.Writable() {
		return 0 // who was refused waits for the wake-up
	}
	n := c.snd.buf.write(src, c.Room(), c.env.Alloc)
	if !c.Writable() {
		c.wantOut = true
	}
	if n > 0 {
		if c.fast.waits {
			c.sendWaiting()
		}
		c.finish()
	}
	return n
}

// Unacked is how many bytes were written and are not acknowledged.
func (c *Conn) Unacked() int { return c.snd.buf.len() }

// unsent is how many of them have never been sent.
func (c *Conn) unsent() int { return max(c.snd.buf.end().Sub(c.snd.nxt), 0) }
