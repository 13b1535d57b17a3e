package wire

import (
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/rawio"
)

// read takes one batch of messages from a connection and delivers them.
func (m *members) read(p *peer) {
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
			m.l.net.Malformed()
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
		m.l.net.Received(got)
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
func (m *members) greet(p *peer, b []byte) bool {
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
func (m *members) examine(p *peer, b []byte) (o link.Offload, ok bool) {
	if len(b) < link.VnetLen {
		m.l.net.Malformed()
		return o, false
	}
	frame := b[link.VnetLen:]
	o, err := link.DecodeVnet(b, frame, link.Ethernet)
	if err != nil {
		m.l.net.Malformed()
		return o, false
	}
	return o, m.l.net.Examine(p, frame, &o)
}
