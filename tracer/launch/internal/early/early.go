// Package early remembers what the process was given by whoever started it,
// before the Go runtime's libraries change it.
//
// It imports nothing, so that Go's rule of initialisation (packages whose
// imports are initialised, in the order of their paths) has it initialised
// before package syscall, whose init raises the soft limit of open files.
package early

import "unsafe"

// Given is what the process was given.
type Given struct {
	// NoFile is RLIMIT_NOFILE, soft and hard, and NoFileOK whether it is known.
	NoFile   [2]uint64
	NoFileOK bool
	// Mask is the set of blocked signals of the main thread, bit n-1 for signal n.
	Mask uint64
	// Ignored are those signals that were ignored, as far as the runtime has
	// left them alone (SIGHUP, SIGINT, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU).
	Ignored uint64
}

const (
	rlimitNoFile = 7
	sigSetSize   = 8
	sigIgn       = 1
)

// untouched are the signals whose being ignored the runtime respects (runtime
// initsig, sigInstallGoHandler).
var untouched = [...]uintptr{1, 2, 18, 20, 21, 22}

var given = read()

// Get returns what the process was given.
func Get() Given { return given }

func read() (g Given) {
	g.NoFileOK = syscall6(sysPrlimit64, 0, rlimitNoFile, 0, uintptr(unsafe.Pointer(&g.NoFile)), 0, 0) == 0
	syscall6(sysRtSigprocmask, 0, 0, uintptr(unsafe.Pointer(&g.Mask)), sigSetSize, 0, 0)
	for _, sig := range untouched {
		var act [4]uintptr // struct kernel_sigaction: handler, flags, restorer, mask
		syscall6(sysRtSigaction, sig, 0, uintptr(unsafe.Pointer(&act)), sigSetSize, 0, 0)
		if act[0] == sigIgn {
			g.Ignored |= 1 << (sig - 1)
		}
	}
	return g
}

// syscall6 is a system call by its number; it returns what the kernel returns,
// a negative errno on error.
//
//go:noescape
func syscall6(nr, a, b, c, d, e, f uintptr) uintptr
