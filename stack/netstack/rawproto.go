package netstack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/waiter"
)

// netstack delivers packets only of transport protocols that it knows. So
// that raw sockets may speak others, those are registered with nothing behind
// them; a packet that no raw socket takes is answered as in a kernel without
// the protocol.
type rawProtocol struct {
	st     *gstack.Stack
	number tcpip.TransportProtocolNumber
}

var _ gstack.TransportProtocol = (*rawProtocol)(nil)

// rawProtocols makes the factories of all protocol numbers that netstack
// itself does not serve and that a raw socket may name.
func rawProtocols() []gstack.TransportProtocolFactory {
	var list []gstack.TransportProtocolFactory
	for n := tcpip.TransportProtocolNumber(1); n < 255; n++ {
		switch n {
		case header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber,
			header.TCPProtocolNumber, header.UDPProtocolNumber,
			header.IGMPProtocolNumber, 43, 44, 59, 60: // IPv6 extension headers
			continue
		}
		list = append(list, func(st *gstack.Stack) gstack.TransportProtocol {
			return &rawProtocol{st: st, number: n}
		})
	}
	return list
}

// Number is the protocol's number in the IP header.
func (p *rawProtocol) Number() tcpip.TransportProtocolNumber { return p.number }

// NewEndpoint fails: there are only raw sockets.
func (p *rawProtocol) NewEndpoint(tcpip.NetworkProtocolNumber, *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return nil, &tcpip.ErrNotSupported{}
}

// NewRawEndpoint makes a raw socket's endpoint.
func (p *rawProtocol) NewRawEndpoint(n tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return raw.NewEndpoint(p.st, n, p.number, q)
}

// MinimumPacketSize is 0: nothing is known of the protocol's header.
func (*rawProtocol) MinimumPacketSize() int { return 0 }

// ParsePorts gives none.
func (*rawProtocol) ParsePorts([]byte) (src, dst uint16, err tcpip.Error) { return 0, 0, nil }

// HandleUnknownDestinationPacket lets netstack answer.
func (*rawProtocol) HandleUnknownDestinationPacket(gstack.TransportEndpointID, *gstack.PacketBuffer) gstack.UnknownDestinationPacketDisposition {
	return gstack.UnknownDestinationPacketUnhandled
}

// SetOption knows no options.
func (*rawProtocol) SetOption(tcpip.SettableTransportProtocolOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}

// Option knows no options.
func (*rawProtocol) Option(tcpip.GettableTransportProtocolOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}

// Close, Wait, Pause, Resume and Restore have nothing to do.
func (*rawProtocol) Close()   {}
func (*rawProtocol) Wait()    {}
func (*rawProtocol) Pause()   {}
func (*rawProtocol) Resume()  {}
func (*rawProtocol) Restore() {}

// Parse leaves everything in the packet's data.
func (*rawProtocol) Parse(*gstack.PacketBuffer) bool { return true }
