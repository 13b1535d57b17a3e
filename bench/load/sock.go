package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below enter the kernel as a C program would: the thread blocks in
// the call, and Go's scheduler and poller have no part in it. So what is timed
// is the socket, not the language.

// call is a system call that is made again after EINTR. What the pointers among
// its arguments point at is kept in place until it returns.
//
//go:uintptrescapes
func call(trap, a, b, c, d, e, f uintptr) (int, error) {
	for {
		r, _, errno := unix.RawSyscall6(trap, a, b, c, d, e, f)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// sockaddr is a struct sockaddr_in.
type sockaddr [16]byte

// parseAddr makes a sockaddr of "10.0.0.1:80".
func parseAddr(s string) (*sockaddr, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	if !ap.Addr().Is4() {
		return nil, fmt.Errorf("address %s: not IPv4", s)
	}
	sa := new(sockaddr)
	binary.NativeEndian.PutUint16(sa[0:], unix.AF_INET)
	binary.BigEndian.PutUint16(sa[2:], ap.Port())
	ip := ap.Addr().As4()
	copy(sa[4:], ip[:])
	return sa, nil
}

func socket(typ int) (int, error) {
	return call(unix.SYS_SOCKET, unix.AF_INET, uintptr(typ|unix.SOCK_CLOEXEC), 0, 0, 0, 0)
}

func setInt(fd, level, name, v int) error {
	x := int32(v)
	_, err := call(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&x)), 4, 0)
	return err
}

func connect(fd int, sa *sockaddr) error {
	_, err := call(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(sa)), unsafe.Sizeof(*sa), 0, 0, 0)
	return err
}

func bind(fd int, sa *sockaddr) error {
	_, err := call(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(sa)), unsafe.Sizeof(*sa), 0, 0, 0)
	return err
}

func accept(fd int) (int, error) {
	return call(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
}

func closeFD(fd int) { _, _ = call(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0) }

func read(fd int, b []byte) (int, error) {
	return call(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
}

func write(fd int, b []byte) (int, error) {
	return call(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
}

// sendto sends one datagram, to the connected peer if sa is nil.
func sendto(fd int, b []byte, sa *sockaddr) (int, error) {
	n := unsafe.Sizeof(*sa)
	if sa == nil {
		n = 0
	}
	return call(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(sa)), n)
}

// recvfrom receives one datagram; its source is stored in sa unless sa is nil.
func recvfrom(fd int, b []byte, sa *sockaddr) (int, error) {
	if sa == nil {
		return call(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	}
	n := uint32(unsafe.Sizeof(*sa))
	return call(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(sa)), uintptr(unsafe.Pointer(&n)))
}

// listenTCP listens on addr.
func listenTCP(addr string, backlog int) (int, error) {
	sa, err := parseAddr(addr)
	if err != nil {
		return -1, err
	}
	fd, err := socket(unix.SOCK_STREAM)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if err := bind(fd, sa); err != nil {
		return -1, fmt.Errorf("bind %s: %w", addr, err)
	}
	if _, err := call(unix.SYS_LISTEN, uintptr(fd), uintptr(backlog), 0, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return fd, nil
}

// dialTCP connects to sa.
func dialTCP(sa *sockaddr) (int, error) {
	fd, err := socket(unix.SOCK_STREAM)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := connect(fd, sa); err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// open is the one connection of a load that has one: accepted if the options
// say listen, connected if they say connect.
func (o *options) open() (int, error) {
	if o.connect != "" {
		sa, err := parseAddr(o.connect)
		if err != nil {
			return -1, err
		}
		return dialTCP(sa)
	}
	l, err := listenTCP(o.listen, 16)
	if err != nil {
		return -1, err
	}
	ready()
	fd, err := accept(l)
	if err != nil {
		return -1, fmt.Errorf("accept on %s: %w", o.listen, err)
	}
	closeFD(l)
	return fd, nil
}

// readByte reads one byte; io.EOF at the end of the stream.
func readByte(fd int, b []byte) error {
	n, err := read(fd, b[:1])
	if err == nil && n == 0 {
		return io.EOF
	}
	return err
}

// refused says that an earlier datagram found no socket: the error of that
// one, reported on a later call (udp(7)).
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
