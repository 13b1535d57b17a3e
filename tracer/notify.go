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

// serve answers notifications until the last traced process has ended. It owns
// its thread, on which all signals are blocked: one of Go's own preemption
// signals in the middle of an ioctl would make the kernel give up half-way.
func (t *Tracer) serve(worker int) error {
	runtime.LockOSThread()
	if err := blockSignals(nil); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	for {
		var n notification
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(t.listener), ioctlNotifRecv, uintptr(unsafe.Pointer(&n)))
		switch e {
		case 0:
			own := &t.serving[worker]
			own.id.Store(n.id)
			own.tid.Store(n.tid)
			t.awaitTurn(worker, &n)
			c := call{t: t, notification: n, start: time.Now()}
			c.serve()
			own.tid.Store(0)
		case unix.EINTR:
		case unix.ENOENT:
			// The caller died before its call was taken; or all are gone.
			if t.hungUp() {
				return nil
			}
		default:
			return fmt.Errorf("receive notification: %w", e)
		}
	}
}

// awaitTurn waits while another worker still answers an earlier call of the
// same thread, which a signal has interrupted: what that one writes to the
// program's memory must not come after this call's answer.
func (t *Tracer) awaitTurn(worker int, n *notification) {
	for i := range t.serving {
		other := &t.serving[i]
		for i != worker && other.tid.Load() == n.tid && other.id.Load() < n.id {
			runtime.Gosched()
		}
	}
}

func (t *Tracer) hungUp() bool {
	p := []unix.PollFd{{Fd: int32(t.listener), Events: unix.POLLIN}}
	unix.Poll(p, 0)
	return p[0].Revents&unix.POLLHUP != 0
}

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
