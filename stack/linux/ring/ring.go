// Package ring is two queues of frames in memory that a kernel's guest shares
// with its host: one towards the guest ("down") and one from it ("up").
//
// A queue has one producer and one consumer. Both count bytes, without end: the
// producer those that it has written, the consumer those that it has taken;
// each writes only its own count. A side that is about to sleep says so in a
// word of its own, and looks once more; the other rings its bell only then.
//
// The memory begins with a page of such words, each in a cache line of its own.
// Neither side trusts the other's counts further than that they stay within
// the memory.
package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// PageSize is the unit in which the memory is shared; the words are in the first.
const PageSize = 4096

// Places of the words in the first page, bytes.
const (
	wordDownMade  = 0 * 64
	wordDownTaken = 1 * 64
	wordUpMade    = 2 * 64
	wordUpTaken   = 3 * 64
	wordGuestIdle = 4 * 64
	wordHostIdle  = 5 * 64
)

// HeaderLen is the length of a frame's header, and what frames are aligned to.
const HeaderLen = 16

// Frame is what precedes the payload.
type Frame struct {
	Size  uint32 // of the payload, bytes
	Op    uint16
	Flags uint16
	ID    uint32 // of the endpoint
	Seq   uint32 // of the request
}

// ErrBroken says that the other side has written what makes no sense.
var ErrBroken = errors.New("the shared memory is broken")

// Memory is the shared memory in pieces of one size, a power of two that is a
// multiple of PageSize: one piece where it is contiguous.
type Memory [][]byte

// Side is one side's view of both queues.
type Side struct {
	Out Producer
	In  Consumer

	idle, peerIdle *atomic.Uint32
}

// Guest and Host make a side of the memory, which has at least three pages and
// a number of bytes after the first that is a power of two times two.
func Guest(m Memory) (*Side, error) { return newSide(m, true) }

// Host makes the host's side; see [Guest].
func Host(m Memory) (*Side, error) { return newSide(m, false) }

func newSide(m Memory, guest bool) (*Side, error) {
	if len(m) == 0 || len(m[0]) < PageSize {
		return nil, fmt.Errorf("%w: no pages", ErrBroken)
	}
	size := (len(m)*len(m[0]) - PageSize) / 2
	size = 1 << (31 - leadingZeros(uint32(size)))
	if size < PageSize {
		return nil, fmt.Errorf("%w: %d bytes for a queue", ErrBroken, size)
	}
	word := func(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&m[0][at])) }
	queue := func(at, made, taken int) queue {
		return queue{mem: m, piece: len(m[0]), base: at, size: uint32(size), made: word(made), taken: word(taken)}
	}
	down := queue(PageSize, wordDownMade, wordDownTaken)
	up := queue(PageSize+size, wordUpMade, wordUpTaken)
	if guest {
		return &Side{Out: Producer{queue: up}, In: Consumer{queue: down}, idle: word(wordGuestIdle), peerIdle: word(wordHostIdle)}, nil
	}
	return &Side{Out: Producer{queue: down}, In: Consumer{queue: up}, idle: word(wordHostIdle), peerIdle: word(wordGuestIdle)}, nil
}

func leadingZeros(v uint32) (n int) {
	for ; n < 32 && v&(1<<31) == 0; n++ {
		v <<= 1
	}
	return n
}

// Sleep says that this side is about to wait for the bell. It reports false if
// something has come, so that it must not.
func (s *Side) Sleep() bool {
	s.idle.Store(1)
	if s.In.Empty() {
		return true
	}
	s.idle.Store(0)
	return false
}

// Awake says that this side needs no bell.
func (s *Side) Awake() { s.idle.Store(0) }

// MustRing reports whether the other side has to be woken for what has been
// published. It answers so once for each sleep.
func (s *Side) MustRing() bool { return s.peerIdle.CompareAndSwap(1, 0) }

// queue is one direction.
type queue struct {
	mem   Memory
	piece int // bytes of each piece of mem
	base  int // where it begins
	size  uint32

	made, taken *atomic.Uint32
}

// at is the memory from position pos on, at most n bytes, as far as it is
// contiguous.
func (q *queue) at(pos, n uint32) []byte {
	off := pos & (q.size - 1)
	n = min(n, q.size-off)
	abs := q.base + int(off)
	p := q.mem[abs/q.piece]
	in := abs % q.piece
	return p[in : in+min(int(n), q.piece-in)]
}

func align(n uint32) uint32 { return (n + HeaderLen - 1) &^ (HeaderLen - 1) }

// Producer writes frames.
type Producer struct {
	queue
	pos uint32 // written
}

// Room is the largest payload that fits now.
func (p *Producer) Room() int {
	free := p.size - (p.pos - p.taken.Load())
	if free > p.size || free < 2*HeaderLen {
		return 0
	}
	return int(free - HeaderLen)
}

// Put writes a frame with the payload, if there is room.
func (p *Producer) Put(f Frame, payload ...[]byte) bool {
	f.Size = 0
	for _, b := range payload {
		f.Size += uint32(len(b))
	}
	if int(f.Size) > p.Room() {
		return false
	}
	pos := p.pos + HeaderLen
	for _, b := range payload {
		for len(b) > 0 {
			n := copy(p.at(pos, uint32(len(b))), b)
			b, pos = b[n:], pos+uint32(n)
		}
	}
	p.commit(f)
	return true
}

// Space is contiguous memory of at most n bytes in which the next frame's
// payload can be made in place, for Commit. It may be less than asked, nil if
// there is no room.
func (p *Producer) Space(n int) []byte {
	n = min(n, p.Room())
	if n <= 0 {
		return nil
	}
	return p.at(p.pos+HeaderLen, uint32(n))
}

// Commit writes the frame whose payload, f.Size bytes, is in Space.
func (p *Producer) Commit(f Frame) { p.commit(f) }

func (p *Producer) commit(f Frame) {
	h := p.at(p.pos, HeaderLen)
	binary.LittleEndian.PutUint32(h, f.Size)
	binary.LittleEndian.PutUint16(h[4:], f.Op)
	binary.LittleEndian.PutUint16(h[6:], f.Flags)
	binary.LittleEndian.PutUint32(h[8:], f.ID)
	binary.LittleEndian.PutUint32(h[12:], f.Seq)
	p.pos += HeaderLen + align(f.Size)
	p.made.Store(p.pos)
}

// Consumer takes frames.
type Consumer struct {
	queue
	pos uint32 // taken
}

// Empty reports whether there is nothing to take.
func (c *Consumer) Empty() bool { return c.made.Load() == c.pos }

// Next is the next frame; ok is false if there is none. The frame is taken by
// Done. ErrBroken if the producer's words make no sense.
func (c *Consumer) Next() (f Frame, ok bool, err error) {
	have := c.made.Load() - c.pos
	if have == 0 {
		return f, false, nil
	}
	if have > c.size || have < HeaderLen || have%HeaderLen != 0 {
		return f, false, fmt.Errorf("%w: %d bytes in a queue of %d", ErrBroken, have, c.size)
	}
	h := c.at(c.pos, HeaderLen)
	f = Frame{
		Size: binary.LittleEndian.Uint32(h), Op: binary.LittleEndian.Uint16(h[4:]), Flags: binary.LittleEndian.Uint16(h[6:]),
		ID: binary.LittleEndian.Uint32(h[8:]), Seq: binary.LittleEndian.Uint32(h[12:]),
	}
	if f.Size > c.size || HeaderLen+align(f.Size) > have {
		return f, false, fmt.Errorf("%w: a frame of %d bytes where there are %d", ErrBroken, f.Size, have)
	}
	return f, true, nil
}

// Payload is the payload of f, the next frame, from byte off on, as far as it is
// contiguous: nil at its end.
func (c *Consumer) Payload(f Frame, off int) []byte {
	if off >= int(f.Size) {
		return nil
	}
	return c.at(c.pos+HeaderLen+uint32(off), f.Size-uint32(off))
}

// Append copies the payload of f, the next frame, to b.
func (c *Consumer) Append(b []byte, f Frame) []byte {
	for off := 0; off < int(f.Size); {
		p := c.Payload(f, off)
		b, off = append(b, p...), off+len(p)
	}
	return b
}

// Done takes f, the next frame, off the queue.
func (c *Consumer) Done(f Frame) {
	c.pos += HeaderLen + align(f.Size)
	c.taken.Store(c.pos)
}
