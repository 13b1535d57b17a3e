package host

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/internal/sockaddr"
	"golang.org/x/sys/unix"
)

// Endpoint is one socket of the host's kernel. After Close or Abort its methods
// answer EBADF.
//
// Locks are taken in the order rmu, wmu, fdmu. None is held while the function
// given to Notify runs.
type Endpoint struct {
	engine *Engine
	id     uint64
	family int
	typ    int

	notify  atomic.Pointer[func()]
	pending atomic.Uint32 // an error met after bytes had been moved; 0 if none

	// fdmu keeps the descriptor open while a call uses it: calls hold it for
	// reading, release for writing.
	fdmu    sync.RWMutex
	fd      int // -1 once released
	watched atomic.Bool

	rmu   sync.Mutex
	in    []byte  // read from the socket, not taken by ReadTo's writer yet
	inBuf *buffer // what in is a part of

	wmu     sync.Mutex
	out     []byte      // taken from WriteFrom's source, not sent yet
	outBuf  *buffer     // what out is a part of
	hasOut  atomic.Bool // len(out) > 0, for readers without the lock
	probe   bool        // the next WriteFrom asks the kernel before it takes bytes
	shutWR  bool        // SHUT_WR waits for out to be sent
	closing bool        // Close waits for out to be sent
	timer   *time.Timer // while closing
}

var _ stack.Endpoint = (*Endpoint)(nil)

// enter gives the descriptor and keeps it open until leave; false if it has
// been released, and then there is nothing to leave.
func (e *Endpoint) enter() (int, bool) {
	e.fdmu.RLock()
	if e.fd < 0 {
		e.fdmu.RUnlock()
		return -1, false
	}
	return e.fd, true
}

func (e *Endpoint) leave() { e.fdmu.RUnlock() }

// do runs one call on the descriptor.
func (e *Endpoint) do(call func(fd int) stack.Errno) stack.Errno {
	fd, ok := e.enter()
	if !ok {
		return unix.EBADF
	}
	defer e.leave()
	return call(fd)
}

// watch puts the socket into the engine's epoll instance, if it is not there.
func (e *Endpoint) watch(fd int) {
	if e.watched.Swap(true) {
		return
	}
	if e.engine.poll.add(fd, e.id) != nil {
		e.watched.Store(false) // the engine is closed, or no memory: tried again next time
	}
}

// ready is called by the poller's goroutine when the socket has changed.
func (e *Endpoint) ready(events uint32) {
	if e.hasOut.Load() && events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLIN) != 0 {
		e.flushReady()
	}
	e.changed()
}

// changed calls the function given to Notify.
func (e *Endpoint) changed() {
	if f := e.notify.Load(); f != nil {
		(*f)()
	}
}

// Notify sets the function called after each change. A call that has begun may
// still be running when Notify returns.
func (e *Endpoint) Notify(f func()) {
	if f == nil {
		e.notify.Store(nil)
		return
	}
	e.notify.Store(&f)
	if fd, ok := e.enter(); ok {
		defer e.leave()
		e.watch(fd)
	}
}

// Bind is bind(2).
func (e *Endpoint) Bind(a stack.Addr) stack.Errno {
	return e.do(func(fd int) stack.Errno { return sysBind(fd, sockaddr.Encode(a, e.family)) })
}

// Connect is connect(2) on a non-blocking socket.
func (e *Endpoint) Connect(a stack.Addr) stack.Errno {
	if errno := stack.Errno(e.pending.Swap(0)); errno != 0 {
		return errno
	}
	return e.do(func(fd int) stack.Errno { return sysConnect(fd, sockaddr.Encode(a, e.family)) })
}

// Disconnect is connect(2) with AF_UNSPEC. A stream is reset, as Linux does,
// and what was left to send is dropped.
func (e *Endpoint) Disconnect() stack.Errno {
	e.rmu.Lock()
	defer e.rmu.Unlock()
	e.wmu.Lock()
	defer e.wmu.Unlock()
	fd, ok := e.enter()
	if !ok {
		return unix.EBADF
	}
	defer e.leave()
	errno := sysConnect(fd, sockaddr.Unspec())
	if errno == 0 {
		e.pending.Store(0)
		e.dropIn()
		e.dropOut()
		e.probe = true
		e.shutWR = false
	}
	return errno
}

// Listen is listen(2).
func (e *Endpoint) Listen(backlog int) stack.Errno {
	return e.do(func(fd int) stack.Errno { return sysListen(fd, backlog) })
}

// Accept is accept4(2).
func (e *Endpoint) Accept() (stack.Endpoint, stack.Errno) {
	fd, ok := e.enter()
	if !ok {
		return nil, unix.EBADF
	}
	defer e.leave()
	conn, errno := sysAccept(fd)
	if errno != 0 {
		return nil, errno
	}
	return e.engine.adopt(conn, e.family, e.typ)
}

// Shutdown is shutdown(2). If bytes wait to be sent the FIN follows them, and
// WriteFrom answers EPIPE from now on.
func (e *Endpoint) Shutdown(how int) stack.Errno {
	e.wmu.Lock()
	defer e.wmu.Unlock()
	fd, ok := e.enter()
	if !ok {
		return unix.EBADF
	}
	defer e.leave()
	if how == unix.SHUT_WR || how == unix.SHUT_RDWR {
		e.probe = true
		if e.hasOut.Load() && e.flush(fd) == unix.EAGAIN {
			e.shutWR = true
			if how == unix.SHUT_RDWR {
				return sysShutdown(fd, unix.SHUT_RD)
			}
			return 0
		}
	}
	return sysShutdown(fd, how)
}

// LocalAddr is getsockname(2).
func (e *Endpoint) LocalAddr() stack.Addr {
	fd, ok := e.enter()
	if !ok {
		return stack.Addr{}
	}
	defer e.leave()
	sa, errno := sysName(unix.SYS_GETSOCKNAME, fd)
	if errno != 0 {
		return stack.Addr{}
	}
	a, _ := sockaddr.Decode(&sa)
	return a
}

// PeerAddr is getpeername(2).
func (e *Endpoint) PeerAddr() (stack.Addr, stack.Errno) {
	fd, ok := e.enter()
	if !ok {
		return stack.Addr{}, unix.EBADF
	}
	defer e.leave()
	sa, errno := sysName(unix.SYS_GETPEERNAME, fd)
	if errno != 0 {
		return stack.Addr{}, errno
	}
	a, _ := sockaddr.Decode(&sa)
	return a, 0
}

// pollMask are the events that Readiness shows (POLLERR and POLLHUP always).
const pollMask = unix.POLLIN | unix.POLLOUT | unix.POLLPRI | unix.POLLRDHUP

// Readiness is poll(2), with the bytes that the endpoint itself holds.
func (e *Endpoint) Readiness() uint32 {
	fd, ok := e.enter()
	if !ok {
		return unix.POLLNVAL
	}
	mask, errno := sysPoll(fd, pollMask)
	e.leave()
	if errno != 0 {
		return unix.POLLERR
	}
	if e.typ != unix.SOCK_STREAM {
		return mask
	}
	if e.pending.Load() != 0 {
		mask |= unix.POLLERR | unix.POLLIN
	}
	if mask&unix.POLLIN == 0 && e.held() > 0 {
		mask |= unix.POLLIN
	}
	if e.hasOut.Load() {
		mask = e.outMask(mask)
	}
	return mask
}

// outMask corrects a mask for a stream that has bytes left to send: there is no
// room, unless it is shut down or broken.
func (e *Endpoint) outMask(mask uint32) uint32 {
	e.wmu.Lock()
	shut := e.shutWR
	e.wmu.Unlock()
	switch {
	case shut:
		mask |= unix.POLLOUT
		if mask&unix.POLLRDHUP != 0 {
			mask |= unix.POLLHUP
		}
	case mask&(unix.POLLERR|unix.POLLHUP) == 0:
		mask &^= unix.POLLOUT
	}
	return mask
}

// held is how many received bytes the endpoint holds.
func (e *Endpoint) held() int {
	e.rmu.Lock()
	defer e.rmu.Unlock()
	return len(e.in)
}

// Queued is SIOCINQ and SIOCOUTQ, with the bytes that the endpoint holds.
func (e *Endpoint) Queued() (in, out int) {
	fd, ok := e.enter()
	if !ok {
		return 0, 0
	}
	if n, errno := sysIoctlInt(fd, unix.SIOCINQ); errno == 0 {
		in = n
	}
	if n, errno := sysIoctlInt(fd, unix.SIOCOUTQ); errno == 0 {
		out = n
	}
	e.leave()
	if e.typ == unix.SOCK_STREAM {
		in += e.held()
		e.wmu.Lock()
		out += len(e.out)
		e.wmu.Unlock()
	}
	return in, out
}
