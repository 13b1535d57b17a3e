package tracer

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Trace writes a line for every call on a socket of the stack, as strace(1)
// does: thread, call with decoded arguments, result, time taken.
type Trace struct {
	mu sync.Mutex
	w  io.Writer
}

// NewTrace writes to w.
func NewTrace(w io.Writer) *Trace { return &Trace{w: w} }

// callTrace is what a traced call remembers for its line.
type callTrace struct {
	ours  bool     // the call concerns a socket of the stack
	addr  sockaddr // given or returned
	addrs int      // how many were
	value []byte   // of an option
}

func (c *call) traceAddr(sa sockaddr) {
	if c.t.trace != nil {
		c.tr.addr = sa
		c.tr.addrs++
	}
}

func (c *call) traceValue(val []byte) {
	if c.t.trace != nil {
		c.tr.value = append([]byte{}, val...)
	}
}

// line is the line of a call, without time; it must be made before the program
// goes on, while its memory is as the call left it. It is empty for calls on
// descriptors that are the kernel's.
func (c *call) line(r result) []byte {
	if !c.tr.ours && (c.nr != unix.SYS_SOCKET || r.how == continued) {
		return nil
	}
	s := syntaxOf(c.nr)
	b := fmt.Appendf(nil, "%-7d %s(", c.tid, s.name)
	for i, arg := range s.args {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = arg(c, r, i, b)
	}
	b = append(b, ") = "...)
	switch {
	case r.how == continued:
		b = append(b, "? (executed natively)"...)
	case r.err != 0:
		b = fmt.Appendf(b, "-1 %s (%s)", unix.ErrnoName(r.err), r.err.Error())
	default:
		b = strconv.AppendInt(b, r.val, 10)
	}
	return b
}

func (t *Trace) write(line []byte, d time.Duration) {
	if line == nil {
		return
	}
	line = fmt.Appendf(line, " <%.6f>\n", d.Seconds())
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.w.Write(line) // the program runs on, traced or not
}
