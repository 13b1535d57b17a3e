package netstack

import (
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// hold is a port that the host has given, shared by all sockets that live on
// it: a listener and the connections that it accepted.
type hold struct {
	host  Host
	refs  atomic.Int32
	addr  netip.Addr
	port  uint16
	proto uint8
	dual  bool
}

// ref counts one more socket.
func (h *hold) ref() *hold {
	if h != nil {
		h.refs.Add(1)
	}
	return h
}

// drop counts one socket less; the last gives the port back.
func (h *hold) drop() {
	if h != nil && h.refs.Add(-1) == 0 {
		h.host.Release(h.proto, h.addr, h.dual, h.port)
	}
}

// maxTries bounds how many ephemeral ports are tried where the stack itself
// turns out to have the one that the host gave.
const maxTries = 16

// bindPort binds the netstack endpoint of the socket to a; if the addresses
// are shared with a host, to a port that the host gives, which s.hold then is.
// The error is EADDRINUSE where the port is taken, here or there.
func (s *sock) bindPort(a stack.Addr) stack.Errno {
	if s.engine.shared == nil || s.kind == kindRaw {
		return bindErrno(s.ep.Bind(s.full(a)))
	}
	for range maxTries {
		h, err := s.reserve(a)
		if err != 0 {
			return err
		}
		at := a
		at.Port = h.port
		if err = bindErrno(s.ep.Bind(s.full(at))); err == 0 {
			s.hold.drop()
			s.hold = h
			return 0
		}
		h.drop()
		if err != unix.EADDRINUSE || a.Port != 0 {
			return err
		}
	}
	return unix.EADDRINUSE
}

func bindErrno(err tcpip.Error) stack.Errno {
	if _, ok := err.(*tcpip.ErrNoPortAvailable); ok {
		return unix.EADDRINUSE
	}
	return errno(err)
}

// held is a with the port that the socket has.
func (s *sock) held(a stack.Addr) stack.Addr {
	if s.hold != nil {
		a.Port = s.hold.port
	}
	return a
}

// full gives the address to hand to netstack.
func (s *sock) full(a stack.Addr) tcpip.FullAddress {
	full := toFull(int(s.family), a)
	full.NIC = s.engine.nicID(uint32(full.NIC))
	return full
}

// reserve asks the host for the port of a bind to a.
func (s *sock) reserve(a stack.Addr) (*hold, stack.Errno) {
	h := &hold{host: s.engine.shared.host, proto: uint8(s.proto), addr: unmap(a.IP)}
	if !h.addr.IsValid() {
		h.addr = netip.IPv4Unspecified()
		if s.is6() {
			h.addr = netip.IPv6Unspecified()
		}
	}
	h.dual = h.addr == netip.IPv6Unspecified() && !s.v6only() && s.kind != kindPing
	port, err := h.host.Reserve(h.proto, h.addr, h.dual, a.Port, s.opts.get(optReuseAddr) != 0)
	if err != 0 {
		return nil, err
	}
	h.port = port
	return h.ref(), 0
}

// route prepares the way to an address: it answers ENETUNREACH and the like
// where a shared host has none. Where there is no host, netstack will say.
func (s *sock) route(dst netip.Addr) stack.Errno {
	if s.engine.shared == nil {
		return 0
	}
	_, err := s.engine.shared.ways.to(unmap(dst))
	return err
}

// findWay prepares the way of a datagram to an address. That to the peer of a
// connected socket was found with connect.
func (d *dgramSock) findWay(to *tcpip.FullAddress) stack.Errno {
	if d.engine.shared == nil || to == nil {
		return 0
	}
	return d.route(toIP(int(d.family), to.Addr))
}

// source is the address that a shared host sends from to dst, in the form of
// the socket's family.
func (s *sock) source(dst netip.Addr) (netip.Addr, stack.Errno) {
	src, err := s.engine.shared.ways.to(unmap(dst))
	if err == 0 && s.is6() && src.Is4() {
		src = netip.AddrFrom16(src.As16())
	}
	return src, err
}
