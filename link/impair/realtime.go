package impair

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/internal/park"
)

// realClock is the machine's monotonic time.
type realClock struct{ origin time.Time }

// RealClock is real time, from now on. Each of its timers is a goroutine, parked
// until a descriptor of timerfd_create(2) becomes readable: Go's own timers are
// late by up to a millisecond in an idle process, because epoll_wait(2) counts
// in these.
func RealClock() Clock { return realClock{time.Now()} }

func (c realClock) Now() time.Duration { return time.Since(c.origin) }

const (
	// minGap is the least time between two calls of a timer. Packets closer
	// together than this are delivered together, late by at most as much.
	minGap = 50 * time.Microsecond
	// maxLead is the most that a timer wakes up early, to wait out the rest
	// without sleeping.
	maxLead = 60 * time.Microsecond
)

type realTimer struct {
	clock realClock
	lot   *park.Lot
	fd    int // of lot, valid until closed
	f     func()
	done  chan struct{}

	mu     sync.Mutex
	at     time.Duration // what Set asks for
	woken  time.Duration // when the descriptor was told to become readable
	last   time.Duration // when f was last called
	lead   time.Duration // how late wakeups have been, of late
	closed bool
}

func (c realClock) NewTimer(f func()) (Timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	lot, err := park.New(fd, "timerfd")
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	t := &realTimer{clock: c, lot: lot, fd: fd, f: f, done: make(chan struct{}), at: never}
	go t.loop()
	return t, nil
}

func (t *realTimer) Set(at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := t.clock.Now()
	at = max(at, t.last+minGap)
	t.at = at
	t.woken = max(now, at-t.lead)
	its := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(t.woken-now, 1)))}
	_ = unix.TimerfdSettime(t.fd, 0, &its, nil) // fails only for bad arguments
}

func (t *realTimer) loop() {
	defer close(t.done)
	expirations := make([]byte, 8)
	expired := func() bool {
		n, err := unix.Read(t.fd, expirations)
		return n == len(expirations) && err == nil
	}
	for t.lot.Wait(expired) {
		if t.wait() {
			t.f()
		}
	}
}

// wait waits for the last microseconds. It reports whether f is to be called.
func (t *realTimer) wait() bool {
	first := true
	for {
		t.mu.Lock()
		now := t.clock.Now()
		if first {
			// Only ordinary lateness is foreseen, not that of a busy machine.
			first = false
			if late := now - t.woken; late >= 0 {
				t.lead += (min(late, maxLead) - t.lead) / 8
			}
		}
		at, closed := t.at, t.closed
		due := at <= now
		if due {
			t.at, t.last = never, now
		}
		t.mu.Unlock()
		switch {
		case closed:
			return false
		case due:
			return true
		case at-now > maxLead+minGap:
			return false // was set anew meanwhile, and the descriptor with it
		}
		runtime.Gosched()
	}
}

func (t *realTimer) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	_ = t.lot.Close()
	<-t.done
}
