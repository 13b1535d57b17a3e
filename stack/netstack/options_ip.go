package netstack

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// Names that x/sys/unix does not have.
const (
	ipRetOpts        = 7
	ipPktOptions     = 9
	ipRecvErr4884    = 26
	ipUnicastIf      = 50
	ipLocalPortRange = 51
	ipProtocol       = 52
	soOriginalDst    = 80
)

// ipOptions are the options of level SOL_IP (do_ip_setsockopt,
// do_ip_getsockopt), by name.
var ipOptions = map[int]option{
	unix.IP_TOS:                  {id: optTOS, check: checkTOS},
	unix.IP_TTL:                  {check: checkTTL, id: optTTL, read: readTTL, needByte: true},
	unix.IP_HDRINCL:              {id: optHdrIncl, check: rawFlag},
	unix.IP_OPTIONS:              {get: getIPOptions, set: setIPOptions, early: true},
	unix.IP_ROUTER_ALERT:         {id: optRouterAlert, check: checkRouterAlert},
	unix.IP_RECVOPTS:             {id: optRecvOpts, check: flag},
	ipRetOpts:                    {id: optRetOpts, check: flag},
	unix.IP_PKTINFO:              {id: optPktinfo, check: flag},
	ipPktOptions:                 {on: kindTCP, get: nothing},
	unix.IP_MTU_DISCOVER:         {id: optMTUDiscover, check: within(0, 5)},
	unix.IP_RECVERR:              {id: optRecvErr, check: flag},
	unix.IP_RECVTTL:              {id: optRecvTTL, check: flag},
	unix.IP_RECVTOS:              {id: optRecvTOS, check: flag},
	unix.IP_MTU:                  {read: readMTU},
	unix.IP_FREEBIND:             {id: optFreebind, check: flag, needByte: true},
	unix.IP_IPSEC_POLICY:         {set: setPolicy, noGet: unix.ENOPROTOOPT, early: true},
	unix.IP_XFRM_POLICY:          {set: setXfrmPolicy, noGet: unix.ENOPROTOOPT, early: true},
	unix.IP_PASSSEC:              {id: optPassSec, check: flag},
	unix.IP_TRANSPARENT:          {id: optTransparent, check: adminFlag, needByte: true},
	unix.IP_ORIGDSTADDR:          {id: optRecvOrigDst, check: flag},
	unix.IP_MINTTL:               {id: optMinTTL, check: within(0, 255), needByte: true},
	unix.IP_NODEFRAG:             {id: optNoDefrag, check: rawFlag},
	unix.IP_CHECKSUM:             {id: optChecksum, check: flag},
	unix.IP_BIND_ADDRESS_NO_PORT: {id: optBindNoPort, check: flag},
	unix.IP_RECVFRAGSIZE:         {id: optRecvFragSize, check: dgramFlag},
	ipRecvErr4884:                {id: optRecvErr4884, check: within(0, 1)},

	unix.IP_MULTICAST_IF:           {get: getMulticastIf, set: setMulticastIf, early: true},
	unix.IP_MULTICAST_TTL:          {id: optMulticastTTL, check: checkMulticastTTL, needByte: true},
	unix.IP_MULTICAST_LOOP:         {id: optMulticastLoop, check: flag, needByte: true},
	unix.IP_MULTICAST_ALL:          {id: optMulticastAll, check: within(0, 1), read: readMulticastAll, needByte: true},
	unix.IP_ADD_MEMBERSHIP:         {set: setMembership(true), noGet: unix.ENOPROTOOPT, early: true},
	unix.IP_DROP_MEMBERSHIP:        {set: setMembership(false), noGet: unix.ENOPROTOOPT, early: true},
	unix.IP_UNBLOCK_SOURCE:         {set: setSourceMembership, noGet: unix.ENOPROTOOPT, early: true},
	unix.IP_BLOCK_SOURCE:           {set: setSourceMembership, noGet: unix.ENOPROTOOPT, early: true},
	unix.IP_ADD_SOURCE_MEMBERSHIP:  {set: setSourceMembership, noGet: unix.ENOPROTOOPT, early: true},
	unix.IP_DROP_SOURCE_MEMBERSHIP: {set: setSourceMembership, noGet: unix.ENOPROTOOPT, early: true},
	unix.IP_MSFILTER:               {set: invalid, noGet: unix.EINVAL, early: true},
	unix.MCAST_JOIN_GROUP:          {set: setGroup(true), noGet: unix.ENOPROTOOPT, early: true},
	unix.MCAST_LEAVE_GROUP:         {set: setGroup(false), noGet: unix.ENOPROTOOPT, early: true},
	unix.MCAST_BLOCK_SOURCE:        {set: setSourceGroup, noGet: unix.ENOPROTOOPT, early: true},
	unix.MCAST_UNBLOCK_SOURCE:      {set: setSourceGroup, noGet: unix.ENOPROTOOPT, early: true},
	unix.MCAST_JOIN_SOURCE_GROUP:   {set: setSourceGroup, noGet: unix.ENOPROTOOPT, early: true},
	unix.MCAST_LEAVE_SOURCE_GROUP:  {set: setSourceGroup, noGet: unix.ENOPROTOOPT, early: true},
	unix.MCAST_MSFILTER:            {set: invalid, noGet: unix.EINVAL, early: true},

	ipUnicastIf:      {set: setUnicastIf, read: readUnicastIf, early: true},
	ipLocalPortRange: {id: optPortRange, set: setPortRange, early: true},
	ipProtocol:       {read: readIPProtocol},
	soOriginalDst: {on: kindTCP, get: func(_ target, val []byte) (int, stack.Errno) {
		if len(val) < unix.SizeofSockaddrInet4 {
			return 0, unix.EINVAL
		}
		return 0, unix.ENOENT
	}},
}

// checkTOS: the two ECN bits of a stream are TCP's own.
func checkTOS(t target, v int64) (int64, stack.Errno) {
	v &= 0xff
	if t.kind == kindTCP {
		v &^= 3
	}
	return v, 0
}

func checkTTL(_ target, v int64) (int64, stack.Errno) {
	if v != -1 && (v < 1 || v > 255) {
		return 0, unix.EINVAL
	}
	return v, 0
}

func readTTL(t target) (int64, stack.Errno) {
	if v := t.opts.get(optTTL); v != -1 {
		return v, 0
	}
	return 64, 0
}

// rawFlag is flag, on raw sockets only.
func rawFlag(t target, v int64) (int64, stack.Errno) {
	if t.kind != kindRaw {
		return 0, unix.ENOPROTOOPT
	}
	return flag(t, v)
}

// dgramFlag is flag, but not for streams.
func dgramFlag(t target, v int64) (int64, stack.Errno) {
	if t.kind == kindTCP {
		return 0, unix.EINVAL
	}
	return flag(t, v)
}

// checkRouterAlert is ip_ra_control.
func checkRouterAlert(t target, v int64) (int64, stack.Errno) {
	switch {
	case t.kind != kindRaw || t.proto == unix.IPPROTO_RAW:
		return 0, unix.EINVAL
	case v == 0 && t.opts.get(optRouterAlert) == 0:
		return 0, unix.ENOBUFS
	case v != 0 && t.opts.get(optRouterAlert) != 0:
		return 0, unix.EADDRINUSE
	}
	return flag(t, v)
}

// getIPOptions is IP_OPTIONS. Options of the IP header are not sent, so only
// those that say nothing (end and no-operation) can have been set.
func getIPOptions(t target, val []byte) (int, stack.Errno) {
	return putBytes(val, t.ipOptions())
}

func setIPOptions(t target, val []byte) stack.Errno {
	if len(val) > 40 {
		return unix.EINVAL
	}
	b := make([]byte, (len(val)+3)&^3)
	copy(b, val)
	for i, o := range b {
		if o == 0 {
			clear(b[i:])
			break
		}
		if o != 1 {
			return unix.EINVAL
		}
	}
	t.setIPOptions(b)
	return 0
}

// readMTU is IP_MTU, of a connected socket.
func readMTU(t target) (int64, stack.Errno) {
	peer, err := t.peerOf()
	if err != 0 {
		return 0, unix.ENOTCONN
	}
	mtu := t.engine.routeMTU(peer.IP)
	if mtu == 0 {
		return 0, unix.ENOTCONN
	}
	if peer.IP.Is4() {
		mtu = min(mtu, 65535) // the most that IPv4's length can say
	}
	return int64(mtu), 0
}

// peerOf gives the address that the socket is connected to.
func (t target) peerOf() (stack.Addr, stack.Errno) {
	if t.tcp != nil {
		return t.tcp.peer()
	}
	if !t.dgram.connected {
		return stack.Addr{}, unix.ENOTCONN
	}
	return t.dgram.peer, 0
}

func checkMulticastTTL(t target, v int64) (int64, stack.Errno) {
	switch {
	case t.kind == kindTCP:
		return 0, unix.EINVAL
	case v == -1:
		return 1, 0
	case v < 0 || v > 255:
		return 0, unix.EINVAL
	}
	return v, 0
}

// readMulticastAll: AF_INET6 sockets are made with IP_MULTICAST_ALL off.
func readMulticastAll(t target) (int64, stack.Errno) {
	if t.is6() && !t.opts.has(optMulticastAll) {
		return 0, 0
	}
	return t.opts.get(optMulticastAll), 0
}

// setUnicastIf is IP_UNICAST_IF: an interface index in network byte order.
func setUnicastIf(t target, val []byte) stack.Errno {
	if len(val) != 4 {
		return unix.EINVAL
	}
	return t.setUnicastIf(optUnicastIf, val)
}

func (t target) setUnicastIf(id optID, val []byte) stack.Errno {
	index := binary.BigEndian.Uint32(val)
	if index != 0 && !t.engine.hasNIC(index) {
		return unix.EADDRNOTAVAIL
	}
	if dev := t.opts.get(optBindToDevice); index != 0 && dev != 0 && dev != int64(index) {
		return unix.EINVAL
	}
	t.opts.set(id, int64(index))
	return 0
}

func readUnicastIf(t target) (int64, stack.Errno) { return networkOrder(t.opts.get(optUnicastIf)), 0 }

// networkOrder is htonl.
func networkOrder(v int64) int64 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(v))
	return int64(int32(binary.NativeEndian.Uint32(b[:])))
}

// setPortRange is IP_LOCAL_PORT_RANGE: the high and low port in one number.
func setPortRange(t target, val []byte) stack.Errno {
	if len(val) != 4 {
		return unix.EINVAL
	}
	v := binary.NativeEndian.Uint32(val)
	if lo, hi := v&0xffff, v>>16; lo != 0 && hi != 0 && lo > hi {
		return unix.EINVAL
	}
	t.opts.set(optPortRange, int64(int32(v)))
	return 0
}

// readIPProtocol is IP_PROTOCOL, which the kernel takes from where streams and
// UDP keep their local port.
func readIPProtocol(t target) (int64, stack.Errno) {
	if t.kind == kindRaw {
		return int64(t.proto), 0
	}
	full, err := t.ep.GetLocalAddress()
	if err != nil {
		return 0, 0
	}
	return int64(full.Port), 0
}

// setPolicy is IP_IPSEC_POLICY: there is no IPsec (xfrm_user_policy).
func setPolicy(t target, val []byte) stack.Errno {
	switch {
	case !t.engine.admin:
		return unix.EPERM
	case len(val) == 0:
		return unix.EMSGSIZE
	}
	return unix.EOPNOTSUPP
}

// setXfrmPolicy is IP_XFRM_POLICY. The kernel knows it by the socket's own
// family only.
func setXfrmPolicy(t target, val []byte) stack.Errno {
	if err := setPolicy(t, val); err != unix.EOPNOTSUPP || t.is6() {
		return err
	}
	return unix.EINVAL
}
