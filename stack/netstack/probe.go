package netstack

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/alptrace/alptrace/stack"
)

// prober samples the TCP connections of an engine. netstack calls it after each
// segment that an established connection has received; of all else it learns
// from the socket calls and from the packets that pass the nic: SYN, FIN and
// RST, and retransmissions, which a timer may have sent. When a packet passes,
// the connection is locked, or has not seen it yet, so it is sampled a moment
// later.
type prober struct {
	st    *gstack.Stack
	f     atomic.Pointer[func(stack.TCPSample)]
	delay time.Duration // until a received packet has been handled

	retransmits atomic.Uint64 // of all connections, when last looked at

	mu    sync.Mutex
	nics  tcpip.NICID // the last
	conns map[probeID]*probed
	due   []probeID
	armed bool
}

// probeID is a connection.
type probeID struct {
	proto tcpip.NetworkProtocolNumber
	id    gstack.TransportEndpointID
}

// probed is a connection that has been sampled.
type probed struct {
	ep    *tcp.Endpoint
	state tcpState
}

var _ stack.Prober = (*Engine)(nil)

// probeSettle is how soon netstack's goroutines have handled a received packet.
const probeSettle = 200 * time.Microsecond

// Probe implements [stack.Prober]. The engine must have been made with
// Config.Probe. Connections over the loopback interface are sampled only as
// they receive and write.
func (e *Engine) Probe(f func(stack.TCPSample)) {
	if p, ok := e.st.TransportProtocolInstance(tcp.ProtocolNumber).(stack.Prober); ok {
		p.Probe(f) // another TCP than gVisor's
	}
	switch {
	case e.probe == nil:
	case f == nil:
		e.probe.f.Store(nil)
	default:
		e.probe.f.Store(&f)
	}
}

// newProber makes a prober whose start is still to be called.
func newProber(inStep bool) *prober {
	p := &prober{conns: make(map[probeID]*probed)}
	if !inStep {
		p.delay = probeSettle
	}
	return p
}

// start readies p when the stack has its interfaces.
func (p *prober) start(st *gstack.Stack, nics int) {
	if p != nil {
		p.st, p.nics = st, firstLinkNIC+tcpip.NICID(nics)-1
	}
}

// gvisorTCP is gVisor's TCP with CUBIC, told to p if anybody may want to know.
func gvisorTCP(p *prober) gstack.TransportProtocolFactory {
	if p == nil {
		return tcp.NewProtocolCUBIC
	}
	return func(s *gstack.Stack) gstack.TransportProtocol {
		proto := tcp.NewProtocolProbe(p.received)(s) // with Reno
		cubic := tcpip.CongestionControlOption("cubic")
		_ = proto.SetOption(&cubic) // it is there: NewProtocolCUBIC has it
		return proto
	}
}

// on says whether anybody listens. A nil prober is off.
func (p *prober) on() bool { return p != nil && p.f.Load() != nil }

// received is called by netstack with the connection locked.
func (p *prober) received(s *tcp.TCPEndpointState) {
	if !p.on() {
		return
	}
	id := probeID{ipv4Number, gstack.TransportEndpointID(s.ID)}
	if id.id.LocalAddress.Len() == header.IPv6AddressSize {
		id.proto = ipv6Number
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.find(id); c != nil {
		p.sample(id, c)
	}
}

// called samples a connection after a socket call.
func (p *prober) called(e tcpip.Endpoint) {
	if !p.on() {
		return
	}
	ep, ok := e.(*tcp.Endpoint)
	if !ok {
		return
	}
	ep.LockUser()
	defer ep.UnlockUser()
	id := probeID{ipv4Number, ep.ID}
	if id.id.LocalAddress.Len() == header.IPv6AddressSize {
		id.proto = ipv6Number
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.find(id); c != nil && c.ep == ep {
		p.sample(id, c)
	}
}

// in is told of a packet that is about to be delivered.
func (p *prober) in(ip []byte) {
	seg, id, ok := tcpSegment(ip)
	if !ok {
		return
	}
	id.id.LocalAddress, id.id.RemoteAddress = id.id.RemoteAddress, id.id.LocalAddress
	id.id.LocalPort, id.id.RemotePort = id.id.RemotePort, id.id.LocalPort
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conns[id]
	if telling(seg) || c != nil && (c.state == tcpSynSent || c.state == tcpSynRecv) {
		p.soon(id, p.delay)
	}
}

// out is told of packets that are about to be sent.
func (p *prober) out(pkts []*gstack.PacketBuffer) {
	n := p.st.Stats().TCP.Retransmits.Value()
	again := p.retransmits.Swap(n) != n
	for _, pkt := range pkts {
		if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
			continue
		}
		seg := header.TCP(pkt.TransportHeader().Slice())
		if len(seg) < header.TCPMinimumSize || !again && !telling(seg) {
			continue
		}
		ip := pkt.NetworkHeader().Slice()
		id := probeID{proto: pkt.NetworkProtocolNumber}
		id.id.LocalPort, id.id.RemotePort = seg.SourcePort(), seg.DestinationPort()
		if id.proto == ipv4Number {
			id.id.LocalAddress, id.id.RemoteAddress = header.IPv4(ip).SourceAddress(), header.IPv4(ip).DestinationAddress()
		} else {
			id.id.LocalAddress, id.id.RemoteAddress = header.IPv6(ip).SourceAddress(), header.IPv6(ip).DestinationAddress()
		}
		p.mu.Lock()
		p.soon(id, 0)
		p.mu.Unlock()
	}
}

// telling says whether a segment changes its connection's state.
func telling(seg header.TCP) bool {
	return seg.Flags()&(header.TCPFlagSyn|header.TCPFlagFin|header.TCPFlagRst) != 0
}

// tcpSegment finds the TCP header of an IP packet, and its connection as its
// sender has it. Packets with extension headers are passed over.
func tcpSegment(ip []byte) (seg header.TCP, id probeID, ok bool) {
	if len(ip) < header.IPv4MinimumSize {
		return nil, id, false
	}
	hl := header.IPv6MinimumSize
	switch v4 := ip[0]>>4 == 4; {
	case v4:
		const fragment = 0x3fff // more fragments, or not the first
		hl = int(ip[0]&15) * 4
		if ip[9] != uint8(tcp.ProtocolNumber) || hl < header.IPv4MinimumSize || binary.BigEndian.Uint16(ip[6:])&fragment != 0 {
			return nil, id, false
		}
		id.proto = ipv4Number
		id.id.LocalAddress, id.id.RemoteAddress = header.IPv4(ip).SourceAddress(), header.IPv4(ip).DestinationAddress()
	case len(ip) < hl || ip[6] != uint8(tcp.ProtocolNumber):
		return nil, id, false
	default:
		id.proto = ipv6Number
		id.id.LocalAddress, id.id.RemoteAddress = header.IPv6(ip).SourceAddress(), header.IPv6(ip).DestinationAddress()
	}
	if len(ip) < hl+header.TCPMinimumSize {
		return nil, id, false
	}
	seg = header.TCP(ip[hl:])
	id.id.LocalPort, id.id.RemotePort = seg.SourcePort(), seg.DestinationPort()
	return seg, id, true
}

// soon samples a connection when whoever has it now is done. The caller holds
// p.mu.
func (p *prober) soon(id probeID, after time.Duration) {
	if slices.Contains(p.due, id) {
		return
	}
	p.due = append(p.due, id)
	if !p.armed {
		p.armed = true
		p.st.Clock().AfterFunc(after, p.run)
	}
}

// run samples what is due.
func (p *prober) run() {
	p.mu.Lock()
	due := p.due
	p.due, p.armed = nil, false
	p.mu.Unlock()
	for _, id := range due {
		p.mu.Lock()
		c := p.find(id)
		p.mu.Unlock()
		if c == nil {
			continue
		}
		c.ep.LockUser()
		p.mu.Lock()
		if p.find(id) == c {
			p.sample(id, c)
		}
		p.mu.Unlock()
		c.ep.UnlockUser()
	}
}

// find gives a connection that netstack has, or that has been sampled and whose
// end has not; nil if there is none. The caller holds p.mu.
func (p *prober) find(id probeID) *probed {
	c := p.conns[id]
	if c != nil && !over(c.ep) {
		return c
	}
	for n := loopbackNIC; n <= p.nics; n++ {
		ep, ok := p.st.FindTransportEndpoint(id.proto, tcp.ProtocolNumber, id.id, n).(*tcp.Endpoint)
		if !ok || c != nil && c.ep == ep || tcp.EndpointState(ep.State()) == tcp.StateListen || over(ep) {
			continue
		}
		c = &probed{ep: ep}
		p.conns[id] = c
		break
	}
	return c
}

// over says whether a connection will not change any more.
func over(ep *tcp.Endpoint) bool {
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
		return true
	}
	return false
}

// sample tells of a connection, which is locked, as is p.mu.
func (p *prober) sample(id probeID, c *probed) {
	f := p.f.Load()
	if f == nil {
		return
	}
	s := stack.TCPSample{
		Local:  netip.AddrPortFrom(toIP(unix.AF_UNSPEC, id.id.LocalAddress), id.id.LocalPort),
		Remote: netip.AddrPortFrom(toIP(unix.AF_UNSPEC, id.id.RemoteAddress), id.id.RemotePort),
	}
	switch st := tcp.EndpointState(c.ep.State()); {
	case st == tcp.StateTimeWait:
		c.state = tcpTimeWait
	case st == tcp.StateConnecting:
		c.state = tcpSynSent
	case st >= tcp.StateEstablished && st <= tcp.StateClosing:
		c.state = tcpState(st)
	default:
		c.state = tcpClose
	}
	s.State = uint8(c.state)
	if over(c.ep) {
		delete(p.conns, id)
	}
	if c.state != tcpClose {
		fillSample(&s, c.ep)
	}
	(*f)(s)
}

// sampleFields are the paths of the sender's fields; see tcpFields.
type sampleFields struct {
	sender                                  []int
	una, nxt, wnd, mss, cwnd, ssthresh, out []int
	state, rto, srtt, rttvar                []int
}

var findSampleFields = sync.OnceValue(func() *sampleFields {
	ep := reflect.TypeFor[tcp.Endpoint]()
	f := &sampleFields{sender: path(ep, "snd")}
	if f.sender == nil {
		return f
	}
	snd := ep.FieldByIndex(f.sender).Type.Elem()
	f.una, f.nxt, f.wnd = path(snd, "SndUna"), path(snd, "SndNxt"), path(snd, "SndWnd")
	f.mss, f.cwnd, f.ssthresh = path(snd, "MaxPayloadSize"), path(snd, "SndCwnd"), path(snd, "Ssthresh")
	f.out, f.state = path(snd, "Outstanding"), path(snd, "state")
	f.rto, f.srtt, f.rttvar = path(snd, "RTO"), path(snd, "rtt", "SRTT"), path(snd, "rtt", "RTTVar")
	return f
})

// fillSample reads the state of a connection that is locked: the sender is
// there from the end of the handshake. netstack counts cwnd, ssthresh and what is
// outstanding in segments of the largest size.
func fillSample(s *stack.TCPSample, ep *tcp.Endpoint) {
	f := findSampleFields()
	snd := field(reflect.ValueOf(ep).Elem(), f.sender)
	if !snd.IsValid() {
		return
	}
	mss := number(snd, f.mss)
	s.SndMSS = uint32(mss)
	s.SndCwnd = uint64(number(snd, f.cwnd) * mss)
	if t := number(snd, f.ssthresh); t < infiniteSsthresh {
		s.SndSsthresh = uint64(t * mss)
	}
	sent := uint64(uint32(number(snd, f.nxt)) - uint32(number(snd, f.una)))
	s.InFlight = min(uint64(max(number(snd, f.out), 0)*mss), sent)
	s.SndWnd = uint64(number(snd, f.wnd))
	s.RTT, s.RTTVar = time.Duration(number(snd, f.srtt)), time.Duration(number(snd, f.rttvar))
	s.RTO = time.Duration(number(snd, f.rto))
	s.CAState = caState(tcpip.CongestionControlState(number(snd, f.state)))
	if st, ok := ep.Stats().(*tcp.Stats); ok {
		s.TotalRetrans = st.SendErrors.Retransmits.Value()
		s.Timeouts = st.SendErrors.Timeouts.Value()
	}
}
