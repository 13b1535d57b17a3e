package netstack

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// Names that x/sys/unix does not have.
const (
	tcpAORepair  = 42
	tcpIsMPTCP   = 43
	tcpRTOMaxMs  = 44
	tcpRTOMinUs  = 45
	tcpDelackMax = 46
)

// tcpOptions are the options of level SOL_TCP (do_tcp_setsockopt,
// do_tcp_getsockopt), by name.
var tcpOptions = map[int]option{
	unix.TCP_NODELAY:              {id: optNoDelay, check: flag},
	unix.TCP_MAXSEG:               {id: optMaxSeg, check: checkMaxSeg, read: readMaxSeg},
	unix.TCP_CORK:                 {id: optCork, check: flag},
	unix.TCP_KEEPIDLE:             {id: optKeepIdle, check: within(1, 32767)},
	unix.TCP_KEEPINTVL:            {id: optKeepIntvl, check: within(1, 32767)},
	unix.TCP_KEEPCNT:              {id: optKeepCnt, check: within(1, 127)},
	unix.TCP_SYNCNT:               {id: optSynCnt, check: within(1, 127)},
	unix.TCP_LINGER2:              {id: optLinger2, check: checkLinger2, read: readLinger2},
	unix.TCP_DEFER_ACCEPT:         {id: optDeferAccept, check: checkDeferAccept},
	unix.TCP_WINDOW_CLAMP:         {id: optWindowClamp, check: checkWindowClamp},
	unix.TCP_INFO:                 {get: getTCPInfo},
	unix.TCP_QUICKACK:             {id: optQuickAck, check: flag},
	unix.TCP_CONGESTION:           {get: getCongestion, set: setCongestion, early: true},
	unix.TCP_MD5SIG:               {set: setMD5, noGet: unix.ENOPROTOOPT},
	unix.TCP_MD5SIG_EXT:           {set: setMD5, noGet: unix.ENOPROTOOPT},
	unix.TCP_THIN_LINEAR_TIMEOUTS: {id: optThinLinear, check: within(0, 1)},
	unix.TCP_THIN_DUPACK:          {read: constant(0), check: within(0, 1)},
	unix.TCP_USER_TIMEOUT:         {id: optUserTimeout, check: within(0, 1<<31-1)},
	unix.TCP_REPAIR:               {read: constant(0), noSet: unix.EPERM},
	unix.TCP_REPAIR_QUEUE:         {noGet: unix.EINVAL, noSet: unix.EPERM},
	unix.TCP_QUEUE_SEQ:            {noGet: unix.EINVAL, noSet: unix.EINVAL},
	unix.TCP_REPAIR_OPTIONS:       {noGet: unix.ENOPROTOOPT, noSet: unix.EINVAL},
	unix.TCP_REPAIR_WINDOW:        {noGet: unix.EINVAL, noSet: unix.EPERM},
	unix.TCP_FASTOPEN:             {id: optFastOpen, check: checkFastOpen},
	unix.TCP_TIMESTAMP:            {read: readTimestamp, noSet: unix.EPERM},
	unix.TCP_NOTSENT_LOWAT:        {id: optNotSentLowat, check: asIs},
	unix.TCP_CC_INFO:              {get: nothing},
	unix.TCP_SAVE_SYN:             {id: optSaveSyn, check: within(0, 2)},
	unix.TCP_SAVED_SYN:            {get: nothing},
	unix.TCP_FASTOPEN_CONNECT:     {id: optFastOpenConnect, check: checkFastOpenConnect},
	unix.TCP_ULP:                  {get: nothing, set: setULP, early: true},
	unix.TCP_FASTOPEN_KEY:         {get: nothing, set: setFastOpenKey, early: true},
	unix.TCP_FASTOPEN_NO_COOKIE:   {id: optFastOpenNoCookie, check: checkFastOpenNoCookie},
	unix.TCP_ZEROCOPY_RECEIVE:     {noGet: unix.EINVAL},
	unix.TCP_INQ:                  {id: optInq, check: within(0, 1)},
	unix.TCP_TX_DELAY:             {id: optTxDelay, check: within(0, 1<<28-1)},
	tcpAORepair:                   {set: setAORepair, get: getAORepair},
	tcpIsMPTCP:                    {read: constant(0)},
	tcpRTOMaxMs:                   {id: optRTOMax, check: checkRTOMax},
	tcpRTOMinUs:                   {id: optRTOMin, check: checkShortTimer},
	tcpDelackMax:                  {id: optDelackMax, check: checkShortTimer},
}

func checkMaxSeg(_ target, v int64) (int64, stack.Errno) {
	const least, most = 88, 32767 // TCP_MIN_MSS, MAX_TCP_WINDOW
	if v != 0 && (v < least || v > most) {
		return 0, unix.EINVAL
	}
	return v, 0
}

// readMaxSeg: what was asked for until there is a connection, then its MSS.
func readMaxSeg(t target) (int64, stack.Errno) {
	const defaultMSS = 536 // RFC 9293 3.7.1
	switch t.tcp.linuxState() {
	case tcpClose, tcpListen:
		if v := t.opts.get(optMaxSeg); v != 0 {
			return v, 0
		}
		return defaultMSS, 0
	}
	if d := detail(t.ep); d.sndMSS > 0 {
		return int64(d.sndMSS), 0
	}
	return defaultMSS, 0
}

// checkLinger2: negative means no FIN_WAIT_2 at all, 0 the default.
func checkLinger2(_ target, v int64) (int64, stack.Errno) {
	switch {
	case v < 0:
		return -1, 0
	case v > 120:
		return 120, 0
	}
	return v, 0
}

func readLinger2(t target) (int64, stack.Errno) {
	if v := t.opts.get(optLinger2); v != 0 {
		return v, 0
	}
	return 60, 0
}

// checkDeferAccept: Linux counts the time in retransmissions of the SYN-ACK
// (secs_to_retrans), so that what is read is the sum of their timeouts.
func checkDeferAccept(_ target, v int64) (int64, stack.Errno) {
	if v <= 0 {
		return 0, 0
	}
	const most = 120 // TCP_RTO_MAX, seconds
	timeout, period := int64(1), int64(1)
	for n := 1; v > period && n < 255; n++ {
		timeout = min(2*timeout, most)
		period += timeout
	}
	return period, 0
}

func checkWindowClamp(t target, v int64) (int64, stack.Errno) {
	if v == 0 {
		if t.tcp.linuxState() != tcpClose {
			return 0, unix.EINVAL
		}
		return 0, 0
	}
	return max(v, minRcvBuf/2), 0
}

// congestions are the algorithms of netstack, the default first.
var congestions = []string{"cubic", "reno"}

// congestionNameLen is TCP_CA_NAME_MAX.
const congestionNameLen = 16

func getCongestion(t target, val []byte) (int, stack.Errno) {
	var b [congestionNameLen]byte
	copy(b[:], t.tcp.congestion())
	return putBytes(val, b[:])
}

// congestion is the name of the algorithm in use.
func (t *tcpSock) congestion() string {
	if t.name != "" {
		return t.name
	}
	return t.engine.congestionControls()[0]
}

func setCongestion(t target, val []byte) stack.Errno {
	if len(val) < 1 {
		return unix.EINVAL
	}
	name := val[:min(len(val), congestionNameLen-1)]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	for _, c := range t.engine.congestionControls() {
		if c == string(name) {
			t.tcp.name = c
			t.tcp.applyCongestion()
			return 0
		}
	}
	return unix.ENOENT
}

func (t *tcpSock) applyCongestion() {
	if t.name != "" {
		cc := tcpip.CongestionControlOption(t.name)
		t.ep.SetSockOpt(&cc)
	}
}

// setMD5 is TCP_MD5SIG (RFC 2385), which is not offered.
func setMD5(_ target, val []byte) stack.Errno {
	const md5sigLen = 216 // struct tcp_md5sig
	if len(val) < md5sigLen {
		return unix.EINVAL
	}
	return unix.ENOPROTOOPT
}

// checkFastOpen keeps the length of the queue; gVisor's TCP opens none fast.
func checkFastOpen(t target, v int64) (int64, stack.Errno) {
	if st := t.tcp.linuxState(); v < 0 || st != tcpClose && st != tcpListen {
		return 0, unix.EINVAL
	}
	return min(v, somaxconn), 0
}

func checkFastOpenConnect(t target, v int64) (int64, stack.Errno) {
	if v < 0 || v > 1 || t.tcp.linuxState() != tcpClose {
		return 0, unix.EINVAL
	}
	return v, 0
}

func checkFastOpenNoCookie(t target, v int64) (int64, stack.Errno) {
	if st := t.tcp.linuxState(); v < 0 || v > 1 || st != tcpClose && st != tcpListen {
		return 0, unix.EINVAL
	}
	return v, 0
}

// setAORepair and getAORepair are TCP_AO_REPAIR (RFC 5925), not offered.
func setAORepair(t target, _ []byte) stack.Errno {
	if !t.engine.admin || t.tcp.linuxState() == tcpListen {
		return unix.EPERM
	}
	return unix.ENOPROTOOPT
}

func getAORepair(t target, _ []byte) (int, stack.Errno) { return 0, setAORepair(t, nil) }

func setFastOpenKey(_ target, val []byte) stack.Errno {
	if len(val) != 16 && len(val) != 32 {
		return unix.EINVAL
	}
	return unix.ENOPROTOOPT
}

// setULP: no upper layer protocol (tls, mptcp) is there to be loaded.
func setULP(_ target, val []byte) stack.Errno {
	if len(val) < 1 {
		return unix.EINVAL
	}
	return unix.ENOENT
}

func readTimestamp(t target) (int64, stack.Errno) {
	return t.engine.st.Clock().NowMonotonic().Sub(tcpip.MonotonicTime{}).Milliseconds(), 0
}

func checkRTOMax(_ target, v int64) (int64, stack.Errno) {
	if v < 1000 || v > 120000 {
		return 0, unix.EINVAL
	}
	const tick = 1000 / jiffies // milliseconds
	return (v + tick - 1) / tick * tick, 0
}

// checkShortTimer is a time in microseconds from 2 jiffies to 200 ms.
func checkShortTimer(_ target, v int64) (int64, stack.Errno) {
	const tick = 1000000 / jiffies
	n := (v + tick - 1) / tick
	if v < 0 || n < 2 || n*tick > 200000 {
		return 0, unix.EINVAL
	}
	return n * tick, 0
}

// applyTCP tells netstack the value of a TCP option.
func applyTCP(ep tcpip.Endpoint, id optID, v int64) {
	applyAlp(ep, id, v)
	so := ep.SocketOptions()
	switch id {
	case optNoDelay:
		so.SetDelayOption(v == 0)
		if v != 0 && so.GetCorkOption() { // sends what is corked so far (tcp(7), __tcp_sock_set_nodelay)
			so.SetCorkOption(false)
			so.SetCorkOption(true)
		}
	case optCork:
		so.SetCorkOption(v != 0)
	case optQuickAck:
		so.SetQuickAck(v != 0)
	case optMaxSeg:
		if v != 0 {
			_ = ep.SetSockOptInt(tcpip.MaxSegOption, int(max(v, 216))) // netstack's least
		}
	case optKeepIdle:
		o := tcpip.KeepaliveIdleOption(time.Duration(v) * time.Second)
		_ = ep.SetSockOpt(&o)
	case optKeepIntvl:
		o := tcpip.KeepaliveIntervalOption(time.Duration(v) * time.Second)
		_ = ep.SetSockOpt(&o)
	case optKeepCnt:
		_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, int(v))
	case optSynCnt:
		_ = ep.SetSockOptInt(tcpip.TCPSynCountOption, int(v))
	case optLinger2:
		o := tcpip.TCPLingerTimeoutOption(time.Duration(v) * time.Second)
		_ = ep.SetSockOpt(&o)
	case optDeferAccept:
		o := tcpip.TCPDeferAcceptOption(time.Duration(v) * time.Second)
		_ = ep.SetSockOpt(&o)
	case optWindowClamp:
		_ = ep.SetSockOptInt(tcpip.TCPWindowClampOption, int(v))
	case optUserTimeout:
		o := tcpip.TCPUserTimeoutOption(time.Duration(v) * time.Millisecond)
		_ = ep.SetSockOpt(&o)
	}
}
