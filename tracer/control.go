package tracer

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Ancillary data is a sequence of struct cmsghdr with their data, each aligned
// to a long (cmsg(3)). Between here and the engine it has the layout of this
// machine, whatever the program's.

// maxControl is the longest ancillary data that is read, bytes
// (net.core.optmem_max).
const maxControl = 131072

// readControl reads what the program sends with a message: ENOBUFS if it is too
// long, EINVAL for a malformed one of a 32-bit program.
func (c *call) readControl(m *transfer) ([]byte, unix.Errno) {
	if m.ctlLen == 0 {
		return nil, 0
	}
	if m.ctlLen > maxControl {
		return nil, unix.ENOBUFS
	}
	b := make([]byte, m.ctlLen)
	if e := c.read(m.control, b); e != 0 {
		return nil, e
	}
	if c.word() == word32 {
		return widenControl(b)
	}
	return b, 0
}

// widenControl gives ancillary data of a 32-bit program this machine's layout:
// EINVAL where a length cannot be (cmsghdr_from_user_compat_to_kern).
func widenControl(b []byte) ([]byte, unix.Errno) {
	const from, to = word32, word64
	var out []byte
	for {
		if len(b) < from.sizeofCmsghdr() {
			return nil, unix.EINVAL
		}
		n := from.uint(b)
		if n < uint64(from.sizeofCmsghdr()) || n > uint64(len(b)) {
			return nil, unix.EINVAL
		}
		size := to.align(to.sizeofCmsghdr() + int(n) - from.sizeofCmsghdr())
		at := len(out)
		out = append(out, make([]byte, size)...)
		to.put(out[at:], uint64(to.sizeofCmsghdr())+n-uint64(from.sizeofCmsghdr()))
		copy(out[at+int(to):], b[from:n]) // level, type and data
		if from.align(int(n)) >= len(b) {
			return out, 0
		}
		b = b[from.align(int(n)):]
	}
}

// putControl lays ancillary data out for the program, in space bytes, as
// put_cmsg and put_cmsg_compat in the kernel do: a message whose header does not
// fit is left out, one whose data does not fit says how much is there. cut says
// that there was either.
func (w word) putControl(control []byte, space uint64) (out []byte, cut bool) {
	for len(control) >= word64.sizeofCmsghdr() {
		n := word64.uint(control)
		if n < uint64(word64.sizeofCmsghdr()) || n > uint64(len(control)) {
			break // no message
		}
		head, data := control[word64:word64.sizeofCmsghdr()], control[word64.sizeofCmsghdr():n]
		control = control[min(word64.align(int(n)), len(control)):]
		if w == word32 {
			data = narrowStamps(head, data)
		}
		left := space - uint64(len(out))
		if left < uint64(w.sizeofCmsghdr()) {
			return out, true
		}
		size := w.sizeofCmsghdr() + len(data)
		whole := min(uint64(w.align(size)), left)
		if uint64(size) > left {
			size, cut = int(left), true
		}
		msg := make([]byte, whole)
		w.put(msg, uint64(size))
		copy(msg[w:], head)
		copy(msg[w.sizeofCmsghdr():size], data)
		out = append(out, msg...)
	}
	return out, cut
}

// narrowStamps gives the data of a control message to a 32-bit program: the
// struct timeval and struct timespec of the old time stamps have its longs.
func narrowStamps(head, data []byte) []byte {
	level, typ := binary.NativeEndian.Uint32(head), binary.NativeEndian.Uint32(head[4:])
	if level != unix.SOL_SOCKET {
		return data
	}
	switch typ {
	case unix.SO_TIMESTAMP_OLD, unix.SO_TIMESTAMPNS_OLD, unix.SO_TIMESTAMPING_OLD:
		return narrow(data)
	}
	return data
}

// narrow turns longs of this machine into those of a 32-bit program, a long for
// a long.
func narrow(longs []byte) []byte {
	out := make([]byte, len(longs)/2)
	for i := 0; i+int(word64) <= len(longs); i += int(word64) {
		word32.put(out[i/2:], word64.uint(longs[i:]))
	}
	return out
}

// widen is the reverse of narrow, for longs with a sign.
func widen(longs []byte) []byte {
	out := make([]byte, len(longs)*2)
	for i := 0; i+int(word32) <= len(longs); i += int(word32) {
		word64.put(out[2*i:], uint64(word32.int(longs[i:])))
	}
	return out
}
