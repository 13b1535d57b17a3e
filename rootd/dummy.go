package rootd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
)

// noDummy is the dummy of a grant for which the kernel gave no socket: an echo
// identifier on a host that lets nobody have ping sockets
// (net.ipv4.ping_group_range), or a port that another program took while no
// daemon ran.
const noDummy = -1

// errLive is a port on which the kernel has connections.
var errLive = fmt.Errorf("the kernel has connections on it: %w", unix.EADDRINUSE)

// bindDummy binds a socket to g and returns it with its port. Where port 0 is
// asked for the kernel chooses one of its ephemeral range.
//
// The socket has no SO_REUSEADDR, so no other binding of the kernel can be
// beside it. own are dummies that may be: those at the same port of the same
// lease, since inside a lease the client's stack is the judge. They and the new
// one are given the option for the moment of the bind.
//
// With reuse, the port may also be one that the kernel has for connections in
// TIME_WAIT, as SO_REUSEADDR lets a program have it.
func bindDummy(g Grant, own []int, reuse bool) (fd int, port uint16, err error) {
	fd, err = dummySocket(g)
	if err != nil {
		return noDummy, 0, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			fd = noDummy
		}
	}()
	sa, err := sockaddr(g)
	if err != nil {
		return fd, 0, err
	}
	if err = bindBeside(fd, sa, own); err == unix.EADDRINUSE && reuse && g.Proto == proto.TCP {
		err = bindTimeWait(fd, sa, g, own)
	}
	if err != nil {
		return fd, 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fd, 0, err
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		port = uint16(name.Port)
	case *unix.SockaddrInet6:
		port = uint16(name.Port)
	}
	return fd, port, nil
}

func dummySocket(g Grant) (fd int, err error) {
	family, typ, num := unix.AF_INET, unix.SOCK_DGRAM, int(g.Proto)
	if g.Addr.Is6() {
		family = unix.AF_INET6
	}
	if g.Proto == proto.TCP {
		typ = unix.SOCK_STREAM
	}
	fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, num)
	if err != nil {
		return noDummy, err
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil && typ == unix.SOCK_DGRAM {
		// Nothing should come, and what comes is not read: the least that
		// the kernel allows.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return noDummy, err
	}
	return fd, nil
}

// sockaddr is the address to bind. A link-local address gets the interface
// that has it.
func sockaddr(g Grant) (unix.Sockaddr, error) {
	if g.Addr.Is4() {
		return &unix.SockaddrInet4{Port: int(g.Port), Addr: g.Addr.As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(g.Port), Addr: g.Addr.As16()}
	if g.Addr.IsLinkLocalUnicast() {
		index, err := interfaceOf(g.Addr)
		if err != nil {
			return nil, err
		}
		sa.ZoneId = uint32(index)
	}
	return sa, nil
}

func interfaceOf(a netip.Addr) (index int, err error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone meanwhile
		}
		for _, n := range addrs {
			if n, ok := n.(*net.IPNet); ok && n.IP.Equal(a.AsSlice()) {
				return i.Index, nil
			}
		}
	}
	return 0, unix.EADDRNOTAVAIL
}

// bindBeside binds fd where nobody is but own.
func bindBeside(fd int, sa unix.Sockaddr, own []int) error {
	if len(own) == 0 {
		return unix.Bind(fd, sa)
	}
	restore, err := letReuse(append([]int{fd}, own...))
	defer restore()
	if err != nil {
		return err
	}
	return unix.Bind(fd, sa)
}

// letReuse sets SO_REUSEADDR until restore is called.
func letReuse(fds []int) (restore func(), err error) {
	for _, fd := range fds {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	}
	return func() {
		for _, fd := range fds {
			// It cannot fail where it did not before.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
		}
	}, err
}

// bindTimeWait binds fd to a TCP port of which the kernel has connections in
// TIME_WAIT, and nothing else.
func bindTimeWait(fd int, sa unix.Sockaddr, g Grant, own []int) error {
	restore, err := letReuse(append([]int{fd}, own...))
	defer restore()
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	// SO_REUSEADDR admits beside connections that live, too; they stay the
	// kernel's, and with them the port.
	live, err := kernelFlows(g)
	if err != nil {
		return fmt.Errorf("look for connections: %w", err)
	}
	if live {
		return errLive
	}
	// A kernel may remember of a port that all its owners allow reuse, and
	// then not ask them (tb->fastreuse in inet_csk_get_port; 6.18 was seen to
	// ask nevertheless). Every kernel forgets it when one listens, which
	// leaves the port to this socket alone.
	if err := unix.Listen(fd, 0); err != nil {
		return err
	}
	// Shutting a listener down disconnects it and leaves it bound.
	return unix.Shutdown(fd, unix.SHUT_RD)
}

func closeFD(fd int) {
	if fd != noDummy {
		_ = unix.Close(fd)
	}
}
