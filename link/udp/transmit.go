package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/rawio"
)

// What is sent at once.
const (
	txMessages = 64
	txArena    = 256 << 10
	runCount   = 64    // datagrams of one UDP_SEGMENT message (UDP_MAX_SEGMENTS)
	runBytes   = 65000 // of them all
)

// endpoint is where a member is.
type endpoint struct {
	addr netip.AddrPort
	name [unix.SizeofSockaddrInet6]byte
	len  uint32
}

// newEndpoint makes the socket address of a, for a socket of the given family;
// nil if it has none there.
func newEndpoint(a netip.AddrPort, v6 bool) *endpoint {
	e := &endpoint{addr: netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
	if !v6 {
		if !e.addr.Addr().Is4() {
			return nil
		}
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&e.name))
		sa.Family, sa.Addr = unix.AF_INET, e.addr.Addr().As4()
		e.len = unix.SizeofSockaddrInet4
	} else {
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&e.name))
		sa.Family, sa.Addr = unix.AF_INET6, e.addr.Addr().As16()
		sa.Scope_id = scopeID(e.addr.Addr().Zone())
		e.len = unix.SizeofSockaddrInet6
	}
	binary.BigEndian.PutUint16(e.name[2:], a.Port()) // both have it there
	return e
}

// scopeID is the number of the interface that a zone names, 0 if there is none.
func scopeID(zone string) uint32 {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if dev, err := net.InterfaceByName(zone); err == nil {
		return uint32(dev.Index)
	}
	return 0
}

// run is datagrams of one size, the last perhaps shorter, one after the other.
type run struct {
	from, to int // in the arena
	size     int // of each
	count    int
}

// transmitter encrypts and sends, for one goroutine at a time.
type transmitter struct {
	mu    sync.Mutex
	fd    int // -1 when closed
	arena []byte
	runs  []run
	plain []byte // a frame in one piece
	cut   []byte // a segment of it

	msgs [txMessages]rawio.Mmsghdr
	iov  [txMessages]unix.Iovec
	oob  [txMessages][cmsgSpace]byte
}

// The room of a control message with a uint16.
var cmsgSpaceUint16, cmsgLenUint16 = unix.CmsgSpace(2), unix.CmsgLen(2)

const cmsgSpace = 24 // at least that

// send encrypts frames for a member, and returns how many were sent.
func (t *transmitter) send(p *peer, s *session, mtu int, pkts []link.Packet) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return 0
	}
	to := p.to.Load()
	sent := 0
	for i := range pkts {
		o := pkts[i].Offload
		t.plain = pkts[i].AppendTo(t.plain[:0])
		ok := true
		var err error
		t.cut, err = link.Segment(t.cut, t.plain, o, link.Ethernet, mtu, func(seg []byte) {
			ok = t.add(p, s, to, typeFrame, seg) && ok
		})
		if ok && err == nil {
			sent++
		}
	}
	if !t.flush(p, to) {
		return 0
	}
	return sent
}

// control sends one control message.
func (t *transmitter) control(p *peer, s *session, text []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if to := p.to.Load(); t.fd >= 0 && t.add(p, s, to, typeControl, text) {
		t.flush(p, to)
	}
}

// plainTo sends a handshake message.
func (t *transmitter) plainTo(to *endpoint, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd >= 0 {
		t.put(to, 0, rawio.Iovec(b), 0)
		_, _ = rawio.Sendmmsg(t.fd, t.msgs[:1], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
}

// add encrypts a message and puts it into the last run, or begins one.
func (t *transmitter) add(p *peer, s *session, to *endpoint, typ byte, text []byte) bool {
	size := dataHeader + len(text) + tagLen
	if len(t.arena)+size > cap(t.arena) || len(t.runs) == txMessages {
		if !t.flush(p, to) {
			return false
		}
	}
	from := len(t.arena)
	b, ok := s.seal(t.arena, typ, text)
	if !ok {
		return false
	}
	t.arena = b
	if n := len(t.runs); n > 0 && !p.single {
		r := &t.runs[n-1]
		if r.to-r.from == r.size*r.count && size <= r.size && r.count < runCount && r.to-r.from+size <= runBytes {
			r.to += size
			r.count++
			return true
		}
	}
	t.runs = append(t.runs, run{from, len(b), size, 1})
	return true
}

// put makes message i of a run of datagrams of the given size, 0 for one only.
func (t *transmitter) put(to *endpoint, i int, data unix.Iovec, size int) {
	t.iov[i] = data
	h := &t.msgs[i].Hdr
	*h = unix.Msghdr{Name: &to.name[0], Namelen: to.len, Iov: &t.iov[i]}
	h.SetIovlen(1)
	if size > 0 {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&t.oob[i][0]))
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.SetLen(cmsgLenUint16)
		binary.NativeEndian.PutUint16(t.oob[i][unix.CmsgLen(0):], uint16(size))
		h.Control = &t.oob[i][0]
		h.SetControllen(cmsgSpaceUint16)
	}
}

// flush sends all runs. It waits for room in the socket's buffer, at most
// sendWait; it reports false if some of it was lost.
func (t *transmitter) flush(p *peer, to *endpoint) bool {
	p.sentAt.Store(int64(p.l.now()))
	ok := true
	for i := range t.runs {
		r := &t.runs[i]
		size := 0
		if r.count > 1 {
			size = r.size
		}
		t.put(to, i, rawio.Iovec(t.arena[r.from:r.to]), size)
	}
	for at := 0; at < len(t.runs); {
		n, e := rawio.Sendmmsg(t.fd, t.msgs[at:len(t.runs)], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case e == 0:
			at += n
			continue
		case e == unix.EAGAIN:
			if t.wait() {
				continue
			}
			ok, at = false, len(t.runs)
			continue
		case t.runs[at].count > 1:
			// No segmentation here, or a path narrower than a datagram.
			p.single = true
			ok = t.singly(&t.runs[at], to) && ok
		default:
			ok = false // as lost on the way
		}
		at++
	}
	clear(t.iov[:len(t.runs)])
	t.runs, t.arena = t.runs[:0], t.arena[:0]
	return ok
}

// singly sends the datagrams of a run one by one. It uses the system call for
// one message, as the others wait in msgs.
func (t *transmitter) singly(r *run, to *endpoint) bool {
	ok := true
	for at := r.from; at < r.to; at += r.size {
		v := rawio.Iovec(t.arena[at:min(at+r.size, r.to)])
		m := [1]rawio.Mmsghdr{{Hdr: unix.Msghdr{Name: &to.name[0], Namelen: to.len, Iov: &v}}}
		m[0].Hdr.SetIovlen(1)
		_, e := rawio.Sendmmsg(t.fd, m[:], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if e == unix.EAGAIN && t.wait() {
			_, e = rawio.Sendmmsg(t.fd, m[:], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
		ok = ok && e == 0
	}
	return ok
}

// sendWait is how long a Send waits for the socket.
const sendWait = 10 * time.Millisecond

// wait waits for room in the socket's buffer.
func (t *transmitter) wait() bool {
	fds := [1]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLOUT}}
	n, err := rawio.Poll(fds[:], int(sendWait.Milliseconds()))
	return err == nil && n > 0 && fds[0].Revents&unix.POLLOUT != 0
}

// close ends sending; the descriptor is another's to close.
func (t *transmitter) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fd = -1
}
