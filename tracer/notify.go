package tracer

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctls of the seccomp listener (seccomp_unotify(2), linux/seccomp.h).
const (
	ioctlNotifRecv    = 0xc0502100
	ioctlNotifSend    = 0xc0182101
	ioctlNotifIDValid = 0x40082102
	ioctlNotifAddFD   = 0x40182103
)

const (
	flagContinue  = 1      // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	addfdSetFD    = 1 << 0 // SECCOMP_ADDFD_FLAG_SETFD
	addfdFlagSend = 1 << 1 // SECCOMP_ADDFD_FLAG_SEND
)

// notification is struct seccomp_notif.
type notification struct {
	id    uint64
	tid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// addfd is struct seccomp_notif_addfd.
type addfd struct {
	id         uint64
	flags      uint32
	srcfd      uint32
	newfd      uint32
	newfdFlags uint32
}

// serve answers notifications until the last traced process has ended. There is
// one such goroutine: calls are answered in the order in which they come, so
// that nothing is still to be written for a call that a signal interrupted when
// its thread makes the next.
func (t *Tracer) serve() error {
	for {
		var e unix.Errno
		var n notification
		t.lot.Wait(func() bool {
			if e = t.receive(&n); e == unix.EAGAIN {
				n = notification{}
				return false
			}
			return true
		})
		switch e {
		case 0:
			c := call{t: t, notification: n, start: time.Now()}
			c.serve()
		case unix.EINTR, unix.ENOENT: // the caller died before its call was taken
		case unix.EPIPE:
			return nil
		default:
			return fmt.Errorf("receive notification: %w", e)
		}
	}
}

// receive takes the next notification: EAGAIN if there is none, EPIPE when the
// last process under the filter has ended.
func (t *Tracer) receive(n *notification) unix.Errno {
	p := pollFd{fd: int32(t.listener), events: unix.POLLIN}
	ready, _, e := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&zeroTimespec)), 0, 0, 0)
	switch {
	case e != 0:
		return e
	case ready == 0:
		return unix.EAGAIN
	case p.revents&unix.POLLIN == 0:
		return unix.EPIPE
	}
	_, _, e = unix.Syscall(unix.SYS_IOCTL, uintptr(t.listener), ioctlNotifRecv, uintptr(unsafe.Pointer(n)))
	return e
}

// pollFd is struct pollfd.
type pollFd struct {
	fd              int32
	events, revents int16
}

var zeroTimespec unix.Timespec

// blockSignals blocks every signal on the calling thread; the old mask goes to
// old if it is not nil.
func blockSignals(old *unix.Sigset_t) error {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	return unix.PthreadSigmask(unix.SIG_BLOCK, &all, old)
}

// answer sends what the call returns. ENOENT says that nobody waits for it any
// more: the thread was killed, or a signal interrupted its call.
func (t *Tracer) answer(r *response) unix.Errno {
	for {
		_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(t.listener), ioctlNotifSend, uintptr(unsafe.Pointer(r)))
		if e != unix.EINTR {
			return e
		}
	}
}

// waits tells whether the call with this id still waits for its answer.
func (t *Tracer) waits(id uint64) bool {
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(t.listener), ioctlNotifIDValid, uintptr(unsafe.Pointer(&id)))
	return e == 0
}

// addFD gives the calling process a duplicate of a descriptor, and with
// addfdFlagSend makes its number the call's result, in one step. It may be
// called on any thread.
func (t *Tracer) addFD(a *addfd) (int, unix.Errno) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old unix.Sigset_t
	if err := blockSignals(&old); err != nil {
		return 0, unix.ENOMEM
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	for {
		n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(t.listener), ioctlNotifAddFD, uintptr(unsafe.Pointer(a)))
		if e != unix.EINTR {
			return int(n), e
		}
	}
}
