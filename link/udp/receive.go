package udp

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/rawio"
)

// rxBatch is how many messages are read at once; each may be many datagrams in one
// piece (UDP_GRO).
const rxBatch = 8

// rxSize is the room for a message, bytes.
const rxSize = 65536

// receiver is the memory of a recvmmsg(2).
type receiver struct {
	fd    int
	msgs  [rxBatch]rawio.Mmsghdr
	iov   [rxBatch]unix.Iovec
	names [rxBatch][unix.SizeofSockaddrInet6]byte
	oob   [rxBatch][cmsgSpace]byte
	bufs  [rxBatch][]byte
	gro   link.Coalescer
}

func (r *receiver) init(fd int) {
	r.fd = fd
	arena := make([]byte, rxBatch*rxSize)
	for i := range r.msgs {
		r.bufs[i] = arena[i*rxSize : (i+1)*rxSize : (i+1)*rxSize]
		r.iov[i] = rawio.Iovec(r.bufs[i])
		r.msgs[i].Hdr.Iov = &r.iov[i]
		r.msgs[i].Hdr.SetIovlen(1)
		r.msgs[i].Hdr.Name = &r.names[i][0]
		r.msgs[i].Hdr.Control = &r.oob[i][0]
	}
}

// read reads a batch; 0 messages when there is nothing.
func (r *receiver) read() int {
	for i := range r.msgs {
		r.msgs[i].Hdr.Namelen = uint32(len(r.names[i]))
		r.msgs[i].Hdr.SetControllen(len(r.oob[i]))
	}
	n, e := rawio.Recvmmsg(r.fd, r.msgs[:], unix.MSG_DONTWAIT)
	if e != 0 { // an ICMP error that came back, perhaps: it says nothing about others
		return 0
	}
	return n
}

// from is the sender of message i.
func (r *receiver) from(i int) netip.AddrPort {
	b := r.names[i][:]
	port := binary.BigEndian.Uint16(b[2:])
	if binary.NativeEndian.Uint16(b) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), port)
	}
	a := netip.AddrFrom16([16]byte(b[8:])).Unmap()
	if scope := binary.NativeEndian.Uint32(b[24:]); scope != 0 && a.Is6() {
		a = a.WithZone(strconv.Itoa(int(scope)))
	}
	return netip.AddrPortFrom(a, port)
}

// size is how long each datagram of message i is, the last excepted.
func (r *receiver) size(i int) int {
	n := int(r.msgs[i].Len)
	if int(r.msgs[i].Hdr.Controllen) >= unix.CmsgLen(4) {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&r.oob[i][0]))
		if c.Level == unix.SOL_UDP && c.Type == unix.UDP_GRO {
			if s := int(binary.NativeEndian.Uint32(r.oob[i][unix.CmsgLen(0):])); s > 0 && s < n {
				return s
			}
		}
	}
	return n
}

// receive takes one batch and delivers it; false when there was nothing.
func (m *members) receive() bool {
	n := m.rx.read()
	m.rx.gro.Reset()
	for i := range n {
		if m.rx.msgs[i].Hdr.Flags&unix.MSG_TRUNC != 0 {
			m.l.net.Malformed()
			continue
		}
		b, from, size := m.rx.bufs[i][:m.rx.msgs[i].Len], m.rx.from(i), m.rx.size(i)
		for len(b) > 0 {
			k := min(size, len(b))
			m.datagram(b[:k:k], from)
			b = b[k:]
		}
	}
	m.deliver(m.rx.gro.Packets())
	return n > 0
}

// datagram takes one datagram from anybody.
func (m *members) datagram(b []byte, from netip.AddrPort) {
	if len(b) < dataHeader+tagLen || b[1]|b[2]|b[3] != 0 {
		m.l.net.Malformed()
		return
	}
	ok := false
	switch b[0] {
	case typeFrame, typeControl:
		ok = m.message(b, from)
	case typeInit:
		ok = m.initiated(b, from)
	case typeReply:
		ok = m.replied(b, from)
	}
	if !ok {
		m.l.net.Malformed()
	}
}

// message takes an encrypted message.
func (m *members) message(b []byte, from netip.AddrPort) bool {
	s := m.sessions[binary.BigEndian.Uint32(b[4:])]
	if s == nil {
		return false
	}
	text, ok := s.open(b)
	if !ok {
		return false
	}
	if s.peer == nil { // the first message proves that the other side has the keys
		m.forget(s)
		if !m.attach(s, from) {
			return false
		}
		m.sessions[s.local] = s
	}
	p := s.peer
	p.heard = m.l.now()
	p.waiting.Store(0)
	if n := binary.BigEndian.Uint64(b[8:]); n > s.newest {
		s.newest = n
		// The newest message says where the member is, should it have moved.
		if p.to.Load().addr != from && s == p.session.Load() {
			m.l.log.Info("udp: member moved", "from", p.to.Load().addr, "to", from)
			if to := newEndpoint(from, m.l.v6); to != nil {
				p.to.Store(to)
			}
		}
	}
	if b[0] == typeControl {
		return m.operation(p, text)
	}
	p.heardOf = p.heard
	if m.l.net.Examine(p, text, &link.Offload{}) {
		m.rx.gro.Add(text, link.Ethernet)
	}
	return true
}

// operation takes a control message.
func (m *members) operation(p *peer, text []byte) bool {
	switch {
	case len(text) == 0:
	case text[0] == opLeave:
		m.remove(p, "has left")
	case text[0] == opMembers:
		m.learn(parseMembers(text[1:]))
	default: // of a later version
	}
	return true
}

// initiated answers an initiation, once.
func (m *members) initiated(b []byte, from netip.AddrPort) bool {
	in, err := m.noise.open(b)
	if err != nil || m.seen[in.ephemeral] {
		return false
	}
	if in.id == m.me.id { // our own
		if d := m.dialed[in.index]; d != nil && d.target != nil {
			d.target.self = true
		}
		return true
	}
	if !m.accept.Allow() {
		return false
	}
	if len(m.seenRing) < maxSeen {
		m.seenRing = append(m.seenRing, in.ephemeral)
	} else {
		delete(m.seen, m.seenRing[m.seenNext])
		m.seenRing[m.seenNext] = in.ephemeral
		m.seenNext = (m.seenNext + 1) % maxSeen
	}
	m.seen[in.ephemeral] = true
	to := newEndpoint(from, m.l.v6)
	if to == nil {
		return false
	}
	index := m.index()
	msg, k, err := in.reply(m.noise, index, &m.me)
	if err != nil {
		return false
	}
	if len(m.half) >= maxHalf {
		m.forget(m.half[0])
	}
	s := &session{keys: k, local: index, remote: in.index, born: m.l.now(), who: in.hello}
	m.sessions[index] = s
	m.half = append(m.half, s)
	m.l.tx.plainTo(to, msg)
	return true
}

// replied takes the answer to an initiation of ours.
func (m *members) replied(b []byte, from netip.AddrPort) bool {
	if len(b) != replyLen || !m.noise.verify(b) {
		return false
	}
	local := binary.BigEndian.Uint32(b[8:])
	d := m.dialed[local]
	if d == nil {
		return false
	}
	who, remote, k, err := d.finish(b)
	if err != nil {
		return false
	}
	delete(m.dialed, local)
	if who.id == m.me.id {
		return false
	}
	s := &session{keys: k, local: local, remote: remote, born: m.l.now(), initiator: true, who: who}
	if !m.attach(s, from) {
		return false
	}
	m.sessions[local] = s
	if d.target != nil {
		d.target.peer = s.peer
	}
	s.peer.control(nil) // shows that we have the keys
	return true
}
