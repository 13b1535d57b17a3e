package relay

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// handleEcho gets the near stack's ICMP messages. Echo requests to the world go
// through the host's ping sockets (icmp(7), ping_group_range); where this user
// may have none the near stack is told that the communication is prohibited.
// Those to the gateway and the resolver are answered here.
func (r *Relay) handleEcho(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	if r.closed.Load() {
		return true
	}
	h := pkt.TransportHeader().Slice()
	if len(h) < header.ICMPv4MinimumSize {
		return false
	}
	is4 := pkt.TransportProtocolNumber == header.ICMPv4ProtocolNumber
	if is4 && header.ICMPv4Type(h[0]) != header.ICMPv4Echo ||
		!is4 && header.ICMPv6Type(h[0]) != header.ICMPv6EchoRequest {
		return false
	}
	// Both ICMPs have identifier and sequence number at 4 and 6.
	ident := uint16(h[4])<<8 | uint16(h[5])
	key := flowKey{
		near: netip.AddrPortFrom(netipAddr(id.RemoteAddress), ident),
		far:  netip.AddrPortFrom(netipAddr(id.LocalAddress), 0),
		ping: true,
	}
	payload, ok := payloadOf(pkt)
	if !ok {
		return true
	}
	msg := append(append(make([]byte, 0, len(h)+len(payload)), h...), payload...)
	var qb [maxQuote]byte
	q := appendQuote(qb[:0], pkt)
	if f := r.table.get(key); f != nil {
		f.send(msg, q)
		return true
	}
	to, kind := r.destination(key.far)
	switch kind {
	case kindLocal, kindDNS:
		r.writeEchoReply(key, msg)
		return true
	case kindNothing:
		r.unreachable(key.far.Addr(), q, unix.EHOSTUNREACH)
		return true
	}
	proto := unix.IPPROTO_ICMPV6
	if is4 {
		proto = unix.IPPROTO_ICMP
	}
	fd, err := r.openSocket(to, proto)
	if err != nil {
		r.datagramError(key, q, err)
		return true
	}
	if f := r.newDgramFlow(key, fd, min(defaultPingTimeout, r.cfg.UDPTimeout), &r.stats.ping, r.writeEchoReply); f != nil {
		f.send(msg, q)
	}
	return true
}

// writeEchoReply sends msg, which is changed, to the near stack as the answer to
// its echo request: with the identifier that the near stack chose, since the
// host's ping socket has one of its own.
func (r *Relay) writeEchoReply(k flowKey, msg []byte) {
	if len(msg) < header.ICMPv4MinimumSize {
		return
	}
	msg[0] = byte(header.ICMPv4EchoReply)
	if k.far.Addr().Is6() {
		msg[0] = byte(header.ICMPv6EchoReply)
	}
	msg[1] = 0
	msg[4], msg[5] = byte(k.near.Port()>>8), byte(k.near.Port())
	r.writeICMP(k.far.Addr(), tcpipAddr(k.near.Addr()), msg)
}
