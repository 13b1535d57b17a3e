package netstack

import "golang.org/x/sys/unix"

// optID names a value that an endpoint keeps.
type optID uint8

// The values, by level.
const (
	optNone optID = iota

	// SOL_SOCKET
	optDebug
	optReuseAddr
	optReusePort
	optDontRoute
	optBroadcast
	optSndBuf
	optRcvBuf
	optKeepAlive
	optOOBInline
	optNoCheck
	optPriority
	optLingerOn
	optLingerTime // seconds
	optRcvLowat
	optRcvTimeo // jiffies, 0 is none
	optSndTimeo // jiffies, 0 is none
	optTimestamp
	optTimestamping
	optTimestampingNew
	optMark
	optRxqOvfl
	optWifiStatus
	optPeekOff
	optNoFCS
	optLockFilter
	optSelectErrQueue
	optBusyPoll
	optPacingRate
	optIncomingCPU
	optZeroCopy
	optTxtimeClock
	optTxtimeFlags
	optBindToDevice
	optPreferBusyPoll
	optBusyPollBudget
	optBufLock
	optTxRehash
	optRcvMark
	optRcvPriority

	// SOL_IP
	optTOS
	optTTL // -1 is the default
	optHdrIncl
	optRouterAlert
	optRecvOpts
	optRetOpts
	optPktinfo
	optMTUDiscover
	optRecvErr
	optRecvTTL
	optRecvTOS
	optFreebind
	optPassSec
	optTransparent
	optRecvOrigDst
	optMinTTL
	optNoDefrag
	optChecksum
	optBindNoPort
	optRecvFragSize
	optRecvErr4884
	optMulticastIfAddr // the address, as a number
	optMulticastIfNIC
	optMulticastTTL
	optMulticastLoop
	optMulticastAll
	optUnicastIf
	optPortRange

	// SOL_IPV6
	optV6Only
	opt2292Pktinfo
	opt2292HopOpts
	opt2292DstOpts
	opt2292Rthdr
	opt2292HopLimit
	optFlowInfo
	optHops // -1 is the default
	optMulticastIf6
	optMulticastHops
	optMulticastLoop6
	optRouterAlert6
	optMTUDiscover6
	optMTU6
	optRecvErr6
	optMulticastAll6
	optRouterAlertIsolate
	optRecvErr48846
	optFlowInfoSend
	optRecvPktinfo6
	optRecvHopLimit
	optRecvHopOpts
	optRecvRthdr
	optRecvDstOpts
	optRecvPathMTU
	optDontFrag6
	optRecvTClass
	optTClass // -1 is the default
	optAutoFlowLabel
	optAddrPrefs
	optMinHopCount
	optRecvOrigDst6
	optTransparent6
	optUnicastIf6
	optRecvFragSize6
	optFreebind6
	optChecksum6

	// SOL_TCP
	optNoDelay
	optMaxSeg
	optCork
	optKeepIdle
	optKeepIntvl
	optKeepCnt
	optSynCnt
	optLinger2 // seconds; 0 is the default
	optDeferAccept
	optWindowClamp
	optQuickAck
	optThinLinear
	optUserTimeout // milliseconds
	optFastOpen
	optNotSentLowat
	optSaveSyn
	optFastOpenConnect
	optFastOpenNoCookie
	optInq
	optTxDelay
	optRTOMax // milliseconds
	optRTOMin // microseconds
	optDelackMax

	// SOL_UDP
	optUDPCork
	optNoCheck6Tx
	optNoCheck6Rx

	numOptions
)

// defaults are the values of options that were never set, where they are not 0.
var defaults = [numOptions]int64{
	optRcvLowat:    1,
	optPeekOff:     -1,
	optPacingRate:  -1,
	optIncomingCPU: -1,
	optTxRehash:    1,

	optTTL:           -1,
	optMTUDiscover:   unix.IP_PMTUDISC_WANT,
	optMulticastTTL:  1,
	optMulticastLoop: 1,
	optMulticastAll:  1,

	optHops:           -1,
	optMulticastHops:  1,
	optMulticastLoop6: 1,
	optMTUDiscover6:   unix.IPV6_PMTUDISC_WANT,
	optMulticastAll6:  1,
	optTClass:         0,
	optAutoFlowLabel:  1,

	optKeepIdle:  7200,
	optKeepIntvl: 75,
	optKeepCnt:   9,
	optSynCnt:    6,
	optQuickAck:  1,
	optRTOMax:    120000,
	optRTOMin:    200000,
	optDelackMax: 200000,
}
