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

	mu    sync.RWMutex
	slots []slot
	free  []int32 // numbers of slots that are not in use
}

// slot is a place for a watched descriptor.
type slot struct {
	h   Handler // nil: free
	use int32   // how often the slot has been used: tells late events of the last user
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
	o := &lookout{epfd: epfd, conn: conn, events: make([]unix.EpollEvent, 128)}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err == nil && set.Count() > 1 {
		o.patience = patience
	}
	go o.run()
	return o, nil
})

// add watches fd.
func (o *lookout) add(fd int, events uint32, h Handler) (Watch, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.free) == 0 {
		o.free = append(o.free, int32(len(o.slots)))
		o.slots = append(o.slots, slot{})
	}
	i := o.free[len(o.free)-1]
	w := Watch{out: o, fd: fd, slot: i, use: o.slots[i].use}
	if err := w.control(unix.EPOLL_CTL_ADD, events); err != nil {
		return Watch{}, err
	}
	o.slots[i].h = h
	o.free = o.free[:len(o.free)-1]
	return w, nil
}

func (o *lookout) remove(w *Watch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.slots[w.slot] = slot{use: w.use + 1}
	o.free = append(o.free, w.slot)
}

// run tells the Handlers what has happened.
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

// look tells the Handlers what has happened, and reports whether anything has.
// Whom they wake runs at once.
func (o *lookout) look() bool {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(o.epfd), uintptr(unsafe.Pointer(&o.events[0])), uintptr(len(o.events)), 0, 0, 0)
	if e != 0 || n == 0 {
		return false
	}
	o.mu.RLock()
	for _, ev := range o.events[:n] {
		if s := &o.slots[ev.Fd]; s.h != nil && s.use == ev.Pad {
			s.h.Ready(ev.Events)
		}
	}
	o.mu.RUnlock()
	runtime.Gosched()
	return true
}
