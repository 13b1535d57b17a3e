package enginetest

import (
	"encoding/binary"
	"net/netip"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func controlScenes() []scene {
	return []scene{
		{"Control/PacketInfo", controlPacketInfo},
		{"Control/HopLimit", controlHopLimit},
		{"Control/ClassSent", controlClassSent},
		{"Control/Timestamp", controlTimestamp},
		{"Control/ErrorQueue", controlErrorQueue},
		{"Control/Malformed", controlMalformed},
	}
}

// cmsg finds one control message.
func (f *fixture) cmsg(m *stack.Message, level, typ int) []byte {
	f.Helper()
	list, err := unix.ParseSocketControlMessage(m.Control)
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range list {
		if int(c.Header.Level) == level && int(c.Header.Type) == typ {
			return c.Data
		}
	}
	f.Fatalf("no control message %d,%d among %d", level, typ, len(list))
	return nil
}

// ipLevel is IPPROTO_IP or IPPROTO_IPV6 as the family is.
func (f *fixture) ipLevel(four, six int) (level, name int) {
	if f.family == unix.AF_INET6 {
		return unix.IPPROTO_IPV6, six
	}
	return unix.IPPROTO_IP, four
}

func controlPacketInfo(f *fixture) {
	a, b := f.dgram(f.A), f.dgram(f.B)
	f.must("bind", b.Bind(stack.Addr{}), 0)
	level, opt := f.ipLevel(unix.IP_PKTINFO, unix.IPV6_RECVPKTINFO)
	f.must("setsockopt", b.setInt(level, opt, 1), 0)
	f.must("send", a.sendTo([]byte("x"), stack.Addr{IP: f.ipB, Port: b.LocalAddr().Port}), 0)
	m := b.recv()
	var dst netip.Addr
	var index uint32
	if f.family == unix.AF_INET6 {
		d := f.cmsg(m, level, unix.IPV6_PKTINFO)
		dst, index = netip.AddrFrom16([16]byte(d[:16])), binary.NativeEndian.Uint32(d[16:])
	} else {
		d := f.cmsg(m, level, unix.IP_PKTINFO)
		index, dst = binary.NativeEndian.Uint32(d), netip.AddrFrom4([4]byte(d[8:12]))
	}
	if dst != f.ipB || index == 0 {
		f.Errorf("sent to %v, packet info says %v, interface %d", f.ipB, dst, index)
	}
}

func controlHopLimit(f *fixture) {
	a, b := f.dgram(f.A), f.bound()
	level, opt := f.ipLevel(unix.IP_RECVTTL, unix.IPV6_RECVHOPLIMIT)
	_, typ := f.ipLevel(unix.IP_TTL, unix.IPV6_HOPLIMIT)
	f.must("setsockopt", b.setInt(level, opt, 1), 0)
	_, set := f.ipLevel(unix.IP_TTL, unix.IPV6_UNICAST_HOPS)
	f.must("setsockopt", a.setInt(level, set, 33), 0)
	f.must("send", a.sendTo([]byte("x"), b.LocalAddr()), 0)
	if v := binary.NativeEndian.Uint32(f.cmsg(b.recv(), level, typ)); v != 33 {
		f.Errorf("the hop limit is %d", v)
	}
}

// controlClassSent: the traffic class of one message, by ancillary data.
func controlClassSent(f *fixture) {
	a, b := f.dgram(f.A), f.bound()
	level, opt := f.ipLevel(unix.IP_RECVTOS, unix.IPV6_RECVTCLASS)
	_, typ := f.ipLevel(unix.IP_TOS, unix.IPV6_TCLASS)
	f.must("setsockopt", b.setInt(level, opt, 1), 0)
	control := make([]byte, unix.CmsgSpace(4))
	binary.NativeEndian.PutUint64(control[0:], uint64(unix.CmsgLen(4)))
	binary.NativeEndian.PutUint32(control[8:], uint32(level))
	binary.NativeEndian.PutUint32(control[12:], uint32(typ))
	binary.NativeEndian.PutUint32(control[16:], 0x28)
	_, errno := a.Send(&stack.Message{Data: []byte("x"), Addr: b.LocalAddr(), HasAddr: true, Control: control})
	f.must("send", errno, 0)
	// IP_TOS is one byte, IPV6_TCLASS an int.
	if d := f.cmsg(b.recv(), level, typ); d[0] != 0x28 {
		f.Errorf("the class is % x", d)
	}
	f.must("send", a.sendTo([]byte("x"), b.LocalAddr()), 0)
	if d := f.cmsg(b.recv(), level, typ); d[0] != 0 {
		f.Errorf("the class of the next message is % x", d)
	}
}

func controlTimestamp(f *fixture) {
	a, b := f.dgram(f.A), f.bound()
	f.must("SO_TIMESTAMP", b.setInt(unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1), 0)
	f.must("send", a.sendTo([]byte("x"), b.LocalAddr()), 0)
	d := f.cmsg(b.recv(), unix.SOL_SOCKET, unix.SO_TIMESTAMP)
	if len(d) != 16 || binary.NativeEndian.Uint64(d) < 1_600_000_000 {
		f.Errorf("the time stamp is % x", d)
	}
}

// controlErrorQueue: IP_RECVERR keeps the ICMP error with the packet.
func controlErrorQueue(f *fixture) {
	a, dead := f.dgram(f.A), f.dead(unix.SOCK_DGRAM)
	level, opt := f.ipLevel(unix.IP_RECVERR, unix.IPV6_RECVERR)
	f.must("setsockopt", a.setInt(level, opt, 1), 0)
	f.must("send", a.sendTo([]byte("lost"), dead), 0)
	a.until(unix.POLLERR)
	m := new(stack.Message)
	f.must("recv error", a.RecvError(m), 0)
	if string(m.Data) != "lost" || m.Addr != dead || m.Flags&unix.MSG_ERRQUEUE == 0 {
		f.Errorf("data %q to %v, flags %#x", m.Data, m.Addr, m.Flags)
	}
	d := f.cmsg(m, level, opt)
	if errno := stack.Errno(binary.NativeEndian.Uint32(d)); errno != unix.ECONNREFUSED {
		f.Errorf("ee_errno is %v", errno)
	}
	origin, typ, code := uint8(unix.SO_EE_ORIGIN_ICMP), uint8(3), uint8(3)
	if f.family == unix.AF_INET6 {
		origin, typ, code = unix.SO_EE_ORIGIN_ICMP6, 1, 4
	}
	if d[4] != origin || d[5] != typ || d[6] != code {
		f.Errorf("origin, type, code are %d, %d, %d", d[4], d[5], d[6])
	}
	f.expect("recv error again", a.RecvError(m), unix.EAGAIN)
}

func controlMalformed(f *fixture) {
	a, b := f.dgram(f.A), f.bound()
	bad := make([]byte, 24)
	binary.NativeEndian.PutUint64(bad, 5) // shorter than a header
	_, errno := a.Send(&stack.Message{Data: []byte("x"), Addr: b.LocalAddr(), HasAddr: true, Control: bad})
	f.expect("cmsg_len too short", errno, unix.EINVAL)
	binary.NativeEndian.PutUint64(bad, 100) // longer than the buffer
	_, errno = a.Send(&stack.Message{Data: []byte("x"), Addr: b.LocalAddr(), HasAddr: true, Control: bad})
	f.expect("cmsg_len too long", errno, unix.EINVAL)
}
