package relay

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	farNIC tcpip.NICID = 1

	// Buffers of the far stack's TCP, bytes. A flow pins at most one of each.
	bufMin     = 4 << 10
	bufDefault = 1 << 20
	bufMax     = 4 << 20

	// The link loses nothing, so no segment of an old connection can turn up
	// late: TIME_WAIT (RFC 9293, 3.6.1) need not last, and must not keep the
	// near stack from using a port again.
	farTimeWait = time.Second
)

// newFar makes the far stack.
func (r *Relay) newFar() error {
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{
				NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
			}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
	})
	r.far = s
	r.farEP = &farEndpoint{r: r, mtu: uint32(r.cfg.MTU)}
	s.SetICMPLimit(rate.Inf)
	s.SetICMPBurst(math.MaxInt32)

	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: bufMin, Default: bufDefault, Max: bufMax}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: bufMin, Default: bufDefault, Max: bufMax}
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	wait := tcpip.TCPTimeWaitTimeoutOption(farTimeWait)
	for _, o := range []tcpip.SettableTransportProtocolOption{&rcv, &snd, &sack, &moderate, &wait} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("far stack: option %T: %v", o, err)
		}
	}
	if err := s.CreateNIC(farNIC, r.farEP); err != nil {
		return fmt.Errorf("far stack: nic: %v", err)
	}
	for _, a := range []netip.Addr{r.cfg.Gateway4, r.cfg.Gateway6} {
		pa := tcpip.ProtocolAddress{Protocol: protoOf(a), AddressWithPrefix: tcpipAddr(a).WithPrefix()}
		if err := s.AddProtocolAddress(farNIC, pa, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("far stack: address %v: %v", a, err)
		}
	}
	if err := s.SetPromiscuousMode(farNIC, true); err != nil {
		return fmt.Errorf("far stack: promiscuous mode: %v", err)
	}
	if err := s.SetSpoofing(farNIC, true); err != nil {
		return fmt.Errorf("far stack: spoofing: %v", err)
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: farNIC},
		{Destination: header.IPv6EmptySubnet, NIC: farNIC},
	})
	r.fwd = tcp.NewForwarder(s, bufDefault, math.MaxInt, r.serveTCP)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, r.handleTCP)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, r.handleUDP)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, r.handleEcho)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber6, r.handleEcho)
	return nil
}

// farEndpoint is the far stack's end of the link.
type farEndpoint struct {
	r   *Relay
	mtu uint32

	mu   sync.RWMutex
	disp stack.NetworkDispatcher
}

var (
	_ stack.LinkEndpoint = (*farEndpoint)(nil)
	_ stack.GSOEndpoint  = (*farEndpoint)(nil)
)

func (e *farEndpoint) deliver(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	e.mu.RLock()
	d := e.disp
	e.mu.RUnlock()
	if d != nil {
		d.DeliverNetworkPacket(proto, pkt)
	}
}

// WritePackets implements [stack.LinkWriter].
func (e *farEndpoint) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	pkts := list.AsSlice()
	later := false
	for _, p := range pkts {
		if partialSum(p) || p.TransportProtocolNumber == header.ICMPv4ProtocolNumber ||
			p.TransportProtocolNumber == header.ICMPv6ProtocolNumber {
			later = true
		}
	}
	n := e.r.out.push(pkts, later)
	e.r.stats.packetsOut.Add(uint64(n))
	if n < len(pkts) {
		e.r.stats.dropped.Add(uint64(len(pkts) - n))
		if n == 0 {
			return 0, &tcpip.ErrNoBufferSpace{}
		}
	}
	return n, nil
}

// partialSum puts the sum of the pseudo header into the checksum of a TCP
// segment, as NeedsCsum demands, and reports whether the segment is an RST. The
// far stack leaves the field zero.
func partialSum(p *stack.PacketBuffer) (rst bool) {
	if p.TransportProtocolNumber != header.TCPProtocolNumber {
		return false
	}
	th := header.TCP(p.TransportHeader().Slice())
	if len(th) < header.TCPMinimumSize {
		return false
	}
	nh := p.Network()
	th.SetChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber,
		nh.SourceAddress(), nh.DestinationAddress(), uint16(len(th)+p.Data().Size())))
	return th.Flags().Contains(header.TCPFlagRst)
}

// MTU implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) MTU() uint32 { return e.mtu }

// SetMTU implements [stack.NetworkLinkEndpoint]; the relay's MTU is fixed.
func (e *farEndpoint) SetMTU(uint32) {}

// MaxHeaderLength implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements [stack.NetworkLinkEndpoint]. Received checksums have
// been looked at in [Relay.admit] where they can be wrong; those of sent
// segments are partial.
func (e *farEndpoint) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
}

// Attach implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) Attach(d stack.NetworkDispatcher) {
	e.mu.Lock()
	e.disp = d
	e.mu.Unlock()
}

// IsAttached implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) IsAttached() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.disp != nil
}

// Wait implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) Wait() {}

// ARPHardwareType implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) Close() {}

// SetOnCloseAction implements [stack.NetworkLinkEndpoint].
func (e *farEndpoint) SetOnCloseAction(func()) {}

// GSOMaxSize implements [stack.GSOEndpoint].
func (e *farEndpoint) GSOMaxSize() uint32 { return maxMTU }

// SupportedGSO implements [stack.GSOEndpoint]: with a small MTU the far stack
// sends batches, which the near one takes as they are.
func (e *farEndpoint) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// protoOf is the network protocol of a.
func protoOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func tcpipAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func netipAddr(a tcpip.Address) netip.Addr {
	if a.Len() == 4 {
		return netip.AddrFrom4(a.As4())
	}
	return netip.AddrFrom16(a.As16())
}
