package alptcp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack/tcp"
)

// SetSockOpt implements tcpip.Endpoint.
func (e *endpoint) SetSockOpt(o tcpip.SettableSocketOption) tcpip.Error {
	e.lock()
	defer e.unlock()
	c := e.conn
	switch v := o.(type) {
	case *tcpip.KeepaliveIdleOption:
		c.SetKeepIdle(time.Duration(*v))
	case *tcpip.KeepaliveIntervalOption:
		c.SetKeepInterval(time.Duration(*v))
	case *tcpip.TCPUserTimeoutOption:
		c.SetUserTimeout(time.Duration(*v))
	case *tcpip.TCPLingerTimeoutOption:
		c.SetFINTimeout(time.Duration(*v))
	case *tcpip.TCPDeferAcceptOption:
		c.SetDeferAccept(time.Duration(*v))
	case *tcpip.CongestionControlOption:
		if c.SetCongestionControl(string(*v)) != 0 {
			return &tcpip.ErrNoSuchFile{}
		}
	}
	return nil
}

// SetSockOptInt implements tcpip.Endpoint.
func (e *endpoint) SetSockOptInt(o tcpip.SockOptInt, v int) tcpip.Error {
	e.lock()
	defer e.unlock()
	c := e.conn
	switch o {
	case tcpip.KeepaliveCountOption:
		c.SetKeepCount(v)
	case tcpip.IPv4TOSOption:
		e.tos = uint8(v)
	case tcpip.IPv6TrafficClassOption:
		e.tclass = uint8(v)
	case tcpip.IPv4TTLOption:
		e.ttl = int16(v)
	case tcpip.IPv6HopLimitOption:
		e.hops = int16(v)
	case tcpip.MTUDiscoverOption:
		e.pmtud = tcpip.PMTUDStrategy(v)
	case tcpip.MaxSegOption:
		c.SetMaxSeg(v)
	case tcpip.TCPSynCountOption:
		c.SetSYNRetries(v)
	case tcpip.TCPWindowClampOption:
		c.SetWindowClamp(v)
	}
	e.header()
	return nil
}

// GetSockOpt implements tcpip.Endpoint.
func (*endpoint) GetSockOpt(tcpip.GettableSocketOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}

// GetSockOptInt implements tcpip.Endpoint.
func (e *endpoint) GetSockOptInt(o tcpip.SockOptInt) (int, tcpip.Error) {
	e.lock()
	defer e.unlock()
	switch o {
	case tcpip.ReceiveQueueSizeOption:
		if e.listen != nil {
			return 0, &tcpip.ErrInvalidEndpointState{}
		}
		return e.conn.Readable(), nil
	case tcpip.SendQueueSizeOption:
		return e.conn.Unacked(), nil
	case tcpip.IPv4TTLOption:
		return int(e.ttl), nil
	case tcpip.IPv4TOSOption:
		return int(e.tos), nil
	case tcpip.IPv6TrafficClassOption:
		return int(e.tclass), nil
	case tcpip.IPv6HopLimitOption:
		return int(e.hops), nil
	case tcpip.MTUDiscoverOption:
		return int(e.pmtud), nil
	}
	return 0, &tcpip.ErrUnknownProtocolOption{}
}

// Options by their numbers, where gVisor has no name for them.

// SetNotSentLowat is TCP_NOTSENT_LOWAT, bytes.
func (e *endpoint) SetNotSentLowat(n int) { e.with(func(c *tcp.Conn) { c.SetNotSentLowat(n) }) }

// SetMaxPacingRate is SO_MAX_PACING_RATE, bytes a second.
func (e *endpoint) SetMaxPacingRate(r uint64) {
	e.with(func(c *tcp.Conn) { c.SetMaxPacingRate(r) })
}

// SetQuickAck is TCP_QUICKACK.
func (e *endpoint) SetQuickAck(on bool) { e.with(func(c *tcp.Conn) { c.SetQuickAck(on) }) }

// SetFastOpen is TCP_FASTOPEN, connections.
func (e *endpoint) SetFastOpen(n int) { e.with(func(c *tcp.Conn) { c.SetFastOpen(n) }) }

// SetFastOpenConnect is TCP_FASTOPEN_CONNECT.
func (e *endpoint) SetFastOpenConnect(on bool) {
	e.with(func(c *tcp.Conn) { c.SetFastOpenConnect(on) })
}

// SetMaxRTO is TCP_RTO_MAX_MS.
func (e *endpoint) SetMaxRTO(d time.Duration) { e.with(func(c *tcp.Conn) { c.SetMaxRTO(d) }) }

// SetMinRTO is TCP_RTO_MIN_US.
func (e *endpoint) SetMinRTO(d time.Duration) { e.with(func(c *tcp.Conn) { c.SetMinRTO(d) }) }

// SetMaxDelayedAck is TCP_DELACK_MAX_US.
func (e *endpoint) SetMaxDelayedAck(d time.Duration) {
	e.with(func(c *tcp.Conn) { c.SetMaxDelayedAck(d) })
}

func (e *endpoint) with(f func(*tcp.Conn)) {
	e.lock()
	defer e.unlock()
	f(e.conn)
}

// Info is the connection's state, for TCP_INFO.
func (e *endpoint) ConnInfo() tcp.Info {
	e.lock()
	defer e.unlock()
	return e.conn.Info()
}

// The socket options' handler.

// OnReuseAddressSet implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnReuseAddressSet(v bool) {
	e.lock()
	defer e.unlock()
	e.flags.TupleOnly = v
}

// OnReusePortSet implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnReusePortSet(v bool) {
	e.lock()
	defer e.unlock()
	e.flags.LoadBalanced = v
}

// OnKeepAliveSet implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnKeepAliveSet(v bool) { e.with(func(c *tcp.Conn) { c.SetKeepAlive(v) }) }

// OnDelayOptionSet implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnDelayOptionSet(v bool) { e.with(func(c *tcp.Conn) { c.SetNoDelay(!v) }) }

// OnCorkOptionSet implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnCorkOptionSet(v bool) { e.with(func(c *tcp.Conn) { c.SetCork(v) }) }

// OnSetSendBufferSize implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnSetSendBufferSize(v int64) int64 {
	e.with(func(c *tcp.Conn) { c.SetSendBuffer(int(v), true) })
	return v
}

// OnSetReceiveBufferSize implements tcpip.SocketOptionsHandler.
func (e *endpoint) OnSetReceiveBufferSize(v, _ int64) (int64, func()) {
	e.with(func(c *tcp.Conn) { c.SetRecvBuffer(int(v), true) })
	return v, nil
}

// GetAcceptConn implements tcpip.SocketOptionsHandler.
func (e *endpoint) GetAcceptConn() bool {
	e.lock()
	defer e.unlock()
	return e.listen != nil
}

// HasNIC implements tcpip.SocketOptionsHandler.
func (e *endpoint) HasNIC(id int32) bool { return id == 0 || e.p.st.HasNIC(tcpip.NICID(id)) }

// LastError implements tcpip.Endpoint and tcpip.SocketOptionsHandler.
func (e *endpoint) LastError() tcpip.Error {
	e.lock()
	defer e.unlock()
	if e.failed && e.conn.PeerClosed() {
		e.failed = false
		return &tcpip.ErrAborted{} // as gVisor's after a reset in CLOSE_WAIT
	}
	return e.takeFailure()
}

// State implements tcpip.Endpoint.
func (e *endpoint) State() uint32 { return e.shown.Load() }

// ModerateRecvBuf implements tcpip.Endpoint; reading does it.
func (*endpoint) ModerateRecvBuf(int) {}

// Info implements tcpip.Endpoint.
func (e *endpoint) Info() tcpip.EndpointInfo {
	e.lock()
	defer e.unlock()
	i := e.TransportEndpointInfo
	return &i
}

// Stats implements tcpip.Endpoint; the counts are in ConnInfo.
func (*endpoint) Stats() tcpip.EndpointStats { return nil }

// SetOwner implements tcpip.Endpoint.
func (*endpoint) SetOwner(tcpip.PacketOwner) {}

// SocketOptions implements tcpip.Endpoint.
func (e *endpoint) SocketOptions() *tcpip.SocketOptions { return &e.ops }

var _ stack.TransportProtocol = (*Protocol)(nil)
