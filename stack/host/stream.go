package host

import (
	"io"
	"sync"
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// bufSize is the size of a buffer: the largest datagram fits.
const bufSize = 64 << 10

type buffer [bufSize]byte

// buffers are shared by all engines; an idle endpoint has none.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

// ReadTo moves received bytes into w. What w does not take stays in the
// endpoint and is the first that the next call gives; if w takes nothing at all
// the answer is EAGAIN, for (0, 0) is the peer's FIN.
//
// It stops after a read that did not fill the buffer, so a FIN or an error that
// follows data is seen by the next call: call until EAGAIN, (0, 0) or an error.
func (e *Endpoint) ReadTo(w io.Writer) (int, stack.Errno) {
	e.rmu.Lock()
	defer e.rmu.Unlock()
	fd, ok := e.enter()
	if !ok {
		return 0, unix.EBADF
	}
	defer e.leave()
	total := 0
	if len(e.in) > 0 {
		total = e.give(w)
		if len(e.in) > 0 {
			return moved(total)
		}
	}
	buf := getBuffer()
	defer func() {
		if buf != nil {
			buffers.Put(buf)
		}
	}()
	for {
		if total == 0 {
			if errno := stack.Errno(e.pending.Swap(0)); errno != 0 {
				return 0, errno
			}
		}
		n, errno := sysRead(fd, buf[:])
		if errno != 0 {
			if total == 0 {
				return 0, errno
			}
			if errno != unix.EAGAIN {
				e.pending.Store(uint32(errno))
			}
			return total, 0
		}
		if n == 0 {
			return total, 0
		}
		e.in, e.inBuf = buf[:n], buf
		buf = nil
		took := e.give(w)
		total += took
		if took < n {
			return moved(total)
		}
		if n < bufSize {
			return total, 0
		}
		buf = getBuffer()
	}
}

// moved is the answer of ReadTo when the writer is full.
func moved(n int) (int, stack.Errno) {
	if n == 0 {
		return 0, unix.EAGAIN
	}
	return n, 0
}

// give writes the bytes that the endpoint holds to w and keeps the rest. The
// error of a short write is the writer's own affair. With rmu.
func (e *Endpoint) give(w io.Writer) int {
	n, _ := w.Write(e.in)
	n = max(0, min(n, len(e.in)))
	e.in = e.in[n:]
	if len(e.in) == 0 {
		e.dropIn()
	}
	return n
}

// dropIn forgets received bytes. With rmu.
func (e *Endpoint) dropIn() {
	if e.inBuf != nil {
		buffers.Put(e.inBuf)
	}
	e.in, e.inBuf = nil, nil
}

// WriteFrom moves bytes from r into the socket. Bytes taken from r that the
// socket has no room for, less than 64 KiB, stay in the endpoint and are
// counted as moved; the poller sends them as soon as there is room, and until
// then WriteFrom answers EAGAIN and Readiness shows no POLLOUT. If the
// connection breaks first they are lost, as those in the kernel's queue are.
func (e *Endpoint) WriteFrom(r stack.Source) (int, stack.Errno) {
	e.wmu.Lock()
	defer e.wmu.Unlock()
	fd, ok := e.enter()
	if !ok {
		return 0, unix.EBADF
	}
	defer e.leave()
	if errno := e.writable(fd); errno != 0 {
		return 0, errno
	}
	buf := getBuffer()
	total := 0
	for r.Len() > 0 {
		n, _ := r.Read(buf[:min(r.Len(), bufSize)])
		if n <= 0 {
			break
		}
		sent, errno := sysWrite(fd, buf[:n])
		total += n
		if errno == unix.EINPROGRESS { // TCP_FASTOPEN_CONNECT: the SYN has gone without data
			errno = unix.EAGAIN
		}
		if errno != 0 && errno != unix.EAGAIN {
			e.probe = true
			buffers.Put(buf)
			if total == n { // nothing has been sent by this call
				return 0, errno
			}
			if errno != unix.EPIPE { // EPIPE comes again by itself
				e.pending.Store(uint32(errno))
			}
			return total, 0
		}
		if sent < n {
			e.out, e.outBuf = buf[sent:n], buf
			e.hasOut.Store(true)
			e.probe = true
			e.watch(fd)
			// Again, now that the poller knows of the bytes: the event of a
			// peer that has just made room is not missed.
			e.flush(fd)
			return total, 0
		}
		e.probe = false
	}
	buffers.Put(buf)
	return total, 0
}

// writable is 0 if WriteFrom may take bytes from its source. It asks the kernel
// only where the last write does not tell. With wmu.
func (e *Endpoint) writable(fd int) stack.Errno {
	if errno := stack.Errno(e.pending.Swap(0)); errno != 0 {
		return errno
	}
	if e.shutWR || e.closing {
		return unix.EPIPE
	}
	if e.hasOut.Load() {
		if errno := e.flush(fd); errno == unix.EAGAIN {
			return errno
		}
		if errno := stack.Errno(e.pending.Swap(0)); errno != 0 {
			return errno
		}
	}
	if !e.probe {
		return 0
	}
	// A send of no bytes tells a state that cannot send, and nothing else.
	if _, errno := sysWrite(fd, nil); errno == unix.EINPROGRESS {
		return unix.EAGAIN
	} else if errno != 0 {
		return errno
	}
	mask, errno := sysPoll(fd, unix.POLLOUT)
	if errno == 0 && mask&(unix.POLLOUT|unix.POLLERR|unix.POLLHUP) == 0 {
		return unix.EAGAIN
	}
	return errno
}

// flush sends what WriteFrom left over: 0 when all is sent, EAGAIN when the
// socket is full, another error when the bytes are lost, and then the error is
// kept for the next call that reports one. With wmu, inside enter.
func (e *Endpoint) flush(fd int) stack.Errno {
	for len(e.out) > 0 {
		n, errno := sysWrite(fd, e.out)
		if errno == unix.EINPROGRESS {
			errno = unix.EAGAIN
		}
		if errno == unix.EAGAIN {
			return errno
		}
		if errno != 0 {
			e.dropOut()
			if errno != unix.EPIPE {
				e.pending.Store(uint32(errno))
			}
			return errno
		}
		e.out = e.out[n:]
	}
	e.dropOut()
	if e.shutWR {
		e.shutWR = false
		return sysShutdown(fd, unix.SHUT_WR)
	}
	return 0
}

// dropOut forgets bytes left to send. With wmu.
func (e *Endpoint) dropOut() {
	if e.outBuf != nil {
		buffers.Put(e.outBuf)
	}
	e.out, e.outBuf = nil, nil
	e.hasOut.Store(false)
}

// flushReady goes on sending when the socket has room again.
func (e *Endpoint) flushReady() {
	e.wmu.Lock()
	defer e.wmu.Unlock()
	fd, ok := e.enter()
	if !ok {
		return
	}
	before := len(e.out)
	errno := e.flush(fd)
	// Data for a closed endpoint resets it, as it resets an orphan of the kernel.
	unread, _ := sysIoctlInt(fd, unix.SIOCINQ)
	e.leave()
	if !e.closing {
		return
	}
	if errno != unix.EAGAIN || unread > 0 {
		e.release(unread > 0)
		return
	}
	if len(e.out) < before {
		e.timer.Reset(e.engine.cfg.LingerTimeout)
	}
}

// Close is close(2), without its wait for SO_LINGER. Bytes that WriteFrom left
// over are sent first, for as long as the peer takes any within the engine's
// LingerTimeout. Received bytes that were not taken make it a reset.
func (e *Endpoint) Close() {
	e.notify.Store(nil)
	e.rmu.Lock()
	unread := len(e.in) > 0
	e.dropIn()
	e.rmu.Unlock()
	e.wmu.Lock()
	defer e.wmu.Unlock()
	if e.closing {
		return
	}
	if !unread && e.hasOut.Load() && e.lingers() {
		return
	}
	e.release(unread)
}

// lingers decides whether a socket that is to be closed must stay open for the
// bytes left to send, and if so makes it stay. With wmu.
func (e *Endpoint) lingers() bool {
	fd, ok := e.enter()
	if !ok {
		return false
	}
	defer e.leave()
	if n, _ := sysIoctlInt(fd, unix.SIOCINQ); n > 0 || lingerZero(fd) {
		return false // the kernel resets it
	}
	if e.flush(fd) != unix.EAGAIN || !e.engine.linger(e) {
		return false
	}
	e.closing = true
	e.timer = time.AfterFunc(e.engine.cfg.LingerTimeout, e.Abort)
	e.watch(fd)
	return true
}

// Abort releases the socket at once, with RST if it is connected.
func (e *Endpoint) Abort() {
	e.notify.Store(nil)
	e.rmu.Lock()
	e.dropIn()
	e.rmu.Unlock()
	e.wmu.Lock()
	defer e.wmu.Unlock()
	e.release(true)
}

// release closes the descriptor: with RST if reset is set, else as the kernel
// does, but never waiting. With wmu.
func (e *Endpoint) release(reset bool) {
	e.dropOut()
	if e.timer != nil {
		e.timer.Stop()
	}
	e.fdmu.Lock()
	fd := e.fd
	e.fd = -1
	e.fdmu.Unlock()
	if fd < 0 {
		return
	}
	e.engine.forget(e)
	if e.typ == unix.SOCK_STREAM {
		setLinger(fd, reset)
	}
	e.engine.poll.remove(fd)
	sysClose(fd)
}

// lingerZero reports whether SO_LINGER is on with no time: close(2) resets.
func lingerZero(fd int) bool {
	l, errno := getLinger(fd)
	return errno == 0 && l.Onoff != 0 && l.Linger == 0
}

// setLinger prepares a stream for close(2): a reset, or else no wait, which
// the kernel's close would do even though the socket is non-blocking.
func setLinger(fd int, reset bool) {
	if reset {
		putLinger(fd, unix.Linger{Onoff: 1})
		return
	}
	if l, errno := getLinger(fd); errno == 0 && l.Onoff != 0 && l.Linger != 0 {
		putLinger(fd, unix.Linger{})
	}
}
