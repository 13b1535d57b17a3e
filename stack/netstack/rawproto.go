package netstack

import (
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack/transport"
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

// commonRaw are the protocols that programs speak over raw sockets: IGMP, IP
// in IP, DCCP, IPv6, RSVP, GRE, ESP, AH, EIGRP, OSPF, PIM, VRRP, L2TP, SCTP,
// UDP-Lite, MPLS, and the two for experiments (RFC 3692).
var commonRaw = []uint8{2, 4, 33, 41, 46, 47, 50, 51, 88, 89, 103, 112, 115, 132, 136, 137, 253, 254}

// rawProtocols makes the factories of the protocols that a raw socket may name
// and that netstack itself does not serve. Each costs a little at the start.
func rawProtocols(more []uint8, own []transport.Protocol) []gstack.TransportProtocolFactory {
	var list []gstack.TransportProtocolFactory
	numbers := slices.Concat(commonRaw, more)
	slices.Sort(numbers)
	for _, number := range slices.Compact(numbers) {
		n := tcpip.TransportProtocolNumber(number)
		if slices.ContainsFunc(own, func(p transport.Protocol) bool { return p.Number == number }) {
			continue
		}
		switch n {
		case 0, 255, header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber,
			header.TCPProtocolNumber, header.UDPProtocolNumber, 43, 44, 59, 60: // IPv6 extension headers
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
