package fdtable

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Streams makes and converts the stand-ins of stream sockets (TCP).
//
// A fresh stand-in is an unconnected AF_UNIX stream socket, whose poll mask
// (OUT, HUP) is that of a fresh TCP socket. It is converted in place, through a
// duplicate, so that the program's own descriptors, their duplicates in other
// processes and their epoll registrations never notice: connected to a listener
// of ours it becomes one half of a pair whose other half is the tracer's end;
// listening, it takes the tracer's ends one by one as its pending connections.
type Streams struct {
	mu       sync.Mutex
	listener int
	name     unix.Sockaddr
	pid      int32
}

// fillerSize fills the send buffer of a stand-in whose SO_SNDBUF is the least
// that the kernel allows, so that it polls as not writable (connecting).
const fillerSize = 4096

// NewStreams opens the listener that connecting stand-ins are connected to.
func NewStreams() (*Streams, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("stand-in listener: %w", err)
	}
	s := &Streams{listener: fd, pid: int32(os.Getpid())}
	if err = listenUnix(fd, 4096); err == nil {
		s.name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("stand-in listener: %w", err)
	}
	return s, nil
}

// Close closes the listener.
func (s *Streams) Close() { unix.Close(s.listener) }

// listenUnix gives an AF_UNIX socket an abstract name of the kernel's choosing
// and makes it listen.
func listenUnix(fd, backlog int) error {
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: ""}); err != nil && err != unix.EINVAL {
		return err
	}
	return unix.Listen(fd, backlog)
}

// New makes a fresh stand-in; the caller owns the descriptor.
func (s *Streams) New() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
}

// Connect makes the fresh stand-in dup one half of a connected pair and returns
// the other, the tracer's end, which does not block.
func (s *Streams) Connect(dup int) (end int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := unix.Connect(dup, s.name); err != nil {
		return -1, fmt.Errorf("convert stand-in: %w", err)
	}
	for {
		end, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return -1, fmt.Errorf("convert stand-in: %w", err)
		}
		// The abstract name can be seen by others: only our own count.
		if s.ours(end) {
			return end, nil
		}
		unix.Close(end)
	}
}

func (s *Streams) ours(fd int) bool {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && cred.Pid == s.pid
}

// ConnectPending is Connect for a handshake that is still under way: the
// stand-in polls as not writable until Established.
func (s *Streams) ConnectPending(dup int) (end int, err error) {
	if err := unix.SetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
		return -1, err
	}
	end, err = s.Connect(dup)
	if err != nil {
		return -1, err
	}
	if _, err := unix.SendmsgN(dup, make([]byte, fillerSize), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		unix.Close(end)
		return -1, fmt.Errorf("convert stand-in: %w", err)
	}
	return end, nil
}

// Established makes a pending stand-in writable: one edge of POLLOUT. dup is
// the stand-in, or -1 if it cannot be reached, which leaves its buffer small.
func (s *Streams) Established(dup, end int) {
	if dup >= 0 {
		setBuffers(dup)
	}
	filler := make([]byte, fillerSize)
	for left := fillerSize; left > 0; {
		n, err := unix.Read(end, filler[:left])
		if n <= 0 || err != nil {
			return
		}
		left -= n
	}
}

// standinBuffer is SO_SNDBUF of both halves of a stand-in, bytes, before the
// kernel's doubling and limit (net.core.wmem_max).
const standinBuffer = 512 << 10

func setBuffers(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, standinBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, standinBuffer)
	}
}

// SetBuffers gives a stand-in or a tracer's end the buffer that bulk wants.
func (s *Streams) SetBuffers(fd int) { setBuffers(fd) }

// Listen makes the fresh stand-in dup a listening socket and returns its name
// for Pending.
func (s *Streams) Listen(dup int) (unix.Sockaddr, error) {
	// More than any backlog: the stack counts, not the stand-in.
	if err := listenUnix(dup, 1<<15); err != nil {
		return nil, fmt.Errorf("listen stand-in: %w", err)
	}
	return unix.Getsockname(dup)
}

// Pending queues one connection on the listening stand-in of that name, so
// that it polls readable, and returns the tracer's end. EAGAIN when its queue
// is full, ECONNREFUSED when it is gone.
func (s *Streams) Pending(name unix.Sockaddr) (end int, err error) {
	end, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(end, name); err != nil {
		unix.Close(end)
		return -1, err
	}
	return end, nil
}

// Accept takes the oldest pending connection of the listening stand-in dup:
// the program's half of the end that Pending returned first. EAGAIN if there
// is none.
func (s *Streams) Accept(dup int) (int, error) {
	for {
		// The listener may be in blocking mode: that flag is the program's.
		if ready, err := readable(dup); !ready {
			return -1, err
		}
		fd, _, err := unix.Accept4(dup, unix.SOCK_CLOEXEC)
		if err != nil {
			return -1, err
		}
		if s.ours(fd) {
			return fd, nil
		}
		unix.Close(fd)
	}
}

func readable(fd int) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	if err != nil {
		return false, err
	}
	if n == 0 {
		return false, unix.EAGAIN
	}
	return true, nil
}

// Reset closes the tracer's end such that the program reads ECONNRESET: the
// kernel reports it where an end goes with bytes unread.
func (s *Streams) Reset(dup, end int) {
	if dup >= 0 {
		unix.SendmsgN(dup, []byte{0}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	unix.Close(end)
}
