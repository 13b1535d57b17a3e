package netstack

import (
	"net"
	"sync"
	"testing"

	"github.com/alptrace/alptrace/link"
)

// pipeLink is one end of an in-process cable, without privilege.
type pipeLink struct {
	name     string
	medium   link.Medium
	mac      net.HardwareAddr
	features link.Features
	peer     *pipeLink
	queue    chan [][]byte
	meta     chan link.Offload
	done     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup
	drop     func(pkt []byte) bool // tested before a packet is sent; nil drops none
}

// newPipe makes both ends of a cable.
func newPipe(medium link.Medium, tso bool) (a, b *pipeLink) {
	mk := func(name string, last byte) *pipeLink {
		l := &pipeLink{name: name, medium: medium, queue: make(chan [][]byte, 1024), meta: make(chan link.Offload, 1024), done: make(chan struct{})}
		if medium == link.Ethernet {
			l.mac = net.HardwareAddr{2, 0, 0, 0, 0, last}
		}
		if tso {
			l.features = link.Features{Csum: true, TSO: true, GSOMax: 65535}
		}
		return l
	}
	a, b = mk("a", 1), mk("b", 2)
	a.peer, b.peer = b, a
	return a, b
}

func (l *pipeLink) Name() string                   { return l.name }
func (l *pipeLink) Medium() link.Medium            { return l.medium }
func (l *pipeLink) MTU() int                       { return 1500 }
func (l *pipeLink) HardwareAddr() net.HardwareAddr { return l.mac }
func (l *pipeLink) Features() link.Features        { return l.features }

func (l *pipeLink) Send(pkts []link.Packet) (int, error) {
	for i := range pkts {
		flat := make([]byte, 0, pkts[i].Len())
		for _, b := range pkts[i].Bufs {
			flat = append(flat, b...)
		}
		if l.drop != nil && l.drop(flat) {
			continue
		}
		select {
		case l.peer.queue <- [][]byte{flat}:
		case <-l.peer.done:
			return i, net.ErrClosed
		}
		l.peer.meta <- pkts[i].Offload
	}
	return len(pkts), nil
}

func (l *pipeLink) Start(recv func([]link.Packet)) error {
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		for {
			select {
			case bufs := <-l.queue:
				recv([]link.Packet{{Bufs: bufs, Offload: <-l.meta}})
			case <-l.done:
				return
			}
		}
	}()
	return nil
}

func (l *pipeLink) Close() error {
	l.once.Do(func() { close(l.done) })
	l.wg.Wait()
	return nil
}

// newPair makes two engines on one cable: 10.0.0.1 and 10.0.0.2, fd00::1 and
// fd00::2.
func newPair(t testing.TB, medium link.Medium, tso bool) (a, b *Engine) {
	t.Helper()
	la, lb := newPipe(medium, tso)
	return newEngine(t, la, "10.0.0.1/24", "fd00::1/64"), newEngine(t, lb, "10.0.0.2/24", "fd00::2/64")
}
