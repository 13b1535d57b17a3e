package netstack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// Names that x/sys/unix does not have.
const (
	ipv62292Pktinfo         = 2
	ipv62292HopOpts         = 3
	ipv62292DstOpts         = 4
	ipv62292Rthdr           = 5
	ipv62292PktOptions      = 6
	ipv62292HopLimit        = 8
	ipv6FlowInfo            = 11
	ipv6RouterAlertIsolate  = 30
	ipv6RecvErr4884         = 31
	ipv6FlowLabelMgr        = 32
	ipv6FlowInfoSend        = 33
	ipv6AddrPreferences     = 72
	ipv6MinHopCount         = 73
	ipv6UnicastIf           = 76
	ipv6RecvFragSize        = 77
	ipv6Freebind            = 78
	ip6OriginalDst          = 80
	ipv6MulticastAll        = 29
	ip6tSetReplace, ip6tAdd = 64, 65
	ip6tRevMatch, ip6tRev   = 68, 69
)

// ipv6Options are the options of level SOL_IPV6 (do_ipv6_setsockopt,
// do_ipv6_getsockopt), by name.
var ipv6Options = map[int]option{
	unix.IPV6_ADDRFORM:            {set: setAddrForm, get: getAddrForm},
	ipv62292Pktinfo:               {id: opt2292Pktinfo, check: flag},
	ipv62292HopOpts:               {id: opt2292HopOpts, check: flag},
	ipv62292DstOpts:               {id: opt2292DstOpts, check: flag},
	ipv62292Rthdr:                 {id: opt2292Rthdr, check: flag},
	ipv62292PktOptions:            {set: setPktOptions, get: getPktOptions, early: true},
	unix.IPV6_CHECKSUM:            {on: kindRaw, set: setChecksum6, read: readChecksum6},
	ipv62292HopLimit:              {id: opt2292HopLimit, check: flag},
	ipv6FlowInfo:                  {id: optFlowInfo, check: flag},
	unix.IPV6_UNICAST_HOPS:        {id: optHops, check: checkHops, read: readHops},
	unix.IPV6_MULTICAST_IF:        {id: optMulticastIf6, check: checkMulticastIf6, noStream: true},
	unix.IPV6_MULTICAST_HOPS:      {id: optMulticastHops, check: orDefault(0, 255, 1), noStream: true},
	unix.IPV6_MULTICAST_LOOP:      {id: optMulticastLoop6, check: within(0, 1)},
	unix.IPV6_ADD_MEMBERSHIP:      {set: setMembership6(true), noGet: unix.ENOPROTOOPT},
	unix.IPV6_DROP_MEMBERSHIP:     {set: setMembership6(false), noGet: unix.ENOPROTOOPT},
	unix.IPV6_ROUTER_ALERT:        {id: optRouterAlert6, check: checkRouterAlert6},
	unix.IPV6_MTU_DISCOVER:        {id: optMTUDiscover6, check: within(0, 5)},
	unix.IPV6_MTU:                 {id: optMTU6, check: checkMTU6, read: readMTU6},
	unix.IPV6_RECVERR:             {id: optRecvErr6, check: flag},
	unix.IPV6_V6ONLY:              {id: optV6Only, check: checkV6Only, read: readV6Only},
	unix.IPV6_JOIN_ANYCAST:        {set: setAnycast(unix.EADDRNOTAVAIL), noGet: unix.ENOPROTOOPT},
	unix.IPV6_LEAVE_ANYCAST:       {set: setAnycast(unix.ENOENT), noGet: unix.ENOPROTOOPT},
	ipv6MulticastAll:              {id: optMulticastAll6, check: flag},
	ipv6RouterAlertIsolate:        {id: optRouterAlertIsolate, check: flag},
	ipv6RecvErr4884:               {id: optRecvErr48846, check: within(0, 1)},
	ipv6FlowLabelMgr:              {set: invalid, get: getFlowLabel},
	ipv6FlowInfoSend:              {id: optFlowInfoSend, check: flag},
	unix.IPV6_IPSEC_POLICY:        {set: setPolicy, noGet: unix.ENOPROTOOPT, early: true},
	unix.IPV6_XFRM_POLICY:         {set: setXfrmPolicy6, noGet: unix.ENOPROTOOPT, early: true},
	unix.IPV6_HDRINCL:             {on: kindRaw, id: optHdrIncl, check: flag},
	unix.MCAST_JOIN_GROUP:         {set: setGroup(true), noGet: unix.ENOPROTOOPT},
	unix.MCAST_LEAVE_GROUP:        {set: setGroup(false), noGet: unix.ENOPROTOOPT},
	unix.MCAST_BLOCK_SOURCE:       {set: setSourceGroup, noGet: unix.ENOPROTOOPT},
	unix.MCAST_UNBLOCK_SOURCE:     {set: setSourceGroup, noGet: unix.ENOPROTOOPT},
	unix.MCAST_JOIN_SOURCE_GROUP:  {set: setSourceGroup, noGet: unix.ENOPROTOOPT},
	unix.MCAST_LEAVE_SOURCE_GROUP: {set: setSourceGroup, noGet: unix.ENOPROTOOPT},
	unix.MCAST_MSFILTER:           {set: invalid, noGet: unix.EINVAL},
	unix.IPV6_RECVPKTINFO:         {id: optRecvPktinfo6, check: flag},
	unix.IPV6_PKTINFO:             {set: setStickyPktinfo, noGet: unix.ENOPROTOOPT},
	unix.IPV6_RECVHOPLIMIT:        {id: optRecvHopLimit, check: flag},
	unix.IPV6_RECVHOPOPTS:         {id: optRecvHopOpts, check: flag},
	unix.IPV6_HOPOPTS:             {set: setExtHeader, get: nothing, early: true},
	unix.IPV6_RTHDRDSTOPTS:        {set: setExtHeader, get: nothing, early: true},
	unix.IPV6_RECVRTHDR:           {id: optRecvRthdr, check: flag},
	unix.IPV6_RTHDR:               {set: setRthdr, get: nothing, early: true},
	unix.IPV6_RECVDSTOPTS:         {id: optRecvDstOpts, check: flag},
	unix.IPV6_DSTOPTS:             {set: setExtHeader, get: nothing, early: true},
	unix.IPV6_RECVPATHMTU:         {id: optRecvPathMTU, check: flag},
	unix.IPV6_PATHMTU:             {get: getPathMTU},
	unix.IPV6_DONTFRAG:            {id: optDontFrag6, check: flag, anyLen: true},
	ip6tSetReplace:                {set: privileged(unix.EINVAL), get: privilegedGet, early: true},
	ip6tAdd:                       {set: privileged(unix.EINVAL), get: privilegedGet, early: true},
	unix.IPV6_RECVTCLASS:          {id: optRecvTClass, check: flag},
	unix.IPV6_TCLASS:              {id: optTClass, check: checkTClass},
	ip6tRevMatch:                  {get: privilegedGet},
	ip6tRev:                       {get: privilegedGet},
	unix.IPV6_AUTOFLOWLABEL:       {id: optAutoFlowLabel, check: flag, anyLen: true},
	ipv6AddrPreferences:           {id: optAddrPrefs, check: checkAddrPrefs, read: readAddrPrefs},
	ipv6MinHopCount:               {id: optMinHopCount, check: within(0, 255)},
	unix.IPV6_ORIGDSTADDR:         {id: optRecvOrigDst6, check: flag},
	unix.IPV6_TRANSPARENT:         {id: optTransparent6, check: adminFlag},
	ipv6UnicastIf:                 {set: setUnicastIf6, read: readUnicastIf6},
	ipv6RecvFragSize:              {id: optRecvFragSize6, check: flag, anyLen: true},
	ipv6Freebind:                  {id: optFreebind6, check: flag},
	ip6OriginalDst:                {on: kindTCP, get: getOriginalDst6},
}

// setAddrForm is IPV6_ADDRFORM: making an AF_INET6 socket that speaks IPv4
// into an AF_INET one, which is not offered.
func setAddrForm(t target, val []byte) stack.Errno {
	if binary.NativeEndian.Uint32(val) != unix.AF_INET {
		return unix.EINVAL
	}
	if t.kind&(kindTCP|kindUDP) == 0 {
		return unix.ENOPROTOOPT
	}
	if _, err := t.peerOf(); err != 0 {
		return unix.ENOTCONN
	}
	return unix.EADDRNOTAVAIL
}

func getAddrForm(t target, val []byte) (int, stack.Errno) {
	if t.proto != unix.IPPROTO_TCP && t.proto != unix.IPPROTO_UDP {
		return 0, unix.ENOPROTOOPT
	}
	if _, err := t.peerOf(); err != 0 {
		return 0, unix.ENOTCONN
	}
	return putInt(val, unix.AF_INET6)
}

// setPktOptions is IPV6_2292PKTOPTIONS: ancillary data to send with everything.
func setPktOptions(_ target, val []byte) stack.Errno {
	if len(val) >= cmsgHdrLen {
		return unix.EINVAL
	}
	return 0
}

func getPktOptions(t target, _ []byte) (int, stack.Errno) {
	if t.kind != kindTCP {
		return 0, unix.ENOPROTOOPT
	}
	return 0, 0
}

// setChecksum6 is IPV6_CHECKSUM (RFC 3542 3.1).
func setChecksum6(t target, val []byte) stack.Errno {
	if t.proto == unix.IPPROTO_ICMPV6 {
		return unix.EINVAL
	}
	return setRawChecksum6(t, val)
}

// setRawChecksum6 is IPV6_CHECKSUM at level SOL_RAW, where Linux lets ICMPv6
// sockets have it too. netstack computes their checksums all the same.
func setRawChecksum6(t target, val []byte) stack.Errno {
	v := int(int32(binary.NativeEndian.Uint32(val)))
	if v > 0 && v&1 != 0 {
		return unix.EINVAL
	}
	v = max(v, -1)
	if t.proto != unix.IPPROTO_ICMPV6 {
		if err := t.ep.SetSockOptInt(tcpip.IPv6Checksum, v); err != nil {
			return errno(err)
		}
	}
	t.opts.set(optChecksum6, int64(v)+2) // 0 is never set
	return 0
}

func readChecksum6(t target) (int64, stack.Errno) {
	if v := t.opts.get(optChecksum6); v != 0 {
		return v - 2, 0
	}
	if t.proto == unix.IPPROTO_ICMPV6 {
		return 2, 0
	}
	return -1, 0
}

func checkHops(_ target, v int64) (int64, stack.Errno) {
	if v < -1 || v > 255 {
		return 0, unix.EINVAL
	}
	return v, 0
}

func readHops(t target) (int64, stack.Errno) {
	if v := t.opts.get(optHops); v >= 0 {
		return v, 0
	}
	return 64, 0
}

func checkMulticastIf6(t target, v int64) (int64, stack.Errno) {
	if v != 0 && !t.engine.hasNIC(uint32(v)) {
		return 0, unix.ENODEV
	}
	if dev := t.opts.get(optBindToDevice); v != 0 && dev != 0 && dev != v {
		return 0, unix.EINVAL
	}
	return v, 0
}

func checkRouterAlert6(t target, v int64) (int64, stack.Errno) {
	if t.kind != kindRaw || t.proto != unix.IPPROTO_RAW {
		return 0, unix.ENOPROTOOPT
	}
	return flag(t, v)
}

func checkMTU6(_ target, v int64) (int64, stack.Errno) {
	if v != 0 && v < 1280 {
		return 0, unix.EINVAL
	}
	return v, 0
}

func readMTU6(t target) (int64, stack.Errno) { return readMTU(t) }

func checkV6Only(t target, v int64) (int64, stack.Errno) {
	if t.kind == kindRaw || t.hasLocalPort() {
		return 0, unix.EINVAL
	}
	return flag(t, v)
}

// hasLocalPort says whether the socket has a port of its own (inet_num).
func (t target) hasLocalPort() bool {
	full, err := t.ep.GetLocalAddress()
	return err == nil && full.Port != 0
}

// readV6Only: the kernel's ICMPv6 echo sockets speak only IPv6.
func readV6Only(t target) (int64, stack.Errno) {
	if t.kind == kindPing && !t.opts.has(optV6Only) {
		return 1, 0
	}
	return t.opts.get(optV6Only), 0
}

// setStickyPktinfo is IPV6_PKTINFO as an option: a source for everything sent.
func setStickyPktinfo(t target, val []byte) stack.Errno {
	if len(val) < unix.SizeofInet6Pktinfo {
		return unix.EINVAL
	}
	info := tcpip.IPv6PacketInfo{
		NIC:  t.engine.nicID(binary.NativeEndian.Uint32(val[16:])),
		Addr: fromIP(netip.AddrFrom16([16]byte(val))),
	}
	if dev := t.opts.get(optBindToDevice); dev != 0 && info.NIC != 0 && tcpip.NICID(dev) != info.NIC {
		return unix.EINVAL
	}
	if t.dgram == nil {
		return 0
	}
	t.dgram.sticky = nil
	if info != (tcpip.IPv6PacketInfo{}) {
		t.dgram.sticky = &info
	}
	return 0
}

// setExtHeader is an extension header to send with everything; none but the
// empty one can be set.
func setExtHeader(t target, val []byte) stack.Errno {
	if !t.engine.admin {
		return unix.EPERM
	}
	if len(val) == 0 {
		return 0
	}
	return unix.EINVAL
}

func setRthdr(_ target, val []byte) stack.Errno {
	if len(val) == 0 {
		return 0
	}
	return unix.EINVAL
}

func getPathMTU(t target, val []byte) (int, stack.Errno) {
	const mtuInfoLen = 32 // struct ip6_mtuinfo
	if len(val) < mtuInfoLen {
		return 0, unix.EINVAL
	}
	mtu, err := readMTU(t)
	if err != 0 {
		return 0, err
	}
	var b [mtuInfoLen]byte
	binary.NativeEndian.PutUint32(b[28:], uint32(mtu))
	return putBytes(val, b[:])
}

func checkTClass(t target, v int64) (int64, stack.Errno) {
	if v < -1 || v > 255 {
		return 0, unix.EINVAL
	}
	v = max(v, 0)
	if t.kind == kindTCP {
		v &^= 3
	}
	return v, 0
}

// The flags of IPV6_ADDR_PREFERENCES (RFC 5014).
const (
	preferTmp, preferPublic, preferDefault = 0x1, 0x2, 0x100
	preferCOA, preferHome                  = 0x4, 0x400
	preferCGA, preferNonCGA                = 0x8, 0x800
)

func checkAddrPrefs(t target, v int64) (int64, stack.Errno) {
	prefs := t.opts.get(optAddrPrefs)
	switch v & (preferPublic | preferTmp | preferDefault) {
	case preferPublic, preferTmp:
		prefs = prefs&^(preferPublic|preferTmp) | v&(preferPublic|preferTmp)
	case preferDefault:
		prefs &^= preferPublic | preferTmp
	case 0:
	default:
		return 0, unix.EINVAL
	}
	switch v & (preferHome | preferCOA) {
	case preferHome:
		prefs &^= preferCOA
	case preferCOA:
		prefs |= preferCOA
	case 0:
	default:
		return 0, unix.EINVAL
	}
	if v&(preferCGA|preferNonCGA) == preferCGA|preferNonCGA {
		return 0, unix.EINVAL
	}
	return prefs, 0
}

func readAddrPrefs(t target) (int64, stack.Errno) {
	prefs := t.opts.get(optAddrPrefs)
	v := prefs & (preferTmp | preferPublic)
	if v == 0 {
		v = preferDefault
	}
	if prefs&preferCOA != 0 {
		return v | preferCOA, 0
	}
	return v | preferHome, 0
}

func setUnicastIf6(t target, val []byte) stack.Errno {
	if len(val) != 4 {
		return unix.EINVAL
	}
	return t.setUnicastIf(optUnicastIf6, val)
}

func readUnicastIf6(t target) (int64, stack.Errno) {
	return networkOrder(t.opts.get(optUnicastIf6)), 0
}

func setXfrmPolicy6(t target, val []byte) stack.Errno {
	if err := setPolicy(t, val); err != unix.EOPNOTSUPP {
		return err
	}
	return unix.EINVAL
}

// setAnycast is IPV6_JOIN_ANYCAST and IPV6_LEAVE_ANYCAST: no address of the
// stack is an anycast address.
func setAnycast(err stack.Errno) func(target, []byte) stack.Errno {
	return func(t target, val []byte) stack.Errno {
		switch {
		case len(val) < 20:
			return unix.EINVAL
		case err == unix.EADDRNOTAVAIL && !t.engine.admin:
			return unix.EPERM
		}
		return err
	}
}

func getFlowLabel(_ target, val []byte) (int, stack.Errno) {
	const flowLabelReqLen = 32
	if len(val) < flowLabelReqLen {
		return 0, unix.EINVAL
	}
	return 0, unix.ENOENT
}

func getOriginalDst6(_ target, val []byte) (int, stack.Errno) {
	if len(val) < unix.SizeofSockaddrInet6 {
		return 0, unix.EINVAL
	}
	return 0, unix.ENOENT
}
