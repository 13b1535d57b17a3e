package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"net"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
)

const never = time.Duration(math.MaxInt64)

// Wire is a link between two nodes, in virtual time.
type Wire struct {
	Name string
	ends [2]*End
	ways [2]*way // from end 0, from end 1
}

// End is a node's end of a wire; it implements [link.Link]. What is sent, and is
// still to be cut (GSO), is cut at once: the wire carries packets.
type End struct {
	name   string
	wire   *Wire
	medium link.Medium
	mtu    int
	hw     net.HardwareAddr
	out    *way
	recv   func(pkts []link.Packet)
	closed bool
}

// way is one direction of a wire.
type way struct {
	id    uint32
	clock *Clock
	core  *impair.Core
	to    *End
	timer *Timer
	trail *trail
	count counts
	cut   []byte

	// Of the packet that is being delivered.
	buf [1][]byte
	pkt [1]link.Packet
}

// counts of what a direction did, beyond those of its Core.
type counts struct {
	malformed uint64 // could not be cut
	deaf      uint64 // arrived where nobody listens any more
}

var _ link.Link = (*End)(nil)

// WireConfig says what a wire is like.
type WireConfig struct {
	Name   string // unique in the simulation
	Medium link.Medium
	MTU    int                 // bytes; 0 is 1500
	Addr   [2]net.HardwareAddr // of the ends, on Ethernet
	Impair [2]impair.Spec      // of what end 0 sends, of what end 1 sends
}

// Wire makes a link between two nodes to be.
func (s *Sim) Wire(cfg WireConfig) (*Wire, error) {
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	w := &Wire{Name: cfg.Name}
	for i := range w.ends {
		w.ends[i] = &End{
			name: fmt.Sprintf("%s.%c", cfg.Name, 'a'+i), wire: w,
			medium: cfg.Medium, mtu: cfg.MTU, hw: cfg.Addr[i],
		}
	}
	for i := range w.ways {
		spec := cfg.Impair[i]
		if spec.Seed == 0 {
			spec.Seed = seed64(s.seed, "link", w.ends[i].name)
		}
		core, err := impair.NewCore(spec, cfg.Medium, cfg.MTU, s.clock.Now())
		if err != nil {
			return nil, fmt.Errorf("link %s: %w", cfg.Name, err)
		}
		y := &way{id: uint32(2*len(s.wires) + i), clock: s.clock, core: core, to: w.ends[1-i], trail: s.trail}
		y.timer = s.clock.timer(y.expire)
		w.ways[i], w.ends[i].out = y, y
	}
	s.wires = append(s.wires, w)
	return w, nil
}

// Wires are all wires, those of a lab in the order of its file.
func (s *Sim) Wires() []*Wire { return s.wires }

// End is end 0 or end 1.
func (w *Wire) End(i int) *End { return w.ends[i] }

// Set changes what the wire does to packets from end i; see [impair.Core.Set].
func (w *Wire) Set(i int, spec impair.Spec) error {
	y := w.ways[i]
	if err := y.core.Set(y.clock.now, spec); err != nil {
		return fmt.Errorf("link %s: %w", w.Name, err)
	}
	y.arm()
	return nil
}

// Stats are the counts of what end i sends.
func (w *Wire) Stats(i int) impair.Stats {
	y := w.ways[i]
	st := y.core.Stats(y.clock.now)
	st.In += y.count.malformed
	st.DropsMalformed += y.count.malformed
	return st
}

// Name names the wire and the end: "bottleneck.a".
func (e *End) Name() string { return e.name }

// Medium is that of the wire.
func (e *End) Medium() link.Medium { return e.medium }

// MTU is that of the wire, bytes.
func (e *End) MTU() int { return e.mtu }

// HardwareAddr is this end's address on Ethernet.
func (e *End) HardwareAddr() net.HardwareAddr { return e.hw }

// Features are checksums and segmentation.
func (e *End) Features() link.Features {
	return link.Features{Csum: true, TSO: true, GSOMax: link.MaxPacket}
}

// Send sends packets. It never fails while the end is open.
func (e *End) Send(pkts []link.Packet) (int, error) {
	if e.closed {
		return 0, net.ErrClosed
	}
	for i := range pkts {
		e.out.push(&pkts[i], e.medium, e.mtu)
	}
	e.out.arm()
	return len(pkts), nil
}

// Start begins delivery.
func (e *End) Start(recv func(pkts []link.Packet)) error {
	e.recv = recv
	return nil
}

// Close ends delivery.
func (e *End) Close() error {
	e.closed, e.recv = true, nil
	return nil
}

// push takes a packet in, cut if it must be.
func (y *way) push(p *link.Packet, m link.Medium, mtu int) {
	if p.GSO == link.GSONone {
		y.core.Push(y.clock.now, p)
		return
	}
	whole := p.Bufs[0]
	if len(p.Bufs) > 1 {
		whole = p.AppendTo(make([]byte, 0, p.Len()))
	}
	var err error
	y.cut, err = link.Segment(y.cut, whole, p.Offload, m, mtu, y.emit)
	if err != nil {
		y.count.malformed++
	}
}

// emit takes in one segment.
func (y *way) emit(seg []byte) {
	y.buf[0] = seg
	y.pkt[0] = link.Packet{Bufs: y.buf[:], Offload: link.Offload{CsumValid: true}}
	y.core.Push(y.clock.now, &y.pkt[0])
}

// arm sets the timer for the next packet.
func (y *way) arm() {
	at, ok := y.core.Next()
	if !ok {
		y.timer.Stop()
		return
	}
	if at = max(at, y.clock.now); y.timer.index < 0 || at != y.timer.at {
		y.timer.Set(at)
	}
}

// expire delivers what has arrived.
func (y *way) expire() {
	for {
		p := y.core.Pop(y.clock.now)
		if p == nil {
			break
		}
		y.buf[0] = p.Data
		y.pkt[0] = link.Packet{Bufs: y.buf[:], Offload: p.Offload}
		y.trail.add(y.clock.now, y.id, p.Data)
		if y.to.recv != nil {
			y.to.recv(y.pkt[:])
		} else {
			y.count.deaf++
		}
		y.core.Free(p)
	}
	y.arm()
}

// trail is the digest of all packets that arrived, with their times: SHA-256
// over a record of 32 bytes for each.
type trail struct {
	h       hash.Hash
	buf     []byte
	packets uint64
}

func newTrail() *trail { return &trail{h: sha256.New(), buf: make([]byte, 0, 4096)} }

func (t *trail) add(at time.Duration, id uint32, data []byte) {
	t.packets++
	a, b := digest(data)
	t.buf = binary.LittleEndian.AppendUint64(t.buf, uint64(at))
	t.buf = binary.LittleEndian.AppendUint64(t.buf, uint64(id)<<32|uint64(len(data)))
	t.buf = binary.LittleEndian.AppendUint64(t.buf, a)
	t.buf = binary.LittleEndian.AppendUint64(t.buf, b)
	if len(t.buf) == cap(t.buf) {
		t.flush()
	}
}

func (t *trail) flush() {
	t.h.Write(t.buf)
	t.buf = t.buf[:0]
}

// sum is the digest so far, in hexadecimal.
func (t *trail) sum() string {
	t.flush()
	return fmt.Sprintf("%x", t.h.Sum(nil))
}
