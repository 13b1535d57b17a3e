package netstack

import (
	"bytes"
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// socketOptions are the options of level SOL_SOCKET (sk_setsockopt,
// sk_getsockopt), by name.
var socketOptions = map[int]option{
	unix.SO_DEBUG:      {id: optDebug, check: checkDebug},
	unix.SO_REUSEADDR:  {id: optReuseAddr, check: flag, read: readReuseAddr},
	unix.SO_TYPE:       {read: readType},
	unix.SO_ERROR:      {read: readError},
	unix.SO_DONTROUTE:  {id: optDontRoute, check: flag},
	unix.SO_BROADCAST:  {id: optBroadcast, check: flag},
	unix.SO_SNDBUF:     {read: readSndBuf, set: setSndBuf},
	unix.SO_RCVBUF:     {read: readRcvBuf, set: setRcvBuf},
	unix.SO_KEEPALIVE:  {id: optKeepAlive, check: flag},
	unix.SO_OOBINLINE:  {id: optOOBInline, check: flag},
	unix.SO_NO_CHECK:   {id: optNoCheck, check: flag},
	unix.SO_PRIORITY:   {id: optPriority, check: checkPriority},
	unix.SO_LINGER:     {get: getLinger, set: setLinger},
	unix.SO_BSDCOMPAT:  {read: constant(0), check: asIs},
	unix.SO_REUSEPORT:  {id: optReusePort, check: flag},
	unix.SO_PASSCRED:   {noGet: unix.EOPNOTSUPP, noSet: unix.EOPNOTSUPP},
	unix.SO_PEERCRED:   {get: getPeerCred},
	unix.SO_RCVLOWAT:   {id: optRcvLowat, check: checkRcvLowat},
	unix.SO_SNDLOWAT:   {read: constant(1)},
	unix.SO_RCVTIMEO:   {get: getTimeo(optRcvTimeo), set: setTimeo(optRcvTimeo)},
	unix.SO_SNDTIMEO:   {get: getTimeo(optSndTimeo), set: setTimeo(optSndTimeo)},
	rcvTimeoNew:        {get: getTimeo(optRcvTimeo), set: setTimeo(optRcvTimeo)},
	sndTimeoNew:        {get: getTimeo(optSndTimeo), set: setTimeo(optSndTimeo)},
	unix.SO_PASSSEC:    {noGet: unix.EOPNOTSUPP, noSet: unix.EOPNOTSUPP},
	unix.SO_ACCEPTCONN: {read: readAcceptConn},
	unix.SO_PROTOCOL:   {read: func(t target) (int64, stack.Errno) { return int64(t.proto), 0 }},
	unix.SO_DOMAIN:     {read: func(t target) (int64, stack.Errno) { return int64(t.family), 0 }},
	unix.SO_PEERNAME:   {get: getPeerName},
	unix.SO_PEERGROUPS: {noGet: unix.ENODATA},
	76:                 {noGet: unix.EOPNOTSUPP, noSet: unix.EOPNOTSUPP}, // SO_PASSPIDFD
	77:                 {noGet: unix.ENODATA},                            // SO_PEERPIDFD
	83:                 {noGet: unix.EOPNOTSUPP, noSet: unix.EOPNOTSUPP}, // SO_PASSRIGHTS

	unix.SO_SNDBUFFORCE: {set: forceBuf(setSndBufTo)},
	unix.SO_RCVBUFFORCE: {set: forceBuf(setRcvBufTo)},
	unix.SO_BUF_LOCK:    {id: optBufLock, check: within(0, 3)},
	unix.SO_MEMINFO:     {get: getMeminfo},
	unix.SO_RESERVE_MEM: {read: constant(0), check: func(_ target, v int64) (int64, stack.Errno) {
		if v < 0 {
			return 0, unix.EINVAL
		}
		return 0, unix.EOPNOTSUPP
	}},

	unix.SO_TIMESTAMP_OLD:    stampOption(unix.SO_TIMESTAMP_OLD),
	unix.SO_TIMESTAMPNS_OLD:  stampOption(unix.SO_TIMESTAMPNS_OLD),
	unix.SO_TIMESTAMP_NEW:    stampOption(unix.SO_TIMESTAMP_NEW),
	unix.SO_TIMESTAMPNS_NEW:  stampOption(unix.SO_TIMESTAMPNS_NEW),
	unix.SO_TIMESTAMPING_OLD: {get: getTimestamping(0), set: setTimestamping(0)},
	unix.SO_TIMESTAMPING_NEW: {get: getTimestamping(1), set: setTimestamping(1)},

	unix.SO_BINDTODEVICE:  {get: getBindToDevice, set: setBindToDevice, early: true},
	unix.SO_BINDTOIFINDEX: {id: optBindToDevice, check: checkBindToIndex},
	unix.SO_MARK: {id: optMark, check: func(t target, v int64) (int64, stack.Errno) {
		if !t.engine.admin {
			return 0, unix.EPERM
		}
		return v, 0
	}},
	unix.SO_RCVMARK:          {id: optRcvMark, check: flag},
	82:                       {id: optRcvPriority, check: flag}, // SO_RCVPRIORITY
	unix.SO_RXQ_OVFL:         {id: optRxqOvfl, check: flag},
	unix.SO_WIFI_STATUS:      {id: optWifiStatus, check: flag},
	unix.SO_PEEK_OFF:         {id: optPeekOff, check: checkPeekOff, read: readPeekOff},
	unix.SO_NOFCS:            {id: optNoFCS, check: flag},
	unix.SO_SELECT_ERR_QUEUE: {id: optSelectErrQueue, check: flag},
	unix.SO_BUSY_POLL:        {id: optBusyPoll, check: within(0, math.MaxInt32)},
	unix.SO_PREFER_BUSY_POLL: {id: optPreferBusyPoll, check: adminFlag},
	unix.SO_BUSY_POLL_BUDGET: {set: setBusyPollBudget},
	unix.SO_MAX_PACING_RATE:  {get: getPacingRate, set: setPacingRate},
	unix.SO_BPF_EXTENSIONS:   {read: constant(64)},
	unix.SO_INCOMING_CPU:     {id: optIncomingCPU, check: asIs},
	unix.SO_INCOMING_NAPI_ID: {read: constant(0)},
	unix.SO_COOKIE:           {get: getCookie},
	unix.SO_NETNS_COOKIE:     {get: getNetnsCookie},
	unix.SO_ZEROCOPY:         {id: optZeroCopy, check: checkZeroCopy},
	unix.SO_TXTIME:           {get: getTxtime, set: setTxtime},
	unix.SO_CNX_ADVICE:       {check: asIs, noGet: unix.ENOPROTOOPT},
	unix.SO_TXREHASH:         {id: optTxRehash, check: checkTxRehash, read: readTxRehash},
	unix.SO_ATTACH_FILTER:    {get: nothing, set: setFilter},
	unix.SO_DETACH_FILTER:    {check: func(target, int64) (int64, stack.Errno) { return 0, unix.ENOENT }, noGet: unix.ENOPROTOOPT},
	unix.SO_LOCK_FILTER:      {id: optLockFilter, check: checkLockFilter},
	unix.SO_ATTACH_BPF:       {set: setBPF, noGet: unix.ENOPROTOOPT},
	51:                       {set: invalid, noGet: unix.ENOPROTOOPT}, // SO_ATTACH_REUSEPORT_CBPF
	52:                       {set: setBPF, noGet: unix.ENOPROTOOPT},  // SO_ATTACH_REUSEPORT_EBPF
	68:                       {set: invalid, noGet: unix.ENOPROTOOPT}, // SO_DETACH_REUSEPORT_BPF
	80:                       {set: invalid, noGet: unix.ENOPROTOOPT}, // SO_DEVMEM_DONTNEED
}

func checkDebug(t target, v int64) (int64, stack.Errno) {
	if v != 0 && !t.engine.admin {
		return 0, unix.EACCES
	}
	return flag(t, v)
}

// readReuseAddr: the kernel makes ICMP echo and raw sockets with SO_REUSEADDR.
func readReuseAddr(t target) (int64, stack.Errno) {
	if !t.opts.has(optReuseAddr) && t.kind&(kindPing|kindRaw) != 0 {
		return 1, 0
	}
	return t.opts.get(optReuseAddr), 0
}

func readType(t target) (int64, stack.Errno) {
	switch t.kind {
	case kindTCP:
		return unix.SOCK_STREAM, 0
	case kindRaw:
		return unix.SOCK_RAW, 0
	default:
		return unix.SOCK_DGRAM, 0
	}
}

func readError(t target) (int64, stack.Errno) {
	if t.tcp != nil {
		t.tcp.harvest()
	} else if t.dgram.pullErr(); t.err == 0 {
		t.err = errno(t.ep.LastError())
	}
	return int64(t.takeErr()), 0
}

func readAcceptConn(t target) (int64, stack.Errno) {
	if t.tcp != nil && t.tcp.linuxState() == tcpListen {
		return 1, 0
	}
	return 0, 0
}

func checkPriority(t target, v int64) (int64, stack.Errno) {
	if (v < 0 || v > 6) && !t.engine.admin {
		return 0, unix.EPERM
	}
	return v, 0
}

func getLinger(t target, val []byte) (int, stack.Errno) {
	var b [8]byte
	binary.NativeEndian.PutUint32(b[:], uint32(t.opts.get(optLingerOn)))
	binary.NativeEndian.PutUint32(b[4:], uint32(t.opts.get(optLingerTime)))
	return putBytes(val, b[:])
}

func setLinger(t target, val []byte) stack.Errno {
	if len(val) < 8 {
		return unix.EINVAL
	}
	on := int64(0)
	if binary.NativeEndian.Uint32(val) != 0 {
		on = 1
		sec := uint64(binary.NativeEndian.Uint32(val[4:]))
		t.opts.set(optLingerTime, int64(min(sec, math.MaxInt32)))
	}
	t.opts.set(optLingerOn, on)
	t.apply(optLingerOn, on)
	return 0
}

func getPeerCred(_ target, val []byte) (int, stack.Errno) {
	return putBytes(val, []byte{0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255})
}

func checkRcvLowat(t target, v int64) (int64, stack.Errno) {
	if v < 0 {
		v = math.MaxInt32
	}
	if t.kind == kindTCP {
		limit := int64(t.engine.tcpRcvMax) / 2
		if t.opts.has(optRcvBuf) {
			limit = t.opts.get(optRcvBuf) / 2
		}
		v = min(v, limit)
	}
	return max(v, 1), 0
}

func getBindToDevice(t target, val []byte) (int, stack.Errno) {
	nic := t.opts.get(optBindToDevice)
	if nic == 0 {
		return 0, 0
	}
	if len(val) < unix.IFNAMSIZ {
		return 0, unix.EINVAL
	}
	name := t.engine.nicName(uint32(nic))
	if name == "" {
		return 0, unix.ENODEV
	}
	return putBytes(val, append([]byte(name), 0))
}

func setBindToDevice(t target, val []byte) stack.Errno {
	val = val[:min(len(val), unix.IFNAMSIZ-1)]
	if i := bytes.IndexByte(val, 0); i >= 0 {
		val = val[:i]
	}
	index := int64(0)
	if len(val) > 0 {
		if index = int64(t.engine.nicIndex(string(val))); index == 0 {
			return unix.ENODEV
		}
	}
	v, err := checkBindToIndex(t, index)
	if err == 0 {
		t.opts.set(optBindToDevice, v)
		t.apply(optBindToDevice, v)
	}
	return err
}

func checkBindToIndex(t target, v int64) (int64, stack.Errno) {
	if v < 0 {
		return 0, unix.EINVAL
	}
	if t.opts.get(optBindToDevice) != 0 && !t.engine.admin {
		return 0, unix.EPERM
	}
	return v, 0
}

func checkPeekOff(t target, v int64) (int64, stack.Errno) {
	if t.kind&(kindTCP|kindUDP) == 0 {
		return 0, unix.EOPNOTSUPP
	}
	return v, 0
}

func readPeekOff(t target) (int64, stack.Errno) {
	if t.kind&(kindPing|kindRaw) != 0 {
		return 0, unix.EOPNOTSUPP
	}
	return t.opts.get(optPeekOff), 0
}

func checkZeroCopy(t target, v int64) (int64, stack.Errno) {
	if t.kind&(kindTCP|kindUDP) == 0 {
		return 0, unix.EOPNOTSUPP
	}
	if v < 0 || v > 1 {
		return 0, unix.EINVAL
	}
	return v, 0
}

func checkTxRehash(t target, v int64) (int64, stack.Errno) {
	switch {
	case t.kind != kindTCP:
		return 0, unix.EOPNOTSUPP
	case v < -1 || v > 1:
		return 0, unix.EINVAL
	case v == -1:
		v = 1
	}
	return v, 0
}

func readTxRehash(t target) (int64, stack.Errno) {
	if t.kind != kindTCP {
		return 0, unix.EOPNOTSUPP
	}
	return t.opts.get(optTxRehash), 0
}

func setBusyPollBudget(t target, val []byte) stack.Errno {
	v := int32(binary.NativeEndian.Uint32(val))
	switch {
	case v < 0:
		return unix.EINVAL
	case int64(v) > t.opts.get(optBusyPollBudget) && !t.engine.admin:
		return unix.EPERM
	case v > math.MaxUint16:
		return unix.EINVAL
	}
	t.opts.set(optBusyPollBudget, int64(v))
	return 0
}

func getPacingRate(t target, val []byte) (int, stack.Errno) {
	rate := uint64(t.opts.get(optPacingRate))
	if len(val) < 8 {
		return putInt(val, int64(min(rate, math.MaxUint32)))
	}
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], rate)
	return putBytes(val, b[:])
}

func setPacingRate(t target, val []byte) stack.Errno {
	v := uint64(binary.NativeEndian.Uint32(val))
	if uint32(v) == math.MaxUint32 {
		v = math.MaxUint64
	}
	if len(val) == 8 {
		v = binary.NativeEndian.Uint64(val)
	}
	t.opts.set(optPacingRate, int64(v))
	t.apply(optPacingRate, int64(v))
	return 0
}

func getCookie(t target, val []byte) (int, stack.Errno) {
	if len(val) < 8 {
		return 0, unix.EINVAL
	}
	if t.cookie == 0 {
		t.cookie = t.engine.cookies.Add(1)
	}
	binary.NativeEndian.PutUint64(val, t.cookie)
	return 8, 0
}

func getNetnsCookie(_ target, val []byte) (int, stack.Errno) {
	if len(val) != 8 {
		return 0, unix.EINVAL
	}
	binary.NativeEndian.PutUint64(val, 1)
	return 8, 0
}

func getPeerName(t target, val []byte) (int, stack.Errno) {
	var peer stack.Addr
	var err stack.Errno
	if t.tcp != nil {
		peer, err = t.tcp.peer()
	} else {
		peer, err = t.dgram.peerAddr()
	}
	if err != 0 {
		return 0, unix.ENOTCONN
	}
	b := sockaddr(int(t.family), peer)
	if len(val) > len(b) {
		return 0, unix.EINVAL
	}
	return putBytes(val, b)
}

func getTxtime(t target, val []byte) (int, stack.Errno) {
	var b [8]byte
	binary.NativeEndian.PutUint32(b[:], uint32(t.opts.get(optTxtimeClock)))
	binary.NativeEndian.PutUint32(b[4:], uint32(t.opts.get(optTxtimeFlags)))
	return putBytes(val, b[:])
}

func setTxtime(t target, val []byte) stack.Errno {
	if len(val) != 8 {
		return unix.EINVAL
	}
	clock, flags := binary.NativeEndian.Uint32(val), binary.NativeEndian.Uint32(val[4:])
	if flags&^3 != 0 {
		return unix.EINVAL
	}
	if clock != unix.CLOCK_MONOTONIC && !t.engine.admin {
		return unix.EPERM
	}
	t.opts.set(optTxtimeClock, int64(clock))
	t.opts.set(optTxtimeFlags, int64(flags))
	return 0
}

// setFilter is SO_ATTACH_FILTER. The filter itself is in the program's memory
// and would run in a kernel; there is none here.
func setFilter(t target, val []byte) stack.Errno {
	switch {
	case t.kind == kindTCP && !t.engine.admin:
		return unix.EPERM
	case len(val) != 16:
		return unix.EINVAL
	}
	return unix.ENOPROTOOPT
}

// setBPF is SO_ATTACH_BPF: no descriptor is a program that could run here.
func setBPF(_ target, val []byte) stack.Errno {
	if len(val) != 4 {
		return unix.EINVAL
	}
	return unix.EBADF
}

func checkLockFilter(t target, v int64) (int64, stack.Errno) {
	if v == 0 && t.opts.get(optLockFilter) != 0 {
		return 0, unix.EPERM
	}
	return flag(t, v)
}
