package tracer

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Trace writes a line for every call on a socket of the stack, as strace(1)
// does: thread, call with decoded arguments, result, time taken. The lines come
// in the order in which the calls returned.
type Trace struct {
	mu    sync.Mutex
	w     io.Writer
	lines []*traceLine // reserved and not written
}

// traceLine is the place of one line.
type traceLine struct {
	text []byte
	done bool
}

// NewTrace writes to w.
func NewTrace(w io.Writer) *Trace { return &Trace{w: w} }

// reserve gives the next line's place; write must follow soon.
func (t *Trace) reserve() *traceLine {
	l := &traceLine{}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, l)
	return l
}

// write writes text, which may be empty, in the place of l: at once if all the
// lines before it are there.
func (t *Trace) write(l *traceLine, text []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.text, l.done = text, true
	n := 0
	for ; n < len(t.lines) && t.lines[n].done; n++ {
		if text := t.lines[n].text; len(text) > 0 {
			_, _ = t.w.Write(text) // the program runs on, traced or not
		}
	}
	t.lines = slices.Delete(t.lines, 0, n)
}

// callTrace is what a traced call remembers for its line.
type callTrace struct {
	ours  bool     // the call concerns a socket of the stack
	addr  sockaddr // given or returned
	addrs int      // how many were
	value []byte   // of an option

	asked, watched bool // the observer was asked whether it wants the call, and does

	line *traceLine // reserved for it
	text []byte     // up to the result
	args int        // where in it the arguments begin
}

// traced tells whether anybody wants the call's text.
func (c *call) traced() bool {
	if o := c.t.observer; o != nil && !c.tr.asked {
		c.tr.asked, c.tr.watched = true, o.WantsCall()
	}
	return c.t.trace != nil || c.tr.watched
}

func (c *call) traceAddr(sa sockaddr) {
	if c.traced() {
		c.tr.addr = sa
		c.tr.addrs++
	}
}

func (c *call) traceValue(val []byte) {
	if c.traced() {
		c.tr.value = append([]byte{}, val...)
	}
}

// announce reserves the line of a call that is about to return r, if there is
// to be one. It must come before the program goes on: while its memory is as the
// call left it, and before a call that could have seen this one's result.
func (c *call) announce(r result) {
	if !c.traced() || c.tr.text != nil {
		return
	}
	// Calls on descriptors that are the kernel's have no line.
	if !c.tr.ours && (c.nr != unix.SYS_SOCKET || r.how == continued) {
		return
	}
	s := c.syntax()
	b := fmt.Appendf(nil, "%-7d %s(", c.tid, s.name)
	c.tr.args = len(b)
	for i, arg := range s.args {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = arg(c, r, i, b)
	}
	c.tr.text = append(b, endOfArgs...)
	if c.t.trace != nil {
		c.tr.line = c.t.trace.reserve()
	}
}

const endOfArgs = ") = "

// retract undoes announce: the call has not returned.
func (c *call) retract() {
	if c.tr.line != nil {
		c.t.trace.write(c.tr.line, nil)
	}
	c.tr.line, c.tr.text = nil, nil
}

// record writes the line that was announced. got says that the program has the
// result; it has not if a signal interrupted the call before.
func (c *call) record(r result, got bool) {
	if c.tr.text == nil {
		return
	}
	b := c.tr.text
	switch {
	case !got:
		b = append(b, restart...)
	case r.how == continued:
		b = append(b, "? (executed natively)"...)
	case r.err != 0:
		b = fmt.Appendf(b, "-1 %s (%s)", unix.ErrnoName(r.err), strerror(r.err))
	default:
		b = strconv.AppendInt(b, r.val, 10)
	}
	took := time.Since(c.start)
	if c.tr.watched {
		c.t.observer.Call(c.observed(b, r, took))
	}
	if c.tr.line != nil {
		if got { // when a signal came is not known
			b = fmt.Appendf(b, " <%.6f>", took.Seconds())
		}
		c.t.trace.write(c.tr.line, append(b, '\n'))
	}
	c.tr.line, c.tr.text = nil, nil
}

// interrupted writes the line of a call that waited until a signal came.
func (c *call) interrupted() {
	c.announce(later)
	c.record(later, false)
}

// restart is the result of a call that a signal interrupted, as the kernel has
// it before it begins the call anew or makes it EINTR (signal(7)).
const restart = "? ERESTARTSYS (To be restarted if SA_RESTART is set)"

// strerror is the text of an error, as strerror(3) has it.
func strerror(e unix.Errno) string {
	s := e.Error()
	return strings.ToUpper(s[:1]) + s[1:]
}
