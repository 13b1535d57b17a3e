package park

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is how long the lookout looks again before it sleeps, while traffic
// flows: longer than a request takes to be answered over a short wire.
const patience = 200 * time.Microsecond

// lookout watches the descriptors of all Lots by an epoll instance.
type lookout struct {
	epfd     int
	conn     syscall.RawConn // of epfd, in the runtime's poller: where it sleeps
	patience time.Duration   // 0: never looks again
	events   []unix.EpollEvent

	mu   sync.RWMutex
	lots map[int32]*Lot
	last int32
}

// theLookout is the process's, as the runtime's poller is; it lasts as long.
var theLookout = sync.OnceValues(func() (*lookout, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// os.NewFile gives only non-blocking descriptors to the poller.
	if err := unix.SetNonblock(epfd, true); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	conn, err := os.NewFile(uintptr(epfd), "epoll").SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	o := &lookout{epfd: epfd, conn: conn, events: make([]unix.EpollEvent, 64), lots: make(map[int32]*Lot)}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err == nil && set.Count() > 1 {
		o.patience = patience
	}
	go o.run()
	return o, nil
})

// add watches the Lot's descriptor. Edges are enough: whoever waits looks
// first.
func (o *lookout) add(l *Lot) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	l.id = o.last
	o.lots[l.id] = l
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: l.id}
	if err := unix.EpollCtl(o.epfd, unix.EPOLL_CTL_ADD, l.fd, &ev); err != nil {
		delete(o.lots, l.id)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (o *lookout) remove(l *Lot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = unix.EpollCtl(o.epfd, unix.EPOLL_CTL_DEL, l.fd, nil)
	delete(o.lots, l.id)
}

// run rings the Lots whose descriptors have become readable.
//
// It sleeps when nothing has come for its patience, and at once when what came
// last had been slept for longer than that: then traffic is too sparse to be
// worth a processor.
func (o *lookout) run() {
	dense := false
	for {
		since := time.Now()
		for dense {
			if o.look() {
				since = time.Now()
				continue
			}
			if time.Since(since) > o.patience {
				break
			}
			// Others on this processor come first: the program that was
			// answered a moment ago, perhaps.
			_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			runtime.Gosched()
		}
		if err := o.conn.Read(func(uintptr) bool { return o.look() }); err != nil {
			return
		}
		dense = time.Since(since) < 2*o.patience
	}
}

// look rings whoever has something to read, and reports whether anyone has. It
// lets them run at once.
func (o *lookout) look() bool {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(o.epfd), uintptr(unsafe.Pointer(&o.events[0])), uintptr(len(o.events)), 0, 0, 0)
	if e != 0 || n == 0 {
		return false
	}
	o.mu.RLock()
	for _, ev := range o.events[:n] {
		if l := o.lots[ev.Fd]; l != nil {
			l.Ring()
		}
	}
	o.mu.RUnlock()
	runtime.Gosched()
	return true
}
