package netstack

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// maxMemberships is Linux's net.ipv4.igmp_max_memberships.
const maxMemberships = 20

// membership is a multicast group that a socket has joined.
type membership struct {
	group netip.Addr
	nic   tcpip.NICID
}

// join joins a group on an interface; 0 lets the routing table choose.
func (d *dgramSock) join(group netip.Addr, nic tcpip.NICID) stack.Errno {
	m, err := d.membershipOf(group, nic)
	if err != 0 {
		return err
	}
	if slices.Contains(d.groups, m) {
		return unix.EADDRINUSE
	}
	if group.Is4() && len(d.groups) >= maxMemberships {
		return unix.ENOBUFS
	}
	opt := tcpip.AddMembershipOption{NIC: m.nic, MulticastAddr: fromIP(group)}
	if err := d.ep.SetSockOpt(&opt); err != nil {
		return errno(err)
	}
	d.groups = append(d.groups, m)
	return 0
}

// leave undoes join.
func (d *dgramSock) leave(group netip.Addr, nic tcpip.NICID) stack.Errno {
	m, err := d.membershipOf(group, nic)
	if err != 0 {
		return err
	}
	i := slices.Index(d.groups, m)
	if i < 0 {
		return unix.EADDRNOTAVAIL
	}
	opt := tcpip.RemoveMembershipOption{NIC: m.nic, MulticastAddr: fromIP(group)}
	if err := d.ep.SetSockOpt(&opt); err != nil {
		return errno(err)
	}
	d.groups = slices.Delete(d.groups, i, i+1)
	return 0
}

// membershipOf checks a group and an interface, and finds the interface if
// none is given.
func (d *dgramSock) membershipOf(group netip.Addr, nic tcpip.NICID) (membership, stack.Errno) {
	if !group.IsMulticast() {
		return membership{}, unix.EINVAL
	}
	if nic == 0 {
		n := ipv6Number
		if group.Is4() {
			n = ipv4Number
		}
		r, err := d.engine.st.FindRoute(0, tcpip.Address{}, fromIP(group), n, false)
		if err != nil {
			return membership{}, unix.ENODEV
		}
		nic = r.NICID()
		r.Release()
	}
	if !d.engine.st.CheckNIC(nic) {
		return membership{}, unix.ENODEV
	}
	return membership{group, nic}, 0
}

// rejoin joins the socket's groups again on a fresh netstack endpoint.
func (d *dgramSock) rejoin() {
	for _, m := range d.groups {
		opt := tcpip.AddMembershipOption{NIC: m.nic, MulticastAddr: fromIP(m.group)}
		if err := d.ep.SetSockOpt(&opt); err != nil {
			d.engine.log.Warn("join group again", "group", m.group, "err", err.String())
		}
	}
	d.applyMulticastIf()
}

// applyMulticastIf tells netstack IP_MULTICAST_IF.
func (d *dgramSock) applyMulticastIf() {
	nic, a := d.opts.get(optMulticastIfNIC), d.opts.get(optMulticastIfAddr)
	if nic == 0 && a == 0 {
		return
	}
	opt := tcpip.MulticastInterfaceOption{NIC: tcpip.NICID(nic)}
	if nic == 0 {
		opt.InterfaceAddr = fromIP(number4(a))
	}
	_ = d.ep.SetSockOpt(&opt)
}

// number4 is the IPv4 address kept as a number, in network byte order.
func number4(v int64) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(v))
	return netip.AddrFrom4(b)
}

// mreqn is struct ip_mreqn, of which struct ip_mreq is the beginning.
type mreqn struct {
	group, addr netip.Addr
	nic         tcpip.NICID
}

// parseMreqn reads a struct ip_mreq or ip_mreqn.
func parseMreqn(val []byte) (m mreqn, ok bool) {
	if len(val) < 8 {
		return m, false
	}
	m.group = netip.AddrFrom4([4]byte(val))
	m.addr = netip.AddrFrom4([4]byte(val[4:]))
	if len(val) >= 12 {
		m.nic = tcpip.NICID(binary.NativeEndian.Uint32(val[8:]))
	}
	return m, true
}

// nicOf gives the interface that a request names by its index or its address;
// 0 if neither is given, ENODEV if there is no such interface.
func (e *Engine) nicOf(m mreqn) (tcpip.NICID, stack.Errno) {
	if m.nic != 0 {
		if !e.hasNIC(uint32(m.nic)) {
			return 0, unix.ENODEV
		}
		return e.nicID(uint32(m.nic)), 0
	}
	if m.addr.IsUnspecified() {
		return 0, 0
	}
	nic := e.st.CheckLocalAddress(0, ipv4Number, fromIP(m.addr))
	if nic == 0 || m.addr == broadcast4 {
		return 0, unix.ENODEV
	}
	return nic, 0
}

// setMembership is IP_ADD_MEMBERSHIP and IP_DROP_MEMBERSHIP.
func setMembership(add bool) func(target, []byte) stack.Errno {
	return func(t target, val []byte) stack.Errno {
		if t.dgram == nil {
			return unix.EPROTO
		}
		m, ok := parseMreqn(val)
		if !ok || !m.group.IsMulticast() && add {
			return unix.EINVAL
		}
		nic, err := t.engine.nicOf(m)
		if err != 0 {
			return err
		}
		if add {
			return t.dgram.join(m.group, nic)
		}
		if !m.group.IsMulticast() {
			return t.dgram.leaveNone(nic, m.addr)
		}
		return t.dgram.leave(m.group, nic)
	}
}

// leaveNone is the answer to leaving what is no group.
func (d *dgramSock) leaveNone(nic tcpip.NICID, addr netip.Addr) stack.Errno {
	if nic == 0 && addr.IsUnspecified() {
		if _, err := d.engine.st.FindRoute(0, tcpip.Address{}, tcpip.AddrFrom4([4]byte{224, 0, 0, 1}), ipv4Number, false); err != nil {
			return unix.ENODEV
		}
	}
	return unix.EADDRNOTAVAIL
}

// setMembership6 is IPV6_ADD_MEMBERSHIP and IPV6_DROP_MEMBERSHIP: struct
// ipv6_mreq.
func setMembership6(add bool) func(target, []byte) stack.Errno {
	return func(t target, val []byte) stack.Errno {
		const mreqLen = 20
		if len(val) < mreqLen {
			return unix.EINVAL
		}
		if t.dgram == nil {
			return unix.EPROTO
		}
		group := netip.AddrFrom16([16]byte(val))
		nic := t.engine.nicID(binary.NativeEndian.Uint32(val[16:]))
		if add {
			return t.dgram.join(group, nic)
		}
		return t.dgram.leave(group, nic)
	}
}

// setGroup is MCAST_JOIN_GROUP and MCAST_LEAVE_GROUP: struct group_req.
func setGroup(add bool) func(target, []byte) stack.Errno {
	return func(t target, val []byte) stack.Errno {
		const groupReqLen = 136
		if len(val) < groupReqLen {
			return unix.EINVAL
		}
		if t.dgram == nil {
			return unix.EPROTO
		}
		nic := t.engine.nicID(binary.NativeEndian.Uint32(val))
		var group netip.Addr
		switch family := binary.NativeEndian.Uint16(val[8:]); family {
		case unix.AF_INET:
			group = netip.AddrFrom4([4]byte(val[12:]))
		case unix.AF_INET6:
			group = netip.AddrFrom16([16]byte(val[16:]))
		default:
			return unix.EADDRNOTAVAIL
		}
		if add {
			return t.dgram.join(group, nic)
		}
		return t.dgram.leave(group, nic)
	}
}

// setSourceMembership is IP_ADD_SOURCE_MEMBERSHIP and its kin. netstack does
// not filter by source.
func setSourceMembership(_ target, val []byte) stack.Errno {
	if len(val) != 12 {
		return unix.EINVAL
	}
	return unix.ENOPROTOOPT
}

// setSourceGroup is MCAST_JOIN_SOURCE_GROUP and its kin.
func setSourceGroup(_ target, val []byte) stack.Errno {
	const groupSourceReqLen = 264
	if len(val) < groupSourceReqLen {
		return unix.EINVAL
	}
	return unix.ENOPROTOOPT
}

// setMulticastIf is IP_MULTICAST_IF: struct in_addr, ip_mreq or ip_mreqn.
func setMulticastIf(t target, val []byte) stack.Errno {
	if t.dgram == nil || len(val) < 4 {
		return unix.EINVAL
	}
	m := mreqn{addr: netip.AddrFrom4([4]byte(val))}
	if len(val) >= 8 {
		m, _ = parseMreqn(val)
	}
	if m.nic == 0 && m.addr.IsUnspecified() {
		t.opts.set(optMulticastIfNIC, 0)
		t.opts.set(optMulticastIfAddr, 0)
		_ = t.ep.SetSockOpt(&tcpip.MulticastInterfaceOption{})
		return 0
	}
	nic, err := t.engine.nicOf(m)
	if err != 0 {
		return unix.EADDRNOTAVAIL
	}
	if dev := t.opts.get(optBindToDevice); dev != 0 && dev != int64(nic) {
		return unix.EINVAL
	}
	addr := m.addr.As4()
	t.opts.set(optMulticastIfNIC, int64(nic))
	t.opts.set(optMulticastIfAddr, int64(int32(binary.NativeEndian.Uint32(addr[:]))))
	t.dgram.applyMulticastIf()
	return 0
}

func getMulticastIf(t target, val []byte) (int, stack.Errno) {
	return putInt(val, t.opts.get(optMulticastIfAddr))
}
