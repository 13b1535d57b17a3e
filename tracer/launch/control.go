package launch

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/tracer/launch/internal/guard"
)

// allSignals is the set of all signals.
var allSignals = func() (s unix.Sigset_t) {
	for i := range s.Val {
		s.Val[i] = ^s.Val[i]
	}
	return s
}()

// forkGuard re-execs this binary as the guard, with every signal blocked (its
// runtime gives the mask to all its threads) and the two descriptors inherited.
func forkGuard(env string, fds ...int) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old unix.Sigset_t
	all := allSignals
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, err
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return 0, err
		}
	}
	return syscall.ForkExec("/proc/self/exe", []string{guard.Comm},
		&syscall.ProcAttr{Env: []string{env}, Files: []uintptr{0, 1, 2}})
}

// readReport reads one report from a socket; any error means there is no more.
func readReport(fd int) (guard.Report, error) {
	var b [guard.ReportSize]byte
	for n := 0; n < len(b); {
		m, err := unix.Read(fd, b[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return guard.Report{}, err
		case m == 0:
			return guard.Report{}, unix.EPIPE
		default:
			n += m
		}
	}
	return guard.DecodeReport(b[:]), nil
}

// write sends the plan, and then orders, to the guard, until it has ended.
func (p *Process) write(plan []byte) {
	b := plan
	for {
		for len(b) > 0 {
			n, err := unix.SendmsgN(p.ctl, b, nil, nil, unix.MSG_NOSIGNAL)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return // read sees it, too
			}
			b = b[n:]
		}
		select {
		case o := <-p.orders:
			b = o.Encode()
		case <-p.done:
			return
		}
	}
}

// order queues an order for the guard.
func (p *Process) order(o guard.Order) {
	select {
	case p.orders <- o:
	case <-p.done:
	}
}

// read deals with the guard's reports until it has ended.
func (p *Process) read() {
	ended := false
	for {
		r, err := readReport(p.ctl)
		if err != nil {
			break
		}
		switch r.Kind {
		case guard.Stopped:
			stopSelf(unix.WaitStatus(r.Value).StopSignal())
		case guard.Continued:
			p.order(guard.Order{Kind: guard.Ack})
		case guard.Ended:
			ended = true
			p.finish(unix.WaitStatus(r.Value), nil)
		case guard.NoneLeft:
			p.close(ended)
			return
		case guard.FailPrivs, guard.FailFilter, guard.FailExec, guard.Listener:
			// the shim's, on its own socket
		case guard.FailFork:
			ended = true
			p.finish(0, p.failure(r))
		}
	}
	p.orphaned()
	p.close(ended)
}

// finish makes the program's end known.
func (p *Process) finish(ws unix.WaitStatus, err error) {
	p.mu.Lock()
	p.status, p.err = ws, err
	p.mu.Unlock()
	close(p.exited)
}

// close ends everything that serves the guard, which has nothing more to say.
func (p *Process) close(ended bool) {
	var ws unix.WaitStatus
	_, _ = unix.Wait4(p.guardPID, &ws, 0, nil)
	switch {
	case ended:
	case ws.Signaled(): // so has the program, whose PDEATHSIG this is
		p.finish(ws, nil)
	default:
		p.finish(0, &Error{Op: "guard", Err: unix.ECHILD})
	}
	_ = unix.Close(p.ctl)
	close(p.done)
}

// orphaned deals with the death of the guard: the program is killed by its
// PDEATHSIG, its descendants by alptrace, to which they have been reparented.
func (p *Process) orphaned() {
	p.log.Error("the guard has died; killing the program", "guard", p.guardPID)
	// Its children are alptrace's only once it is a zombie.
	_ = unix.Waitid(unix.P_PID, p.guardPID, nil, unix.WEXITED|unix.WNOWAIT, nil)
	self := filters("/proc/self/status")
	guard.KillAll(-1, func(pid int) bool {
		return pid == p.Pid() || pid != p.guardPID && filters(filepath.Join("/proc", strconv.Itoa(pid), "status")) > self
	})
}

// filters is the number of seccomp filters in a /proc/PID/status; -1 if the
// process has ended.
func filters(name string) int {
	b, err := os.ReadFile(name)
	if err != nil {
		return -1
	}
	const field = "\nSeccomp_filters:"
	_, rest, ok := bytes.Cut(b, []byte(field))
	if !ok {
		return -1
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil {
		return -1
	}
	return n
}

// letGo gives up the descriptors that alptrace was given and has passed on:
// whatever is not close-on-exec, but standard error.
func letGo() {
	if null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.Dup3(null, 0, 0)
		_ = unix.Dup3(null, 1, 0)
		_ = unix.Close(null)
	}
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range dir {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// sysAdmin reports whether CAP_SYS_ADMIN is effective, with which a filter can
// be loaded without PR_SET_NO_NEW_PRIVS, so that set-uid programs keep working.
func sysAdmin() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[unix.CAP_SYS_ADMIN/32].Effective&(1<<(unix.CAP_SYS_ADMIN%32)) != 0
}
