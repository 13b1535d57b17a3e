package park

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Handler is told what happens to a descriptor.
type Handler interface {
	// Ready is called with epoll events, from one goroutine for all Handlers:
	// it must not block, nor add or remove a Watch.
	Ready(events uint32)
}

// Watch is a descriptor whose events a Handler is told.
type Watch struct {
	out  *lookout
	fd   int
	slot int32
	use  int32
}

// Add has h told of the events of fd, as epoll_ctl(2) takes them.
func Add(fd int, events uint32, h Handler) (Watch, error) {
	out, err := theLookout()
	if err != nil {
		return Watch{}, err
	}
	return out.add(fd, events, h)
}

// Set changes the events.
func (w *Watch) Set(events uint32) error { return w.control(unix.EPOLL_CTL_MOD, events) }

// Remove ends the Watch: the Handler is not called after it has returned. The
// caller closes the descriptor, which takes it out of the epoll instance.
func (w *Watch) Remove() { w.out.remove(w) }

func (w *Watch) control(op int, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: w.slot, Pad: w.use}
	if err := unix.EpollCtl(w.out.epfd, op, w.fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}
