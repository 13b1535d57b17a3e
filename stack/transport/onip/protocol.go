// Package onip puts the protocols of package transport on gVisor's IP layer.
//
// As in package alptcp, a packet is dealt with by the goroutine that brought it,
// or, if the endpoint is locked then, by the holder of the lock before it lets go.
package onip

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack/transport"
)

// protocol is a transport protocol of one stack.
type protocol struct {
	transport.Protocol
	st     *stack.Stack
	number tcpip.TransportProtocolNumber
	epoch  tcpip.MonotonicTime
}

var _ stack.TransportProtocol = (*protocol)(nil)

// Factory makes a stack's protocol.
func Factory(p transport.Protocol) stack.TransportProtocolFactory {
	return func(st *stack.Stack) stack.TransportProtocol {
		return &protocol{Protocol: p, st: st, number: tcpip.TransportProtocolNumber(p.Number)}
	}
}

// Has says whether a stack has a protocol of package transport with the number.
func Has(st *stack.Stack, number uint8) bool {
	_, ok := st.TransportProtocolInstance(tcpip.TransportProtocolNumber(number)).(*protocol)
	return ok
}

// now is the connections' time. It begins at a second: 0 is never.
func (p *protocol) now() time.Duration {
	return p.st.Clock().NowMonotonic().Sub(p.epoch) + time.Second
}

func (p *protocol) rand() uint64 {
	var b [8]byte
	rng := p.st.SecureRNG()
	_, _ = rng.Reader.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}

// packet gives what follows the ports of a packet; ok is false if it is not to be
// looked at.
func (p *protocol) packet(pkt *stack.PacketBuffer) (b []byte, ok bool) {
	whole := slices.Concat(pkt.TransportHeader().Slice(), pkt.Data().AsRange().ToSlice())
	if len(whole) < transport.PortsLen+p.HeaderLen {
		return nil, false
	}
	if p.Checksum != 0 {
		net := pkt.Network()
		if transport.Checksum(toIP(net.SourceAddress()), toIP(net.DestinationAddress()), p.Protocol.Number, whole) != 0 {
			return nil, false
		}
	}
	return whole[transport.PortsLen:], true
}

// send sends a packet of the ports in id by the route.
func (p *protocol) send(r *stack.Route, id stack.TransportEndpointID, ttl, tos uint8, body []byte) bool {
	if len(body) > maxPacket(r) {
		return false
	}
	whole := make([]byte, transport.PortsLen+len(body))
	binary.BigEndian.PutUint16(whole, id.LocalPort)
	binary.BigEndian.PutUint16(whole[2:], id.RemotePort)
	copy(whole[transport.PortsLen:], body)
	if c := p.Checksum; c != 0 {
		clear(whole[c : c+2])
		binary.BigEndian.PutUint16(whole[c:], transport.Checksum(toIP(r.LocalAddress()), toIP(r.RemoteAddress()), p.Protocol.Number, whole))
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: transport.PortsLen + int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(whole[transport.PortsLen:]),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = p.number
	copy(pkt.TransportHeader().Push(transport.PortsLen), whole)
	if ttl == 0 {
		ttl = r.DefaultTTL()
	}
	return r.WritePacket(stack.NetworkHeaderParams{Protocol: p.number, TTL: ttl, TOS: tos, DF: true}, pkt) == nil
}

// maxPacket is the length of the largest packet of a route, after the ports.
func maxPacket(r *stack.Route) int { return min(int(r.MTU()), 65535-40) - transport.PortsLen }

func toIP(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip
}

// Number implements stack.TransportProtocol.
func (p *protocol) Number() tcpip.TransportProtocolNumber { return p.number }

// NewEndpoint implements stack.TransportProtocol.
func (p *protocol) NewEndpoint(net tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return newEndpoint(p, net, q), nil
}

// NewRawEndpoint implements stack.TransportProtocol.
func (p *protocol) NewRawEndpoint(net tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return p.st.NewRawEndpoint(p.number, net, q, true)
}

// MinimumPacketSize implements stack.TransportProtocol.
func (p *protocol) MinimumPacketSize() int { return transport.PortsLen + p.HeaderLen }

// ParsePorts implements stack.TransportProtocol.
func (*protocol) ParsePorts(b []byte) (src, dst uint16, err tcpip.Error) {
	if len(b) < transport.PortsLen {
		return 0, 0, &tcpip.ErrMalformedHeader{}
	}
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), nil
}

// Parse implements stack.TransportProtocol.
func (p *protocol) Parse(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.TransportHeader().Consume(transport.PortsLen)
	pkt.TransportProtocolNumber = p.number
	return ok
}

// HandleUnknownDestinationPacket implements stack.TransportProtocol: the IP layer
// answers that the port is unreachable.
func (p *protocol) HandleUnknownDestinationPacket(stack.TransportEndpointID, *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	return stack.UnknownDestinationPacketUnhandled
}

// SetOption implements stack.TransportProtocol.
func (*protocol) SetOption(tcpip.SettableTransportProtocolOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}

// Option implements stack.TransportProtocol.
func (*protocol) Option(tcpip.GettableTransportProtocolOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}

// Close, Wait, Pause, Resume and Restore have nothing to do: there are no
// goroutines.
func (*protocol) Close()   {}
func (*protocol) Wait()    {}
func (*protocol) Pause()   {}
func (*protocol) Resume()  {}
func (*protocol) Restore() {}
