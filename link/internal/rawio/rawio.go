// Package rawio is the system calls of links: vectored and batched reading and
// writing of descriptors without allocation, and the wait for more.
package rawio

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mmsghdr is struct mmsghdr of sendmmsg(2) and recvmmsg(2).
type Mmsghdr struct {
	Hdr unix.Msghdr
	Len uint32
	_   [4]byte
}

// Iovec is b as a struct iovec.
func Iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

// Read is read(2) of a non-blocking descriptor, again after EINTR; 0 is success.
// Go's scheduler is not told, which costs more than the call.
func Read(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e == 0 {
			return int(n), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// Writev is writev(2) to a non-blocking descriptor, as Read. iov is not empty.
func Writev(fd int, iov []unix.Iovec) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)))
		if e == 0 {
			return int(n), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// Sendmmsg is sendmmsg(2), again after EINTR. msgs is not empty.
func Sendmmsg(fd int, msgs []Mmsghdr, flags int) (int, unix.Errno) {
	return mmsg(unix.SYS_SENDMMSG, fd, msgs, flags)
}

// Recvmmsg is recvmmsg(2) without a time limit, again after EINTR. msgs is not
// empty.
func Recvmmsg(fd int, msgs []Mmsghdr, flags int) (int, unix.Errno) {
	return mmsg(unix.SYS_RECVMMSG, fd, msgs, flags)
}

func mmsg(call uintptr, fd int, msgs []Mmsghdr, flags int) (int, unix.Errno) {
	for {
		n, _, e := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))),
			uintptr(len(msgs)), uintptr(flags), 0, 0)
		if e == 0 {
			return int(n), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// Poll waits at most ms milliseconds (-1: for ever) and returns how many
// descriptors are ready; EINTR counts as none.
func Poll(fds []unix.PollFd, ms int) (int, error) {
	n, err := unix.Poll(fds, ms)
	if errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return n, err
}

// Events is epoll_wait(2) without waiting, as [Read].
func Events(epfd int, events []unix.EpollEvent) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		if e == 0 {
			return int(n), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}
