package netstack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	alp "github.com/alptrace/alptrace/stack/tcp"
)

// Another TCP than gVisor's (Config.TCP) has endpoints that answer State in
// gVisor's numbers, and may have what is below.

// alpTCP is an endpoint of package alptcp.
type alpTCP interface {
	gstack.TransportEndpoint
	State() uint32
	ConnInfo() alp.Info
	SetNotSentLowat(int)
	SetMaxPacingRate(uint64)
	SetQuickAck(bool)
	SetFastOpen(int)
	SetFastOpenConnect(bool)
	SetMaxRTO(time.Duration)
	SetMinRTO(time.Duration)
	SetMaxDelayedAck(time.Duration)
}

// stateful is what every TCP's endpoint has.
type stateful interface {
	gstack.TransportEndpoint
	State() uint32
}

// tcpStateOf is the state of a TCP endpoint; ok is false for any other.
func tcpStateOf(ep gstack.TransportEndpoint) (s tcp.EndpointState, ok bool) {
	switch ep.(type) {
	case *tcp.Endpoint, alpTCP, streamEndpoint:
		return tcp.EndpointState(ep.(stateful).State()), true
	}
	return 0, false
}

// congestionControls are the names for TCP_CONGESTION, the default first.
func (e *Engine) congestionControls() []string {
	if p, ok := e.st.TransportProtocolInstance(tcp.ProtocolNumber).(interface{ Congestions() []string }); ok {
		return p.Congestions()
	}
	return congestions
}

// applyAlp tells the endpoint of an option that gVisor's TCP does not have.
func applyAlp(ep tcpip.Endpoint, id optID, v int64) {
	a, ok := ep.(alpTCP)
	if !ok {
		return
	}
	switch id {
	case optNotSentLowat:
		a.SetNotSentLowat(int(min(uint64(uint32(v)), 1<<30)))
	case optPacingRate:
		if v < 0 || uint32(v) == ^uint32(0) {
			v = 0 // no limit
		}
		a.SetMaxPacingRate(uint64(v))
	case optQuickAck:
		a.SetQuickAck(v != 0)
	case optFastOpen:
		a.SetFastOpen(int(v))
	case optFastOpenConnect:
		a.SetFastOpenConnect(v != 0)
	case optRTOMax:
		a.SetMaxRTO(time.Duration(v) * time.Millisecond)
	case optRTOMin:
		a.SetMinRTO(time.Duration(v) * time.Microsecond)
	case optDelackMax:
		a.SetMaxDelayedAck(time.Duration(v) * time.Microsecond)
	}
}

// alpDetail is detail for alpTCP.
func alpDetail(a alpTCP) tcpDetail {
	i := a.ConnInfo()
	return tcpDetail{
		unsent: i.Unacked, sndMSS: i.SndMSS, notSent: uint32(i.NotSent), sndWnd: uint32(i.SndWnd), rcvWnd: uint32(i.RcvWnd),
		advMSS: uint32(i.AdvMSS), sndScale: i.SndScale, rcvScale: i.RcvScale,
		unacked: segments(i.Outstanding, i.SndMSS), sacked: segments(i.SACKed, i.SndMSS), established: i.State != alp.Closed && i.SndMSS > 0,
	}
}

// segments is how many segments of mss bytes n bytes are.
func segments(n, mss int) uint32 {
	if n <= 0 || mss <= 0 {
		return 0
	}
	return uint32((n + mss - 1) / mss)
}

// Offsets in struct tcp_info that only alpTCP fills.
const (
	infoRetransmits, infoProbes, infoBackoff                 = 2, 3, 4
	infoLimited                                              = 7
	infoLost, infoRetrans                                    = 32, 36
	infoLastSent, infoLastRecv, infoLastAck                  = 44, 52, 56
	infoRcvRTT                                               = 92
	infoDataIn, infoDataOut, infoDeliveryRate                = 152, 156, 160
	infoBytesRetrans, infoDSACKDups, infoRcvOutOfOrder       = 208, 216, 224
	infoBusy, infoWindowLimited, infoBufferLimited           = 168, 176, 184
	infoDelivered, infoDeliveredCE                           = 192, 196
	infoTotalRTO, infoRTORecoveries, infoRTOTime             = 240, 242, 244
	optECN, optECNSeen                                 uint8 = 8, 16
)

// fillAlpInfo completes struct tcp_info, in b.
func fillAlpInfo(b []byte, i alp.Info) {
	le := binary.NativeEndian
	put := func(off int, v uint32) { le.PutUint32(b[off:], v) }
	b[infoCAState] = byte(i.CA)
	b[infoRetransmits], b[infoProbes], b[infoBackoff] = byte(i.Retransmits), byte(i.Probes), byte(i.Backoff)
	for bit, on := range map[uint8]bool{optTimestamps: i.Timestamps, optSACK: i.SACK, optWScale: i.WScale, optECN: i.ECN, optECNSeen: i.ECNOn} {
		if on {
			b[infoOptions] |= bit
		}
	}
	if i.AppLimited {
		b[infoLimited] |= 1
	}
	put(infoRTO, micros(i.RTO))
	put(infoATO, micros(i.ATO))
	put(infoRcvMSS, uint32(i.RcvMSS))
	put(infoLost, segments(i.Lost, i.SndMSS))
	put(infoRetrans, segments(i.Retrans, i.SndMSS))
	put(infoLastSent, uint32(i.LastDataSent/time.Millisecond))
	put(infoLastRecv, uint32(i.LastDataRecv/time.Millisecond))
	put(infoLastAck, uint32(i.LastAckRecv/time.Millisecond))
	put(infoPMTU, uint32(i.PMTU))
	put(infoRTT, micros(i.SRTT))
	put(infoRTTVar, micros(i.RTTVar))
	put(infoMinRTT, micros(i.MinRTT))
	put(infoRcvRTT, micros(i.RcvRTT))
	put(infoRcvSpace, uint32(i.RcvSpace))
	put(infoSndCwnd, segments(i.Cwnd, i.SndMSS))
	put(infoSndSsthresh, infiniteSsthresh)
	if i.Ssthresh < alp.InfiniteSsthresh {
		put(infoSndSsthresh, segments(i.Ssthresh, i.SndMSS))
	}
	put(infoTotalRetrans, i.TotalRetrans)
	put(infoSegsOut, i.SegsOut)
	put(infoSegsIn, i.SegsIn)
	put(infoDataIn, i.DataSegsIn)
	put(infoDataOut, i.DataSegsOut)
	put(infoDSACKDups, i.DSACKDups)
	put(infoReordSeen, i.ReordSeen)
	put(infoRcvOutOfOrder, i.OutOfOrderSegs)
	put(infoDelivered, i.DeliveredSegs)
	put(infoDeliveredCE, i.DeliveredCE)
	le.PutUint64(b[infoBusy:], uint64(i.Busy/time.Microsecond))
	le.PutUint64(b[infoWindowLimited:], uint64(i.WindowLimited/time.Microsecond))
	le.PutUint64(b[infoBufferLimited:], uint64(i.BufferLimited/time.Microsecond))
	le.PutUint16(b[infoTotalRTO:], uint16(i.Timeouts))
	le.PutUint16(b[infoRTORecoveries:], uint16(i.RTORecoveries))
	put(infoRTOTime, uint32(i.RTOTime/time.Millisecond))
	le.PutUint64(b[infoDeliveryRate:], i.DeliveryRate)
	if i.PacingRate > 0 {
		le.PutUint64(b[infoPacingRate:], i.PacingRate)
	}
	le.PutUint64(b[infoBytesAcked:], i.BytesAcked+1) // the SYN counts
	le.PutUint64(b[infoBytesReceived:], i.BytesReceived)
	le.PutUint64(b[infoBytesSent:], i.BytesSent)
	le.PutUint64(b[infoBytesRetrans:], i.BytesRetrans)
}
