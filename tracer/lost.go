package tracer

import "golang.org/x/sys/unix"

// A signal that interrupts a call between its execution here and its answer
// makes the kernel throw the answer away. The thread then either begins the same
// call anew (SA_RESTART) or is told EINTR and usually repeats it. Of the calls
// that must not be executed twice the result is remembered for that.

// once are those calls: their effect would be repeated or would get in the way.
var once = map[int32]bool{
	unix.SYS_BIND:     true, // EINVAL, it is bound
	unix.SYS_CONNECT:  true, // EISCONN or EALREADY
	unix.SYS_SHUTDOWN: true, // ENOTCONN
	unix.SYS_SENDTO:   true, // the message again
	unix.SYS_SENDMSG:  true,
}

// lostAnswer is a result that did not reach its thread.
type lostAnswer struct {
	c call
	r result
}

// remember keeps the result of a call whose answer was lost.
func (c *call) remember(r result) {
	if r.how != answered || !once[c.nr] {
		return
	}
	t := c.t
	t.waitersMu.Lock()
	if t.lost == nil {
		t.lost = make(map[uint32]lostAnswer)
	}
	t.lost[c.tid] = lostAnswer{*c, r}
	t.waitersMu.Unlock()
}

// recall returns the result of the thread's last call if its answer was lost
// and this is the same call. Any other call of the thread forgets it.
func (c *call) recall() (result, bool) {
	t := c.t
	t.waitersMu.Lock()
	defer t.waitersMu.Unlock()
	l, ok := t.lost[c.tid]
	if !ok {
		return result{}, false
	}
	delete(t.lost, c.tid)
	return l.r, c.repeats(&l.c)
}

// repeats tells whether c is the same call as earlier, from the same place.
func (c *call) repeats(earlier *call) bool {
	return c.nr == earlier.nr && c.ip == earlier.ip && c.args == earlier.args && c.around == earlier.around
}
