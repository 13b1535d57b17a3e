package host

import (
	"encoding/binary"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// foreign reports whether the value of an option names memory or descriptors
// of the process that makes the call, which here is not the traced program:
// packet filters (a pointer to code, or a BPF program's descriptor), the
// firewall's tables (whose requests point to counters), and TCP's zero-copy
// receive (addresses of the caller's mappings).
func foreign(level, name int) bool {
	switch level {
	case unix.SOL_SOCKET:
		switch name {
		case unix.SO_ATTACH_FILTER, unix.SO_ATTACH_BPF,
			unix.SO_ATTACH_REUSEPORT_CBPF, unix.SO_ATTACH_REUSEPORT_EBPF:
			return true
		}
	case unix.IPPROTO_IP:
		switch name &^ 3 {
		case 64, 96, 128: // IPT_BASE_CTL, ARPT_BASE_CTL, EBT_BASE_CTL
			return true
		}
	case unix.IPPROTO_IPV6:
		switch name {
		case 64, 65, 68, 69: // IP6T_BASE_CTL; IPV6_TCLASS and others are among them
			return true
		}
	case unix.IPPROTO_TCP:
		return name == unix.TCP_ZEROCOPY_RECEIVE
	}
	return false
}

// SetOption is setsockopt(2), with val as it is. Options whose value holds a
// pointer or a descriptor of the caller's process answer ENOPROTOOPT:
// SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF and _EBPF,
// TCP_ZEROCOPY_RECEIVE, and the requests of iptables.
func (e *Endpoint) SetOption(level, name int, val []byte) stack.Errno {
	if foreign(level, name) {
		return unix.ENOPROTOOPT
	}
	return e.do(func(fd int) stack.Errno { return sysSetsockopt(fd, level, name, val) })
}

// GetOption is getsockopt(2). What val holds is passed in, for the options that
// read it (MCAST_MSFILTER, TCP_AO_INFO). The options that SetOption refuses
// answer ENOPROTOOPT, except SO_GET_FILTER, which says that there is none.
func (e *Endpoint) GetOption(level, name int, val []byte) (int, stack.Errno) {
	if level == unix.SOL_SOCKET {
		switch name {
		case unix.SO_GET_FILTER: // the same number as SO_ATTACH_FILTER
			return 0, 0
		case unix.SO_ERROR:
			var b [4]byte
			binary.NativeEndian.PutUint32(b[:], uint32(e.TakeError()))
			return copy(val, b[:]), 0
		}
	}
	if foreign(level, name) {
		return 0, unix.ENOPROTOOPT
	}
	fd, ok := e.enter()
	if !ok {
		return 0, unix.EBADF
	}
	defer e.leave()
	return sysGetsockopt(fd, level, name, val)
}

// TakeError is SO_ERROR.
func (e *Endpoint) TakeError() stack.Errno {
	if errno := stack.Errno(e.pending.Swap(0)); errno != 0 {
		return errno
	}
	fd, ok := e.enter()
	if !ok {
		return unix.EBADF
	}
	defer e.leave()
	var b [4]byte
	if _, errno := sysGetsockopt(fd, unix.SOL_SOCKET, unix.SO_ERROR, b[:]); errno != 0 {
		return errno
	}
	return stack.Errno(binary.NativeEndian.Uint32(b[:]))
}

// getLinger and putLinger are SO_LINGER.
func getLinger(fd int) (unix.Linger, stack.Errno) {
	var b [8]byte
	_, errno := sysGetsockopt(fd, unix.SOL_SOCKET, unix.SO_LINGER, b[:])
	return unix.Linger{
		Onoff:  int32(binary.NativeEndian.Uint32(b[0:])),
		Linger: int32(binary.NativeEndian.Uint32(b[4:])),
	}, errno
}

func putLinger(fd int, l unix.Linger) {
	var b [8]byte
	binary.NativeEndian.PutUint32(b[0:], uint32(l.Onoff))
	binary.NativeEndian.PutUint32(b[4:], uint32(l.Linger))
	_ = sysSetsockopt(fd, unix.SOL_SOCKET, unix.SO_LINGER, b[:])
}
