package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ParseSpec reads LISTEN,PEER...: where to listen, and where other members are,
// as HOST:PORT with a name or an address for HOST. Without a host, LISTEN is
// every address of the machine; without a port, or with port 0, any.
func ParseSpec(s string) (listen netip.AddrPort, peers []string, err error) {
	words := strings.Split(s, ",")
	if listen, err = parseListen(words[0]); err != nil {
		return listen, nil, err
	}
	for _, w := range words[1:] {
		host, port, err := net.SplitHostPort(w)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
			return listen, nil, fmt.Errorf("peer %q: want HOST:PORT", w)
		}
		peers = append(peers, w)
	}
	if len(peers) == 0 && listen.Port() == 0 {
		return listen, nil, errors.New("neither a port to listen on nor a peer: nobody can be met")
	}
	return listen, peers, nil
}

func parseListen(w string) (netip.AddrPort, error) {
	if w == "" {
		return netip.AddrPort{}, nil
	}
	host, port, err := net.SplitHostPort(w)
	n, perr := strconv.ParseUint(port, 10, 16)
	var a netip.Addr
	if host != "" && err == nil {
		a, err = netip.ParseAddr(host)
	}
	if err != nil || perr != nil {
		return netip.AddrPort{}, fmt.Errorf("listen on %q: want ADDR:PORT or :PORT", w)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// socket opens the socket: both families without an address, if the machine has
// both.
func socket(listen netip.AddrPort) (fd int, v6 bool, err error) {
	a := listen.Addr()
	v6 = !a.Is4()
	family := unix.AF_INET6
	if !v6 {
		family = unix.AF_INET
	}
	const kind = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err = unix.Socket(family, kind, 0)
	if err != nil && !a.IsValid() { // no IPv6 here
		v6 = false
		fd, err = unix.Socket(unix.AF_INET, kind, 0)
	}
	if err != nil {
		return -1, false, fmt.Errorf("socket: %w", err)
	}
	err = bind(fd, listen, v6)
	if err != nil && v6 && !a.IsValid() && !errors.Is(err, unix.EADDRINUSE) { // IPv6 is switched off
		_ = unix.Close(fd)
		return socket(netip.AddrPortFrom(netip.IPv4Unspecified(), listen.Port()))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, false, err
	}
	tune(fd, v6)
	return fd, v6, nil
}

func bind(fd int, listen netip.AddrPort, v6 bool) error {
	a := listen.Addr()
	var sa unix.Sockaddr
	if v6 {
		only := 0
		to := &unix.SockaddrInet6{Port: int(listen.Port())}
		if a.IsValid() {
			only = 1
			to.Addr = a.As16()
			to.ZoneId = scopeID(a.Zone())
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
		sa = to
	} else {
		to := &unix.SockaddrInet4{Port: int(listen.Port())}
		if a.IsValid() {
			to.Addr = a.As4()
		}
		sa = to
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("bind %s: %w", listen, err)
	}
	return nil
}

// tune asks for large buffers, for datagrams in one piece where the kernel can
// (UDP_GRO), and for fragments where the path is narrower than expected: all of
// it is only for speed, or the kernel's to refuse.
func tune(fd int, v6 bool) {
	for _, o := range []struct{ level, force, plain int }{
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF},
	} {
		if unix.SetsockoptInt(fd, o.level, o.force, sockbuf) != nil {
			_ = unix.SetsockoptInt(fd, o.level, o.plain, sockbuf) // capped by net.core.[rw]mem_max
		}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	if v6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT)
	}
}
