package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/ring"
	"github.com/alptrace/alptrace/stack/linux/vhost"
)

// channel is how the engine and its agent speak.
type channel struct {
	port *vhost.Port
	side *ring.Side // set before ready is closed

	ready chan struct{} // closed when the agent is there, or refuses
	hello []byte        // of the lookout's goroutine, until then
	err   error         // why there is no agent; before ready is closed

	outMu sync.Mutex // of side.Out
	inMu  sync.Mutex // of side.In, held while frames are taken
	spins atomic.Int32

	deliver func(f ring.Frame, payload []byte) // with inMu
	failed  func(error)
	buf     []byte // of a frame, with inMu

	mu      sync.Mutex
	seq     uint32
	pending map[uint32]*request
	dead    bool
	heard   atomic.Int64 // how many answers there were
}

// request is one that waits for its answer.
type request struct {
	done   atomic.Bool
	wake   chan struct{}
	errno  stack.Errno
	result uint32
	body   []byte
}

// newChannel serves the port to a driver.
func newChannel(conn *net.UnixConn, deliver func(ring.Frame, []byte), failed func(error)) *channel {
	c := &channel{deliver: deliver, failed: failed, ready: make(chan struct{}), pending: map[uint32]*request{}}
	c.port = vhost.NewPort(conn, c.received, func() {}, failed)
	return c
}

// received is called with what the agent writes to the port: its hello, and then
// the rings of the bell.
func (c *channel) received(b []byte) {
	select {
	case <-c.ready:
		if c.side != nil {
			c.inMu.Lock()
			c.take()
			c.inMu.Unlock()
		}
		return
	default:
	}
	c.hello = append(c.hello, b...)
	done, err := c.greet()
	if done || err != nil {
		c.err = err
		c.hello = nil
		close(c.ready)
	}
}

// greet reads the hello; done is false while there is more to come.
func (c *channel) greet() (done bool, err error) {
	const most = 1 << 16
	if len(c.hello) < 16 {
		return false, nil
	}
	switch binary.LittleEndian.Uint64(c.hello) {
	case proto.Magic:
	case proto.Refused:
		return true, errors.New(string(c.hello[8:]))
	default:
		return true, errors.New("the agent is of another alptrace")
	}
	pages := binary.LittleEndian.Uint64(c.hello[8:])
	if pages > most {
		return true, fmt.Errorf("%w: %d pages", ring.ErrBroken, pages)
	}
	if uint64(len(c.hello)) < 16+8*pages {
		return false, nil
	}
	mem := make(ring.Memory, pages)
	for i := range mem {
		frame := binary.LittleEndian.Uint64(c.hello[16+8*i:])
		if mem[i], err = c.port.Memory(frame*ring.PageSize, ring.PageSize); err != nil {
			return true, err
		}
	}
	if c.side, err = ring.Host(mem); err != nil {
		return true, err
	}
	c.side.Sleep()
	return true, nil
}

// take takes all frames, and says that the next must come with the bell, unless
// somebody looks all the time. With inMu.
func (c *channel) take() {
	for {
		f, ok, err := c.side.In.Next()
		if err != nil {
			c.failed(err)
			return
		}
		if !ok {
			if c.spins.Load() > 0 || c.side.Sleep() {
				return
			}
			continue
		}
		p := c.side.In.Payload(f, 0)
		if len(p) < int(f.Size) {
			c.buf = c.side.In.Append(c.buf[:0], f)
			p = c.buf
		}
		switch f.Op {
		case proto.OpAnswer:
			c.answered(f, p)
		default:
			c.deliver(f, p)
		}
		c.side.In.Done(f)
	}
}

// answered is the answer to a request. What it says of the endpoint's state is
// delivered as an event, in order.
func (c *channel) answered(f ring.Frame, p []byte) {
	errno, result, mask, rest, ok := proto.ParseArgs(p)
	if !ok {
		return
	}
	if mask != proto.MaskUnknown {
		x := proto.Args(0, mask, 0)
		c.deliver(ring.Frame{Op: proto.OpEvent, ID: f.ID}, x[:])
	}
	c.mu.Lock()
	r := c.pending[f.Seq]
	delete(c.pending, f.Seq)
	c.mu.Unlock()
	c.heard.Add(1)
	if r == nil {
		return
	}
	r.errno, r.result = stack.Errno(errno), result
	r.body = append(r.body, rest...)
	r.finish()
}

func (r *request) finish() {
	r.done.Store(true)
	r.wake <- struct{}{}
}

// put sends a frame; it waits while there is no room. bell says that nothing
// follows at once.
func (c *channel) put(bell bool, f ring.Frame, payload ...[]byte) {
	c.outMu.Lock()
	for !c.side.Out.Put(f, payload...) {
		c.outMu.Unlock()
		if c.isDead() {
			return
		}
		// The agent may wait for room itself.
		c.bell()
		c.look()
		runtime.Gosched()
		c.outMu.Lock()
	}
	c.outMu.Unlock()
	if bell {
		c.bell()
	}
}

// bell wakes the agent if it sleeps.
func (c *channel) bell() {
	if c.side.MustRing() {
		c.port.Write([]byte{1})
	}
}

// look takes what there is, if nobody else does.
func (c *channel) look() {
	if c.inMu.TryLock() {
		c.take()
		c.inMu.Unlock()
	}
}

func (c *channel) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// spinTime is how long an answer is looked for before whoever waits for it
// sleeps: several times what most take.
const spinTime = 400 * time.Microsecond

// ask makes a request and waits for the answer. It answers ENETDOWN when there is
// no kernel any more.
func (c *channel) ask(f ring.Frame, payload ...[]byte) *request {
	r := &request{wake: make(chan struct{}, 1)}
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		r.errno = unix.ENETDOWN
		return r
	}
	c.seq++
	f.Seq = c.seq
	c.pending[f.Seq] = r
	c.mu.Unlock()
	c.spins.Add(1)
	c.side.Awake()
	c.put(true, f, payload...)
	for end := time.Now().Add(spinTime); !r.done.Load() && time.Now().Before(end); {
		c.look()
		runtime.Gosched()
	}
	c.spins.Add(-1)
	// Frames that came meanwhile had no bell.
	c.inMu.Lock()
	c.take()
	c.inMu.Unlock()
	<-r.wake
	return r
}

// kill answers all requests, those to come as well.
func (c *channel) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	for seq, r := range c.pending {
		delete(c.pending, seq)
		r.errno = unix.ENETDOWN
		r.finish()
	}
}
