package wg

import (
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/alptrace/alptrace/link"
)

// Bounds of the queue of packets that wireguard-go has not read yet.
const (
	queueLen = 1024                  // packets
	sendWait = 10 * time.Millisecond // for room in it
)

// tunnel is what wireguard-go takes for a TUN device: it reads what the link
// sends, and writes what the link receives.
type tunnel struct {
	name   string
	mtu    int
	events chan tun.Event
	done   chan struct{} // closed by Close
	once   sync.Once

	mu    sync.Mutex // guards the queue, a ring of packets
	queue [queueLen][]byte
	head  int
	n     int
	more  chan struct{} // the queue is not empty any more
	room  chan struct{} // nor full

	out   sync.Mutex // one Send cuts at a time
	plain []byte     // a packet in one piece
	cut   []byte     // a segment of it

	in   sync.Mutex // held during delivery
	recv func(pkts []link.Packet)
	end  bool // nothing is delivered any more
	gro  link.Coalescer
}

var _ tun.Device = (*tunnel)(nil)

func newTunnel(name string, mtu int) *tunnel {
	return &tunnel{
		name: name, mtu: mtu, events: make(chan tun.Event), done: make(chan struct{}),
		more: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// ring rings a bell.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// send cuts packets and puts them into the queue.
func (t *tunnel) send(pkts []link.Packet) (int, error) {
	t.out.Lock()
	defer t.out.Unlock()
	select {
	case <-t.done:
		return 0, net.ErrClosed
	default:
	}
	sent := 0
	var first error
	for i := range pkts {
		p := &pkts[i]
		t.plain = p.AppendTo(t.plain[:0])
		whole := true
		var err error
		if p.GSO == link.GSONone && len(t.plain) > t.mtu {
			err = unix.EMSGSIZE
		} else {
			t.cut, err = link.Segment(t.cut, t.plain, p.Offload, link.IP, t.mtu, func(seg []byte) {
				whole = t.push(seg) && whole
			})
		}
		if err != nil && first == nil {
			first = err
		}
		if err == nil && whole {
			sent++
		}
	}
	return sent, first
}

// push puts a packet into the queue, waiting for room if need be.
func (t *tunnel) push(b []byte) bool {
	var late <-chan time.Time
	for {
		t.mu.Lock()
		if t.n < queueLen {
			slot := &t.queue[(t.head+t.n)%queueLen]
			*slot = append((*slot)[:0], b...)
			t.n++
			t.mu.Unlock()
			ring(t.more)
			return true
		}
		t.mu.Unlock()
		if late == nil {
			timer := time.NewTimer(sendWait)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-t.room:
		case <-t.done:
			return false
		case <-late:
			return false
		}
	}
}

// Read gives wireguard-go what the link has sent.
func (t *tunnel) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		if n := t.pop(bufs, sizes, offset); n > 0 {
			ring(t.room)
			return n, nil
		}
		select {
		case <-t.more:
		case <-t.done:
			return 0, os.ErrClosed
		}
	}
}

func (t *tunnel) pop(bufs [][]byte, sizes []int, offset int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(t.n, len(bufs))
	for i := range n {
		sizes[i] = copy(bufs[i][offset:], t.queue[t.head])
		t.head = (t.head + 1) % queueLen
	}
	t.n -= n
	return n
}

// Write delivers what wireguard-go has received.
func (t *tunnel) Write(bufs [][]byte, offset int) (int, error) {
	t.in.Lock()
	defer t.in.Unlock()
	if t.recv == nil || t.end {
		return len(bufs), nil
	}
	t.gro.Reset()
	for _, b := range bufs {
		t.gro.Add(b[offset:], link.IP)
	}
	t.recv(t.gro.Packets())
	return len(bufs), nil
}

// start begins delivery, once.
func (t *tunnel) start(recv func(pkts []link.Packet)) error {
	t.in.Lock()
	defer t.in.Unlock()
	if t.end {
		return net.ErrClosed
	}
	if t.recv != nil {
		return unix.EALREADY
	}
	t.recv = recv
	return nil
}

// stop ends delivery.
func (t *tunnel) stop() {
	t.in.Lock()
	defer t.in.Unlock()
	t.end = true
}

// Close ends Read. wireguard-go calls it, perhaps more than once.
func (t *tunnel) Close() error {
	t.once.Do(func() {
		close(t.done)
		close(t.events)
	})
	return nil
}

// File implements tun.Device: there is none.
func (t *tunnel) File() *os.File { return nil }

// MTU is the largest packet, bytes.
func (t *tunnel) MTU() (int, error) { return t.mtu, nil }

// Name is the interface's name.
func (t *tunnel) Name() (string, error) { return t.name, nil }

// Events never says anything; it is closed at the end.
func (t *tunnel) Events() <-chan tun.Event { return t.events }

// BatchSize is how many packets are best read and written at once.
func (t *tunnel) BatchSize() int { return conn.IdealBatchSize }
