package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// nearConnect bounds how long the near stack may take to accept a published
// connection. It is in this process: only a full backlog makes it wait at all.
const nearConnect = 30 * time.Second

// bindPublished binds the published ports, all or none.
func (r *Relay) bindPublished() error {
	for i, p := range r.cfg.Publish {
		if err := r.bindOne(&r.cfg.Publish[i]); err != nil {
			r.closePublished()
			return fmt.Errorf("publish %v/%s: %w", p.Host, p.Proto, err)
		}
	}
	return nil
}

// bindOne binds p, and writes the port into it that the kernel has chosen.
func (r *Relay) bindOne(p *Publish) error {
	if !p.Host.Addr().IsValid() || p.Port == 0 {
		return errors.New("needs a host address and a port")
	}
	v := "6"
	if p.Host.Addr().Is4() {
		v = "4"
	}
	switch p.Proto {
	case "tcp":
		l, err := net.ListenTCP("tcp"+v, net.TCPAddrFromAddrPort(p.Host))
		if err != nil {
			return bindError(err)
		}
		p.Host = l.Addr().(*net.TCPAddr).AddrPort()
		r.listeners = append(r.listeners, l)
	case "udp":
		c, err := net.ListenUDP("udp"+v, net.UDPAddrFromAddrPort(p.Host))
		if err != nil {
			return bindError(err)
		}
		p.Host = c.LocalAddr().(*net.UDPAddr).AddrPort()
		pub, err := newUDPPublish(r, c, p.Port)
		if err != nil {
			_ = c.Close()
			return bindError(err)
		}
		r.udpPubs = append(r.udpPubs, pub)
	default:
		return fmt.Errorf("protocol %q is neither tcp nor udp", p.Proto)
	}
	return nil
}

// bindError strips what the caller says already from an error of net.
func bindError(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// Published lists the published ports, with those that the kernel chose.
func (r *Relay) Published() []Publish { return append([]Publish(nil), r.cfg.Publish...) }

func (r *Relay) servePublished() {
	i := 0
	for _, p := range r.cfg.Publish {
		if p.Proto != "tcp" {
			continue
		}
		l, port := r.listeners[i], p.Port
		i++
		r.goRun(func() { r.accept(l, port) })
	}
	for _, p := range r.udpPubs {
		r.goRun(p.receive)
	}
}

func (r *Relay) closePublished() {
	for _, l := range r.listeners {
		_ = l.Close()
	}
	for _, p := range r.udpPubs {
		_ = p.conn.Close()
	}
}

// accept takes the host's clients until the listener is closed.
func (r *Relay) accept(l *net.TCPListener, port uint16) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			go r.publishTCP(c, port)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// No descriptors, or a client that has gone: neither ends the service.
			r.log.Debug("relay: accept", "err", err)
			select {
			case <-r.ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// publishTCP joins a client of the host to a server of the near stack.
func (r *Relay) publishTCP(c *net.TCPConn, port uint16) {
	peer := netip.AddrPort{}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		peer = a.AddrPort()
	}
	near, gw := r.nearFor(peer.Addr(), port)
	log := r.log.With("proto", "tcp", "from", peer, "near", near)
	wq := new(waiter.Queue)
	ep, err := r.connectNear(wq, near, gw)
	if err != nil {
		log.Debug("relay: near stack does not accept", "err", err)
		r.stats.tcpFailed.Add(1)
		resetConn(c)
		return
	}
	f := newTCPFlow(r, ep, wq, c, log)
	if r.addTCP(f, &r.stats.tcpIn) {
		f.run()
	}
}

// nearFor is the near stack's address, and the gateway's, for a peer of the host.
func (r *Relay) nearFor(peer netip.Addr, port uint16) (netip.AddrPort, netip.Addr) {
	if peer.Unmap().Is4() {
		return netip.AddrPortFrom(r.cfg.Near4.Addr(), port), r.cfg.Gateway4
	}
	return netip.AddrPortFrom(r.cfg.Near6.Addr(), port), r.cfg.Gateway6
}

// connectNear connects the gateway to the near stack.
func (r *Relay) connectNear(wq *waiter.Queue, to netip.AddrPort, from netip.Addr) (tcpip.Endpoint, error) {
	ep, terr := r.far.NewEndpoint(tcp.ProtocolNumber, protoOf(from), wq)
	if terr != nil {
		return nil, errors.New(terr.String())
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	terr = ep.Bind(tcpip.FullAddress{NIC: farNIC, Addr: tcpipAddr(from)})
	if terr == nil {
		terr = ep.Connect(tcpip.FullAddress{NIC: farNIC, Addr: tcpipAddr(to.Addr()), Port: to.Port()})
	}
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		t := time.NewTimer(nearConnect)
		defer t.Stop()
		select {
		case <-ready:
			terr = ep.LastError()
		case <-t.C:
			terr = &tcpip.ErrTimeout{}
		case <-r.ctx.Done():
			terr = &tcpip.ErrAborted{}
		}
	}
	if terr != nil {
		ep.Abort()
		ep.Close()
		return nil, errors.New(terr.String())
	}
	return ep, nil
}
