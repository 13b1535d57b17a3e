package park

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limit bounds every wait of the tests.
const limit = 10 * time.Second

// pipe is a Lot of the reading end of a pipe, and the writing end.
func pipe(t *testing.T) (l *Lot, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	l, err := New(p[0], "pipe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(p[1])
		l.Close()
	})
	return l, p[1]
}

// taker reads one byte; it is what Wait is given.
func taker(fd int) func() bool {
	return func() bool {
		n, _ := unix.Read(fd, make([]byte, 1))
		return n == 1
	}
}

func send(t *testing.T, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte{1}); err != nil {
		t.Error(err)
	}
}

// within fails the test if f does not end in time.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("not within %v: %s", limit, what)
	}
}

// TestWait: what comes before, during and long after traffic wakes.
func TestWait(t *testing.T) {
	for _, c := range []struct {
		name         string
		first, pause time.Duration
	}{
		{"at once", 0, 0},
		{"dense", 0, patience / 4},
		{"at the edge of patience", 0, patience},
		{"sparse", 20 * time.Millisecond, 20 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			const times = 20
			l, w := pipe(t)
			back, ack := pipe(t)
			var peer sync.WaitGroup
			peer.Go(func() {
				time.Sleep(c.first)
				for range times {
					send(t, w)
					if !back.Wait(taker(back.fd)) {
						t.Error("closed")
					}
					time.Sleep(c.pause)
				}
			})
			within(t, "all", func() {
				for range times {
					if !l.Wait(taker(l.fd)) {
						t.Error("closed")
					}
					send(t, ack)
				}
				peer.Wait()
			})
		})
	}
}

// TestWaitLooksFirst: what was there before Wait, or before the Lot, has no
// edge any more.
func TestWaitLooksFirst(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[1])
	send(t, p[1])
	l, err := New(p[0], "pipe")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	within(t, "before the Lot", func() { l.Wait(taker(p[0])) })
	send(t, p[1])
	send(t, p[1])
	time.Sleep(20 * time.Millisecond)
	within(t, "before Wait", func() { l.Wait(taker(p[0])) })
	within(t, "the second of one edge", func() { l.Wait(taker(p[0])) })
}

// TestRing: Wait looks again without anything to read, and never in vain
// otherwise.
func TestRing(t *testing.T) {
	l, _ := pipe(t)
	var looks atomic.Int32
	var stop atomic.Bool
	done := make(chan bool)
	go func() {
		done <- l.Wait(func() bool {
			looks.Add(1)
			return stop.Load()
		})
	}()
	time.Sleep(20 * time.Millisecond)
	if n := looks.Load(); n != 1 {
		t.Errorf("looked %d times before anything happened, want 1", n)
	}
	stop.Store(true)
	l.Ring()
	l.Ring() // does not block
	select {
	case ok := <-done:
		if !ok {
			t.Error("Wait says closed")
		}
	case <-time.After(limit):
		t.Fatal("not woken")
	}
}

func TestClose(t *testing.T) {
	l, _ := pipe(t)
	done := make(chan bool)
	go func() { done <- l.Wait(func() bool { return false }) }()
	time.Sleep(10 * time.Millisecond)
	within(t, "Close", func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case ok := <-done:
		if ok {
			t.Error("Wait says ready")
		}
	case <-time.After(limit):
		t.Fatal("Wait goes on")
	}
	if _, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the descriptor is open: %v", err)
	}
	if err := l.Close(); !errors.Is(err, unix.EBADF) {
		t.Errorf("second Close: %v", err)
	}
	within(t, "Wait after Close", func() {
		if l.Wait(func() bool { t.Error("looked at a closed descriptor"); return true }) {
			t.Error("Wait says ready")
		}
	})
	l.Ring()
}

// TestCloseWaits: the descriptor stays open while Wait's function uses it.
func TestCloseWaits(t *testing.T) {
	l, _ := pipe(t)
	in, out := make(chan struct{}), make(chan struct{})
	go l.Wait(func() bool {
		close(in)
		<-out
		if _, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("closed while in use: %v", err)
		}
		return true
	})
	<-in
	closed := make(chan struct{})
	go func() {
		l.Close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("Close did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	close(out)
	select {
	case <-closed:
	case <-time.After(limit):
		t.Fatal("Close does not end")
	}
}

// TestNewErrors: a descriptor that is refused stays the caller's.
func TestNewErrors(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := New(int(f.Fd()), "file"); !errors.Is(err, unix.EPERM) { // epoll(7) takes no files
		t.Errorf("a file: %v", err)
	}
	if _, err := f.WriteString("open"); err != nil {
		t.Error(err)
	}
	if _, err := New(-1, "nothing"); !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: %v", err)
	}
}

// TestEpoll: an epoll instance is a descriptor as well.
func TestEpoll(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(ep, "epoll")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, p[0], &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(5 * time.Millisecond)
		send(t, p[1])
	}()
	within(t, "an event", func() {
		l.Wait(func() bool {
			n, _ := unix.EpollWait(ep, make([]unix.EpollEvent, 1), 0)
			return n == 1
		})
	})
}

// TestMany: Lots that come and go while others wait get only their own.
func TestMany(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				var p [2]int
				if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
					t.Error(err)
					return
				}
				l, err := New(p[0], "pipe")
				if err != nil {
					t.Error(err)
					return
				}
				go send(t, p[1])
				if !l.Wait(taker(p[0])) {
					t.Error("closed")
				}
				l.Close()
				unix.Close(p[1])
			}
		})
	}
	within(t, "all", wg.Wait)
}

// TestIdle: where nothing comes, nothing looks, whatever was left unread.
func TestIdle(t *testing.T) {
	l, w := pipe(t)
	_, unread := pipe(t)
	send(t, unread)
	for range 50 { // dense traffic first
		send(t, w)
		within(t, "traffic", func() { l.Wait(taker(l.fd)) })
	}
	go l.Wait(taker(l.fd))
	time.Sleep(20 * time.Millisecond)
	const pause = 300 * time.Millisecond
	before := used(t)
	time.Sleep(pause)
	if d := used(t) - before; d > pause/5 {
		t.Errorf("%v of processor time in %v of idleness", d, pause)
	}
}

// used is the processor time of the process so far.
func used(t *testing.T) time.Duration {
	t.Helper()
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
