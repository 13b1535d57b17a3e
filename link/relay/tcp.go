package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// handleTCP gets the far stack's segments that belong to no endpoint. SYNs
// begin a flow; the far stack answers the rest with RST.
func (r *Relay) handleTCP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	if r.closed.Load() {
		return true
	}
	h := header.TCP(pkt.TransportHeader().Slice())
	if h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) != header.TCPFlagSyn {
		return false
	}
	_, again := r.syns.LoadOrStore(id, quoteOf(pkt))
	if !r.fwd.HandlePacket(id, pkt) {
		if !again {
			r.syns.Delete(id)
		}
		return false
	}
	return true
}

// serveTCP relays one flow of the near stack from SYN to end. The host's
// connection comes first, so that the near stack's connect succeeds or fails as
// the host's does.
func (r *Relay) serveTCP(req *tcp.ForwarderRequest) {
	id := req.ID()
	dst := netip.AddrPortFrom(netipAddr(id.LocalAddress), id.LocalPort)
	src := netip.AddrPortFrom(netipAddr(id.RemoteAddress), id.RemotePort)
	log := r.log.With("proto", "tcp", "near", src, "to", dst)

	r.stats.dialing.Add(1)
	conn, err := r.dialFor(dst)
	r.stats.dialing.Add(-1)
	if err != nil {
		log.Debug("relay: not connected", "err", err)
		r.stats.tcpFailed.Add(1)
		r.refuse(req, dst, err)
		r.syns.Delete(id)
		return
	}
	wq := new(waiter.Queue)
	ep, terr := req.CreateEndpoint(wq)
	req.Complete(false)
	r.syns.Delete(id)
	if terr != nil {
		// The near stack has given up meanwhile.
		log.Debug("relay: near stack gave up", "err", terr.String())
		r.stats.tcpFailed.Add(1)
		resetConn(conn)
		return
	}
	f := newTCPFlow(r, ep, wq, conn, log)
	if !r.addTCP(f, &r.stats.tcpOut) {
		return
	}
	f.run()
}

// dialFor connects the host to what dst stands for.
func (r *Relay) dialFor(dst netip.AddrPort) (*net.TCPConn, error) {
	to, kind := r.destination(dst)
	switch kind {
	case kindNothing:
		return nil, unix.EHOSTUNREACH
	case kindDNS:
		if dst.Port() != dnsPort {
			return nil, unix.ECONNREFUSED
		}
		return r.dialResolver()
	}
	c, err := dialTCP(r.ctx, to)
	if noDescriptors(err) && r.table.evict() {
		c, err = dialTCP(r.ctx, to)
	}
	return c, err
}

// dialTCP connects to a. Its error is the kernel's, or that of ctx.
func dialTCP(ctx context.Context, a netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1}
	network := "tcp6"
	if a.Addr().Is4() {
		network = "tcp4"
	}
	return d.DialTCP(ctx, network, netip.AddrPort{}, a)
}

// refuse tells the near stack why it has no connection: RST if refused, an ICMP
// error if unreachable, nothing if nobody answered or if this host lacks
// something just now, in which case the next SYN tries again.
func (r *Relay) refuse(req *tcp.ForwarderRequest, dst netip.AddrPort, err error) {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		req.Complete(false)
		return
	}
	switch errno {
	case unix.ECONNREFUSED, unix.ECONNRESET, unix.ECONNABORTED, unix.EPROTO:
		req.Complete(true)
		return
	case unix.ETIMEDOUT, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EAGAIN, unix.EADDRINUSE:
		req.Complete(false)
		return
	}
	q, _ := r.syns.Load(req.ID())
	req.Complete(false)
	if q, ok := q.(quote); ok {
		r.unreachable(dst.Addr(), q, errno)
	}
}

// addTCP enters a flow in the books, unless the relay has closed, in which case
// it ends the flow.
func (r *Relay) addTCP(f *tcpFlow, kind *counter) bool {
	r.mu.Lock()
	closed := r.closed.Load()
	if !closed {
		f.kind = kind
		kind.begin()
		r.tcps[f] = struct{}{}
	}
	r.mu.Unlock()
	if closed {
		f.finish()
		return false
	}
	return true
}

func (r *Relay) removeTCP(f *tcpFlow) {
	r.mu.Lock()
	_, had := r.tcps[f]
	delete(r.tcps, f)
	r.mu.Unlock()
	if had {
		f.kind.end()
	}
}

// resetConn closes a connection of the host with RST.
func resetConn(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
