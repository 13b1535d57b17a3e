package launch

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/tracer/launch/internal/guard"
)

const lastSignal = 64

// own reports whether a signal is alptrace's own business: it cannot be
// caught, means a fault or an abort of alptrace itself, or belongs to the Go
// runtime or to alptrace's own children, pipes and limits.
func own(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPROF,
		unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS,
		unix.SIGSTKFLT, unix.SIGXCPU, unix.SIGXFSZ, 32, 33, 34:
		return true
	}
	return false
}

// usual are the signals that a program under a shell, a terminal or a service
// manager is sent; they are caught before the program runs. The rest are
// caught while it runs, because catching a signal takes the Go runtime some
// 30 us, and there are many.
func usual(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE,
		unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGWINCH:
		return true
	}
	return false
}

// catch catches the usual signals, then closes p.caught, then the rest, and has
// the guard decide of each whether the program has it already. They stay caught
// after the program has ended, for alptrace to end in its own way.
func (p *Process) catch() {
	ch := make(chan os.Signal, 64)
	var now, later []os.Signal
	for n := syscall.Signal(1); n <= lastSignal; n++ {
		switch {
		case own(n):
		case usual(n):
			now = append(now, n)
		default:
			later = append(later, n)
		}
	}
	signal.Notify(ch, now...)
	close(p.caught)
	go func() {
		select {
		case <-p.running:
			signal.Notify(ch, later...)
		case <-p.done:
		}
	}()
	for {
		select {
		case s := <-ch:
			if sig, ok := s.(syscall.Signal); ok && sig != unix.SIGPIPE {
				p.order(guard.Order{Kind: guard.Forward, Value: uint32(sig)})
			}
		case <-p.done:
			return
		}
	}
}

// kernelSigaction is struct sigaction as rt_sigaction(2) takes it.
type kernelSigaction struct {
	handler uintptr
	rest    [4]uintptr
}

// rtSigaction sets a signal's disposition behind the runtime's back.
func rtSigaction(sig syscall.Signal, act, old *kernelSigaction) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(act)),
		uintptr(unsafe.Pointer(old)), 8, 0, 0)
}

// raise sends the calling thread a signal with its default disposition, and
// returns if that did not end the process.
func raise(sig syscall.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var deflt, old kernelSigaction
	rtSigaction(sig, &deflt, &old)
	var set, mask unix.Sigset_t
	set.Val[(sig-1)/64] |= 1 << ((sig - 1) % 64)
	_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, &mask)
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), sig)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
	rtSigaction(sig, &old, nil)
}

// stopSelf stops alptrace as the program was stopped, until SIGCONT.
func stopSelf(sig syscall.Signal) {
	switch sig {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		raise(sig)
	default:
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	}
}

// ExitLike ends the calling process as ws says: with the same exit code, or by
// the same signal (without a core file, which is the program's to write).
func ExitLike(ws unix.WaitStatus) {
	if !ws.Signaled() {
		os.Exit(ws.ExitStatus())
	}
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	raise(ws.Signal())
	os.Exit(128 + int(ws.Signal()))
}
