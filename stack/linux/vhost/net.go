package vhost

import (
	"encoding/binary"
	"net"
	"sync"

	"github.com/alptrace/alptrace/link"
)

// The network card (VIRTIO 1.2, 5.1).
const (
	IDNet = 1 // the device's number

	netCsum      = 1 << 0
	netGuestCsum = 1 << 1
	netMTU       = 1 << 3
	netMAC       = 1 << 5
	netGuestTSO4 = 1 << 7
	netGuestTSO6 = 1 << 8
	netHostTSO4  = 1 << 11
	netHostTSO6  = 1 << 12
	netMrgRxBuf  = 1 << 15

	netHeader = 12 // struct virtio_net_hdr_v1
	ethHeader = 14

	queueReceive  = 0
	queueTransmit = 1

	// arenaSize holds what is taken from the driver at once: several of the
	// largest packets.
	arenaSize = 256 << 10
	maxBatch  = 64
)

// Card is a network card of the guest on a link. On an IP link the guest must
// not ask for addresses of neighbours (IFF_NOARP).
type Card struct {
	dev  *Device
	link link.Link
	mac  net.HardwareAddr
	ip   bool

	ring chan struct{} // the driver has something to send
	stop chan struct{}
	wg   sync.WaitGroup

	rx      sync.Mutex
	scratch []*Chain
	hdr     [netHeader + ethHeader]byte
	dropped uint64 // no room in the guest; guarded by rx
}

// guestMAC is the card's address on a link that has none.
var guestMAC = net.HardwareAddr{2, 'a', 'l', 'p', 0, 1}

// NewCard serves a card for l to the driver at the other end of conn. It owns
// both. failed is called when the driver is gone.
func NewCard(conn *net.UnixConn, l link.Link, failed func(error)) (*Card, error) {
	c := &Card{link: l, mac: l.HardwareAddr(), ip: l.Medium() == link.IP, ring: make(chan struct{}, 1), stop: make(chan struct{})}
	if c.mac == nil {
		c.mac = guestMAC
	}
	space := make([]byte, 12)
	copy(space, c.mac)
	binary.LittleEndian.PutUint16(space[10:], uint16(min(l.MTU(), link.MaxPacket)))
	features := uint64(netGuestCsum | netMTU | netMAC | netGuestTSO4 | netGuestTSO6 | netMrgRxBuf)
	if f := l.Features(); f.Csum {
		features |= netCsum
		if f.TSO {
			features |= netHostTSO4 | netHostTSO6
		}
	}
	c.dev = Serve(conn, Config{Name: "network card", Features: features, Space: space, Queues: 2, Kick: c.kick, Failed: failed})
	c.wg.Go(c.transmit)
	if err := l.Start(c.receive); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends card and link.
func (c *Card) Close() error {
	err := c.link.Close()
	close(c.stop)
	c.wg.Wait()
	_ = c.dev.Close()
	return err
}

func (c *Card) kick(queue int) {
	if queue == queueTransmit {
		select {
		case c.ring <- struct{}{}:
		default:
		}
	}
}

// transmit hands what the guest sends to the link.
func (c *Card) transmit() {
	q := c.dev.Queue(queueTransmit)
	b := &sending{card: c, arena: make([]byte, arenaSize)}
	for {
		select {
		case <-c.ring:
		case <-c.stop:
			return
		}
		for q.Running() {
			q.Quiet(true)
			for b.fill(q) {
				b.send(q)
			}
			q.Quiet(false)
			if q.Waiting() == 0 {
				break
			}
		}
	}
}

// sending is a batch of the guest's packets.
type sending struct {
	card  *Card
	arena []byte
	used  int
	pkts  [maxBatch]link.Packet
	bufs  [maxBatch][1][]byte
	n     int
}

// fill takes what the guest has put into the queue; it reports whether there
// was anything.
func (b *sending) fill(q *Queue) bool {
	b.n, b.used = 0, 0
	taken := 0
	for taken < maxBatch && len(b.arena)-b.used >= netHeader+ethHeader+link.MaxPacket {
		ch, err := q.Pop()
		if err != nil || ch == nil {
			break
		}
		taken++
		b.take(ch)
		q.Push(ch, 0)
	}
	q.Flush()
	return taken > 0
}

// take copies a packet: what the guest might still change must not be checked.
func (b *sending) take(ch *Chain) {
	size := ch.OutLen()
	if size <= netHeader+ethHeader || size > netHeader+ethHeader+link.MaxPacket {
		return
	}
	p := b.arena[b.used : b.used : b.used+size]
	for _, o := range ch.Out {
		p = append(p, o...)
	}
	medium := link.Ethernet
	frame := p[netHeader:]
	if b.card.ip {
		medium, frame = link.IP, frame[ethHeader:]
		if start := binary.LittleEndian.Uint16(p[6:]); start >= ethHeader {
			binary.LittleEndian.PutUint16(p[6:], start-ethHeader)
		}
	}
	o, err := link.DecodeVnet(p, frame, medium)
	if err != nil {
		return
	}
	b.used += (size + 63) &^ 63
	b.bufs[b.n][0] = frame
	b.pkts[b.n] = link.Packet{Bufs: b.bufs[b.n][:], Offload: o}
	b.n++
}

func (b *sending) send(*Queue) {
	if b.n > 0 {
		_, _ = b.card.link.Send(b.pkts[:b.n]) // what is not sent is lost, as on a wire
	}
}

// receive gives packets of the link to the guest.
func (c *Card) receive(pkts []link.Packet) {
	c.rx.Lock()
	defer c.rx.Unlock()
	q := c.dev.Queue(queueReceive)
	if !q.Running() {
		return
	}
	for i := range pkts {
		if !c.put(q, &pkts[i]) {
			c.dropped++
		}
	}
	q.Flush()
}

// put writes one packet into buffers of the guest's.
func (c *Card) put(q *Queue, p *link.Packet) bool {
	head := c.header(p)
	if head == nil {
		return false
	}
	need := len(head) + p.Len()
	c.scratch = c.scratch[:0]
	room := 0
	for room < need {
		ch, err := q.Pop()
		if err != nil || ch == nil {
			q.Unpop(len(c.scratch))
			return false
		}
		c.scratch = append(c.scratch, ch)
		room += ch.InLen()
	}
	w := writer{chains: c.scratch}
	binary.LittleEndian.PutUint16(head[10:], uint16(len(c.scratch)))
	w.write(head)
	for _, b := range p.Bufs {
		w.write(b)
	}
	for i, ch := range c.scratch {
		n := ch.InLen()
		if i == len(c.scratch)-1 {
			n -= room - need
		}
		q.Push(ch, n)
	}
	return true
}

// header makes what precedes the packet; nil for one that is none.
func (c *Card) header(p *link.Packet) []byte {
	o := p.Offload
	h := c.hdr[:netHeader]
	if c.ip {
		h = c.hdr[:]
		if len(p.Bufs) == 0 || len(p.Bufs[0]) == 0 {
			return nil
		}
		copy(h[netHeader:], c.mac)
		copy(h[netHeader+6:], c.mac)
		h[netHeader+6+5] ^= 0xff // from another
		typ := uint16(0x0800)
		if p.Bufs[0][0]>>4 == 6 {
			typ = 0x86dd
		}
		binary.BigEndian.PutUint16(h[netHeader+12:], typ)
		o.CsumStart += ethHeader
		o.HdrLen += ethHeader
	}
	link.EncodeVnet(h, &o)
	return h
}

// writer fills buffers one after the other.
type writer struct {
	chains []*Chain
	piece  int // of the first chain
	off    int // in that piece
}

func (w *writer) write(b []byte) {
	for len(b) > 0 && len(w.chains) > 0 {
		ch := w.chains[0]
		if w.piece == len(ch.In) {
			w.chains, w.piece, w.off = w.chains[1:], 0, 0
			continue
		}
		n := copy(ch.In[w.piece][w.off:], b)
		b = b[n:]
		if w.off += n; w.off == len(ch.In[w.piece]) {
			w.piece, w.off = w.piece+1, 0
		}
	}
}
