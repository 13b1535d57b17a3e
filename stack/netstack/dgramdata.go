package netstack

import (
	"bytes"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack"
)

// corked is a datagram that MSG_MORE or UDP_CORK holds back.
type corked struct {
	data []byte
	to   *tcpip.FullAddress
	opts sendControl
}

// loopback is the address that a datagram to the unspecified address goes to.
func (d *dgramSock) loopback() netip.Addr {
	switch {
	case !d.is6():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case d.bound.IP.Is4In6():
		return netip.AddrFrom16(netip.AddrFrom4([4]byte{127, 0, 0, 1}).As16())
	default:
		return netip.IPv6Loopback()
	}
}

// checkDest does the checks of a destination that sendto(2) and connect(2)
// have in common, and gives it in the form of the socket's family.
func (d *dgramSock) checkDest(a stack.Addr) (stack.Addr, stack.Errno) {
	ip := a.IP
	if !ip.IsValid() || ip.IsUnspecified() {
		a.IP = d.loopback()
		return a, 0
	}
	if !d.is6() {
		if !ip.Is4() {
			return a, unix.EAFNOSUPPORT
		}
		return a, 0
	}
	if ip.Is4() {
		if d.kind != kindUDP {
			return a, unix.EINVAL
		}
		ip = netip.AddrFrom16(ip.As16())
		a.IP = ip
	}
	if ip.Is4In6() {
		switch {
		case d.v6only():
			return a, unix.ENETUNREACH
		case d.kind == kindPing:
			return a, unix.EINVAL
		case d.kind == kindRaw:
			return a, unix.ENETUNREACH
		}
		if isMappedAny(ip) {
			a.IP = netip.AddrFrom16(netip.AddrFrom4([4]byte{127, 0, 0, 1}).As16())
		}
		return a, 0
	}
	if scoped(ip) && a.Scope == 0 {
		switch {
		case d.opts.get(optBindToDevice) != 0:
			a.Scope = uint32(d.opts.get(optBindToDevice))
		case ip.IsMulticast() && d.opts.get(optMulticastIf6) != 0:
			a.Scope = uint32(d.opts.get(optMulticastIf6))
		case d.bound.Scope != 0:
			a.Scope = d.bound.Scope
		case ip.IsLinkLocalUnicast():
			return a, unix.EINVAL
		}
	}
	return a, 0
}

// Send sends one message.
func (d *dgramSock) Send(m *stack.Message) (int, stack.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(m.Data) > 0xffff {
		return 0, unix.EMSGSIZE
	}
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if d.shut&sndShutdown != 0 {
		return 0, unix.EPIPE
	}
	to, err := d.destination(m)
	if err != 0 {
		return 0, err
	}
	var c sendControl
	if d.sticky != nil {
		c.messages.HasIPv6PacketInfo, c.messages.IPv6PacketInfo = true, *d.sticky
	}
	if err := d.parseControl(m.Control, &c); err != 0 {
		return 0, err
	}
	if d.pullErr(); d.err != 0 {
		return 0, d.takeErr()
	}
	if err := d.prepare(); err != 0 {
		return 0, err
	}
	if err := d.findWay(to); err != 0 {
		return 0, err
	}
	if d.kind == kindUDP && (d.corked != nil || m.Flags&unix.MSG_MORE != 0 || d.opts.get(optUDPCork) != 0) {
		return d.cork(m, to, c)
	}
	if err := d.send(m.Data, to, &c); err != 0 {
		return 0, err
	}
	return len(m.Data), 0
}

// destination is where m goes; nil means the peer that netstack knows.
func (d *dgramSock) destination(m *stack.Message) (*tcpip.FullAddress, stack.Errno) {
	if !m.HasAddr {
		switch {
		case !d.connected:
			return nil, unix.EDESTADDRREQ
		case d.kind == kindUDP && d.peer.Port != 0:
			return nil, 0
		}
		full := d.full(d.peer)
		return &full, 0
	}
	a, err := d.checkDest(m.Addr)
	if err != 0 {
		return nil, err
	}
	if d.kind == kindUDP && a.Port == 0 {
		return nil, unix.EINVAL
	}
	full := d.full(a)
	return &full, 0
}

// cork adds to the datagram held back, and sends it when nothing holds it.
func (d *dgramSock) cork(m *stack.Message, to *tcpip.FullAddress, c sendControl) (int, stack.Errno) {
	if d.corked == nil {
		d.corked = &corked{to: to, opts: c}
	}
	if len(d.corked.data)+len(m.Data) > 0xffff {
		return 0, unix.EMSGSIZE
	}
	d.corked.data = append(d.corked.data, m.Data...)
	if m.Flags&unix.MSG_MORE != 0 || d.opts.get(optUDPCork) != 0 {
		return len(m.Data), 0
	}
	return len(m.Data), d.uncork()
}

// uncork sends the datagram that is held back.
func (d *dgramSock) uncork() stack.Errno {
	c := d.corked
	if c == nil {
		return 0
	}
	d.corked = nil
	return d.send(c.data, c.to, &c.opts)
}

// send sends one datagram.
func (d *dgramSock) send(data []byte, to *tcpip.FullAddress, c *sendControl) stack.Errno {
	if err := d.checkSize(len(data), to); err != 0 {
		return err
	}
	if d.kind == kindPing {
		if err := d.checkEcho(data); err != 0 {
			return err
		}
	}
	if to != nil {
		if c.nic != 0 {
			to.NIC = c.nic
		}
		if to.NIC == 0 {
			to.NIC = d.engine.nicID(uint32(d.opts.get(optUnicastIf)))
		}
	}
	if c.source.IsValid() {
		return d.sendFrom(data, to, c)
	}
	restore := d.overrideTOS(c)
	_, err := d.ep.Write(bytes.NewReader(data), tcpip.WriteOptions{To: to, ControlMessages: c.messages})
	restore()
	if !d.autobound && !d.hasPort && !d.connected {
		d.autobound = true
		d.syncErrQueue()
	}
	switch err.(type) {
	case nil:
		return 0
	case *tcpip.ErrNoPortAvailable:
		return unix.EAGAIN
	default:
		return errno(err)
	}
}

// overrideTOS sets the TOS that a control message asks for; the function that
// it returns sets back the socket's.
func (d *dgramSock) overrideTOS(c *sendControl) func() {
	if !c.hasTOS {
		return func() {}
	}
	opt, own := tcpip.IPv4TOSOption, d.opts.get(optTOS)
	if d.is6() {
		opt, own = tcpip.IPv6TrafficClassOption, max(d.opts.get(optTClass), 0)
	}
	_ = d.ep.SetSockOptInt(opt, int(c.tos))
	return func() { _ = d.ep.SetSockOptInt(opt, int(own)) }
}

// checkSize answers EMSGSIZE to what does not fit, by the limits of IP and,
// where the program forbids fragments, by the route's MTU.
func (d *dgramSock) checkSize(n int, to *tcpip.FullAddress) stack.Errno {
	v6 := d.is6()
	dst := d.peer.IP
	if to != nil {
		dst = toIP(int(d.family), to.Addr)
	}
	v6 = v6 && !dst.Is4In6()
	overhead := 0
	if d.kind == kindUDP {
		overhead = header.UDPMinimumSize
	}
	if !v6 {
		overhead += header.IPv4MinimumSize
	}
	if n+overhead > 0xffff {
		return unix.EMSGSIZE
	}
	if !d.forbidsFragments(v6) {
		return 0
	}
	if v6 {
		overhead += header.IPv6MinimumSize
	}
	if mtu := d.engine.routeMTU(dst); mtu != 0 && n+overhead > mtu {
		d.localError(unix.EMSGSIZE, uint32(mtu), to)
		return unix.EMSGSIZE
	}
	return 0
}

// forbidsFragments says whether the program wants no fragments made.
func (d *dgramSock) forbidsFragments(v6 bool) bool {
	if d.kind == kindRaw && d.opts.get(optHdrIncl) != 0 {
		return true
	}
	opt := optMTUDiscover
	if v6 {
		opt = optMTUDiscover6
		if d.opts.get(optDontFrag6) != 0 {
			return true
		}
	}
	v := d.opts.get(opt)
	return v == unix.IP_PMTUDISC_DO || v == unix.IP_PMTUDISC_PROBE || v == unix.IP_PMTUDISC_INTERFACE
}

// checkEcho checks that data is an echo request (ping_common_sendmsg).
func (d *dgramSock) checkEcho(data []byte) stack.Errno {
	if len(data) < 8 {
		return unix.EINVAL
	}
	echo := byte(8)
	if d.is6() {
		echo = 128
	}
	if data[0] != echo || data[1] != 0 {
		return unix.EINVAL
	}
	return 0
}

// Recv takes the next message.
func (d *dgramSock) Recv(m *stack.Message) stack.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	m.HasAddr, m.Flags, m.Control = false, 0, m.Control[:0]
	if d.pullErr(); d.err != 0 {
		m.Data = m.Data[:0]
		return d.takeErr()
	}
	for {
		d.rx.b = m.Data[:0]
		res, err := d.ep.Read(&d.rx, tcpip.ReadOptions{NeedRemoteAddr: true})
		m.Data, d.rx.b = d.rx.b, nil
		if err != nil {
			if _, ok := err.(*tcpip.ErrWouldBlock); ok && d.shut&rcvShutdown != 0 {
				return 0
			}
			return errno(err)
		}
		if !d.wanted(m.Data, &res) {
			continue
		}
		m.Addr = toAddr(int(d.family), res.RemoteAddr)
		if d.kind == kindRaw || d.kind == kindPing {
			m.Addr.Port = 0
		}
		m.HasAddr = true
		m.Control = d.appendControl(m.Control, &res.ControlMessages)
		return 0
	}
}

// wanted filters what netstack delivers but Linux does not.
func (d *dgramSock) wanted(data []byte, res *tcpip.ReadResult) bool {
	if d.connected && d.kind != kindUDP && toIP(int(d.family), res.RemoteAddr.Addr) != d.peer.IP {
		return false
	}
	if d.kind == kindRaw && d.filter != 0 && !d.is6() && d.proto == unix.IPPROTO_ICMP {
		if ip := header.IPv4(data); ip.IsValid(len(data)) {
			if p := ip.Payload(); len(p) > 0 && p[0] < 32 && d.filter&(1<<p[0]) != 0 {
				return false
			}
		}
	}
	return true
}

// TakeError is SO_ERROR.
func (d *dgramSock) TakeError() stack.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pullErr(); d.err == 0 {
		d.err = errno(d.ep.LastError())
	}
	return d.takeErr()
}

// Readiness is udp_poll and datagram_poll.
func (d *dgramSock) Readiness() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	ready := d.ep.Readiness(waiter.ReadableEvents | waiter.WritableEvents)
	var mask uint32
	if ready&waiter.EventErr != 0 || d.err != 0 || d.errPending() {
		mask |= unix.POLLERR
	}
	if d.shut&rcvShutdown != 0 {
		mask |= unix.POLLIN | unix.POLLRDHUP
	}
	if d.shut == allShutdown {
		mask |= unix.POLLHUP
	}
	if ready&waiter.EventIn != 0 {
		mask |= unix.POLLIN
	}
	if ready&waiter.EventOut != 0 {
		mask |= unix.POLLOUT
	}
	return mask
}

// Queued is SIOCINQ: the size of the next message. Nothing waits to be sent.
func (d *dgramSock) Queued() (in, out int) {
	n, err := d.endpoint().GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if err != nil {
		return 0, 0
	}
	return n, 0
}

// ReadTo gives the next message as bytes.
func (d *dgramSock) ReadTo(w io.Writer) (int, stack.Errno) {
	var m stack.Message
	if err := d.Recv(&m); err != 0 {
		return 0, err
	}
	n, _ := w.Write(m.Data)
	return n, 0
}

// WriteFrom sends what r has as one message to the peer.
func (d *dgramSock) WriteFrom(r stack.Source) (int, stack.Errno) {
	data := make([]byte, r.Len())
	n, err := io.ReadFull(r, data)
	if err != nil && n == 0 && len(data) > 0 {
		return 0, unix.EFAULT
	}
	return d.Send(&stack.Message{Data: data[:n]})
}
