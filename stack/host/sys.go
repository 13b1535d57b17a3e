package host

import (
	"unsafe"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/internal/sockaddr"
	"golang.org/x/sys/unix"
)

// This file is the only one of the package that makes system calls by number.
// None of them blocks: every socket is non-blocking. The short ones are made
// without telling the scheduler (RawSyscall).

// retry makes a call again for as long as it answers EINTR.
func retry(call func() (uintptr, unix.Errno)) (int, stack.Errno) {
	for {
		n, errno := call()
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

func sysSocket(family, typ, proto int) (int, stack.Errno) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), uintptr(typ), uintptr(proto))
	return int(fd), errno
}

func sysClose(fd int) {
	_, _, _ = unix.Syscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

func sysBind(fd int, sa *sockaddr.Sockaddr) stack.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa.Raw)), uintptr(sa.Len))
	return errno
}

func sysConnect(fd int, sa *sockaddr.Sockaddr) stack.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa.Raw)), uintptr(sa.Len))
		if errno != unix.EINTR {
			return errno
		}
	}
}

func sysListen(fd, backlog int) stack.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_LISTEN, uintptr(fd), uintptr(int32(backlog)), 0)
	return errno
}

func sysAccept(fd int) (int, stack.Errno) {
	return retry(func() (uintptr, unix.Errno) {
		n, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		return n, errno
	})
}

func sysShutdown(fd, how int) stack.Errno {
	_, _, errno := unix.Syscall(unix.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0)
	return errno
}

// sysName is getsockname(2) or getpeername(2), as trap says.
func sysName(trap uintptr, fd int) (sockaddr.Sockaddr, stack.Errno) {
	var sa sockaddr.Sockaddr
	sa.Len = uint32(unsafe.Sizeof(sa.Raw))
	_, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&sa.Raw)), uintptr(unsafe.Pointer(&sa.Len)))
	return sa, errno
}

// sysSetsockopt passes val as it is; a nil val is a null pointer.
func sysSetsockopt(fd, level, name int, val []byte) stack.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(unsafe.SliceData(val))), uintptr(len(val)), 0)
	return errno
}

func sysGetsockopt(fd, level, name int, val []byte) (int, stack.Errno) {
	var none byte
	n := int32(len(val))
	p := &none
	if n > 0 {
		p = &val[0]
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, errno
	}
	return min(int(n), len(val)), 0
}

// sysPoll is poll(2) of one descriptor with no wait.
func sysPoll(fd int, events int16) (uint32, stack.Errno) {
	p := unix.PollFd{Fd: int32(fd), Events: events}
	var zero unix.Timespec
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1,
			uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		return uint32(uint16(p.Revents)), errno
	}
}

// sysIoctlInt is an ioctl(2) that fills an int.
func sysIoctlInt(fd int, req uintptr) (int, stack.Errno) {
	var v int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&v)))
	return int(v), errno
}

// sysRead reads a stream; 0 is its end.
func sysRead(fd int, b []byte) (int, stack.Errno) {
	return retry(func() (uintptr, unix.Errno) {
		n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		return n, errno
	})
}

// sysWrite sends on a stream, without SIGPIPE.
func sysWrite(fd int, b []byte) (int, stack.Errno) {
	return retry(func() (uintptr, unix.Errno) {
		n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		return n, errno
	})
}

// sysSendmsg sends one message; sa and control may be nil.
func sysSendmsg(fd int, data, control []byte, sa *sockaddr.Sockaddr, flags int) (int, stack.Errno) {
	var (
		iov unix.Iovec
		msg unix.Msghdr
	)
	if len(data) > 0 {
		iov.Base = &data[0]
		iov.SetLen(len(data))
	}
	msg.Iov = &iov
	msg.SetIovlen(1)
	if len(control) > 0 {
		msg.Control = &control[0]
		msg.SetControllen(len(control))
	}
	if sa != nil {
		msg.Name = (*byte)(unsafe.Pointer(&sa.Raw))
		msg.Namelen = sa.Len
	}
	return retry(func() (uintptr, unix.Errno) {
		n, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), uintptr(flags))
		return n, errno
	})
}

// received is what recvmsg(2) says beside the data.
type received struct {
	n, control, flags int
	from              sockaddr.Sockaddr // from.Len is 0 if there is no address
}

// sysRecvmsg receives one message into data and control.
func sysRecvmsg(fd int, data, control []byte, flags int) (received, stack.Errno) {
	var (
		iov unix.Iovec
		msg unix.Msghdr
		got received
	)
	iov.Base = unsafe.SliceData(data)
	iov.SetLen(len(data))
	msg.Iov = &iov
	msg.SetIovlen(1)
	var errno stack.Errno
	got.n, errno = retry(func() (uintptr, unix.Errno) {
		msg.Control = unsafe.SliceData(control)
		msg.SetControllen(len(control))
		msg.Name = (*byte)(unsafe.Pointer(&got.from.Raw))
		msg.Namelen = uint32(unsafe.Sizeof(got.from.Raw))
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), uintptr(flags))
		return n, errno
	})
	got.control = int(msg.Controllen)
	got.flags = int(msg.Flags)
	got.from.Len = msg.Namelen
	return got, errno
}
