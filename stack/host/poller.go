package host

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watched are the events asked for: everything that Readiness can show.
const watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI |
	unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLET

// poller is an epoll instance and the goroutine that takes its events. The
// goroutine waits in the Go runtime's own poller, of which the instance is a
// member, and not in epoll_wait(2): so the goroutine that an event makes
// runnable can go on in the same thread, with no thread woken in between.
type poller struct {
	file *os.File
	conn syscall.RawConn
	done chan struct{}
}

// newPoller starts a poller; lookup gives the endpoint that an identity is of.
func newPoller(lookup func(uint64) *Endpoint) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set epoll descriptor non-blocking: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("poll the epoll descriptor: %w", err)
	}
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("epoll descriptor: %w", err)
	}
	p := &poller{file: file, conn: conn, done: make(chan struct{})}
	go p.run(lookup)
	return p, nil
}

// run takes events until the poller is closed.
func (p *poller) run(lookup func(uint64) *Endpoint) {
	defer close(p.done)
	events := make([]unix.EpollEvent, 128)
	// The runtime watches edges: each turn takes all events before it waits.
	_ = p.conn.Read(func(fd uintptr) bool {
		for {
			n, err := unix.EpollWait(int(fd), events, 0)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				return false
			}
			for _, ev := range events[:n] {
				id := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
				if ep := lookup(id); ep != nil {
					ep.ready(ev.Events)
				}
			}
		}
	})
}

// add watches a socket. An event follows at once if it is ready already.
func (p *poller) add(fd int, id uint64) error {
	ev := unix.EpollEvent{Events: watched, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	var err error
	cerr := p.conn.Control(func(epfd uintptr) {
		err = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_ADD, fd, &ev)
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// remove ends add, so that closing fd closes the socket at once: epoll_wait, while
// it looks at a descriptor, keeps its file open. It does nothing for a
// descriptor that was not added.
func (p *poller) remove(fd int) {
	_ = p.conn.Control(func(epfd uintptr) {
		_ = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_DEL, fd, nil)
	})
}

// close ends the goroutine and waits for it.
func (p *poller) close() error {
	err := p.file.Close()
	<-p.done
	return err
}
