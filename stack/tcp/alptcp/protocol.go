// Package alptcp puts package tcp under gVisor's IP layer: it is a
// stack.TransportProtocol for IP protocol 6, whose endpoints behave as those of
// gVisor's own TCP do.
//
// A segment is dealt with where it arrives, by the goroutine that brought it.
// If the connection is locked then, the segment is left to the holder of the
// lock, who deals with it before unlocking: nothing waits, and two connections
// of one stack may send to each other while both are locked.
package alptcp

import (
	"encoding/binary"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack/tcp"
)

// number is TCP's protocol number.
const number = header.TCPProtocolNumber

// Protocol is the TCP of one stack.
type Protocol struct {
	st    *stack.Stack
	cfg   *tcp.Config
	clock tcpip.Clock
	epoch tcpip.MonotonicTime

	counts  tcpip.TCPStats
	samples samples

	mu       sync.Mutex
	timeWait int // connections in TIME-WAIT
}

// Factory makes a stack's TCP with the configuration, whose secret it sets from
// the stack's randomness. A Config serves one stack.
func Factory(cfg *tcp.Config) stack.TransportProtocolFactory {
	return func(s *stack.Stack) stack.TransportProtocol {
		p := &Protocol{st: s, cfg: cfg, clock: s.Clock(), counts: s.Stats().TCP}
		var key [16]byte
		rng := s.SecureRNG()
		_, _ = rng.Reader.Read(key[:])
		cfg.Secret = [2]uint64{binary.NativeEndian.Uint64(key[:]), binary.NativeEndian.Uint64(key[8:])}
		return p
	}
}

// now is the connections' time. It begins at a second: 0 is never.
func (p *Protocol) now() time.Duration {
	return p.clock.NowMonotonic().Sub(p.epoch) + time.Second
}

// Congestions are the names of the congestion controls, the default first.
func (p *Protocol) Congestions() []string {
	list := []string{p.cfg.CongestionControl}
	for _, n := range tcp.CongestionControls() {
		if n != list[0] {
			list = append(list, n)
		}
	}
	return list
}

// Number implements stack.TransportProtocol.
func (*Protocol) Number() tcpip.TransportProtocolNumber { return number }

// NewEndpoint implements stack.TransportProtocol.
func (p *Protocol) NewEndpoint(net tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return newEndpoint(p, net, q), nil
}

// NewRawEndpoint implements stack.TransportProtocol.
func (p *Protocol) NewRawEndpoint(net tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return p.st.NewRawEndpoint(number, net, q, false)
}

// MinimumPacketSize implements stack.TransportProtocol.
func (*Protocol) MinimumPacketSize() int { return header.TCPMinimumSize }

// ParsePorts implements stack.TransportProtocol.
func (*Protocol) ParsePorts(b []byte) (src, dst uint16, err tcpip.Error) {
	if len(b) < 4 {
		return 0, 0, &tcpip.ErrMalformedHeader{}
	}
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), nil
}

// Parse implements stack.TransportProtocol.
func (*Protocol) Parse(pkt *stack.PacketBuffer) bool {
	hdr, ok := pkt.Data().PullUp(header.TCPMinimumSize)
	if !ok {
		return false
	}
	n := int(header.TCP(hdr).DataOffset())
	if n < header.TCPMinimumSize || n > pkt.Data().Size() {
		return false
	}
	_, ok = pkt.TransportHeader().Consume(n)
	pkt.TransportProtocolNumber = number
	return ok
}

// HandleUnknownDestinationPacket implements stack.TransportProtocol: a segment
// without a connection is answered with RST (RFC 9293 3.10.7.1).
func (p *Protocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	var s tcp.Segment
	if !parse(pkt, &s, false) {
		return stack.UnknownDestinationPacketMalformed
	}
	p.reset(id, pkt, &s)
	return stack.UnknownDestinationPacketHandled
}

// reset answers a segment that no connection takes.
func (p *Protocol) reset(id stack.TransportEndpointID, pkt *stack.PacketBuffer, s *tcp.Segment) {
	var r tcp.Segment
	if !tcp.ResetFor(s, &r) {
		return
	}
	p.reply(id, pkt, &r)
}

// reply sends a segment back where a packet came from.
func (p *Protocol) reply(id stack.TransportEndpointID, pkt *stack.PacketBuffer, r *tcp.Segment) {
	route, err := p.st.FindRoute(pkt.NICID, id.LocalAddress, id.RemoteAddress, pkt.NetworkProtocolNumber, false)
	if err != nil {
		return
	}
	defer route.Release()
	o := outgoing{counts: &p.counts, route: route, ttl: route.DefaultTTL(), df: true}
	o.send(r)
}

// SetOption implements stack.TransportProtocol.
func (p *Protocol) SetOption(o tcpip.SettableTransportProtocolOption) tcpip.Error {
	c := p.cfg
	switch v := o.(type) {
	case *tcpip.TCPReceiveBufferSizeRangeOption:
		c.RecvBuffer, c.MaxRecvBuffer = min(c.RecvBuffer, v.Max), min(c.MaxRecvBuffer, v.Max)
	case *tcpip.TCPTimeWaitTimeoutOption, *tcpip.TCPSendBufferSizeRangeOption, *tcpip.TCPLingerTimeoutOption,
		*tcpip.TCPSACKEnabled, *tcpip.TCPDelayEnabled, *tcpip.TCPModerateReceiveBufferOption, *tcpip.TCPRecovery:
		// The configuration has them.
	default:
		return &tcpip.ErrUnknownProtocolOption{}
	}
	return nil
}

// Option implements stack.TransportProtocol.
func (p *Protocol) Option(o tcpip.GettableTransportProtocolOption) tcpip.Error {
	switch v := o.(type) {
	case *tcpip.TCPReceiveBufferSizeRangeOption:
		*v = tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: p.cfg.RecvBuffer, Max: p.cfg.MaxRecvBuffer}
	case *tcpip.TCPSendBufferSizeRangeOption:
		*v = p.SendBufferSize()
	case *tcpip.TCPTimeWaitTimeoutOption:
		*v = tcpip.TCPTimeWaitTimeoutOption(p.cfg.TimeWait)
	default:
		return &tcpip.ErrUnknownProtocolOption{}
	}
	return nil
}

const minBuffer = 4096

// SendBufferSize implements stack.SendBufSizeProto.
func (p *Protocol) SendBufferSize() tcpip.TCPSendBufferSizeRangeOption {
	return tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: p.cfg.SendBuffer, Max: p.cfg.MaxSendBuffer}
}

// Close implements stack.TransportProtocol.
func (*Protocol) Close() {}

// Wait implements stack.TransportProtocol: there are no goroutines.
func (*Protocol) Wait() {}

// Pause implements stack.TransportProtocol.
func (*Protocol) Pause() {}

// Resume implements stack.TransportProtocol.
func (*Protocol) Resume() {}

// Restore implements stack.TransportProtocol.
func (*Protocol) Restore() {}

// maxTimeWait is how many connections may be in TIME-WAIT (Linux's
// net.ipv4.tcp_max_tw_buckets is larger; its entries are smaller).
const maxTimeWait = 32768

// view is a Chunk's memory.
func view(c tcp.Chunk) *buffer.View {
	v, _ := c.Owner.(*buffer.View)
	return v
}
