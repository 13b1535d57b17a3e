package netstack

import (
	"math"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack"
)

// sendFrom sends an IPv4 datagram from the source that IP_PKTINFO names.
// netstack chooses the source by the route alone, so the datagram is made here
// and given to the route. A source that is not the stack's is EINVAL.
func (d *dgramSock) sendFrom(data []byte, to *tcpip.FullAddress, c *sendControl) stack.Errno {
	if d.kind == kindPing || d.kind == kindRaw && d.opts.get(optHdrIncl) != 0 {
		plain := *c
		plain.source = unspecified
		return d.send(data, to, &plain)
	}
	src, dst, port := unmap(c.source), unmap(d.peer.IP), d.peer.Port
	nic := c.nic
	if to != nil {
		dst, port = unmap(toIP(int(d.family), to.Addr)), to.Port
		if nic == 0 {
			nic = to.NIC
		}
	}
	if !d.engine.isLocal(src) {
		return unix.EINVAL
	}
	if d.kind == kindUDP && !d.isBound() {
		if err := d.ep.Bind(tcpip.FullAddress{}); err != nil {
			return errno(err)
		}
		d.autobound = true
		d.syncErrQueue()
	}
	r, err := d.engine.st.FindRoute(nic, fromIP(src), fromIP(dst), ipv4Number, d.opts.get(optMulticastLoop) != 0)
	if err != nil {
		return errno(err)
	}
	defer r.Release()
	if r.IsOutboundBroadcast() && d.opts.get(optBroadcast) == 0 {
		return unix.EACCES
	}
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithView(buffer.NewViewWithData(data)),
	})
	defer pkt.DecRef()
	if d.kind == kindUDP {
		d.pushUDP(pkt, r, d.local().Port, port)
	}
	return errno(r.WritePacket(d.headerParams(c, dst.IsMulticast()), pkt))
}

// pushUDP puts the UDP header before the data.
func (d *dgramSock) pushUDP(pkt *gstack.PacketBuffer, r *gstack.Route, from, to uint16) {
	udp := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	length := uint16(pkt.Size())
	udp.Encode(&header.UDPFields{SrcPort: from, DstPort: to, Length: length})
	if !r.RequiresTXTransportChecksum() || d.opts.get(optNoCheck) != 0 {
		return
	}
	sum := udp.CalculateChecksum(checksum.Combine(
		r.PseudoHeaderChecksum(header.UDPProtocolNumber, length), pkt.Data().Checksum()))
	if sum != math.MaxUint16 { // 0 would mean that there is no checksum (RFC 768)
		sum = ^sum
	}
	udp.SetChecksum(sum)
}

// headerParams are the fields of the IP header by the socket's options and
// what the message overrides.
func (d *dgramSock) headerParams(c *sendControl, multicast bool) gstack.NetworkHeaderParams {
	const defaultTTL = 64
	p := gstack.NetworkHeaderParams{
		Protocol: tcpip.TransportProtocolNumber(d.proto),
		TOS:      uint8(d.opts.get(optTOS)),
		TTL:      defaultTTL,
		DF:       strategy(d.opts.get(optMTUDiscover)) != tcpip.PMTUDiscoveryDont,
	}
	switch ttl := d.opts.get(optTTL); {
	case c.messages.HasTTL:
		p.TTL = c.messages.TTL
	case multicast:
		p.TTL = uint8(d.opts.get(optMulticastTTL))
	case ttl > 0:
		p.TTL = uint8(ttl)
	}
	if c.hasTOS {
		p.TOS = c.tos
	}
	return p
}
