package agent

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls, made without telling Go's scheduler: there is one thread that
// does anything, and to tell would cost more calls than are made.

func epollWait(fd int, events []unix.EpollEvent, msec int) (int, uintptr, unix.Errno) {
	n, r, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(msec), 0, 0)
	return int(n), r, errno
}

func sysRead(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func sysWrite(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func sysRecv(fd int, b []byte, flags int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags)|unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func sysSend(fd int, b []byte, flags int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags)|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// call is any short system call with up to five arguments.
func call(trap uintptr, args ...uintptr) (int, unix.Errno) {
	var x [6]uintptr
	copy(x[:], args)
	n, _, errno := unix.RawSyscall6(trap, x[0], x[1], x[2], x[3], x[4], x[5])
	return int(n), errno
}

func pointer(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// sysPoll is poll(2) of one descriptor, now.
func sysPoll(fd int) uint32 {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT | unix.POLLPRI | unix.POLLRDHUP}
	var now unix.Timespec
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if errno != 0 {
		return unix.POLLERR
	}
	return uint32(uint16(p.Revents))
}

func ioctlInt(fd int, req uintptr) uint32 {
	var v int32
	_, _, _ = unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&v)))
	return uint32(v)
}

// pause gives the processor away.
func pause() {
	t := unix.Timespec{Nsec: 20_000}
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// sysSendmsg sends one message.
func sysSendmsg(fd int, sa, control, data []byte, flags int) (int, unix.Errno) {
	var msg unix.Msghdr
	iov := unix.Iovec{Base: unsafe.SliceData(data), Len: uint64(len(data))}
	msg.Iov = &iov
	msg.Iovlen = 1
	if len(control) > 0 {
		msg.Control = &control[0]
		msg.Controllen = uint64(len(control))
	}
	if len(sa) > 0 {
		msg.Name = &sa[0]
		msg.Namelen = uint32(len(sa))
	}
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), uintptr(flags)|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	return int(n), errno
}

// Room in scratch for a message: its address, its control data, its data.
const (
	nameRoom    = 128
	controlRoom = 10 << 10
)

// sysRecvmsg receives one message into b, which has all of the parts.
func sysRecvmsg(fd int, b []byte, flags int) (name, control, data []byte, got int, errno unix.Errno) {
	var msg unix.Msghdr
	name, control, data = b[:nameRoom], b[nameRoom:nameRoom+controlRoom], b[nameRoom+controlRoom:]
	iov := unix.Iovec{Base: &data[0], Len: uint64(len(data))}
	msg.Iov = &iov
	msg.Iovlen = 1
	msg.Name, msg.Namelen = &name[0], nameRoom
	msg.Control, msg.Controllen = &control[0], controlRoom
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), uintptr(flags)|unix.MSG_DONTWAIT)
	if errno != 0 {
		return nil, nil, nil, 0, errno
	}
	return name[:min(msg.Namelen, nameRoom)], control[:msg.Controllen], data[:n], int(msg.Flags), 0
}
