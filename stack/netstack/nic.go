package netstack

import (
	"runtime"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/link"
)

// counters counts what passes a nic; only network-layer bytes count.
type counters struct {
	packetsIn, packetsOut, bytesIn, bytesOut atomic.Uint64
}

// nic makes a link.Link into netstack's LinkEndpoint.
type nic struct {
	link     link.Link
	ethernet bool
	features link.Features
	mac      tcpip.LinkAddress
	counters *counters
	acks     ackHold
	inStep   bool // Config.Lockstep
	lockstep *lockstepTCP
	probe    *prober
	// reopen is told of the SYNs that arrive; nil for none to be told.
	reopen func(tcpip.NetworkProtocolNumber, gstack.TransportEndpointID)

	// rxValid is what Capabilities says of received checksums. netstack asks
	// it once for every packet, from within deliver, so it may differ from
	// one packet to the next.
	rxValid atomic.Bool

	mtu        atomic.Uint32
	dispatcher atomic.Pointer[gstack.NetworkDispatcher]
	mu         sync.Mutex
	started    bool // guarded by mu
	closed     bool // guarded by mu
}

var _ gstack.LinkEndpoint = (*nic)(nil)

func newNIC(l link.Link, c *counters) *nic {
	n := &nic{
		link:     l,
		ethernet: l.Medium() == link.Ethernet,
		features: l.Features(),
		mac:      tcpip.LinkAddress(l.HardwareAddr()),
		counters: c,
	}
	n.mtu.Store(uint32(l.MTU()))
	return n
}

// headerLen is the length of the link header in bytes.
func (n *nic) headerLen() int {
	if n.ethernet {
		return header.EthernetMinimumSize
	}
	return 0
}

// MTU is the largest network-layer packet, in bytes.
func (n *nic) MTU() uint32 { return n.mtu.Load() }

// SetMTU changes the largest network-layer packet, in bytes.
func (n *nic) SetMTU(mtu uint32) { n.mtu.Store(mtu) }

// MaxHeaderLength is the length of the link header, in bytes.
func (n *nic) MaxHeaderLength() uint16 { return uint16(n.headerLen()) }

// LinkAddress is the hardware address, empty on an IP link.
func (n *nic) LinkAddress() tcpip.LinkAddress { return n.mac }

// SetLinkAddress does nothing: a link's address is the link's own.
func (n *nic) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.NetworkLinkEndpoint.
func (n *nic) Capabilities() gstack.LinkEndpointCapabilities {
	var c gstack.LinkEndpointCapabilities
	if n.ethernet {
		c |= gstack.CapabilityResolutionRequired
	}
	if n.rxValid.Load() {
		c |= gstack.CapabilityRXChecksumOffload
	}
	return c
}

// GSOMaxSize is the largest TCP packet to hand to WritePackets, in bytes.
func (n *nic) GSOMaxSize() uint32 {
	const most = 65535 - 256 // leaves room for all headers
	if n.features.TSO && n.features.GSOMax > 0 {
		return uint32(min(n.features.GSOMax, most))
	}
	return most
}

// SupportedGSO says who cuts large TCP packets: the link where it can, else
// netstack just above the nic, which still saves most of the work.
func (n *nic) SupportedGSO() gstack.SupportedGSO {
	if n.features.TSO {
		return gstack.HostGSOSupported
	}
	return gstack.GVisorGSOSupported
}

// Attach starts delivery; nil stops it.
func (n *nic) Attach(d gstack.NetworkDispatcher) {
	if d == nil {
		n.dispatcher.Store(nil)
		return
	}
	n.dispatcher.Store(&d)
}

// start begins delivery from the link, once netstack is ready for packets.
func (n *nic) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.started || n.closed {
		return nil
	}
	n.started = true
	return n.link.Start(n.receive)
}

// close closes the link.
func (n *nic) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	return n.link.Close()
}

// IsAttached implements stack.NetworkLinkEndpoint.
func (n *nic) IsAttached() bool { return n.dispatcher.Load() != nil }

// Wait implements stack.NetworkLinkEndpoint. The nic has no goroutines.
func (n *nic) Wait() {}

// ARPHardwareType is ARPHRD_ETHER or ARPHRD_NONE.
func (n *nic) ARPHardwareType() header.ARPHardwareType {
	if n.ethernet {
		return header.ARPHardwareEther
	}
	return header.ARPHardwareNone
}

// AddHeader puts the Ethernet header before an outgoing packet.
func (n *nic) AddHeader(pkt *gstack.PacketBuffer) {
	if !n.ethernet {
		return
	}
	eth := header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize))
	eth.Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader takes the Ethernet header off.
func (n *nic) ParseHeader(pkt *gstack.PacketBuffer) bool {
	if !n.ethernet {
		return true
	}
	_, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// Close implements stack.NetworkLinkEndpoint; the engine closes the link.
func (n *nic) Close() {}

// SetOnCloseAction implements stack.NetworkLinkEndpoint.
func (n *nic) SetOnCloseAction(func()) {}

// batch is scratch for WritePackets.
type batch struct {
	pkts []link.Packet
	bufs [][]byte
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// WritePackets hands packets to the link without copying them, bare
// acknowledgments perhaps a little later.
func (n *nic) WritePackets(list gstack.PacketBufferList) (int, tcpip.Error) {
	if n.inStep {
		return n.write(list)
	}
	before, kept := n.acks.keep(list)
	if kept {
		return list.Len(), nil
	}
	n.writeHeld(before)
	return n.write(list)
}

// writeHeld sends packets that were held, and lets go of them.
func (n *nic) writeHeld(list gstack.PacketBufferList) {
	if list.Len() > 0 {
		_, _ = n.write(list) // as if the network had lost them
		list.DecRef()
	}
}

func (n *nic) write(list gstack.PacketBufferList) (int, tcpip.Error) {
	b := batches.Get().(*batch)
	pkts := list.AsSlice()
	if n.probe.on() {
		n.probe.out(pkts)
	}
	bytes := 0
	for _, p := range pkts {
		first := len(b.bufs)
		b.bufs = appendSlices(b.bufs, p)
		b.pkts = append(b.pkts, link.Packet{
			Bufs:    b.bufs[first:len(b.bufs):len(b.bufs)],
			Offload: n.offload(p),
		})
		bytes += p.Size() - n.headerLen()
	}
	sent, err := n.link.Send(b.pkts)
	n.counters.packetsOut.Add(uint64(sent))
	if sent == len(pkts) {
		n.counters.bytesOut.Add(uint64(bytes))
	} else {
		for i := range sent {
			n.counters.bytesOut.Add(uint64(b.pkts[i].Len() - n.headerLen()))
		}
	}
	clear(b.pkts)
	clear(b.bufs)
	b.pkts, b.bufs = b.pkts[:0], b.bufs[:0]
	batches.Put(b)
	if err != nil && sent == 0 {
		return 0, &tcpip.ErrNoBufferSpace{}
	}
	return sent, nil
}

// appendSlices appends the memory of the packet, headers first.
func appendSlices(bufs [][]byte, p *gstack.PacketBuffer) [][]byte {
	views, skip := p.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		s := v.AsSlice()
		if skip >= len(s) {
			skip -= len(s)
			continue
		}
		bufs = append(bufs, s[skip:])
		skip = 0
	}
	return bufs
}

// offload gives the work that netstack left undone on an outgoing packet.
func (n *nic) offload(p *gstack.PacketBuffer) link.Offload {
	g := &p.GSOOptions
	if g.Type != gstack.GSOTCPv4 && g.Type != gstack.GSOTCPv6 || !g.NeedsCsum {
		return link.Offload{}
	}
	hdr := p.HeaderSize()
	o := link.Offload{
		NeedsCsum:  true,
		CsumStart:  uint16(hdr - len(p.TransportHeader().Slice())),
		CsumOffset: g.CsumOffset,
		HdrLen:     uint16(hdr),
	}
	if g.MSS != 0 && p.Data().Size() > int(g.MSS) {
		o.GSOSize = g.MSS
		o.GSO = link.GSOTCP4
		if g.Type == gstack.GSOTCPv6 {
			o.GSO = link.GSOTCP6
		}
	}
	return o
}

// receive delivers packets from the link. The link calls it from one
// goroutine at a time.
func (n *nic) receive(pkts []link.Packet) {
	d := n.dispatcher.Load()
	if d == nil {
		return
	}
	if n.inStep {
		for i := range pkts {
			n.deliver(*d, &pkts[i])
			n.lockstep.settle()
		}
		return
	}
	n.acks.begin()
	for i := range pkts {
		n.deliver(*d, &pkts[i])
	}
	runtime.Gosched() // the stack's goroutines, and those that they notify
	n.writeHeld(n.acks.end())
}

// deliver copies one packet into a buffer of netstack's and delivers it.
func (n *nic) deliver(d gstack.NetworkDispatcher, p *link.Packet) {
	size := p.Len()
	if size <= n.headerLen() {
		return
	}
	view := buffer.NewView(size)
	for _, b := range p.Bufs {
		_, _ = view.Write(b) // grows as needed, cannot fail
	}
	ip := view.AsSlice()[n.headerLen():]
	n.counters.packetsIn.Add(1)
	n.counters.bytesIn.Add(uint64(len(ip)))

	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
	defer pkt.DecRef()
	var proto tcpip.NetworkProtocolNumber
	if n.ethernet {
		hdr, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
		if !ok {
			return
		}
		eth := header.Ethernet(hdr)
		if pkt.PktType = n.packetType(eth.DestinationAddress()); pkt.PktType == tcpip.PacketOtherHost {
			return
		}
		proto = eth.Type()
	} else {
		switch ip[0] >> 4 {
		case 4:
			proto = header.IPv4ProtocolNumber
		case 6:
			proto = header.IPv6ProtocolNumber
		default:
			return
		}
	}
	if n.probe.on() {
		n.probe.in(ip)
	}
	n.rxValid.Store(p.CsumValid || p.NeedsCsum)
	if id, syn := synID(ip); syn && n.reopen != nil {
		n.reopen(proto, id)
	}
	d.DeliverNetworkPacket(proto, pkt)
}

// packetType says for whom a frame with the destination address is.
func (n *nic) packetType(dst tcpip.LinkAddress) tcpip.PacketType {
	switch {
	case dst == n.mac:
		return tcpip.PacketHost
	case dst == header.EthernetBroadcastAddress:
		return tcpip.PacketBroadcast
	case header.IsMulticastEthernetAddress(dst):
		return tcpip.PacketMulticast
	default:
		return tcpip.PacketOtherHost
	}
}
