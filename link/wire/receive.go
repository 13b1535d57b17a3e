package wire

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/rawio"
)

// read takes one batch of messages from a connection and delivers them.
func (m *mesh) read(p *peer) {
	n, e := rawio.Recvmmsg(p.fd, m.msgs[:], unix.MSG_DONTWAIT)
	if e == unix.EAGAIN {
		return
	}
	ended := e != 0
	got := 0
	for i := 0; i < n && !ended; i++ {
		size := int(m.msgs[i].Len)
		if size == 0 { // the end: no member sends an empty message
			ended = true
			break
		}
		if m.msgs[i].Hdr.Flags&unix.MSG_TRUNC != 0 {
			m.l.rxDropped.Add(1)
			continue
		}
		b := m.rx[i][:size:size]
		if p.name == "" {
			if !m.greet(p, b) {
				return
			}
			continue
		}
		if o, ok := m.examine(p, b); ok {
			m.bufs[got][0] = b[link.VnetLen:]
			m.pkts[got] = link.Packet{Bufs: m.bufs[got][:], Offload: o}
			got++
		}
	}
	if recv := m.l.recv.Load(); got > 0 && recv != nil && !m.l.closed.Load() {
		m.l.received.Add(uint64(got))
		(*recv)(m.pkts[:got])
	}
	if ended {
		last := m.byName[p.name] == p
		m.drop(p)
		if last {
			m.redial(p)
		}
	}
}

// greet takes the first message of a connection; false if it was ended.
func (m *mesh) greet(p *peer, b []byte) bool {
	name := ""
	if len(b) == len(hello)+nameLen && string(b[:len(hello)]) == hello {
		name = string(b[len(hello):])
	}
	if !isName(name) || name == m.l.self {
		m.l.log.Warn("wire: connection refused: not this version of the protocol")
		m.drop(p)
		return false
	}
	m.nameless--
	p.name = name
	m.add(p)
	return m.conns[p.fd] == p
}

// examine checks a message and learns from it; ok if it is to be delivered.
func (m *mesh) examine(p *peer, b []byte) (o link.Offload, ok bool) {
	if len(b) < link.VnetLen+ethLen {
		m.l.rxDropped.Add(1)
		return o, false
	}
	frame := b[link.VnetLen:]
	o, err := link.DecodeVnet(b, frame, link.Ethernet)
	var dst, src addr
	copy(dst[:], frame)
	copy(src[:], frame[6:])
	if err != nil || src.multicast() || !m.fits(frame, &o) {
		m.l.rxDropped.Add(1)
		return o, false
	}
	if src != p.lastMAC {
		m.learn(p, src)
	}
	if !dst.multicast() && dst != addr(m.l.hw) && !m.l.all {
		m.l.rxOther.Add(1)
		return o, false
	}
	return o, true
}

// fits says whether the frame, or each of the segments to be cut from it, is
// within the MTU.
func (m *mesh) fits(frame []byte, o *link.Offload) bool {
	n := len(frame)
	if o.GSO != link.GSONone {
		n = min(n, int(o.HdrLen)+int(o.GSOSize))
	}
	n -= ethLen
	if t := binary.BigEndian.Uint16(frame[12:]); t == 0x8100 || t == 0x88a8 {
		n -= 4
	}
	return n <= m.l.mtu
}

// learn notes that the address is at p. A member that claims more addresses
// than any has need of is not believed.
func (m *mesh) learn(p *peer, src addr) {
	t := m.l.table.Load()
	old := t.macs[src]
	if old == p {
		p.lastMAC = src
		return
	}
	if src == addr(m.l.hw) || p.macs >= maxMACs {
		return
	}
	if old != nil {
		old.macs--
		old.lastMAC = addr{} // it must learn anew if the address comes back
	}
	p.macs++
	p.lastMAC = src
	m.l.table.Store(t.learned(src, p))
}
