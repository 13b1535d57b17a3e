package pump

import (
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are raw: on non-blocking descriptors they return at once, and
// telling Go's scheduler about each costs more than the short ones take.

func rawRead(fd int, b []byte) (int, unix.Errno) {
	if len(b) == 0 {
		return 0, 0
	}
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

func rawSend(fd int, b []byte) (int, unix.Errno) {
	if len(b) == 0 {
		return 0, 0
	}
	n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// waiting is the number of bytes that can be read from fd (SIOCINQ, unix(7)).
func waiting(fd int) int {
	var n int32
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCINQ, uintptr(unsafe.Pointer(&n)))
	if e != 0 {
		return 0
	}
	return int(n)
}

// source reads what the program wrote; it is a stack.Source.
type source struct {
	fd   int
	left int
}

func (s *source) Len() int { return s.left }

func (s *source) Read(b []byte) (int, error) {
	if len(b) > s.left {
		b = b[:s.left]
	}
	n, e := rawRead(s.fd, b)
	s.left -= n
	if n == 0 || e != 0 {
		s.left = 0
		return 0, io.EOF
	}
	return n, nil
}

// sink writes to the program; it takes less than it is given when the stand-in
// is full, and everything when the program no longer reads.
type sink struct {
	fd    int
	moved int
	full  bool
	deaf  bool // EPIPE: the program shut its reading side, or is gone
}

func (s *sink) Write(b []byte) (int, error) {
	if s.deaf {
		return len(b), nil
	}
	done := 0
	for done < len(b) {
		n, e := rawSend(s.fd, b[done:])
		if e == unix.EINTR {
			continue
		}
		if e == unix.EPIPE || e == unix.ECONNRESET {
			s.deaf = true
			return len(b), nil
		}
		if e != 0 {
			s.full = true
			break
		}
		done += n
		s.moved += n
	}
	if done < len(b) {
		return done, io.ErrShortWrite
	}
	return done, nil
}
