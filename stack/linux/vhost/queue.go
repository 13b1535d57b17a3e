package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/internal/park"
)

// Flags of a descriptor and of the rings (VIRTIO 1.2, 2.7.5 to 2.7.8).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	availNoInterrupt = 1
	usedNoNotify     = 1

	descLen = 16
	maxRing = 32768
)

// errRing is a ring of the driver's that makes no sense.
var errRing = errors.New("the driver's ring is broken")

// Queue is a virtqueue. Pop, Push and Flush are for one goroutine at a time.
type Queue struct {
	dev   *Device
	index int
	mem   memory

	mu      sync.Mutex // guards what follows while the driver sets it up
	num     uint32
	base    uint16
	desc    []byte
	avail   []byte
	used    []byte
	kick    int // descriptor, -1 if none
	call    int // descriptor, -1 if none
	watch   park.Watch
	running atomic.Bool

	next   uint16 // of the available ring
	done   uint16 // of the used ring, written
	shown  uint16 // of the used ring, as the driver sees it
	flags  uint16 // of the used ring
	chains []Chain
}

// Chain is a buffer of the driver's.
type Chain struct {
	head uint16
	// Out is what the driver wrote, for the device to read; In is for the
	// device to fill. Both may be in several pieces.
	Out, In [][]byte
}

// OutLen is the number of bytes to read, InLen of those to fill.
func (c *Chain) OutLen() int { return total(c.Out) }

// InLen is the number of bytes that fit into In.
func (c *Chain) InLen() int { return total(c.In) }

func total(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// Running reports whether the driver has started the queue.
func (q *Queue) Running() bool { return q.running.Load() }

// Pop takes the next buffer; nil if there is none. The Chain is the caller's
// until Push. An error ends the device.
func (q *Queue) Pop() (*Chain, error) {
	if q.Waiting() == 0 {
		return nil, nil
	}
	i := uint32(q.next) & (q.num - 1)
	head := binary.NativeEndian.Uint16(q.avail[4+2*i:])
	if uint32(head) >= q.num {
		return nil, q.broken(fmt.Errorf("%w: descriptor %d of %d", errRing, head, q.num))
	}
	c := &q.chains[head]
	c.head, c.Out, c.In = head, c.Out[:0], c.In[:0]
	if err := q.collect(c, q.desc, uint32(head), false); err != nil {
		return nil, q.broken(err)
	}
	q.next++
	return c, nil
}

// Waiting is how many buffers can be taken.
func (q *Queue) Waiting() int {
	if !q.running.Load() {
		return 0
	}
	_, index := q.offered()
	return int(index - q.next)
}

// collect adds the descriptors of a chain, from number at of the table on.
func (q *Queue) collect(c *Chain, table []byte, at uint32, indirect bool) error {
	n := uint32(len(table) / descLen)
	for range n {
		d := table[at*descLen : at*descLen+descLen]
		addr, size := binary.NativeEndian.Uint64(d), binary.NativeEndian.Uint32(d[8:])
		flags, next := binary.NativeEndian.Uint16(d[12:]), binary.NativeEndian.Uint16(d[14:])
		b, err := q.mem.slice(addr, uint64(size))
		if err != nil {
			return err
		}
		switch {
		case flags&descIndirect != 0:
			if indirect || len(b) == 0 || len(b)%descLen != 0 || len(b)/descLen > maxRing {
				return fmt.Errorf("%w: indirect table of %d bytes", errRing, len(b))
			}
			return q.collect(c, b, 0, true)
		case flags&descWrite != 0:
			c.In = append(c.In, b)
		default:
			c.Out = append(c.Out, b)
		}
		if flags&descNext == 0 {
			return nil
		}
		if at = uint32(next); at >= n {
			return fmt.Errorf("%w: next descriptor %d of %d", errRing, at, n)
		}
	}
	return fmt.Errorf("%w: a chain without end", errRing)
}

// Push gives a buffer back, of which the device has filled n bytes. The driver
// sees it after Flush.
func (q *Queue) Push(c *Chain, n int) {
	i := uint32(q.done) & (q.num - 1)
	e := q.used[4+8*i:]
	binary.NativeEndian.PutUint32(e, uint32(c.head))
	binary.NativeEndian.PutUint32(e[4:], uint32(n))
	q.done++
}

// Flush shows the driver what has been pushed, and interrupts it if it asks for
// that.
func (q *Queue) Flush() {
	if q.done == q.shown || !q.running.Load() {
		return
	}
	q.shown = q.done
	q.show()
	if flags, _ := q.offered(); flags&availNoInterrupt == 0 {
		q.interrupt()
	}
}

func (q *Queue) interrupt() {
	one := uint64(1)
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(q.call), uintptr(unsafe.Pointer(&one)), 8)
}

// Quiet asks the driver not to tell of new buffers, or to tell again. After
// Quiet(false) there may be buffers that it has not told of.
func (q *Queue) Quiet(on bool) {
	if !q.running.Load() {
		return
	}
	q.flags = 0
	if on {
		q.flags = usedNoNotify
	}
	q.show()
}

// broken ends the device because of what the driver did.
func (q *Queue) broken(err error) error {
	err = fmt.Errorf("virtqueue %d: %w", q.index, err)
	q.running.Store(false)
	q.dev.fail(err)
	return err
}

// The flags of a ring and its index are 16 bits each, side by side and aligned
// to 32: one atomic access has both.
func (q *Queue) offered() (flags, index uint16) {
	v := atomic.LoadUint32((*uint32)(unsafe.Pointer(&q.avail[0])))
	return uint16(v), uint16(v >> 16)
}

func (q *Queue) show() {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&q.used[0])), uint32(q.flags)|uint32(q.shown)<<16)
}

// Unpop puts the last n buffers that Pop gave back in front of the queue.
func (q *Queue) Unpop(n int) { q.next -= uint16(n) }
