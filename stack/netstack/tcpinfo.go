package netstack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/alptrace/alptrace/stack"
)

// tcpInfoLen is the length of struct tcp_info in bytes (linux/tcp.h of 6.18).
const tcpInfoLen = 280

// Offsets in struct tcp_info.
const (
	infoState, infoCAState                      = 0, 1
	infoOptions, infoWScale                     = 5, 6
	infoBytesAcked, infoBytesReceived           = 120, 128
	infoBytesSent                               = 200
	infoRTO, infoATO                            = 8, 12
	infoSndMSS, infoRcvMSS                      = 16, 20
	infoUnacked, infoSacked                     = 24, 28
	infoPMTU, infoRcvSsthresh                   = 60, 64
	infoRTT, infoRTTVar                         = 68, 72
	infoSndSsthresh, infoSndCwnd                = 76, 80
	infoAdvMSS, infoReordering                  = 84, 88
	infoRcvSpace, infoTotalRetrans              = 96, 100
	infoPacingRate, infoMaxPacingRate           = 104, 112
	infoSegsOut, infoSegsIn                     = 136, 140
	infoNotSent, infoMinRTT                     = 144, 148
	infoReordSeen, infoSndWnd, infoRcvWnd       = 220, 228, 232
	optTimestamps, optSACK, optWScale     uint8 = 1, 2, 4
)

// Values of tcpi_ca_state.
const (
	caOpen = iota
	caDisorder
	caCWR
	caRecovery
	caLoss
)

const infiniteSsthresh = 0x7fffffff

// getTCPInfo is TCP_INFO (tcp_get_info): struct tcp_info, as far as netstack
// can tell; the rest is 0.
func getTCPInfo(t target, val []byte) (int, stack.Errno) {
	var b [tcpInfoLen]byte
	le := binary.NativeEndian
	put := func(off int, v uint32) { le.PutUint32(b[off:], v) }
	st := t.tcp.linuxState()
	b[infoState] = byte(st)
	le.PutUint64(b[infoMaxPacingRate:], uint64(t.opts.get(optPacingRate)))
	put(infoSndCwnd, 10)
	put(infoReordering, 3)
	le.PutUint64(b[infoPacingRate:], ^uint64(0))
	if st == tcpListen { // the queue stands where unacked and sacked do
		put(infoSacked, uint32(t.tcp.backlog))
		return putBytes(val, b[:])
	}
	put(infoRTO, uint32(time.Second/time.Microsecond))
	put(infoSndMSS, 536)
	put(infoSndSsthresh, infiniteSsthresh)
	if st == tcpClose {
		return putBytes(val, b[:])
	}

	var info tcpip.TCPInfoOption
	if t.ep.GetSockOpt(&info) == nil && info.SndCwnd != 0 {
		b[infoCAState] = caState(info.CcState)
		put(infoRTO, micros(info.RTO))
		put(infoRTT, micros(info.RTT))
		put(infoRTTVar, micros(info.RTTVar))
		put(infoMinRTT, micros(info.RTT))
		put(infoSndCwnd, info.SndCwnd)
		put(infoSndSsthresh, min(info.SndSsthresh, infiniteSsthresh))
		if info.ReorderSeen {
			put(infoReordSeen, 1)
		}
	}
	d := detail(t.ep)
	if d.established {
		put(infoSndMSS, uint32(d.sndMSS))
		put(infoRcvMSS, min(uint32(d.sndMSS), d.advMSS))
		put(infoUnacked, d.unacked)
		put(infoSacked, d.sacked)
		put(infoAdvMSS, d.advMSS)
		put(infoNotSent, d.notSent)
		put(infoSndWnd, d.sndWnd)
		put(infoRcvWnd, d.rcvWnd)
		put(infoRcvSsthresh, d.rcvWnd)
		put(infoRcvSpace, d.rcvWnd)
		b[infoWScale] = d.sndScale&15 | d.rcvScale<<4
		if d.rcvScale != 0 || d.sndScale != 0 {
			b[infoOptions] |= optWScale
		}
		written := t.tcp.written.Load()
		le.PutUint64(b[infoBytesSent:], written-min(uint64(d.notSent), written))
		le.PutUint64(b[infoBytesAcked:], 1+written-min(uint64(d.unsent), written)) // the SYN counts
		le.PutUint64(b[infoBytesReceived:], t.tcp.read.Load()+uint64(d.unread))
		put(infoPMTU, d.advMSS+header.TCPMinimumSize+header.IPv4MinimumSize)
	}
	if peer, err := t.tcp.peer(); err == 0 {
		if mtu := t.engine.routeMTU(peer.IP); mtu != 0 {
			put(infoPMTU, uint32(mtu))
		}
	}
	if ep, ok := t.ep.(*tcp.Endpoint); ok {
		put(infoTotalRetrans, counted(t.ep, func(s *tcp.Stats) uint64 { return s.SendErrors.Retransmits.Value() }))
		put(infoSegsOut, counted(t.ep, func(s *tcp.Stats) uint64 { return s.SegmentsSent.Value() }))
		put(infoSegsIn, counted(t.ep, func(s *tcp.Stats) uint64 { return s.SegmentsReceived.Value() }))
		b[infoOptions] |= negotiated(ep)
	}
	if a, ok := t.ep.(alpTCP); ok && d.established {
		fillAlpInfo(b[:], a.ConnInfo())
	}
	return putBytes(val, b[:])
}

// counted reads one of an endpoint's counters.
func counted(ep tcpip.Endpoint, f func(*tcp.Stats) uint64) uint32 {
	s, ok := ep.Stats().(*tcp.Stats)
	if !ok {
		return 0
	}
	return uint32(f(s))
}

// negotiated gives the TCPI_OPT_* bits of the options agreed on in the handshake.
func negotiated(ep *tcp.Endpoint) uint8 {
	ep.LockUser()
	defer ep.UnlockUser()
	var o uint8
	if ep.SendTSOk {
		o |= optTimestamps
	}
	if ep.SACKPermitted {
		o |= optSACK
	}
	return o
}

// micros is a time in whole microseconds.
func micros(d time.Duration) uint32 { return uint32(d / time.Microsecond) }

// caState is tcpi_ca_state for netstack's state of the sender.
func caState(s tcpip.CongestionControlState) byte {
	switch s {
	case tcpip.Disorder:
		return caDisorder
	case tcpip.FastRecovery, tcpip.SACKRecovery:
		return caRecovery
	case tcpip.RTORecovery:
		return caLoss
	default:
		return caOpen
	}
}
