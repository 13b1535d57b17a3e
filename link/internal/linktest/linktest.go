// Package linktest is what the tests of links share: a receiver that keeps what
// it is given, and frames to send.
package linktest

import (
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
)

// Patience is how long tests wait for what should come at once.
const Patience = 10 * time.Second

// Sink keeps what a link delivers.
type Sink struct {
	mu   sync.Mutex
	got  [][]byte
	offs []link.Offload
	more chan struct{}
}

// Start has a link deliver to a new Sink.
func Start(t testing.TB, l link.Link) *Sink {
	t.Helper()
	s := &Sink{more: make(chan struct{}, 1)}
	if err := l.Start(s.receive); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Sink) receive(pkts []link.Packet) {
	s.mu.Lock()
	for i := range pkts {
		s.got = append(s.got, pkts[i].AppendTo(nil))
		s.offs = append(s.offs, pkts[i].Offload)
	}
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Take waits until n packets have come, or for d, and forgets them.
func (s *Sink) Take(n int, d time.Duration) ([][]byte, []link.Offload) {
	end := time.After(d)
	for {
		s.mu.Lock()
		got, offs := s.got, s.offs
		if len(got) >= n {
			s.got, s.offs = nil, nil
			s.mu.Unlock()
			return got, offs
		}
		s.mu.Unlock()
		if !s.wait(end) {
			return got, offs
		}
	}
}

// Hears waits for d until something more comes, and reports whether it does.
func (s *Sink) Hears(d time.Duration) bool { return s.wait(time.After(d)) }

func (s *Sink) wait(end <-chan time.Time) bool {
	select {
	case <-s.more:
		return true
	case <-end:
		return false
	}
}

// Send sends a packet, which must be taken.
func Send(t testing.TB, l link.Link, p link.Packet) {
	t.Helper()
	if n, err := l.Send([]link.Packet{p}); n != 1 || err != nil {
		t.Errorf("send: %d, %v", n, err)
	}
}

// Broadcast is Ethernet's address of all.
var Broadcast = net.HardwareAddr{255, 255, 255, 255, 255, 255}

// Frame is an Ethernet frame of a local experimental type (IEEE 802).
func Frame(l link.Link, dst net.HardwareAddr, payload []byte) link.Packet {
	b := append(append(append([]byte{}, dst...), l.HardwareAddr()...), 0x88, 0xb5)
	return link.Packet{Bufs: [][]byte{b, payload}}
}

// Segments is a frame of 65,000 bytes of TCP over IPv4 still to be cut into 1460.
func Segments(l link.Link, dst net.HardwareAddr) link.Packet {
	ip := make([]byte, 40+65000)
	ip[0], ip[8], ip[9], ip[32], ip[33] = 0x45, 64, 6, 0x50, 0x10
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	for i := range ip[40:] {
		ip[40+i] = byte(i * 7)
	}
	p := Frame(l, dst, ip)
	p.Bufs[0][12], p.Bufs[0][13] = 8, 0
	p.Offload = link.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16, GSO: link.GSOTCP4, GSOSize: 1460, HdrLen: 54}
	return p
}

// Eventually fails unless f becomes true soon.
func Eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, Patience)
		}
	}
}
