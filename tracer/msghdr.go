package tracer

import (
	"encoding/binary"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// transfer is what the calls that move a message have in common.
type transfer struct {
	vec     []iovec
	total   int
	flags   int
	name    uint64 // the address, or where to store it; 0 for none
	nameLen uint64 // receive: where its length is and goes; send: the length
	control uint64
	ctlLen  uint64
	hdr     uint64 // the msghdr, of the msg calls
	part    bool   // one of several messages of the call
}

// buffer is the transfer of sendto(2) and recvfrom(2).
func (c *call) buffer() transfer {
	n := min(c.args[2], maxCount)
	return transfer{
		vec:     []iovec{{c.args[1], n}},
		total:   int(n),
		flags:   int(c.int32(3)),
		name:    c.args[4],
		nameLen: c.args[5],
	}
}

// readMsghdr reads a struct msghdr of sendmsg(2) and recvmsg(2).
func (c *call) readMsghdr(addr uint64, flags int) (transfer, unix.Errno) {
	w := c.word()
	var buf [7 * word64]byte
	raw := buf[:w.sizeofMsghdr()]
	if e := c.read(addr, raw); e != 0 {
		return transfer{}, e
	}
	m, e := parseMsghdr(w, raw)
	if e != 0 {
		return transfer{}, e
	}
	m.flags, m.hdr = flags, addr
	m.vec, m.total, e = c.readIovecs(w.uint(raw[2*w:]), w.uint(raw[3*w:]))
	return m, e
}

// parseMsghdr decodes a struct msghdr but for its iovecs: EINVAL for a negative
// msg_namelen.
func parseMsghdr(w word, raw []byte) (transfer, unix.Errno) {
	m := transfer{
		name:    w.uint(raw),
		nameLen: uint64(binary.NativeEndian.Uint32(raw[w.offMsgNamelen():])),
		control: w.uint(raw[w.offMsgControl():]),
		ctlLen:  w.uint(raw[w.offMsgControllen():]),
	}
	if int32(m.nameLen) < 0 {
		return transfer{}, unix.EINVAL
	}
	if m.name == 0 {
		m.nameLen = 0
	}
	m.nameLen = min(m.nameLen, maxSockaddr)
	return m, 0
}

// store writes a received message where the program wants it, and returns what
// the call does.
func (c *call) store(s *socket, m *transfer, data []byte, from stack.Addr, control []byte, flags int) result {
	n, e := c.scatter(m.vec, data)
	if e != 0 {
		return fail(e)
	}
	if n < len(data) {
		flags |= unix.MSG_TRUNC
	}
	r := value(n)
	if m.flags&unix.MSG_TRUNC != 0 {
		r = value(len(data))
	}
	if m.hdr == 0 {
		if m.name != 0 {
			e = c.writeSockaddr(m.name, m.nameLen, s.family, from)
		}
		if e != 0 {
			return fail(e)
		}
		return r
	}
	if m.name != 0 {
		var buf [sizeofSockaddrIn6]byte
		b := appendSockaddr(buf[:0], s.family, from)
		c.traceAddr(sockaddr{family: s.family, len: len(b), addr: from})
		if e := c.write(m.name, b[:min(int(m.nameLen), len(b))]); e != 0 {
			return fail(e)
		}
		if e := c.writeUint32(m.hdr+c.word().offMsgNamelen(), uint32(len(b))); e != 0 {
			return fail(e)
		}
	}
	return c.storeControl(m, control, flags, r)
}

// storeControl writes ancillary data and the flags of a msghdr.
func (c *call) storeControl(m *transfer, control []byte, flags int, r result) result {
	w := c.word()
	control, cut := w.putControl(control, m.ctlLen)
	if cut {
		flags |= unix.MSG_CTRUNC
	}
	if e := c.write(m.control, control); e != 0 {
		return fail(e)
	}
	var tail [word64 + 4]byte // msg_controllen and msg_flags
	w.put(tail[:], uint64(len(control)))
	binary.NativeEndian.PutUint32(tail[w:], uint32(flags))
	if e := c.write(m.hdr+w.offMsgControllen(), tail[:w+4]); e != 0 {
		return fail(e)
	}
	return r
}
