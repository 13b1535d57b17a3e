package netstack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// cmsgHdrLen is the length of struct cmsghdr on 64-bit Linux.
const cmsgHdrLen = 16

// cmsgAlign rounds up as CMSG_ALIGN does.
func cmsgAlign(n int) int { return (n + 7) &^ 7 }

// appendCmsg appends one control message.
func appendCmsg(b []byte, level, typ int, data []byte) []byte {
	b = binary.NativeEndian.AppendUint64(b, uint64(cmsgHdrLen+len(data)))
	b = binary.NativeEndian.AppendUint32(b, uint32(level))
	b = binary.NativeEndian.AppendUint32(b, uint32(typ))
	b = append(b, data...)
	for range cmsgAlign(len(data)) - len(data) {
		b = append(b, 0)
	}
	return b
}

// appendCmsgInt appends a control message that is one int.
func appendCmsgInt(b []byte, level, typ int, v uint32) []byte {
	var data [4]byte
	binary.NativeEndian.PutUint32(data[:], v)
	return appendCmsg(b, level, typ, data[:])
}

// nextCmsg takes the first control message off b. EINVAL as CMSG_OK has it.
func nextCmsg(b []byte) (level, typ int, data, rest []byte, err stack.Errno) {
	if len(b) < cmsgHdrLen {
		return 0, 0, nil, nil, 0
	}
	n := binary.NativeEndian.Uint64(b)
	if n < cmsgHdrLen || n > uint64(len(b)) {
		return 0, 0, nil, nil, unix.EINVAL
	}
	level = int(int32(binary.NativeEndian.Uint32(b[8:])))
	typ = int(int32(binary.NativeEndian.Uint32(b[12:])))
	rest = b[min(cmsgAlign(int(n)), len(b)):]
	return level, typ, b[cmsgHdrLen:n], rest, 0
}

// sendControl is what the ancillary data of a message asks for.
type sendControl struct {
	messages tcpip.SendableControlMessages
	source   netip.Addr // IP_PKTINFO's ipi_spec_dst
	nic      tcpip.NICID
	hasTOS   bool
	tos      uint8
}

// parseControl reads the ancillary data given to sendmsg(2). Levels that are
// not IP's are ignored, unknown messages of IP's are EINVAL (ip_cmsg_send,
// ip6_datagram_send_ctl).
func (d *dgramSock) parseControl(b []byte, c *sendControl) stack.Errno {
	for len(b) >= cmsgHdrLen {
		level, typ, data, rest, err := nextCmsg(b)
		if err != 0 {
			return err
		}
		b = rest
		switch {
		case level == unix.SOL_SOCKET:
			err = d.socketControl(typ, data)
		case level == unix.SOL_IP && !d.is6():
			err = d.ipControl(typ, data, c)
		case level == unix.SOL_IPV6 && d.is6():
			err = d.ipv6Control(typ, data, c)
		case level == unix.SOL_UDP && d.kind == kindUDP:
			err = unix.EINVAL // UDP_SEGMENT is not offered
		}
		if err != 0 {
			return err
		}
	}
	return 0
}

// socketControl is a message of level SOL_SOCKET (__sock_cmsg_send).
func (d *dgramSock) socketControl(typ int, data []byte) stack.Errno {
	switch typ {
	case unix.SO_MARK:
		return unix.EPERM
	case unix.SO_TIMESTAMPING_OLD, unix.SO_TIMESTAMPING_NEW, unix.SO_PRIORITY:
		if len(data) != 4 {
			return unix.EINVAL
		}
		return 0
	case unix.SCM_RIGHTS, unix.SCM_CREDENTIALS:
		return 0
	default:
		return unix.EINVAL
	}
}

// ipControl is a message of level SOL_IP on an AF_INET socket.
func (d *dgramSock) ipControl(typ int, data []byte, c *sendControl) stack.Errno {
	switch typ {
	case unix.IP_PKTINFO:
		if len(data) != unix.SizeofInet4Pktinfo {
			return unix.EINVAL
		}
		c.nic = d.engine.nicID(binary.NativeEndian.Uint32(data))
		if src := netip.AddrFrom4([4]byte(data[4:8])); !src.IsUnspecified() {
			c.source = src
		}
	case unix.IP_TTL:
		v, ok := cmsgInt(data)
		if !ok || v < 1 || v > 255 {
			return unix.EINVAL
		}
		c.messages.HasTTL, c.messages.TTL = true, uint8(v)
	case unix.IP_TOS:
		v, ok := cmsgInt(data)
		if len(data) == 1 {
			v, ok = int32(data[0]), true
		}
		if !ok || v < 0 || v > 255 {
			return unix.EINVAL
		}
		c.hasTOS, c.tos = true, uint8(v)
	default:
		return unix.EINVAL
	}
	return 0
}

// ipv6Control is a message of level SOL_IPV6 on an AF_INET6 socket.
func (d *dgramSock) ipv6Control(typ int, data []byte, c *sendControl) stack.Errno {
	switch typ {
	case unix.IPV6_PKTINFO, 2: // 2 is IPV6_2292PKTINFO
		if len(data) < unix.SizeofInet6Pktinfo {
			return unix.EINVAL
		}
		src := netip.AddrFrom16([16]byte(data[:16]))
		c.messages.HasIPv6PacketInfo = true
		c.messages.IPv6PacketInfo = tcpip.IPv6PacketInfo{
			NIC:  d.engine.nicID(binary.NativeEndian.Uint32(data[16:])),
			Addr: fromIP(src),
		}
		if src.Is4In6() {
			c.messages.HasIPv6PacketInfo = false
			c.source = src.Unmap()
			c.nic = c.messages.IPv6PacketInfo.NIC
		}
	case unix.IPV6_HOPLIMIT, 8: // 8 is IPV6_2292HOPLIMIT
		v, ok := cmsgInt(data)
		if !ok || v < -1 || v > 255 {
			return unix.EINVAL
		}
		if v >= 0 {
			c.messages.HasHopLimit, c.messages.HopLimit = true, uint8(v)
		}
	case unix.IPV6_TCLASS:
		v, ok := cmsgInt(data)
		if !ok || v < -1 || v > 255 {
			return unix.EINVAL
		}
		if v >= 0 {
			c.hasTOS, c.tos = true, uint8(v)
		}
	case unix.IPV6_DONTFRAG:
		v, ok := cmsgInt(data)
		if !ok || v < 0 || v > 1 {
			return unix.EINVAL
		}
	default:
		return unix.EINVAL
	}
	return 0
}

// cmsgInt reads a control message that must be one int.
func cmsgInt(data []byte) (int32, bool) {
	if len(data) != 4 {
		return 0, false
	}
	return int32(binary.NativeEndian.Uint32(data)), true
}

// appendControl appends the ancillary data that the options ask for, in the
// order in which the kernel gives them.
func (d *dgramSock) appendControl(b []byte, cm *tcpip.ReceivableControlMessages) []byte {
	if len(d.opts.vals) == 0 {
		return b
	}
	b = d.appendTimestamp(b, cm)
	if !d.is6() {
		return d.appendControl4(b, cm)
	}
	if d.opts.get(optRecvPktinfo6) != 0 {
		b = d.appendPktinfo6(b, cm, unix.IPV6_PKTINFO)
	}
	if cm.HasHopLimit && d.opts.get(optRecvHopLimit) != 0 {
		b = appendCmsgInt(b, unix.SOL_IPV6, unix.IPV6_HOPLIMIT, uint32(cm.HopLimit))
	}
	if cm.HasTClass && d.opts.get(optRecvTClass) != 0 {
		b = appendCmsgInt(b, unix.SOL_IPV6, unix.IPV6_TCLASS, cm.TClass)
	}
	// The forms of RFC 2292 come after those of RFC 3542, and both if asked for.
	if d.opts.get(opt2292Pktinfo) != 0 {
		b = d.appendPktinfo6(b, cm, ipv62292Pktinfo)
	}
	if cm.HasHopLimit && d.opts.get(opt2292HopLimit) != 0 {
		b = appendCmsgInt(b, unix.SOL_IPV6, ipv62292HopLimit, uint32(cm.HopLimit))
	}
	if cm.HasOriginalDstAddress && d.opts.get(optRecvOrigDst6) != 0 {
		b = appendCmsg(b, unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, sockaddr(int(d.family), toAddr(int(d.family), cm.OriginalDstAddress)))
	}
	if !cm.HasTClass && !cm.HasHopLimit {
		b = d.appendControl4(b, cm) // an IPv4 datagram, or no IPv6 option
	}
	return b
}

// appendTimestamp appends SCM_TIMESTAMP or SCM_TIMESTAMPNS.
func (d *dgramSock) appendTimestamp(b []byte, cm *tcpip.ReceivableControlMessages) []byte {
	typ := d.opts.get(optTimestamp)
	if typ == 0 || !cm.HasTimestamp {
		return b
	}
	var data [16]byte
	binary.NativeEndian.PutUint64(data[:], uint64(cm.Timestamp.Unix()))
	sub := uint64(cm.Timestamp.Nanosecond())
	if typ == unix.SO_TIMESTAMP_OLD || typ == unix.SO_TIMESTAMP_NEW {
		sub /= 1000
	}
	binary.NativeEndian.PutUint64(data[8:], sub)
	return appendCmsg(b, unix.SOL_SOCKET, int(typ), data[:])
}

// appendControl4 appends the messages of level SOL_IP (ip_cmsg_recv_offset).
func (d *dgramSock) appendControl4(b []byte, cm *tcpip.ReceivableControlMessages) []byte {
	if cm.HasIPPacketInfo && d.opts.get(optPktinfo) != 0 {
		var data [unix.SizeofInet4Pktinfo]byte
		binary.NativeEndian.PutUint32(data[:], d.engine.shownNIC(cm.PacketInfo.NIC, cm.PacketInfo.DestinationAddr))
		reply := d.engine.replyAddr(cm.PacketInfo)
		copy(data[4:], reply.AsSlice())
		copy(data[8:], cm.PacketInfo.DestinationAddr.AsSlice())
		b = appendCmsg(b, unix.SOL_IP, unix.IP_PKTINFO, data[:])
	}
	if cm.HasTTL && d.opts.get(optRecvTTL) != 0 {
		b = appendCmsgInt(b, unix.SOL_IP, unix.IP_TTL, uint32(cm.TTL))
	}
	if cm.HasTOS && d.opts.get(optRecvTOS) != 0 {
		b = appendCmsg(b, unix.SOL_IP, unix.IP_TOS, []byte{cm.TOS})
	}
	if cm.HasOriginalDstAddress && d.opts.get(optRecvOrigDst) != 0 && cm.OriginalDstAddress.Addr.BitLen() == 32 {
		b = appendCmsg(b, unix.SOL_IP, unix.IP_RECVORIGDSTADDR, sockaddr(unix.AF_INET, toAddr(unix.AF_INET, cm.OriginalDstAddress)))
	}
	return b
}

// appendPktinfo6 appends IPV6_PKTINFO, IPv4 addresses mapped.
func (d *dgramSock) appendPktinfo6(b []byte, cm *tcpip.ReceivableControlMessages, typ int) []byte {
	var data [unix.SizeofInet6Pktinfo]byte
	switch {
	case cm.HasIPv6PacketInfo:
		copy(data[:], cm.IPv6PacketInfo.Addr.AsSlice())
		binary.NativeEndian.PutUint32(data[16:], d.engine.shownNIC(cm.IPv6PacketInfo.NIC, cm.IPv6PacketInfo.Addr))
	case cm.HasIPPacketInfo:
		ip := toIP(unix.AF_INET6, cm.PacketInfo.DestinationAddr)
		copy(data[:], ip.AsSlice())
		binary.NativeEndian.PutUint32(data[16:], d.engine.shownNIC(cm.PacketInfo.NIC, cm.PacketInfo.DestinationAddr))
	default:
		return b
	}
	return appendCmsg(b, unix.SOL_IPV6, typ, data[:])
}

// replyAddr is the local address that answers a packet: its destination, or
// the interface's own address if that was for many.
func (e *Engine) replyAddr(p tcpip.IPPacketInfo) tcpip.Address {
	ip := toIP(unix.AF_INET, p.DestinationAddr)
	if !ip.IsMulticast() && !e.isBroadcast(ip) {
		return p.DestinationAddr
	}
	a, err := e.st.GetMainNICAddress(p.NIC, ipv4Number)
	if err != nil {
		return p.DestinationAddr
	}
	return a.Address
}

// sockaddr is the address as a struct sockaddr_in or sockaddr_in6.
func sockaddr(family int, a stack.Addr) []byte {
	if family == unix.AF_INET {
		b := make([]byte, unix.SizeofSockaddrInet4)
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], a.Port)
		if a.IP.Is4() {
			copy(b[4:], a.IP.AsSlice())
		}
		return b
	}
	b := make([]byte, unix.SizeofSockaddrInet6)
	binary.NativeEndian.PutUint16(b, unix.AF_INET6)
	binary.BigEndian.PutUint16(b[2:], a.Port)
	binary.NativeEndian.PutUint32(b[4:], a.Flow)
	if a.IP.IsValid() {
		ip := a.IP.As16()
		copy(b[8:], ip[:])
	}
	binary.NativeEndian.PutUint32(b[24:], a.Scope)
	return b
}
