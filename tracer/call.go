package tracer

import (
	"time"

	"github.com/alptrace/alptrace/fdtable"
	"golang.org/x/sys/unix"
)

// call is one trapped call.
type call struct {
	t *Tracer
	notification
	start time.Time
	tr    callTrace

	compat compatCall // of a 32-bit program: what the call was
	around [socketcallWindow]byte

	restarted bool // a call with a timeout that a signal interrupted
}

// result is what becomes of a call.
type result struct {
	how how
	val int64
	err unix.Errno

	sigpipe bool // SIGPIPE comes with the error
}

type how int

const (
	answered  how = iota // the call returns val or err
	continued            // the kernel executes it
	waiting              // a waiter answers it later
	sent                 // answered already, together with a descriptor
	done                 // finished already
)

var (
	toKernel = result{how: continued}
	success  = result{}
	later    = result{how: waiting}
)

func fail(e unix.Errno) result    { return result{err: e} }
func value(v int) result          { return result{val: int64(v)} }
func errno(e unix.Errno) result   { return result{err: e} }
func delivered(fd int) result     { return result{how: sent, val: int64(fd)} }
func (c *call) int32(i int) int32 { return int32(c.args[i]) }
func (c *call) fd() int           { return int(c.int32(0)) }

// handlers are the answers by call number.
var handlers = map[int32]func(*call) result{
	unix.SYS_SOCKET:         (*call).socket,
	unix.SYS_BIND:           ours((*call).bind),
	unix.SYS_CONNECT:        ours((*call).connect),
	unix.SYS_LISTEN:         ours((*call).listen),
	unix.SYS_ACCEPT:         ours((*call).accept),
	unix.SYS_ACCEPT4:        ours((*call).accept),
	unix.SYS_GETSOCKNAME:    ours((*call).getsockname),
	unix.SYS_GETPEERNAME:    ours((*call).getpeername),
	unix.SYS_GETSOCKOPT:     ours((*call).getsockopt),
	unix.SYS_SETSOCKOPT:     ours((*call).setsockopt),
	unix.SYS_SHUTDOWN:       ours((*call).shutdown),
	unix.SYS_SENDTO:         ours((*call).sendto),
	unix.SYS_RECVFROM:       ours((*call).recvfrom),
	unix.SYS_SENDMSG:        ours((*call).sendmsg),
	unix.SYS_RECVMSG:        ours((*call).recvmsg),
	unix.SYS_SENDMMSG:       ours((*call).sendmmsg),
	unix.SYS_RECVMMSG:       ours((*call).recvmmsg),
	unix.SYS_IOCTL:          ours((*call).ioctl),
	unix.SYS_IO_URING_SETUP: func(*call) result { return fail(unix.ENOSYS) },
}

// serve answers the call, or arranges for that.
func (c *call) serve() {
	if c.arch != nativeArch {
		if r, ok := c.translate(); !ok {
			c.cancel()
			c.finish(r)
			return
		}
	}
	c.cancel()
	h := handlers[c.nr]
	if h == nil {
		c.finish(toKernel)
		return
	}
	r, ok := c.recall()
	if !ok {
		r = h(c)
	}
	if !c.finish(r) {
		c.remember(r)
	}
}

// finish sends the result, unless that is done or to be done later. It reports
// whether the program got it.
func (c *call) finish(r result) bool {
	if r.how == waiting || r.how == done {
		return true
	}
	c.announce(r)
	got := true
	switch r.how {
	case continued:
		c.t.answer(&response{id: c.id, flags: flagContinue})
	case answered:
		resp := response{id: c.id, val: r.val}
		if r.err != 0 {
			resp.val, resp.err = 0, -int32(r.err)
		}
		got = c.t.answer(&resp) == 0
		if got && r.sigpipe {
			// After the answer: a signal before it would interrupt the call.
			if tgid, err := fdtable.Tgid(int(c.tid)); err == nil {
				unix.Tgkill(tgid, int(c.tid), unix.SIGPIPE)
			}
		}
	case sent:
		got = r.err == 0
	}
	if c.t.stats != nil {
		c.t.stats.count(c, time.Since(c.start))
	}
	c.record(r, got)
	return got
}

// giveFD hands a duplicate of fd to the program as the call's result. The
// caller keeps and closes its own. ok is false where nobody waits any more.
func (c *call) giveFD(fd int, cloexec bool) (r result, ok bool) {
	a := addfd{id: c.id, flags: addfdFlagSend, srcfd: uint32(fd)}
	if cloexec {
		a.newfdFlags = unix.O_CLOEXEC
	}
	c.announce(delivered(fd))
	n, e := c.t.addFD(&a)
	switch e {
	case 0:
		return delivered(n), true
	case unix.ENOENT, unix.EINPROGRESS:
		return result{how: sent, err: e}, false
	default: // EMFILE: the program still waits
		c.retract()
		return fail(e), false
	}
}
