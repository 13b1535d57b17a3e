// Package guard is the process between alptrace and the program that it runs.
//
// The guard is a re-exec of alptrace's own binary. It is the parent of the
// program and the subreaper of all the program's descendants: it tells alptrace
// how the program stops, continues and ends, passes on signals that alptrace
// was sent, and when alptrace dies, however it dies, kills every descendant.
// Its second job is the shim: the forked child that loads the seccomp filter
// and becomes the program.
//
// The whole role runs in this package's init, and the package imports next to
// nothing, so that none of the initialisation of the large packages in
// alptrace's binary is paid for.
package guard

import (
	"syscall"
	"unsafe"
)

// EnvVar is the variable that makes a process a guard. Its value is the numbers
// of two inherited descriptors, "ctl,shim": the guard's and the shim's sockets.
// The guard's environment holds nothing else; the program's never holds it.
const EnvVar = "ALPTRACE_GUARD"

// Comm is the guard's name as ps and pgrep -x have it.
const Comm = "alptrace-guard"

// Plan is what the guard is to run, the first message on its socket.
type Plan struct {
	Path    string   // of the program's file, as execve(2) takes it
	Argv    []string // at least one
	Env     []string
	Mask    uint64    // signals blocked in the program, bit n-1 for signal n
	Ignored uint64    // signals ignored in the program
	NoFile  [2]uint64 // RLIMIT_NOFILE, soft and hard, if SetNoFile
	Filter  []byte    // array of struct sock_filter

	SetNoFile  bool
	NoNewPrivs bool // set PR_SET_NO_NEW_PRIVS
}

// header begins an encoded plan; the filter, and then the strings, each ended
// by a NUL, follow: path, argv, env.
type header struct {
	size       uint64 // bytes after the header
	mask       uint64
	ignored    uint64
	noFile     [2]uint64
	setNoFile  uint32
	noNewPrivs uint32
	filter     uint32 // bytes of the filter
	argc       uint32
	envc       uint32
	_          uint32
}

const headerSize = int(unsafe.Sizeof(header{}))

// MaxPlan bounds an encoded plan. The kernel allows argument and environment
// strings 6 MiB at most (execve(2)), so nothing larger could be run.
const MaxPlan = 16 << 20

// Encode gives the plan's bytes, and E2BIG if no kernel would take it.
func (p *Plan) Encode() ([]byte, error) {
	n := headerSize + len(p.Filter) + len(p.Path) + 1
	for _, s := range p.Argv {
		n += len(s) + 1
	}
	for _, s := range p.Env {
		n += len(s) + 1
	}
	if n > MaxPlan {
		return nil, syscall.E2BIG
	}
	b := make([]byte, headerSize, n)
	*(*header)(unsafe.Pointer(&b[0])) = header{
		size: uint64(n - headerSize), mask: p.Mask, ignored: p.Ignored, noFile: p.NoFile,
		setNoFile: flag(p.SetNoFile), noNewPrivs: flag(p.NoNewPrivs),
		filter: uint32(len(p.Filter)), argc: uint32(len(p.Argv)), envc: uint32(len(p.Env)),
	}
	b = append(b, p.Filter...)
	b = append(append(b, p.Path...), 0)
	for _, s := range p.Argv {
		b = append(append(b, s...), 0)
	}
	for _, s := range p.Env {
		b = append(append(b, s...), 0)
	}
	return b, nil
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// Report is what the shim and the guard tell alptrace.
type Report struct {
	Kind  uint32
	PID   int32
	Value int32
}

// Kinds of report. The shim sends Listener, then (if it could not become the
// program) one of the failures; the guard sends the rest.
const (
	Listener   uint32 = iota + 1 // Value is the number of the shim's listener
	FailPrivs                    // prctl(PR_SET_NO_NEW_PRIVS); Value is the errno
	FailFilter                   // seccomp
	FailExec                     // execve
	FailFork                     // the guard could not make the shim
	Stopped                      // Value is the wait status of the program
	Continued                    // the program goes on; to be answered by Ack
	Ended                        // Value is the wait status of the program
	NoneLeft                     // the program and all its descendants have ended
	reportKinds
)

// ReportSize is the size of a Report on the socket, in bytes.
const ReportSize = int(unsafe.Sizeof(Report{}))

// DecodeReport reads a report; b holds at least ReportSize bytes.
func DecodeReport(b []byte) Report {
	_ = b[ReportSize-1]
	var r Report
	copy((*[ReportSize]byte)(unsafe.Pointer(&r))[:], b)
	return r
}

// Order is what alptrace tells the guard.
type Order struct {
	Kind  uint32
	Value uint32
}

// Kinds of order.
const (
	Forward uint32 = iota + 1 // alptrace was sent the signal Value
	Ack                       // alptrace runs, after Continued
)

// OrderSize is the size of an Order on the socket, in bytes.
const OrderSize = int(unsafe.Sizeof(Order{}))

// Encode gives the order's bytes.
func (o Order) Encode() []byte {
	b := make([]byte, OrderSize)
	*(*Order)(unsafe.Pointer(&b[0])) = o
	return b
}
