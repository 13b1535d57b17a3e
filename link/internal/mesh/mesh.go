// Package mesh is an Ethernet switch without a middle: every member has a way to
// every other, so that a frame crosses in one step and can never circle. It has
// what the ends of such a network share however the ways are made (sockets of
// one machine, datagrams between machines): who is where, and which frames are
// fit to be sent and to be delivered.
//
// A frame that came from a member is never sent on to another; therefore there
// are no loops, whoever joins.
package mesh

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
)

// Lengths, bytes.
const (
	EthLen   = 14
	VLANLen  = 4
	MaxFrame = EthLen + VLANLen + link.MaxPacket
	minMTU   = 68 // RFC 791
)

// MaxMACs is how many addresses are learned from one member.
const MaxMACs = 64

// Addr is an Ethernet address.
type Addr [6]byte

func (a Addr) multicast() bool { return a[0]&1 != 0 }

// Member is the way to another member. It embeds a [Port].
type Member interface {
	comparable
	// Send sends frames, and returns how many the member took.
	Send(pkts []link.Packet) int
	port() *Port
}

// Port is what the mesh knows of a member; the zero value is ready. It belongs to
// the goroutine that receives.
type Port struct {
	lastMAC Addr // last source address seen
	macs    int  // addresses learned
}

func (p *Port) port() *Port { return p }

// Config of a mesh; the zero value works.
type Config struct {
	MTU          int              // largest network-layer packet, bytes; 0 is 1500
	HardwareAddr net.HardwareAddr // this end's; nil makes a random, locally administered one
	Promiscuous  bool             // frames for other members are delivered too
}

// Stats counts frames since the network was joined.
type Stats struct {
	Members   int    // others now
	Sent      uint64 // messages to members; a flooded frame counts for each
	TxDropped uint64 // messages lost because a member did not take them in time
	Received  uint64 // delivered
	RxDropped uint64 // malformed, larger than the MTU
	RxOther   uint64 // for other members
}

// Mesh is one member's view of the network. Add, Remove, Examine and Received
// are for the one goroutine that receives, everything else for all.
type Mesh[M Member] struct {
	hw    Addr
	mtu   int
	all   bool // promiscuous
	table atomic.Pointer[table[M]]

	sent, txDropped, received, rxDropped, rxOther atomic.Uint64
}

// table is who is where; a new one is made for every change.
type table[M Member] struct {
	members []M
	macs    map[Addr]M
}

// New makes the view of a member that knows nobody. Errors: EINVAL for an MTU or
// an address that cannot be.
func New[M Member](cfg Config) (*Mesh[M], error) {
	m := &Mesh[M]{mtu: cfg.MTU, all: cfg.Promiscuous}
	if m.mtu == 0 {
		m.mtu = 1500
	}
	if m.mtu < minMTU || m.mtu > link.MaxPacket {
		return nil, fmt.Errorf("mtu %d is not within %d and %d: %w", m.mtu, minMTU, link.MaxPacket, unix.EINVAL)
	}
	hw := cfg.HardwareAddr
	if hw == nil {
		hw = make(net.HardwareAddr, len(m.hw))
		_, _ = rand.Read(hw) // never fails
		hw[0] = hw[0]&^1 | 2 // unicast, locally administered
	}
	if len(hw) != len(m.hw) || hw[0]&1 != 0 {
		return nil, fmt.Errorf("hardware address %v is no Ethernet unicast address: %w", hw, unix.EINVAL)
	}
	m.hw = Addr(hw)
	m.table.Store(&table[M]{})
	return m, nil
}

// MTU is the largest network-layer packet, bytes.
func (m *Mesh[M]) MTU() int { return m.mtu }

// HardwareAddr is this member's address.
func (m *Mesh[M]) HardwareAddr() net.HardwareAddr { return m.hw[:] }

// Members are the others now. The result is not to be changed.
func (m *Mesh[M]) Members() []M { return m.table.Load().members }

// Stats counts what has passed so far.
func (m *Mesh[M]) Stats() Stats {
	return Stats{
		Members: len(m.Members()), Sent: m.sent.Load(), TxDropped: m.txDropped.Load(),
		Received: m.received.Load(), RxDropped: m.rxDropped.Load(), RxOther: m.rxOther.Load(),
	}
}

// Transmitted counts, of so many messages to a member, how many were sent; the
// others are lost.
func (m *Mesh[M]) Transmitted(sent, of int) {
	m.sent.Add(uint64(sent))
	if sent < of {
		m.txDropped.Add(uint64(of - sent))
	}
}

// Received counts frames that are delivered.
func (m *Mesh[M]) Received(n int) { m.received.Add(uint64(n)) }

// Malformed counts a message that is dropped.
func (m *Mesh[M]) Malformed() { m.rxDropped.Add(1) }

// Send sends frames: one for a known address to its member, any other to all.
// It returns how many were sent, and the error of the first that could not be:
// EMSGSIZE for a frame larger than the MTU, EINVAL for one without an Ethernet
// header.
func (m *Mesh[M]) Send(pkts []link.Packet) (int, error) {
	t := m.table.Load()
	sent := 0
	var first error
	for i := 0; i < len(pkts); {
		if err := m.check(&pkts[i]); err != nil {
			if first == nil {
				first = fmt.Errorf("send of %d bytes: %w", pkts[i].Len(), err)
			}
			i++
			continue
		}
		to, known := t.find(&pkts[i])
		j := i + 1
		for j < len(pkts) && m.check(&pkts[j]) == nil {
			if also, k := t.find(&pkts[j]); also != to || k != known {
				break
			}
			j++
		}
		if known {
			sent += to.Send(pkts[i:j])
		} else {
			for _, p := range t.members {
				p.Send(pkts[i:j])
			}
			sent += j - i
		}
		i = j
	}
	return sent, first
}

// check refuses a frame that no member would accept.
func (m *Mesh[M]) check(p *link.Packet) error {
	n := p.Len()
	if n < EthLen {
		return unix.EINVAL
	}
	if n > MaxFrame || p.GSO == link.GSONone && n > m.mtu+EthLen+VLANLen {
		return unix.EMSGSIZE
	}
	return nil
}

// find is the member to which the frame goes; false for all. The frame has at
// least EthLen bytes.
func (t *table[M]) find(p *link.Packet) (M, bool) {
	var dst Addr
	n := 0
	for _, b := range p.Bufs {
		if n += copy(dst[n:], b); n == len(dst) {
			break
		}
	}
	var nobody M
	if dst.multicast() {
		return nobody, false
	}
	to, ok := t.macs[dst]
	return to, ok
}

// Add adds a member.
func (m *Mesh[M]) Add(p M) {
	t := m.table.Load()
	m.table.Store(&table[M]{members: append(t.members[:len(t.members):len(t.members)], p), macs: t.macs})
}

// Remove removes a member and its addresses.
func (m *Mesh[M]) Remove(p M) {
	t := m.table.Load()
	c := &table[M]{macs: make(map[Addr]M, len(t.macs))}
	for _, q := range t.members {
		if q != p {
			c.members = append(c.members, q)
		}
	}
	for a, q := range t.macs {
		if q != p {
			c.macs[a] = q
		}
	}
	m.table.Store(c)
	*p.port() = Port{}
}

// Clear removes all members.
func (m *Mesh[M]) Clear() { m.table.Store(&table[M]{}) }

// Examine checks a frame from a member, whose offloads are known to agree with
// it, and learns from it. It reports whether the frame is to be delivered.
func (m *Mesh[M]) Examine(from M, frame []byte, o *link.Offload) bool {
	if len(frame) < EthLen {
		m.rxDropped.Add(1)
		return false
	}
	dst, src := Addr(frame[:6]), Addr(frame[6:12])
	if src.multicast() || !m.fits(frame, o) {
		m.rxDropped.Add(1)
		return false
	}
	if src != from.port().lastMAC {
		m.learn(from, src)
	}
	if !dst.multicast() && dst != m.hw && !m.all {
		m.rxOther.Add(1)
		return false
	}
	return true
}

// fits says whether the frame, or each of the segments to be cut from it, is
// within the MTU.
func (m *Mesh[M]) fits(frame []byte, o *link.Offload) bool {
	n := len(frame)
	if o.GSO != link.GSONone {
		n = min(n, int(o.HdrLen)+int(o.GSOSize))
	}
	n -= EthLen
	if t := binary.BigEndian.Uint16(frame[12:]); t == 0x8100 || t == 0x88a8 {
		n -= VLANLen
	}
	return n <= m.mtu
}

// learn notes that the address is at p. A member that claims more addresses
// than any has need of is not believed.
func (m *Mesh[M]) learn(p M, src Addr) {
	t, port := m.table.Load(), p.port()
	old, known := t.macs[src]
	if known && old == p {
		port.lastMAC = src
		return
	}
	if src == m.hw || port.macs >= MaxMACs {
		return
	}
	if known {
		q := old.port()
		q.macs--
		q.lastMAC = Addr{} // it must learn anew if the address comes back
	}
	port.macs++
	port.lastMAC = src
	c := &table[M]{members: t.members, macs: make(map[Addr]M, len(t.macs)+1)}
	for b, q := range t.macs {
		c.macs[b] = q
	}
	c.macs[src] = p
	m.table.Store(c)
}
