package fdtable

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"unsafe"

	"github.com/alptrace/alptrace/internal/park"
	"golang.org/x/sys/unix"
)

// Watch tells of the last close of stand-ins.
//
// The watch is on the stand-in's inode in sockfs, reached by the magic link in
// /proc/self/fd. A socket has one open file whatever dup, fork or SCM_RIGHTS
// do, so IN_CLOSE (inotify(7)) comes exactly once, when the last reference is
// gone, and the watch goes with the inode.
type Watch struct {
	fd    int
	lot   *park.Lot // of fd
	mu    sync.Mutex
	funcs map[int32]func()

	reading sync.Mutex // held while events are read and acted on
	buf     [64 * unix.SizeofInotifyEvent]byte
}

// NewWatch starts watching. It fails where the user's inotify instances
// (fs.inotify.max_user_instances) are used up.
func NewWatch() (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w (fs.inotify.max_user_instances)", err)
	}
	lot, err := park.New(fd, "inotify")
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	w := &Watch{fd: fd, lot: lot, funcs: make(map[int32]func())}
	go w.loop()
	return w, nil
}

// Add calls closed, once, when the last descriptor for the socket fd is closed,
// this one included. A second Add for the same socket replaces the first.
// ENOSPC when fs.inotify.max_user_watches is reached.
func (w *Watch) Add(fd int, closed func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, err := unix.InotifyAddWatch(w.fd, "/proc/self/fd/"+strconv.Itoa(fd), unix.IN_CLOSE)
	if err != nil {
		return fmt.Errorf("inotify_add_watch: %w", err)
	}
	w.funcs[int32(wd)] = closed
	return nil
}

// Close ends the watch.
func (w *Watch) Close() { _ = w.lot.Close() }

func (w *Watch) loop() {
	w.lot.Wait(func() bool {
		w.Sync()
		return false
	})
}

// Sync acts on every close that has happened before it was called. The kernel
// queues the event before close(2) returns to the program, so whatever the
// program does after a close finds it done.
func (w *Watch) Sync() {
	w.reading.Lock()
	defer w.reading.Unlock()
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(w.fd), uintptr(unsafe.Pointer(&w.buf[0])), uintptr(len(w.buf)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 || n == 0 {
			return
		}
		for _, f := range w.due(w.buf[:n]) {
			f()
		}
	}
}

// due takes the functions that the events in b call for.
func (w *Watch) due(b []byte) (due []func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		if f := w.funcs[wd]; f != nil && mask&(unix.IN_CLOSE|unix.IN_IGNORED) != 0 {
			delete(w.funcs, wd)
			due = append(due, f)
		}
		b = b[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])):]
	}
	return due
}
