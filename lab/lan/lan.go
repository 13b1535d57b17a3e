// Package lan is an Ethernet switch: it learns behind which of its links an
// address is, and floods what it does not know (IEEE 802.1D, without a spanning
// tree: its links must not form a loop).
package lan

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/alptrace/alptrace/link"
)

// Ageing is how long an address is known that sends nothing (802.1D 7.9.2).
const Ageing = 300 * time.Second

// maxAddrs bounds the table, as in any switch; beyond it, frames are flooded.
const maxAddrs = 16384

// Switch joins links.
type Switch struct {
	ports []link.Link
	now   func() time.Time

	mu    sync.Mutex
	table map[[6]byte]entry
}

type entry struct {
	port int
	seen time.Time
}

// New makes a switch of Ethernet links and starts them. The switch owns them. now
// is the clock that ages addresses; nil is time.Now.
func New(ports []link.Link, now func() time.Time) (*Switch, error) {
	if now == nil {
		now = time.Now
	}
	s := &Switch{ports: ports, now: now, table: map[[6]byte]entry{}}
	for i, p := range ports {
		if p.Medium() != link.Ethernet {
			return nil, fmt.Errorf("switch: link %s is not Ethernet", p.Name())
		}
		if err := p.Start(func(pkts []link.Packet) { s.receive(i, pkts) }); err != nil {
			return nil, fmt.Errorf("switch: link %s: %w", p.Name(), err)
		}
	}
	return s, nil
}

// receive passes frames on; those in a row to the same port go together.
func (s *Switch) receive(from int, pkts []link.Packet) {
	for i := 0; i < len(pkts); {
		to, ok := s.route(from, &pkts[i])
		j := i + 1
		for ; j < len(pkts); j++ {
			if t, o := s.route(from, &pkts[j]); t != to || o != ok {
				break
			}
		}
		if ok {
			s.send(from, to, pkts[i:j])
		}
		i = j
	}
}

// flood stands for all ports.
const flood = -1

// route learns the source of a frame and finds its port. A frame that is too
// short, or that belongs where it came from, goes nowhere.
func (s *Switch) route(from int, p *link.Packet) (to int, ok bool) {
	var hdr [14]byte
	n := 0
	for _, b := range p.Bufs {
		n += copy(hdr[n:], b)
	}
	if n < len(hdr) {
		return 0, false
	}
	dst, src := [6]byte(hdr[:6]), [6]byte(hdr[6:12])
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if src[0]&1 == 0 {
		if _, known := s.table[src]; known || len(s.table) < maxAddrs {
			s.table[src] = entry{from, now}
		}
	}
	e, known := s.table[dst]
	switch {
	case reserved(dst):
		return 0, false
	case dst[0]&1 != 0 || !known:
		return flood, true
	case now.Sub(e.seen) > Ageing:
		delete(s.table, dst)
		return flood, true
	}
	return e.port, e.port != from
}

// reserved reports whether a bridge does not forward frames to the address
// (802.1D 7.12.6).
func reserved(dst [6]byte) bool {
	return binary.BigEndian.Uint32(dst[:4]) == 0x0180c200 && dst[4] == 0 && dst[5] < 16
}

func (s *Switch) send(from, to int, pkts []link.Packet) {
	for i, p := range s.ports {
		if i == to || to == flood && i != from {
			_, _ = p.Send(pkts) // a full queue loses frames, as in any switch
		}
	}
}

// Addrs is the number of addresses known.
func (s *Switch) Addrs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.table)
}

// Close closes the links.
func (s *Switch) Close() error {
	for _, p := range s.ports {
		_ = p.Close()
	}
	return nil
}
