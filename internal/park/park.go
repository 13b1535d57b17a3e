// Package park waits for descriptors in Go's own poller.
//
// A goroutine that waits in a system call of its own (poll, epoll_wait, a
// blocking read) keeps a processor of the Go scheduler until the system monitor
// takes it away, and with it every goroutine that it has just made runnable
// there; each of those must be stolen by another thread, which takes tens of
// microseconds. A goroutine that is parked lets them run at once.
package park

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lot is a descriptor that goroutines wait for.
type Lot struct {
	file *os.File
	conn syscall.RawConn
}

// New makes a Lot of fd, anything that epoll(7) takes, an epoll instance
// included. It makes fd non-blocking and owns it.
func New(fd int, name string) (*Lot, error) {
	// os.NewFile gives only non-blocking descriptors to the poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l := &Lot{file: os.NewFile(uintptr(fd), name)}
	conn, err := l.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l.conn = conn
	return l, nil
}

// Wait calls ready until it is true, at first at once and then whenever the
// descriptor has become readable. It reports false when the Lot is closed. One
// goroutine waits at a time.
func (l *Lot) Wait(ready func() bool) bool {
	return l.conn.Read(func(uintptr) bool { return ready() }) == nil
}

// Close closes the descriptor and ends Wait.
func (l *Lot) Close() error { return l.file.Close() }
