package tracer

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// maxOption is the longest option value that is read or returned, bytes: more
// than any option of AF_INET and AF_INET6 has.
const maxOption = 1 << 16

// getsockopt answers getsockopt(2).
func (c *call) getsockopt(s *socket, dup int) result {
	level, name := int(c.int32(1)), int(c.int32(2))
	space, e := c.readUint32(c.args[4])
	if e != 0 {
		return fail(e)
	}
	if int32(space) < 0 {
		// What the level is comes before how long the value is, and
		// do_ipv6_getsockopt takes the length for unsigned.
		var probe [4]byte
		_, e := s.ep.GetOption(level, name, probe[:])
		switch {
		case e != 0:
			return fail(e)
		case level != unix.SOL_IPV6:
			return fail(unix.EINVAL)
		}
	}
	val := make([]byte, min(space, maxOption))
	var n int
	if level == unix.SOL_SOCKET && name == unix.SO_ERROR {
		s.mu.Lock()
		e := s.takeError(dup)
		s.mu.Unlock()
		n = copy(val, binary.NativeEndian.AppendUint32(nil, uint32(e)))
	} else if n, e = c.word().getOption(s.ep, level, name, val); e != 0 {
		return fail(e)
	}
	c.traceValue(val[:n])
	if e := c.write(c.args[3], val[:n]); e != 0 {
		return fail(e)
	}
	return errno(c.writeUint32(c.args[4], uint32(n)))
}

// setsockopt answers setsockopt(2).
func (c *call) setsockopt(s *socket, dup int) result {
	level, name, size := int(c.int32(1)), int(c.int32(2)), c.int32(4)
	if size < 0 {
		return fail(unix.EINVAL)
	}
	val, e := c.readOption(s, level, name, int(size))
	if e != 0 {
		return fail(e)
	}
	short := len(val) < min(int(size), maxOption)
	c.traceValue(val)
	val = c.word().widenOption(level, name, val)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.ep.SetOption(level, name, val); e != 0 {
		if e == unix.EINVAL && short {
			e = unix.EFAULT // it would have read on
		}
		return fail(e)
	}
	if level == unix.SOL_SOCKET {
		s.standinOption(dup, name, val)
	}
	return success
}

// readOption reads an option's value. Options that are shorter than size do
// not care about memory beyond their own.
func (c *call) readOption(s *socket, level, name, size int) ([]byte, unix.Errno) {
	addr := c.args[3]
	if addr == 0 && level == unix.SOL_IPV6 && s.family == unix.AF_INET6 {
		return make([]byte, min(size, 4)), 0 // do_ipv6_setsockopt: NULL is 0
	}
	const page = 4096
	val := make([]byte, min(size, maxOption))
	e := c.read(addr, val)
	for _, n := range []int{page - int(addr%page), 4} {
		if e == 0 || n >= len(val) {
			continue
		}
		val = val[:n]
		e = c.read(addr, val)
	}
	if e == unix.EFAULT {
		// An option that does not exist is that first.
		if other := s.ep.SetOption(level, name, nil); other != 0 && other != unix.EINVAL {
			return nil, other
		}
	}
	return val, e
}

// timeouts are the socket's SO_RCVTIMEO and SO_SNDTIMEO; 0 is none.
type timeouts struct {
	receive, send time.Duration
}

// standinOption repeats on the stand-in what native calls must obey.
func (s *socket) standinOption(dup, name int, val []byte) {
	switch name {
	case unix.SO_RCVTIMEO, unix.SO_RCVTIMEO_NEW:
		s.timeout.receive = timeval(val)
		setTimeout(dup, unix.SO_RCVTIMEO, s.timeout.receive)
	case unix.SO_SNDTIMEO, unix.SO_SNDTIMEO_NEW:
		s.timeout.send = timeval(val)
		setTimeout(dup, unix.SO_SNDTIMEO, s.timeout.send)
	case unix.SO_RCVLOWAT:
		if len(val) >= 4 && s.isStream() {
			unix.SetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_RCVLOWAT, int(int32(binary.NativeEndian.Uint32(val))))
		}
	}
}

// timeval decodes a struct timeval of 64 bits.
func timeval(val []byte) time.Duration {
	if len(val) < 16 {
		return 0
	}
	sec, usec := int64(binary.NativeEndian.Uint64(val)), int64(binary.NativeEndian.Uint64(val[8:]))
	if sec < 0 || sec > int64(time.Duration(1<<62)/time.Second) {
		return 0
	}
	return time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond
}

func setTimeout(fd, name int, d time.Duration) {
	tv := unix.NsecToTimeval(d.Nanoseconds())
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, name, &tv)
}

// copy sets the timeouts on another stand-in.
func (t timeouts) copy(fd int) {
	if t.receive != 0 {
		setTimeout(fd, unix.SO_RCVTIMEO, t.receive)
	}
	if t.send != 0 {
		setTimeout(fd, unix.SO_SNDTIMEO, t.send)
	}
}
