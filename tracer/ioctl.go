package tracer

import (
	"encoding/binary"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// ifNameSize is the space of a name in struct ifreq (netdevice(7)).
const ifNameSize = unix.IFNAMSIZ

// Commands that x/sys has no name for (linux/sockios.h).
const (
	fiosetown       = 0x8901
	fiogetown       = 0x8903
	siocoutqnsd     = 0x894b
	siocgstampNew   = 0x80108906
	siocgstampnsNew = 0x80108907
	siocgstampOld   = 0x8906
	siocgstampnsOld = 0x8907
)

// ioctl answers the network commands of ioctl(2).
func (c *call) ioctl(s *socket, dup int) result {
	cmd, arg := uint32(c.args[1]), c.args[2]
	switch cmd {
	case unix.SIOCINQ:
		return c.bytesQueued(s, dup, arg, true)
	case unix.SIOCOUTQ:
		return c.bytesQueued(s, dup, arg, false)
	case siocoutqnsd:
		if s.isStream() {
			return errno(c.writeUint32(arg, 0)) // all is the stack's at once
		}
	case unix.SIOCATMARK:
		if s.isStream() {
			return errno(c.writeUint32(arg, 0))
		}
	case fiosetown, unix.SIOCSPGRP, fiogetown, unix.SIOCGPGRP:
		return toKernel // who gets SIGIO: the stand-in knows
	case siocgstampOld, siocgstampnsOld, siocgstampNew, siocgstampnsNew:
		return fail(unix.ENOENT)
	case unix.SIOCGIFCONF:
		return c.ifconf(arg)
	}
	if cmd >= 0x8900 && cmd <= 0x89ff {
		req := make([]byte, c.word().sizeofIfreq())
		if e := c.read(arg, req); e != 0 {
			return fail(e)
		}
		return c.ifreq(cmd, arg, req)
	}
	return toKernel
}

// bytesQueued answers FIONREAD and SIOCOUTQ (tcp(7), udp(7)).
func (c *call) bytesQueued(s *socket, dup int, arg uint64, in bool) result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isStream() && s.state == listening {
		return fail(unix.EINVAL)
	}
	received, sent := s.ep.Queued()
	n := sent
	switch {
	case in && s.isStream():
		n, _ = unix.IoctlGetInt(dup, unix.SIOCINQ)
		if s.state == fresh || s.state == connecting {
			n = 0
		}
	case in:
		n = received
		s.messages.Receive()
		if s.messages.Waiting() > 0 {
			var b [1]byte
			n, _, _ = unix.Recvfrom(dup, b[:], unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		}
	case s.isStream() && s.state == connected:
		// What has not reached the endpoint counts as well.
		own, _ := unix.IoctlGetInt(dup, unix.SIOCOUTQ)
		if own > 0 {
			n++
		}
	}
	return errno(c.writeUint32(arg, uint32(n)))
}

// ifconf answers SIOCGIFCONF: the IPv4 addresses of the stack's interfaces.
func (c *call) ifconf(arg uint64) result {
	w := c.word()
	head := make([]byte, w.sizeofIfconf())
	if e := c.read(arg, head); e != 0 {
		return fail(e)
	}
	space := int(int32(binary.NativeEndian.Uint32(head)))
	buf := w.uint(head[w:])
	size := w.sizeofIfreq()
	var out []byte
	for _, i := range c.t.engine.Interfaces() {
		for _, p := range i.Addrs {
			if !p.Addr().Is4() {
				continue
			}
			req := make([]byte, size)
			copy(req[:ifNameSize-1], i.Name)
			appendSockaddr(req[:ifNameSize], unix.AF_INET, stack.Addr{IP: p.Addr()})
			out = append(out, req...)
		}
	}
	if buf != 0 {
		out = out[:max(0, min(len(out), space/size*size))]
		if e := c.write(buf, out); e != 0 {
			return fail(e)
		}
	}
	return errno(c.writeUint32(arg, uint32(len(out))))
}

// ifreq answers the SIOCGIF* commands from the stack's interfaces. What would
// change them is refused: the stack is configured by flags.
func (c *call) ifreq(cmd uint32, arg uint64, req []byte) result {
	switch cmd {
	case unix.SIOCATMARK, siocoutqnsd: // of a datagram socket
		return fail(unix.ENOTTY)
	case unix.SIOCADDRT, unix.SIOCDELRT:
		return fail(unix.EPERM)
	}
	i, ok := c.interfaceOf(cmd, req)
	if !ok {
		return fail(unix.ENODEV)
	}
	val := req[ifNameSize:]
	clear(val)
	inet := func(a stack.Addr) { appendSockaddr(val[:0], unix.AF_INET, a) }
	p4, has4 := firstIPv4(i)
	switch cmd {
	case unix.SIOCGIFNAME:
		clear(req[:ifNameSize])
		copy(req[:ifNameSize-1], i.Name)
		binary.NativeEndian.PutUint32(val, uint32(i.Index))
	case unix.SIOCGIFINDEX:
		binary.NativeEndian.PutUint32(val, uint32(i.Index))
	case unix.SIOCGIFFLAGS:
		binary.NativeEndian.PutUint16(val, i.Flags)
	case unix.SIOCGIFMTU:
		binary.NativeEndian.PutUint32(val, uint32(i.MTU))
	case unix.SIOCGIFMETRIC:
	case unix.SIOCGIFTXQLEN:
		binary.NativeEndian.PutUint32(val, 1000)
	case unix.SIOCGIFHWADDR:
		binary.NativeEndian.PutUint16(val, i.HardwareType)
		copy(val[2:8], i.HardwareAddr)
	case unix.SIOCGIFADDR, unix.SIOCGIFDSTADDR, unix.SIOCGIFNETMASK, unix.SIOCGIFBRDADDR:
		if !has4 {
			return fail(unix.EADDRNOTAVAIL)
		}
		a, ok := addressOf(cmd, i, p4)
		if ok {
			inet(a)
		} else {
			inet(stack.Addr{})
		}
	case unix.SIOCSIFADDR, unix.SIOCSIFFLAGS, unix.SIOCSIFMTU, unix.SIOCSIFNETMASK, unix.SIOCSIFBRDADDR,
		unix.SIOCSIFDSTADDR, unix.SIOCSIFNAME, unix.SIOCSIFHWADDR:
		return fail(unix.EPERM)
	default:
		return fail(unix.ENOTTY)
	}
	return errno(c.write(arg, req))
}

func (c *call) interfaceOf(cmd uint32, req []byte) (stack.Interface, bool) {
	name := unix.ByteSliceToString(req[:ifNameSize])
	index := int(binary.NativeEndian.Uint32(req[ifNameSize:]))
	for _, i := range c.t.engine.Interfaces() {
		if cmd == unix.SIOCGIFNAME && i.Index == index || cmd != unix.SIOCGIFNAME && i.Name == name {
			return i, true
		}
	}
	return stack.Interface{}, false
}
