package tracer

import (
	"time"

	"golang.org/x/sys/unix"
)

// nativePoll is how often a call that is carried out for the program on its
// stand-in looks whether the program still waits for it.
const nativePoll = 20 * time.Millisecond

// natively carries out, on the stand-in, a call that the program cannot be left
// to make itself because its arguments mean something else on an AF_UNIX
// socket. try answers EAGAIN until it has succeeded; a blocking call is then
// tried again whenever the stand-in shows events.
func (c *call) natively(dup int, events int16, flags int, timeout time.Duration, try func(fd int) result) result {
	r := try(dup)
	if r.err != unix.EAGAIN || r.how != answered || flags&unix.MSG_DONTWAIT != 0 || nonblocking(dup) {
		return r
	}
	fd, err := unix.Dup(dup)
	if err != nil {
		return fail(unix.ENOMEM)
	}
	copied := *c
	go func() {
		defer unix.Close(fd)
		var deadline time.Time
		if timeout > 0 {
			deadline = time.Now().Add(timeout)
		}
		for copied.t.waits(copied.id) {
			p := []unix.PollFd{{Fd: int32(fd), Events: events}}
			unix.Poll(p, int(nativePoll.Milliseconds()))
			r := fail(unix.EAGAIN)
			if p[0].Revents != 0 {
				r = try(fd)
			}
			if r.err != unix.EAGAIN || !deadline.IsZero() && time.Now().After(deadline) {
				copied.finish(r)
				return
			}
		}
		copied.interrupted()
	}()
	return later
}
