package tracer

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// read fills b from the program's memory at addr. EFAULT for a bad address;
// EPERM where the program may not be looked into.
func (c *call) read(addr uint64, b []byte) unix.Errno {
	return c.copy(unix.SYS_PROCESS_VM_READV, addr, b)
}

// write copies b to the program's memory at addr. It first makes sure that the
// program still waits for this call: where a signal has interrupted it, the
// memory may be in other use by now. The answer to such a call goes nowhere.
func (c *call) write(addr uint64, b []byte) unix.Errno {
	if len(b) > 0 && !c.t.waits(c.id) {
		return unix.EINTR
	}
	return c.copy(unix.SYS_PROCESS_VM_WRITEV, addr, b)
}

func (c *call) copy(nr uintptr, addr uint64, b []byte) unix.Errno {
	if len(b) == 0 {
		return 0
	}
	local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	remote := struct{ base, len uint64 }{addr, uint64(len(b))}
	n, _, e := unix.RawSyscall6(nr, uintptr(c.tid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if e == unix.ESRCH {
		return unix.EFAULT
	}
	if e == 0 && int(n) != len(b) {
		return unix.EFAULT
	}
	return e
}

func (c *call) readUint32(addr uint64) (uint32, unix.Errno) {
	var b [4]byte
	e := c.read(addr, b[:])
	return binary.NativeEndian.Uint32(b[:]), e
}

func (c *call) writeUint32(addr uint64, v uint32) unix.Errno {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return c.write(addr, b[:])
}

// Limits of the kernel on vectors (readv(2), linux/uio.h) and on one transfer.
const (
	maxIovecs = 1024
	maxCount  = 0x7ffff000
)

// iovec is a struct iovec of the program.
type iovec struct{ base, len uint64 }

// readIovecs reads a vector of n elements: EMSGSIZE where n is above IOV_MAX,
// EINVAL for a negative length, and the total cut at what Linux transfers.
func (c *call) readIovecs(addr, n uint64) ([]iovec, int, unix.Errno) {
	if n > maxIovecs {
		return nil, 0, unix.EMSGSIZE
	}
	w := c.word()
	raw := make([]byte, int(n)*w.sizeofIovec())
	if e := c.read(addr, raw); e != 0 {
		return nil, 0, e
	}
	vec, total := make([]iovec, n), uint64(0)
	for i := range vec {
		b := raw[i*w.sizeofIovec():]
		v := iovec{w.uint(b), w.uint(b[w:])}
		if w.int(b[w:]) < 0 {
			return nil, 0, unix.EINVAL
		}
		v.len = min(v.len, maxCount-total)
		total += v.len
		vec[i] = v
	}
	return vec, int(total), 0
}

// gather reads what vec covers, appending it to b.
func (c *call) gather(vec []iovec, b []byte) ([]byte, unix.Errno) {
	for _, v := range vec {
		have := len(b)
		b = append(b, make([]byte, v.len)...)
		if e := c.read(v.base, b[have:]); e != 0 {
			return b, e
		}
	}
	return b, 0
}

// scatter writes b to where vec says, and returns how much fitted.
func (c *call) scatter(vec []iovec, b []byte) (int, unix.Errno) {
	done := 0
	for _, v := range vec {
		n := min(len(b), int(v.len))
		if e := c.write(v.base, b[:n]); e != 0 {
			return done, e
		}
		b = b[n:]
		done += n
	}
	return done, 0
}
