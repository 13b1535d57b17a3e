package tracer

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// traced is a call of thread tid on a socket of the stack.
func traced(t *Tracer, tid uint32, nr int32, args ...uint64) *call {
	c := &call{t: t, notification: notification{tid: tid, nr: nr}, start: time.Now()}
	copy(c.args[:], args)
	c.tr.ours = true
	return c
}

func TestTraceLine(t *testing.T) {
	for _, c := range []struct {
		name string
		r    result
		got  bool
		want string
	}{
		{"value", value(7), true, `listen\(5, 128\) = 7 <\d+\.\d{6}>`},
		{"refused", fail(unix.ECONNREFUSED), true, `listen\(5, 128\) = -1 ECONNREFUSED \(Connection refused\) <\d+\.\d{6}>`},
		{"in progress", fail(unix.EINPROGRESS), true, `listen\(5, 128\) = -1 EINPROGRESS \(Operation now in progress\) <\d+\.\d{6}>`},
		{"again", fail(unix.EAGAIN), true, `listen\(5, 128\) = -1 EAGAIN \(Resource temporarily unavailable\) <\d+\.\d{6}>`},
		{"natively", toKernel, true, `listen\(5, 128\) = \? \(executed natively\) <\d+\.\d{6}>`},
		{"interrupted", success, false, `listen\(5, 128\) = \? ERESTARTSYS \(To be restarted if SA_RESTART is set\)`},
		{"killed", fail(unix.EBADF), false, `listen\(5, 128\) = \? ERESTARTSYS \(To be restarted if SA_RESTART is set\)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			tr := &Tracer{trace: NewTrace(&b)}
			l := traced(tr, 42, unix.SYS_LISTEN, 5, 128)
			l.announce(c.r)
			l.record(c.r, c.got)
			l.record(c.r, c.got) // nothing more to write
			if want := `^42      ` + c.want + "\n$"; !regexp.MustCompile(want).MatchString(b.String()) {
				t.Errorf("got %q, want %s", b.String(), want)
			}
		})
	}
}

func TestTraceForeign(t *testing.T) {
	var b strings.Builder
	tr := &Tracer{trace: NewTrace(&b)}
	for _, c := range []struct {
		nr   int32
		r    result
		line bool
	}{
		{unix.SYS_LISTEN, toKernel, false},
		{unix.SYS_LISTEN, fail(unix.EAFNOSUPPORT), false},
		{unix.SYS_SOCKET, toKernel, false},
		{unix.SYS_SOCKET, fail(unix.EMFILE), true},
	} {
		b.Reset()
		l := traced(tr, 1, c.nr)
		l.tr.ours = false
		l.announce(c.r)
		l.record(c.r, true)
		if got := b.Len() > 0; got != c.line {
			t.Errorf("call %d, %+v: line %q", c.nr, c.r, b.String())
		}
	}
}

// TestTraceOrder: a line stands where its call returned, however late it is
// written.
func TestTraceOrder(t *testing.T) {
	var b strings.Builder
	tr := &Tracer{trace: NewTrace(&b)}
	call := func(fd uint64) *call { return traced(tr, 1, unix.SYS_LISTEN, fd, 1) }
	first, second, third, fourth := call(1), call(2), call(3), call(4)
	first.announce(success)
	second.announce(success)
	third.announce(success)
	third.record(success, true)
	if b.Len() != 0 {
		t.Fatalf("written before its turn: %q", b.String())
	}
	second.retract() // it did not return after all
	fourth.announce(success)
	fourth.record(success, true)
	first.record(success, true)
	second.announce(success)
	second.record(success, true)
	var got []string
	for _, l := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		got = append(got, regexp.MustCompile(`\((\d)`).FindStringSubmatch(l)[1])
	}
	if s := strings.Join(got, " "); s != "1 3 4 2" {
		t.Errorf("order %s, want 1 3 4 2", s)
	}
	if n := len(tr.trace.lines); n != 0 {
		t.Errorf("%d lines are still reserved", n)
	}
}

// TestTraceInterrupted: a call that waits has its line when its thread makes
// another, before that one's.
func TestTraceInterrupted(t *testing.T) {
	var b strings.Builder
	tr := &Tracer{trace: NewTrace(&b), waiters: map[uint32]*waiter{}}
	s := &socket{t: tr}
	w := traced(tr, 9, unix.SYS_CONNECT, 3, 0, 16)
	s.mu.Lock()
	s.wait(w, 0, 0, func(*call) result { return later })
	s.mu.Unlock()
	next := traced(tr, 9, unix.SYS_LISTEN, 4, 1)
	next.cancel()
	next.announce(success)
	next.record(success, true)
	next.cancel() // it waits no more
	want := regexp.MustCompile(`^9       connect\(3, NULL, 16\) = \? ERESTARTSYS \(To be restarted if SA_RESTART is set\)
9       listen\(4, 1\) = 0 <.*>
$`)
	if !want.MatchString(b.String()) {
		t.Errorf("got %q", b.String())
	}
	if len(s.waiters) != 0 {
		t.Errorf("%d waiters are left", len(s.waiters))
	}
}

func TestTraceOff(t *testing.T) {
	c := traced(&Tracer{}, 1, unix.SYS_LISTEN)
	c.announce(success)
	c.record(success, true)
	c.interrupted()
	if c.tr.line != nil || c.tr.text != nil {
		t.Error("a line without --trace")
	}
}
