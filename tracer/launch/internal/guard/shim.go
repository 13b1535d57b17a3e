package guard

import (
	"syscall"
	"unsafe"
)

// Numbers that package syscall does not have.
const (
	prSetNoNewPrivs     = 38
	prSetChildSubreaper = 36
	seccompModeFilter   = 1 // SECCOMP_SET_MODE_FILTER
	seccompNewListener  = 1 << 3
	rlimitNoFile        = 7
	sigSetmask          = 2
	sigSetSize          = 8
	numSignals          = 64
	closeRange          = 436
)

// sockFprog is struct sock_fprog.
type sockFprog struct {
	len    uint16
	filter *byte
}

// shim is everything that the forked child needs, made before the fork.
type shim struct {
	parent  uintptr // the guard's pid
	sock    uintptr
	mask    uint64
	ignored uint64
	noFile  [2]uint64
	setFile bool
	noPrivs bool
	prog    sockFprog
	path    *byte
	argv    []*byte
	env     []*byte
	shell   []*byte // argv for /bin/sh, if path has no format that the kernel knows
	sh      *byte
}

// fork makes the child that becomes the program. It is the fork of a process
// with many threads, so that the child may do nothing but raw system calls:
// no allocation, no growing of the stack, no call that is not nosplit.
//
// It returns the child's pid in the parent, and never in the child.
//
//go:norace
//go:nocheckptr
//go:noinline
func (s *shim) fork() (pid uintptr, errno syscall.Errno) {
	var (
		r1, fd uintptr
		i      uintptr
		rep    Report
		act    kernelSigaction
		ack    byte
	)
	r1, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || r1 != 0 {
		return r1, errno
	}

	// The child. Should the guard die, so does the program, if nothing clears
	// this (a set-uid program, prctl(2)).
	syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	r1, _, _ = syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
	if r1 != s.parent {
		goto exit
	}
	for i = 1; i <= numSignals; i++ {
		act.handler = 0
		if s.ignored&(1<<(i-1)) != 0 {
			act.handler = sigIgn
		}
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, i, uintptr(unsafe.Pointer(&act)), 0, sigSetSize, 0, 0)
	}
	if s.setFile {
		syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, rlimitNoFile, uintptr(unsafe.Pointer(&s.noFile)), 0, 0, 0)
	}
	r1, _, _ = syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	rep.PID = int32(r1)
	if s.noPrivs {
		_, _, errno = syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0)
		rep.Kind = FailPrivs
		if errno != 0 {
			goto fail
		}
	}
	fd, _, errno = syscall.RawSyscall(sysSeccomp, seccompModeFilter, seccompNewListener, uintptr(unsafe.Pointer(&s.prog)))
	rep.Kind = FailFilter
	if errno != 0 {
		goto fail
	}
	rep.Kind = Listener
	rep.Value = int32(fd)
	syscall.RawSyscall(syscall.SYS_WRITE, s.sock, uintptr(unsafe.Pointer(&rep)), unsafe.Sizeof(rep))
	for {
		r1, _, errno = syscall.RawSyscall(syscall.SYS_READ, s.sock, uintptr(unsafe.Pointer(&ack)), 1)
		if errno != syscall.EINTR {
			break
		}
	}
	if errno != 0 || r1 != 1 {
		goto exit
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&s.mask)), 0, sigSetSize, 0, 0)
	_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(s.path)),
		uintptr(unsafe.Pointer(&s.argv[0])), uintptr(unsafe.Pointer(&s.env[0])))
	if errno == syscall.ENOEXEC { // execvp(3)
		_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(s.sh)),
			uintptr(unsafe.Pointer(&s.shell[0])), uintptr(unsafe.Pointer(&s.env[0])))
	}
	rep.Kind = FailExec
fail:
	rep.Value = int32(errno)
	syscall.RawSyscall(syscall.SYS_WRITE, s.sock, uintptr(unsafe.Pointer(&rep)), unsafe.Sizeof(rep))
exit:
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

// newShim makes a shim from an encoded plan (see Plan.Encode), whose bytes it
// keeps. It returns nil if the plan is malformed.
func newShim(h *header, body []byte) *shim {
	n := uint64(h.filter)
	if n == 0 || n%8 != 0 || n/8 > 0xffff || n > uint64(len(body)) || h.argc == 0 {
		return nil
	}
	if uint64(h.argc)+uint64(h.envc) > uint64(len(body)) {
		return nil
	}
	s := &shim{
		mask: h.mask, ignored: h.ignored, noFile: h.noFile,
		setFile: h.setNoFile != 0, noPrivs: h.noNewPrivs != 0,
		prog: sockFprog{len: uint16(n / 8), filter: &body[0]},
		argv: make([]*byte, h.argc+1), env: make([]*byte, h.envc+1),
		sh: &[]byte("/bin/sh\x00")[0],
	}
	rest := body[n:]
	ok := true
	next := func() *byte {
		for i, c := range rest {
			if c == 0 {
				p := &rest[0]
				rest = rest[i+1:]
				return p
			}
		}
		ok = false
		return nil
	}
	s.path = next()
	for i := range h.argc {
		s.argv[i] = next()
	}
	for i := range h.envc {
		s.env[i] = next()
	}
	if !ok || len(rest) != 0 {
		return nil
	}
	s.shell = append([]*byte{s.sh, s.path}, s.argv[1:]...)
	return s
}
