// Package park waits for descriptors, quickly.
//
// A goroutine that waits in a system call of its own (poll, epoll_wait, a
// blocking read) keeps a processor of the Go scheduler until the system monitor
// takes it away, and with it every goroutine that it has just made runnable
// there; each of those must be stolen by another thread, which takes tens of
// microseconds. A goroutine that is parked lets them run at once.
//
// All descriptors are watched by one goroutine, the lookout (lookout.go). A
// [Lot] is one that a goroutine waits for, a [Watch] one with a function. While
// traffic flows it looks again and again instead of sleeping: to be woken takes
// a thread 30 microseconds and more where the waker runs on another processor,
// several times what it takes to serve a packet.
package park

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Lot is a descriptor that a goroutine waits for.
type Lot struct {
	fd     int
	watch  Watch
	bell   chan struct{} // rung when the descriptor may have become readable
	closed atomic.Bool
	once   sync.Once
	inUse  sync.Mutex // held by Wait: the number of a closed descriptor is soon another's
}

// New makes a Lot of fd, anything that epoll(7) takes, an epoll instance
// included. It makes fd non-blocking and owns it.
func New(fd int, name string) (*Lot, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l := &Lot{fd: fd, bell: make(chan struct{}, 1)}
	var err error
	// Edges are enough: whoever waits looks first.
	if l.watch, err = Add(fd, unix.EPOLLIN|unix.EPOLLET, l); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// Wait calls ready until it is true, at first at once and then whenever the
// descriptor has become readable. It reports false when the Lot is closed. One
// goroutine waits at a time.
func (l *Lot) Wait(ready func() bool) bool {
	l.inUse.Lock()
	defer l.inUse.Unlock()
	for !l.closed.Load() {
		if ready() {
			return true
		}
		<-l.bell
	}
	return false
}

// Ring makes Wait look again. It does not block.
func (l *Lot) Ring() {
	select {
	case l.bell <- struct{}{}:
	default: // it has not looked since the last ring
	}
}

// Ready rings; it is part of [Handler].
func (l *Lot) Ready(uint32) { l.Ring() }

// Close ends Wait, and then closes the descriptor. It must not be called by
// Wait's function.
func (l *Lot) Close() error {
	err := error(unix.EBADF)
	l.once.Do(func() {
		l.watch.Remove()
		l.closed.Store(true)
		l.Ring()
		l.inUse.Lock()
		defer l.inUse.Unlock()
		err = unix.Close(l.fd)
	})
	return err
}
