package guard

import (
	"syscall"
	"unsafe"
)

// pipeWrite is where handler writes; a signal handler has no other argument.
var pipeWrite int32

func handler()
func restorer()
func handlerPC() (handler, restorer uintptr)

// kernelSigaction is struct sigaction as rt_sigaction(2) takes it.
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
	saRestorer = 0x04000000
	sigIgn     = 1
)

// caught reports whether the guard catches a signal. The others cannot be
// caught, or are the Go runtime's.
func caught(sig int) bool {
	switch syscall.Signal(sig) {
	case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGURG, syscall.SIGPROF, syscall.SIGPIPE,
		syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE,
		syscall.SIGSEGV, syscall.SIGSYS, 32, 33, 34:
		return false
	}
	return true
}

// catchSignals has every signal write its number to a pipe, whose reading end
// it returns. A signalfd would not do: the Go runtime unblocks SIGCHLD, SIGINT
// and others in all threads, and its handlers would take them.
func catchSignals() (readEnd int, err error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		return -1, err
	}
	pipeWrite = int32(p[1])
	act := kernelSigaction{flags: saOnStack | saRestart | saRestorer}
	act.handler, act.restorer = handlerPC()
	for sig := 1; sig <= numSignals; sig++ {
		if caught(sig) {
			_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig),
				uintptr(unsafe.Pointer(&act)), 0, sigSetSize, 0, 0)
		}
	}
	return p[0], nil
}

// setMask sets the blocked signals of the calling thread.
func setMask(mask uint64) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&mask)), 0, sigSetSize, 0, 0)
}
