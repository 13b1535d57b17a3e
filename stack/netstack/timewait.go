package netstack

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A peer that uses a port again while the connection that it had from there is
// in TIME_WAIT here begins a new one. netstack lets it if the new sequence
// number is above the old one's, and is silent otherwise, until TIME_WAIT is
// over. Two stacks of one address number their connections independently, so
// half of such attempts would time out. Linux answers with an acknowledgment,
// which the peer resets, and the SYN that it sends again, a second later, is
// accepted (tcp_timewait_state_process, net.ipv4.tcp_rfc1337 = 0). Here the old
// connection ends soon after the first SYN, with a reset that means nothing to
// a peer in SYN_SENT, and the second SYN is accepted as well.

const (
	// reopenAfter is when a SYN has been accepted if it is acceptable.
	reopenAfter = 50 * time.Millisecond
	// maxReopen bounds how many SYNs are looked after at once.
	maxReopen = 256
)

// reopener ends the connections in TIME_WAIT whose peers begin again.
type reopener struct {
	st      *gstack.Stack
	nic     tcpip.NICID
	pending atomic.Int32
}

// begun takes note of a SYN that arrives, if it is for a
// connection in TIME_WAIT.
func (r *reopener) begun(proto tcpip.NetworkProtocolNumber, id gstack.TransportEndpointID) {
	ep := r.waiting(proto, id)
	if ep == nil {
		return
	}
	if r.pending.Add(1) > maxReopen {
		r.pending.Add(-1)
		return
	}
	r.st.Clock().AfterFunc(reopenAfter, func() {
		defer r.pending.Add(-1)
		if r.waiting(proto, id) == ep {
			ep.Abort()
		}
	})
}

// waiting is the connection, nil if it is not in TIME_WAIT.
func (r *reopener) waiting(proto tcpip.NetworkProtocolNumber, id gstack.TransportEndpointID) *tcp.Endpoint {
	ep, ok := r.st.FindTransportEndpoint(proto, tcp.ProtocolNumber, id, r.nic).(*tcp.Endpoint)
	if !ok || ep.EndpointState() != tcp.StateTimeWait {
		return nil
	}
	return ep
}

// synID is the connection that an IP packet begins, as the receiver has it; ok
// is false for all but TCP's SYNs.
func synID(ip []byte) (id gstack.TransportEndpointID, ok bool) {
	if len(ip) < header.IPv4MinimumSize {
		return id, false
	}
	hl, v4 := header.IPv6MinimumSize, ip[0]>>4 == 4
	if v4 {
		const fragment = 0x3fff // more fragments, or not the first
		hl = int(ip[0]&15) * 4
		if ip[9] != uint8(tcp.ProtocolNumber) || hl < header.IPv4MinimumSize || binary.BigEndian.Uint16(ip[6:])&fragment != 0 {
			return id, false
		}
	} else if len(ip) < hl || ip[6] != uint8(tcp.ProtocolNumber) {
		return id, false
	}
	if len(ip) < hl+header.TCPMinimumSize {
		return id, false
	}
	seg := header.TCP(ip[hl:])
	if seg.Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) != header.TCPFlagSyn {
		return id, false
	}
	id.RemotePort, id.LocalPort = seg.SourcePort(), seg.DestinationPort()
	if v4 {
		id.RemoteAddress, id.LocalAddress = header.IPv4(ip).SourceAddress(), header.IPv4(ip).DestinationAddress()
	} else {
		id.RemoteAddress, id.LocalAddress = header.IPv6(ip).SourceAddress(), header.IPv6(ip).DestinationAddress()
	}
	return id, true
}
