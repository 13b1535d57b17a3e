// Package launch starts a program under the seccomp filter of package filter
// and hands over the listener on which its trapped calls arrive.
//
// Three processes are involved, all in the caller's process group:
//
//	alptrace --- guard --- program (until it execs, the shim)
//
// The guard (internal/guard) is the program's parent and the subreaper of its
// descendants. It kills them all when alptrace ends, kill -9 included. The shim
// is a fork of the guard: it loads the filter, tells the number of its listener,
// which alptrace takes with pidfd_getfd(2), waits for [Process.Run], and execs.
//
// The program finds everything as if it had been started in alptrace's place:
// arguments, environment, working directory, umask, limits, ignored and blocked
// signals, process group, session, and all open descriptors under the same
// numbers. Two things cannot be kept: a standard descriptor that was closed is
// open on /dev/null (the Go runtime opens it), and of the signals that were
// ignored only SIGHUP, SIGINT, SIGCONT and the terminal's stop signals still
// are, for the Go runtime replaces the others (SIGPIPE, SIGQUIT, ...) before any
// code of ours runs, and does not tell.
//
// Signals that alptrace is sent are passed on to the program, unless the whole
// process group was sent them, as by ^C. When the program stops, so does
// alptrace, with the same signal, and both go on together, so that the shell's
// job control works.
//
// Importing this package is what makes a re-exec of the binary a guard; nothing
// has to be called first in main.
package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/tracer/filter"
	"github.com/alptrace/alptrace/tracer/launch/internal/early"
	"github.com/alptrace/alptrace/tracer/launch/internal/guard"
)

// Config says what to start.
type Config struct {
	// Argv is the program and its arguments. Argv[0] is looked up as execvp(3)
	// does, in the PATH of Env.
	Argv []string
	// Env is the program's environment; nil is os.Environ().
	Env []string
	// KeepFiles keeps the descriptors that alptrace was given. Otherwise,
	// once the program runs, alptrace puts /dev/null in place of its own
	// standard input and output and closes inherited descriptors from 3 up, so
	// that a pipe ends when the program, not alptrace, closes it.
	KeepFiles bool
	// Logger gets diagnostics; nil is none.
	Logger *slog.Logger
}

// Error says why a program could not be started.
type Error struct {
	Name string // the program as it was asked for
	Op   string // what failed, "" for finding or executing the program
	Err  error  // an errno
}

// Error is as the shell says it: "nosuch: No such file or directory".
func (e *Error) Error() string {
	var errno unix.Errno
	text := e.Err.Error()
	if errors.As(e.Err, &errno) {
		text = strerror(errno)
	}
	if e.Op == "" {
		return e.Name + ": " + text
	}
	return e.Op + ": " + text
}

// Unwrap gives the errno.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode is what the shell and env(1) exit with: 127 if the program was not
// found, 126 if it could not be executed, 125 if alptrace itself failed.
func (e *Error) ExitCode() int {
	switch {
	case e.Op != "":
		return 125
	case errors.Is(e.Err, fs.ErrNotExist):
		return 127
	}
	return 126
}

// ErrEnded is returned by Listener and Run when the program's process ended
// before it could be used, by a signal for example; Wait has its status.
var ErrEnded = errors.New("process ended before the program was executed")

// Process is a started program. Its methods are safe for concurrent use, but
// Listener and Run are each to be called once, in that order.
type Process struct {
	cfg      Config
	log      *slog.Logger
	shim     int // socket to the shim
	ctl      int // socket to the guard
	guardPID int

	orders  chan guard.Order // to the guard
	spawned chan struct{}    // closed when the guard runs, or cannot
	running chan struct{}    // closed when the program has been executed
	caught  chan struct{}    // closed when signals to alptrace are caught
	exited  chan struct{}    // closed when status is known
	done    chan struct{}    // closed when all descendants have ended

	mu     sync.Mutex
	pid    int
	status unix.WaitStatus
	err    error // of Wait
}

// Start starts the guard and returns while the program is still being
// prepared, so that the caller can prepare its own side; it returns an *Error
// if the program cannot be found. The program does not run before Run.
func Start(cfg Config) (*Process, error) {
	if len(cfg.Argv) == 0 || cfg.Argv[0] == "" {
		return nil, &Error{Err: unix.ENOENT}
	}
	if cfg.Env == nil {
		cfg.Env = os.Environ()
	}
	p := &Process{
		cfg: cfg, log: cfg.Logger,
		orders:  make(chan guard.Order, 64),
		spawned: make(chan struct{}), running: make(chan struct{}), caught: make(chan struct{}),
		exited: make(chan struct{}), done: make(chan struct{}),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	path, err := lookPath(cfg.Argv[0], cfg.Env)
	if err != nil {
		return nil, &Error{Name: cfg.Argv[0], Err: err}
	}
	plan, err := p.plan(path)
	if err != nil {
		return nil, &Error{Name: cfg.Argv[0], Err: err}
	}
	go p.begin(plan)
	return p, nil
}

// begin starts the guard and what serves it; spawned then tells of it.
func (p *Process) begin(plan []byte) {
	if err := p.spawn(); err != nil {
		p.finish(0, err)
		close(p.done)
		close(p.spawned)
		return
	}
	go p.write(plan)
	go p.read()
	close(p.spawned)
	p.catch()
}

// plan is what the guard is told, encoded.
func (p *Process) plan(path string) ([]byte, error) {
	given := early.Get()
	plan := guard.Plan{
		Path: path, Argv: p.cfg.Argv, Env: p.cfg.Env,
		Mask: given.Mask, Ignored: given.Ignored,
		NoFile: given.NoFile, SetNoFile: given.NoFileOK,
		NoNewPrivs: !sysAdmin(),
	}
	for _, in := range filter.Program() {
		plan.Filter = append(plan.Filter, byte(in.Code), byte(in.Code>>8), in.Jt, in.Jf,
			byte(in.K), byte(in.K>>8), byte(in.K>>16), byte(in.K>>24))
	}
	return plan.Encode()
}

// Listener waits until the filter is loaded and returns its listener, close-on-
// exec, in SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP mode where the kernel has it
// (Linux 6.6). The caller owns it. It polls POLLHUP when the last process under
// the filter has ended.
func (p *Process) Listener() (fd int, err error) {
	<-p.spawned
	select {
	case <-p.done:
		return -1, p.failed()
	default:
	}
	r, err := readReport(p.shim)
	if err != nil {
		_ = unix.Close(p.shim)
		return -1, p.failed()
	}
	if r.Kind != guard.Listener {
		_ = unix.Close(p.shim)
		return -1, p.failure(r)
	}
	p.mu.Lock()
	p.pid = int(r.PID)
	p.mu.Unlock()
	pidfd, err := unix.PidfdOpen(int(r.PID), 0)
	if err != nil {
		return -1, &Error{Op: "pidfd_open of the shim", Err: err}
	}
	defer func() { _ = unix.Close(pidfd) }()
	fd, err = unix.PidfdGetfd(pidfd, int(r.Value), 0)
	if err != nil {
		return -1, &Error{Op: "pidfd_getfd of the listener (is ptrace allowed here?)", Err: err}
	}
	const notifSetFlags, syncWakeUp = 0x40082104, 1
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifSetFlags, syncWakeUp); e != 0 {
		p.log.Debug("no synchronous wake-up of the listener", "err", e)
	}
	return fd, nil
}

// Run executes the program, and returns once it has been executed, or an
// *Error if it could not be.
func (p *Process) Run() error {
	<-p.caught
	defer func() { _ = unix.Close(p.shim) }()
	if _, err := unix.SendmsgN(p.shim, []byte{1}, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return p.failed()
	}
	r, err := readReport(p.shim)
	if err == nil {
		return p.failure(r)
	}
	// End of file: the shim's end was closed by exec, or the shim was killed,
	// which Wait will tell.
	close(p.running)
	if !p.cfg.KeepFiles {
		go letGo()
	}
	return nil
}

// failed is the error of a shim that said nothing.
func (p *Process) failed() error {
	<-p.exited
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	return ErrEnded
}

// failure is the error in a report.
func (p *Process) failure(r guard.Report) error {
	e := unix.Errno(r.Value)
	switch r.Kind {
	case guard.FailPrivs:
		return &Error{Op: "prctl PR_SET_NO_NEW_PRIVS", Err: e}
	case guard.FailFilter:
		return &Error{Op: "loading the seccomp filter", Err: e}
	case guard.FailExec:
		return &Error{Name: p.cfg.Argv[0], Err: e}
	case guard.FailFork:
		return &Error{Op: "starting the guard", Err: e}
	}
	return &Error{Op: fmt.Sprintf("report %d of the shim", r.Kind), Err: unix.EPROTO}
}

// Pid is the program's pid, 0 before Listener has returned.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Wait waits until the program has ended and returns its wait status. Its
// descendants may go on; see Done.
func (p *Process) Wait() (unix.WaitStatus, error) {
	<-p.exited
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.err
}

// Done is closed when the program and all its descendants have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// spawn starts the guard, all signals blocked.
func (p *Process) spawn() error {
	// Should the guard be killed, its children become alptrace's.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return &Error{Op: "prctl PR_SET_CHILD_SUBREAPER", Err: err}
	}
	ctl, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return &Error{Op: "socketpair", Err: err}
	}
	shim, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		_, _ = unix.Close(ctl[0]), unix.Close(ctl[1])
		return &Error{Op: "socketpair", Err: err}
	}
	env := guard.EnvVar + "=" + strconv.Itoa(ctl[1]) + "," + strconv.Itoa(shim[1])
	p.guardPID, err = forkGuard(env, ctl[1], shim[1])
	_, _ = unix.Close(ctl[1]), unix.Close(shim[1])
	p.ctl, p.shim = ctl[0], shim[0]
	if err != nil {
		_, _ = unix.Close(p.ctl), unix.Close(p.shim)
		return &Error{Op: "starting the guard", Err: err}
	}
	return nil
}
