package relay

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxDatagram is the most that a UDP or ICMP echo datagram carries, bytes.
const maxDatagram = 65535

var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// handleUDP gets every datagram of the near stack, reassembled.
func (r *Relay) handleUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	if r.closed.Load() {
		return true
	}
	key := flowKey{
		near: netip.AddrPortFrom(netipAddr(id.RemoteAddress), id.RemotePort),
		far:  netip.AddrPortFrom(netipAddr(id.LocalAddress), id.LocalPort),
	}
	var qb [maxQuote]byte
	q := appendQuote(qb[:0], pkt)
	payload, ok := payloadOf(pkt)
	if !ok {
		return true
	}
	if f := r.table.get(key); f != nil {
		f.send(payload, q)
		return true
	}
	to, kind := r.destination(key.far)
	switch {
	case kind == kindDNS && key.far.Port() == dnsPort:
		r.queryDNS(key, payload, q)
		return true
	case kind == kindDNS:
		return false // port unreachable
	case kind == kindNothing:
		r.unreachable(key.far.Addr(), q, unix.EHOSTUNREACH)
		return true
	case key.far.Port() == 0:
		return true
	}
	fd, err := r.openUDP(to)
	if err != nil {
		r.datagramError(key, q, err)
		return true
	}
	idle := r.cfg.UDPTimeout
	if key.far.Port() == dnsPort {
		idle = min(idle, dnsFlowTimeout)
	}
	if f := r.newDgramFlow(key, fd, idle, &r.stats.udpOut, r.writeUDP); f != nil {
		f.send(payload, q)
	}
	return true
}

// payloadOf is the payload of a datagram in one piece; UDP's length field may
// end it before the packet does.
func payloadOf(pkt *stack.PacketBuffer) ([]byte, bool) {
	n := pkt.Data().Size()
	if pkt.TransportProtocolNumber == header.UDPProtocolNumber {
		l := int(header.UDP(pkt.TransportHeader().Slice()).Length()) - header.UDPMinimumSize
		if l < 0 || l > n {
			return nil, false
		}
		n = l
	}
	if n == 0 {
		return nil, true
	}
	return pkt.Data().PullUp(n)
}

// datagramError tells the near stack about a socket that could not be made or
// used.
func (r *Relay) datagramError(k flowKey, q quote, err error) {
	r.log.Debug("relay: datagram", "near", k.near, "to", k.far, "err", err)
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return
	}
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.EMSGSIZE, unix.EINTR:
		return // lost, as datagrams may be
	}
	r.unreachable(k.far.Addr(), q, errno)
}

// openUDP makes a socket of the host's connected to a.
func (r *Relay) openUDP(a netip.AddrPort) (int, error) {
	return r.openSocket(a, unix.IPPROTO_UDP)
}

// openSocket makes a connected datagram socket whose ICMP errors are reported.
// Lack of descriptors costs the flow that has been idle longest.
func (r *Relay) openSocket(a netip.AddrPort, proto int) (int, error) {
	family, level, opt := unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	if a.Addr().Is4() {
		family, level, opt = unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if noDescriptors(err) && r.table.evict() {
		fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	}
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, level, opt, 1)
	var sa unix.Sockaddr
	if a.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	if err := unix.Connect(fd, sa); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// dgramFlow is a flow of datagrams with a connected socket of the host. One
// goroutine waits for answers.
type dgramFlow struct {
	stamp
	r     *Relay
	key   flowKey
	idle  time.Duration
	kind  *counter
	reply func(k flowKey, b []byte)

	file *os.File
	rc   syscall.RawConn

	mu      sync.Mutex // of the rest: one sender at a time
	payload []byte
	err     error
	last    [maxQuote]byte // of the last datagram sent
	lastN   int
	step    func(fd uintptr) bool
}

// newDgramFlow starts a flow on fd, which it owns. It returns nil if the table
// has closed.
func (r *Relay) newDgramFlow(k flowKey, fd int, idle time.Duration, kind *counter, reply func(flowKey, []byte)) *dgramFlow {
	f := &dgramFlow{r: r, key: k, idle: idle, kind: kind, reply: reply}
	f.file = os.NewFile(uintptr(fd), "relay socket")
	f.set(r.table.now())
	var err error
	if f.rc, err = f.file.SyscallConn(); err != nil || !r.table.put(k, f) {
		_ = f.file.Close()
		return nil
	}
	f.step = f.sendStep
	kind.begin()
	r.log.Debug("relay: flow begins", "near", k.near, "to", k.far, "ping", k.ping)
	go f.receive()
	return f
}

func (f *dgramFlow) timeout() time.Duration { return f.idle }

func (f *dgramFlow) close() {
	_ = f.file.Close()
	f.kind.end()
	f.r.log.Debug("relay: flow ends", "near", f.key.near, "to", f.key.far, "ping", f.key.ping)
}

func (f *dgramFlow) send(payload []byte, q quote) {
	f.set(f.r.table.now())
	f.mu.Lock()
	f.payload, f.err = payload, nil
	f.lastN = copy(f.last[:], q)
	closed := f.rc.Write(f.step)
	err := f.err
	f.payload = nil
	f.mu.Unlock()
	if closed == nil && err != nil {
		f.r.datagramError(f.key, q, err)
	}
}

// sendStep sends f.payload without waiting. A pending error of an earlier
// datagram (an ICMP message has come) is reported in its place, and the send
// is tried again.
func (f *dgramFlow) sendStep(fd uintptr) bool {
	for range 3 {
		_, err := unix.SendmsgN(int(fd), f.payload, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err == nil {
			return true
		}
		f.err = err
		drainErrors(int(fd))
		if err != unix.EINTR && err != unix.ECONNREFUSED && err != unix.EHOSTUNREACH && err != unix.ENETUNREACH {
			return true
		}
	}
	return true
}

// receive passes answers to the near stack until the socket is closed.
func (f *dgramFlow) receive() {
	var (
		buf *[maxDatagram]byte
		n   int
		err error
	)
	step := func(fd uintptr) bool {
		if buf == nil {
			buf = datagrams.Get().(*[maxDatagram]byte)
		}
		for {
			n, err = unix.Read(int(fd), buf[:])
			if err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			datagrams.Put(buf)
			buf = nil
			return false
		}
		if err != nil {
			drainErrors(int(fd))
		}
		return true
	}
	for f.rc.Read(step) == nil {
		if err == nil {
			f.set(f.r.table.now())
			f.reply(f.key, buf[:n])
			continue
		}
		f.mu.Lock()
		q := append(quote(nil), f.last[:f.lastN]...)
		f.mu.Unlock()
		f.r.datagramError(f.key, q, err)
	}
	if buf != nil {
		datagrams.Put(buf)
	}
	f.r.table.remove(f.key, f)
}

// drainErrors empties the error queue, of which the errno is all that is used.
func drainErrors(fd int) {
	var b [1]byte
	for range 64 {
		if _, _, _, _, err := unix.Recvmsg(fd, b[:], nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// writeUDP sends a datagram from k.far to the near stack.
func (r *Relay) writeUDP(k flowKey, payload []byte) {
	src, dst := tcpipAddr(k.far.Addr()), tcpipAddr(k.near.Addr())
	n := header.UDPMinimumSize + len(payload)
	if n > maxDatagram {
		return
	}
	var hdr [header.UDPMinimumSize]byte
	h := header.UDP(hdr[:])
	h.Encode(&header.UDPFields{SrcPort: k.far.Port(), DstPort: k.near.Port(), Length: uint16(n)})
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, uint16(n))
	sum = ^h.CalculateChecksum(checksum.Checksum(payload, sum))
	if sum == 0 {
		sum = 0xffff // RFC 768
	}
	h.SetChecksum(sum)
	r.write(k.far.Addr(), dst, header.UDPProtocolNumber, hdr[:], payload)
}

var _ tcpip.Payloader = (*hostReader)(nil)
