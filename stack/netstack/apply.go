package netstack

import (
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// apply tells netstack an option's value, where netstack acts on it.
func (s *sock) apply(id optID, v int64) {
	on := v != 0
	so := s.ep.SocketOptions()
	switch id {
	case optReuseAddr:
		so.SetReuseAddress(on)
	case optReusePort:
		so.SetReusePort(on)
	case optBroadcast:
		so.SetBroadcast(on)
	case optKeepAlive:
		so.SetKeepAlive(on)
	case optNoCheck:
		so.SetNoChecksum(on)
	case optSndBuf:
		so.SetSendBufferSize(v, true)
	case optRcvBuf:
		so.SetReceiveBufferSize(v, true)
	case optLingerOn:
		so.SetLinger(tcpip.LingerOption{
			Enabled: on,
			Timeout: time.Duration(s.opts.get(optLingerTime)) * time.Second,
		})
	case optBindToDevice:
		_ = so.SetBindToDevice(int32(s.engine.nicID(uint32(v))))
	case optMark:
		so.SetMark(uint32(v))
	case optV6Only:
		so.SetV6Only(on)
	default:
		s.applyIP(id, v)
	}
	if s.kind == kindTCP {
		applyTCP(s.ep, id, v)
	}
}

// applyIP is the part of apply that is about IP.
func (s *sock) applyIP(id optID, v int64) {
	on := v != 0
	so := s.ep.SocketOptions()
	switch id {
	case optTOS:
		_ = s.ep.SetSockOptInt(tcpip.IPv4TOSOption, int(v))
	case optTClass:
		_ = s.ep.SetSockOptInt(tcpip.IPv6TrafficClassOption, int(v))
	case optTTL:
		_ = s.ep.SetSockOptInt(tcpip.IPv4TTLOption, int(max(v, tcpip.UseDefaultIPv4TTL)))
	case optHops:
		_ = s.ep.SetSockOptInt(tcpip.IPv6HopLimitOption, int(v))
	case optMTUDiscover, optMTUDiscover6:
		if (id == optMTUDiscover6) == s.is6() {
			_ = s.ep.SetSockOptInt(tcpip.MTUDiscoverOption, int(strategy(v)))
		}
	case optHdrIncl:
		so.SetHeaderIncluded(on)
	case optRecvTTL:
		so.SetReceiveTTL(on)
	case optRecvTOS:
		so.SetReceiveTOS(on)
	case optRecvHopLimit, opt2292HopLimit:
		so.SetReceiveHopLimit(s.opts.get(optRecvHopLimit) != 0 || s.opts.get(opt2292HopLimit) != 0)
	case optRecvTClass:
		so.SetReceiveTClass(on)
	case optPktinfo, optRecvPktinfo6, opt2292Pktinfo:
		any := s.opts.get(optPktinfo) != 0 || s.opts.get(optRecvPktinfo6) != 0 || s.opts.get(opt2292Pktinfo) != 0
		so.SetReceivePacketInfo(any)
		so.SetIPv6ReceivePacketInfo(any)
	case optRecvOrigDst, optRecvOrigDst6:
		so.SetReceiveOriginalDstAddress(s.opts.get(optRecvOrigDst) != 0 || s.opts.get(optRecvOrigDst6) != 0)
	case optMulticastTTL, optMulticastHops:
		if (id == optMulticastHops) == s.is6() {
			_ = s.ep.SetSockOptInt(tcpip.MulticastTTLOption, int(v))
		}
	case optMulticastLoop, optMulticastLoop6:
		if (id == optMulticastLoop6) == s.is6() {
			so.SetMulticastLoop(on)
		}
	case optMulticastIf6:
		_ = s.ep.SetSockOptInt(tcpip.IPv6MulticastInterfaceOption, int(s.engine.nicID(uint32(v))))
	}
}

// applyOwn acts on an option that netstack has no part in.
func (d *dgramSock) applyOwn(id optID, v int64) stack.Errno {
	switch id {
	case optRecvErr, optRecvErr6:
		d.setRecvErr(id == optRecvErr6, v != 0)
	case optUDPCork:
		if v == 0 {
			return d.uncork()
		}
	}
	return 0
}

// strategy is netstack's name for a value of IP_MTU_DISCOVER.
func strategy(v int64) tcpip.PMTUDStrategy {
	switch v {
	case unix.IP_PMTUDISC_DONT, unix.IP_PMTUDISC_OMIT:
		return tcpip.PMTUDiscoveryDont
	case unix.IP_PMTUDISC_DO:
		return tcpip.PMTUDiscoveryDo
	case unix.IP_PMTUDISC_PROBE, unix.IP_PMTUDISC_INTERFACE:
		return tcpip.PMTUDiscoveryProbe
	default:
		return tcpip.PMTUDiscoveryWant
	}
}

// applyAll tells a fresh netstack endpoint every value that was set.
func (s *sock) applyAll() {
	for _, o := range s.opts.vals {
		s.apply(o.id, o.v)
	}
}
