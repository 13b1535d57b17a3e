package guard

import (
	"syscall"
	"unsafe"
)

func init() {
	if v, ok := syscall.Getenv(EnvVar); ok {
		exit(run(v))
	}
}

// Times of the guard, in milliseconds.
const (
	// groupWait is how long a signal sent to alptrace is held back, to see
	// whether the guard gets it too, and so the whole process group.
	groupWait = 10
	// groupMemory is how long a signal that the guard got is remembered, to be
	// matched with what alptrace got.
	groupMemory = 250
	// wakeEvery is the period of SIGCONT for an alptrace that does not answer
	// Continued, because it may have stopped itself just after the last one.
	wakeEvery = 20
	// killEvery is the period of looking for more descendants to kill.
	killEvery = 5
)

// guard is the running role.
type guard struct {
	ctl    int // socket to alptrace
	sigs   int // pipe with the numbers of signals
	parent int // alptrace's pid
	pid    int // the program's

	running bool // the program has not ended
	stopped bool // the program is stopped
	child   bool // SIGCHLD came, and children are to be waited for
	wake    bool // alptrace is yet to answer Continued

	seen [numSignals + 1]int64 // when the guard got a signal that alptrace has not reported, ms
	held [numSignals + 1]int64 // until when a signal that alptrace reported is held back, ms

	in  [64 * int(unsafe.Sizeof(Order{}))]byte // partial orders
	nin int
}

// run is the guard's whole life; it returns the exit status.
func run(fds string) int {
	ctl, sock, ok := parseFDs(fds)
	if !ok {
		return 2
	}
	comm := []byte(Comm + "\x00")
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_NAME, uintptr(unsafe.Pointer(&comm[0])), 0, 0, 0, 0)
	syscall.CloseOnExec(ctl)
	syscall.CloseOnExec(sock)
	g := &guard{ctl: ctl, parent: syscall.Getppid()}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0, 0, 0, 0); e != 0 {
		g.report(FailFork, 0, int32(e))
		return 1
	}
	setMask(^uint64(0)) // what the shim is sent waits until it has its own dispositions
	sigs, err := catchSignals()
	if err != nil {
		g.report(FailFork, 0, int32(err.(syscall.Errno)))
		return 1
	}
	g.sigs = sigs

	s := g.readPlan()
	if s == nil {
		return 1
	}
	s.parent, s.sock = uintptr(syscall.Getpid()), uintptr(sock)
	pid, e := s.fork()
	if e != 0 {
		g.report(FailFork, 0, int32(e))
		return 1
	}
	g.pid, g.running = int(pid), true
	setMask(0)
	g.detach()
	for {
		if done := g.step(); done {
			return 0
		}
	}
}

// parseFDs reads the value of EnvVar.
func parseFDs(v string) (ctl, sock int, ok bool) {
	n := [2]int{}
	f, digits := 0, 0
	for i := range len(v) {
		switch c := v[i]; {
		case c >= '0' && c <= '9' && digits < 9:
			n[f] = n[f]*10 + int(c-'0')
			digits++
		case c == ',' && f == 0 && digits > 0:
			f, digits = 1, 0
		default:
			return 0, 0, false
		}
	}
	return n[0], n[1], f == 1 && digits > 0
}

// readPlan reads the plan from the socket; nil if there is none.
func (g *guard) readPlan() *shim {
	var h header
	if !g.readFull((*[unsafe.Sizeof(h)]byte)(unsafe.Pointer(&h))[:]) || h.size > MaxPlan {
		return nil
	}
	body := make([]byte, h.size)
	if !g.readFull(body) {
		return nil
	}
	return newShim(&h, body)
}

func (g *guard) readFull(b []byte) bool {
	for len(b) > 0 {
		n, err := syscall.Read(g.ctl, b)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// detach closes every descriptor but the guard's own, so that it keeps no pipe
// of the program's open, and leaves the working directory.
func (g *guard) detach() {
	if null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			_ = syscall.Dup3(null, fd, 0)
		}
	}
	keep := []int{2, g.ctl, g.sigs, int(pipeWrite), 1<<31 - 1}
	for i := range keep { // few enough
		for j := i; j > 0 && keep[j-1] > keep[j]; j-- {
			keep[j-1], keep[j] = keep[j], keep[j-1]
		}
	}
	for i := range len(keep) - 1 {
		closeBetween(keep[i]+1, keep[i+1]-1)
	}
	_ = syscall.Chdir("/")
}

// closeBetween closes the descriptors lo to hi.
func closeBetween(lo, hi int) {
	if lo > hi {
		return
	}
	if _, _, e := syscall.RawSyscall(closeRange, uintptr(lo), uintptr(hi), 0); e != 0 { // before Linux 5.9
		for fd := lo; fd <= min(hi, 1<<16); fd++ {
			_ = syscall.Close(fd)
		}
	}
}

// pollFD is struct pollfd.
type pollFD struct {
	fd      int32
	events  int16
	revents int16
}

const (
	pollIn  = 0x1
	pollErr = 0x8
	pollHup = 0x10
)

// poll waits for the descriptors, at most ms milliseconds, forever if negative.
func poll(fds []pollFD, ms int64) {
	var ts *syscall.Timespec
	if ms >= 0 {
		t := syscall.NsecToTimespec(ms * 1e6)
		ts = &t
	}
	_, _, _ = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(ts)), 0, 0, 0)
}

// step waits for something to happen and deals with it. It reports whether the
// guard has nothing more to do.
func (g *guard) step() (done bool) {
	fds := [2]pollFD{{fd: int32(g.ctl), events: pollIn}, {fd: int32(g.sigs), events: pollIn}}
	poll(fds[:], g.timeout())
	if fds[1].revents != 0 {
		g.signals()
	}
	if fds[0].revents != 0 && !g.orders() {
		KillAll(g.sigs, func(int) bool { return true })
		return true
	}
	if g.child { // set by whoever drained the pipe, orders included
		g.child = false
		if g.reap() {
			g.report(NoneLeft, 0, 0)
			return true
		}
	}
	g.release()
	if g.wake {
		_ = syscall.Kill(g.parent, syscall.SIGCONT)
	}
	return false
}

// timeout is how long step may wait, in milliseconds; -1 is forever.
func (g *guard) timeout() int64 {
	t := int64(-1)
	if g.wake {
		t = wakeEvery
	}
	for _, until := range g.held {
		if until != 0 {
			left := max(until-now(), 0)
			if t < 0 || left < t {
				t = left
			}
		}
	}
	return t
}

// now is the monotonic clock in milliseconds.
func now() int64 {
	var ts syscall.Timespec
	const clockMonotonic = 1
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Sec*1000 + ts.Nsec/1e6
}

// signals takes the signals that came. What reaches the guard besides SIGCHLD
// was sent to the process group (by the terminal, a shell, timeout(1)), for
// nobody knows the guard by its pid.
func (g *guard) signals() {
	var buf [64]byte
	for {
		n, err := syscall.Read(g.sigs, buf[:])
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		for _, sig := range buf[:n] {
			g.seenSignal(int(sig))
		}
	}
}

func (g *guard) seenSignal(sig int) {
	switch {
	case sig == int(syscall.SIGCHLD):
		g.child = true
	case sig < 1 || sig > numSignals:
	case g.held[sig] != 0:
		g.held[sig] = 0
		if !g.sameGroup() {
			g.kill(sig)
		}
	default:
		g.seen[sig] = now()
	}
}

// sameGroup reports whether the program is still in the guard's process group,
// and so was sent whatever the group was sent.
func (g *guard) sameGroup() bool {
	pgid, err := syscall.Getpgid(g.pid)
	return err == nil && pgid == syscall.Getpgrp()
}

// orders reads what alptrace says. It returns false when alptrace has ended.
func (g *guard) orders() bool {
	n, err := syscall.Read(g.ctl, g.in[g.nin:])
	if err == syscall.EINTR || err == syscall.EAGAIN {
		return true
	}
	if n <= 0 {
		return false
	}
	g.nin += n
	i := 0
	for ; g.nin-i >= OrderSize; i += OrderSize {
		var o Order
		copy((*[unsafe.Sizeof(o)]byte)(unsafe.Pointer(&o))[:], g.in[i:])
		switch {
		case o.Kind == Ack:
			g.wake = false
		case o.Kind == Forward && o.Value >= 1 && o.Value <= numSignals:
			g.forward(int(o.Value))
		}
	}
	g.nin = copy(g.in[:], g.in[i:g.nin])
	return true
}

// forward passes on a signal that alptrace was sent, unless the whole group was.
func (g *guard) forward(sig int) {
	if sig == int(syscall.SIGCONT) && !g.stopped {
		return // it may well be the guard's own
	}
	g.signals()
	t := now()
	if seen := g.seen[sig]; seen != 0 && t-seen <= groupMemory {
		g.seen[sig] = 0
		if !g.sameGroup() {
			g.kill(sig)
		}
		return
	}
	if g.held[sig] == 0 {
		g.held[sig] = t + groupWait
	}
}

// release sends the signals that have been held back long enough.
func (g *guard) release() {
	for sig, until := range g.held {
		if until != 0 && now() >= until {
			g.held[sig] = 0
			g.kill(sig)
		}
	}
}

// kill sends a signal to the program, which cannot have been reaped by another.
func (g *guard) kill(sig int) {
	if g.running {
		_ = syscall.Kill(g.pid, syscall.Signal(sig))
	}
}

const waitAll = 0x40000000 // __WALL

// reap takes all changes of state of children: the program, and orphans that
// were reparented to the guard. It reports whether no child is left.
func (g *guard) reap() (none bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG|syscall.WUNTRACED|syscall.WCONTINUED|waitAll, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return true
		case pid == 0:
			return false
		case pid == g.pid:
			g.changed(ws)
		}
	}
}

// changed reports a change of the program's state.
func (g *guard) changed(ws syscall.WaitStatus) {
	switch {
	case ws.Stopped():
		g.stopped, g.wake = true, false
		g.report(Stopped, g.pid, int32(ws))
	case ws.Continued():
		g.stopped, g.wake = false, true
		g.report(Continued, g.pid, int32(ws))
	default:
		g.running = false
		g.report(Ended, g.pid, int32(ws))
	}
}

// report tells alptrace; that it has ended is found by the next poll.
func (g *guard) report(kind uint32, pid int, value int32) {
	r := Report{Kind: kind, PID: int32(pid), Value: value}
	_, _ = syscall.Write(g.ctl, (*[unsafe.Sizeof(r)]byte)(unsafe.Pointer(&r))[:])
}

func exit(code int) {
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(code), 0, 0)
	}
}
