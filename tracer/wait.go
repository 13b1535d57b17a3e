package tracer

import (
	"time"

	"golang.org/x/sys/unix"
)

// waiter is a call that waits. It holds no descriptor of the program: when its
// socket changes, try looks the descriptor up again.
type waiter struct {
	c     call
	s     *socket
	try   func(c *call) result // waiting as long as it cannot be answered
	lost  func()               // the answer was, for it came after a signal; may be nil
	timer *time.Timer
	done  bool
}

// wait leaves the call waiting until try answers, or until timeout has passed,
// if it is not zero: then it fails with late. The caller holds s.mu.
func (s *socket) wait(c *call, timeout time.Duration, late unix.Errno, try func(*call) result) result {
	if c.restarted {
		return fail(unix.EINTR) // signal(7): a call with a timeout never restarts
	}
	w := &waiter{c: *c, s: s, try: try}
	if timeout > 0 {
		w.timer = time.AfterFunc(timeout, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			w.end(fail(late))
		})
	}
	s.waiters = append(s.waiters, w)
	t := s.t
	t.waitersMu.Lock()
	t.waiters[c.tid] = w
	t.waitersMu.Unlock()
	return later
}

// cancel drops the waiter of a thread that makes another call: a signal has
// interrupted the one that it waited in. It notes if this is the same call with
// a timeout begun anew, after SA_RESTART.
func (c *call) cancel() {
	t := c.t
	t.waitersMu.Lock()
	w := t.waiters[c.tid]
	delete(t.waiters, c.tid)
	t.waitersMu.Unlock()
	if w == nil {
		return
	}
	w.s.mu.Lock()
	w.interrupted()
	w.s.mu.Unlock()
	c.restarted = w.timer != nil && c.repeats(&w.c)
}

// tryWaiters tries the waiting calls, oldest first. The caller holds s.mu.
func (s *socket) tryWaiters() {
	for _, w := range append([]*waiter(nil), s.waiters...) {
		if w.done {
			continue
		}
		if !s.t.waits(w.c.id) {
			w.interrupted()
			continue
		}
		if r := w.try(&w.c); r.how != waiting && !w.end(r) && w.lost != nil {
			w.lost()
		}
	}
}

// failWaiters ends every waiting call with e. The caller holds s.mu.
func (s *socket) failWaiters(e unix.Errno) {
	for _, w := range append([]*waiter(nil), s.waiters...) {
		w.end(fail(e))
	}
}

// end answers the call, and reports whether the program got the answer. The
// caller holds s.mu.
func (w *waiter) end(r result) bool {
	if w.done {
		return true
	}
	w.drop()
	return w.c.finish(r)
}

// interrupted forgets the waiter of a call that waits no more. The caller holds
// s.mu.
func (w *waiter) interrupted() {
	if !w.done {
		w.drop()
		w.c.interrupted()
	}
}

// drop forgets the waiter. The caller holds s.mu.
func (w *waiter) drop() {
	if w.done {
		return
	}
	w.done = true
	if w.timer != nil {
		w.timer.Stop()
	}
	for i, o := range w.s.waiters {
		if o == w {
			w.s.waiters = append(w.s.waiters[:i], w.s.waiters[i+1:]...)
			break
		}
	}
	t := w.s.t
	t.waitersMu.Lock()
	if t.waiters[w.c.tid] == w {
		delete(t.waiters, w.c.tid)
	}
	t.waitersMu.Unlock()
}

// nonblocking tells whether the program's descriptor has O_NONBLOCK.
func nonblocking(dup int) bool {
	flags, err := unix.FcntlInt(uintptr(dup), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}
