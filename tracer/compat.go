package tracer

import (
	"encoding/binary"

	"github.com/alptrace/alptrace/tracer/filter"
	"golang.org/x/sys/unix"
)

// Calls of 32-bit programs are turned into the machine's own before they are
// answered: their numbers by a table, their arguments, which are 32 bits each,
// zero-extended, and those of socketcall(2) read from memory. What is left of
// the difference is how structures lie in the program's memory; word has that.
// A call that is continued is executed by the kernel as the program made it.

// word is the size, bytes, of a pointer and of a long of the program that makes
// a call. The layouts of its structures follow from it.
type word int

const (
	word32 word = 4
	word64 word = 8
)

// word is that of the calling program.
func (c *call) word() word {
	if c.arch == compatArch {
		return word32
	}
	return word64
}

// compatCall is what a call of a 32-bit program is on this machine.
type compatCall struct {
	nr     int32
	short  bool // send(2) or recv(2): without an address
	time64 bool // its struct timespec is one of 64 bits
}

// socketCalls are the calls of socketcall(2), by its first argument
// (linux/net.h), with the number of arguments.
var socketCalls = [...]struct {
	compatCall
	args int
}{
	1:  {compatCall{nr: unix.SYS_SOCKET}, 3},
	2:  {compatCall{nr: unix.SYS_BIND}, 3},
	3:  {compatCall{nr: unix.SYS_CONNECT}, 3},
	4:  {compatCall{nr: unix.SYS_LISTEN}, 2},
	5:  {compatCall{nr: unix.SYS_ACCEPT}, 3},
	6:  {compatCall{nr: unix.SYS_GETSOCKNAME}, 3},
	7:  {compatCall{nr: unix.SYS_GETPEERNAME}, 3},
	8:  {compatCall{nr: unix.SYS_SOCKETPAIR}, 4},
	9:  {compatCall{nr: unix.SYS_SENDTO, short: true}, 4},
	10: {compatCall{nr: unix.SYS_RECVFROM, short: true}, 4},
	11: {compatCall{nr: unix.SYS_SENDTO}, 6},
	12: {compatCall{nr: unix.SYS_RECVFROM}, 6},
	13: {compatCall{nr: unix.SYS_SHUTDOWN}, 2},
	14: {compatCall{nr: unix.SYS_SETSOCKOPT}, 5},
	15: {compatCall{nr: unix.SYS_GETSOCKOPT}, 5},
	16: {compatCall{nr: unix.SYS_SENDMSG}, 3},
	17: {compatCall{nr: unix.SYS_RECVMSG}, 3},
	18: {compatCall{nr: unix.SYS_ACCEPT4}, 4},
	19: {compatCall{nr: unix.SYS_RECVMMSG}, 5},
	20: {compatCall{nr: unix.SYS_SENDMMSG}, 4},
}

// socketcallWindow is how much is read, bytes, from where the arguments of
// socketcall(2) are: a libc has them on the stack, and the address that it
// returns to soon after. By that one call is told from the next (see repeats);
// the registers of all are the same.
const socketcallWindow = 96

// translate turns the call of a 32-bit program into this machine's. ok is
// false where that was not possible or needless; then r is what it returns.
func (c *call) translate() (r result, ok bool) {
	if c.arch != compatArch {
		c.t.once("arch", "process %d makes calls of a foreign architecture; its sockets are not served", c.tid)
		return fail(unix.ENOSYS), false
	}
	nr := c.nr
	c.nr = -1 // of no call, so far
	if nr == compatSocketcall {
		return c.demultiplex()
	}
	cc, known := compatCalls[nr]
	if !known {
		return toKernel, false
	}
	c.become(cc)
	return result{}, true
}

// demultiplex is translate for socketcall(2).
func (c *call) demultiplex() (r result, ok bool) {
	which := uint32(c.args[0])
	if which == 0 || which >= uint32(len(socketCalls)) {
		return fail(unix.EINVAL), false
	}
	sc := socketCalls[which]
	raw := c.around[:]
	e := c.read(c.args[1], raw)
	if e == unix.EFAULT { // so near the end of the stack
		raw = raw[:sc.args*int(word32)]
		e = c.read(c.args[1], raw)
	}
	switch e {
	case 0:
	case unix.EPERM:
		c.onceUnseen()
		return toKernel, false
	default:
		return fail(e), false
	}
	c.args = [6]uint64{}
	for i := range sc.args {
		c.args[i] = word32.uint(raw[i*int(word32):])
	}
	c.become(sc.compatCall)
	// What the filter lets through of a direct call, it cannot see here.
	if c.nr == unix.SYS_SENDTO && c.args[4] == 0 && c.args[3]&filter.SendFlags == 0 ||
		c.nr == unix.SYS_RECVFROM && c.args[4] == 0 && c.args[3]&filter.RecvFlags == 0 {
		return toKernel, false
	}
	return result{}, true
}

// become makes the call cc.
func (c *call) become(cc compatCall) {
	c.nr, c.compat = cc.nr, cc
	if cc.short {
		c.args[4], c.args[5] = 0, 0 // whatever is in the registers
	}
}

// syntax is how the call is written, as the program made it.
func (c *call) syntax() syntax {
	s := syntaxOf(c.nr)
	if c.compat.short {
		s.args = s.args[:4]
		s.name = map[int32]string{unix.SYS_SENDTO: "send", unix.SYS_RECVFROM: "recv"}[c.nr]
	}
	return s
}

// uint reads a long of the program.
func (w word) uint(b []byte) uint64 {
	if w == word32 {
		return uint64(binary.NativeEndian.Uint32(b))
	}
	return binary.NativeEndian.Uint64(b)
}

// int is uint for a signed long.
func (w word) int(b []byte) int64 {
	if w == word32 {
		return int64(int32(binary.NativeEndian.Uint32(b)))
	}
	return int64(binary.NativeEndian.Uint64(b))
}

// put stores v as a long of the program.
func (w word) put(b []byte, v uint64) {
	if w == word32 {
		binary.NativeEndian.PutUint32(b, uint32(v))
		return
	}
	binary.NativeEndian.PutUint64(b, v)
}

// align is n rounded up to a long.
func (w word) align(n int) int { return (n + int(w) - 1) &^ (int(w) - 1) }

// Layout of struct iovec, struct msghdr and struct mmsghdr (sendmsg(2)), of
// struct cmsghdr (cmsg(3)) and of struct ifreq and struct ifconf (netdevice(7)).
// Of msghdr, msg_namelen, msg_iovlen, msg_controllen and msg_flags come after
// a pointer each, and the rest is as the C language places it.
func (w word) sizeofIovec() int         { return 2 * int(w) }
func (w word) sizeofMsghdr() int        { return 7 * int(w) }
func (w word) sizeofMmsghdr() int       { return 8 * int(w) }
func (w word) offMsgNamelen() uint64    { return uint64(w) }
func (w word) offMsgControl() uint64    { return 4 * uint64(w) }
func (w word) offMsgControllen() uint64 { return 5 * uint64(w) }
func (w word) offMsgLen() uint64        { return 7 * uint64(w) }
func (w word) sizeofCmsghdr() int       { return int(w) + 8 }
func (w word) sizeofIfreq() int         { return ifNameSize + 8 + 2*int(w) }
func (w word) sizeofIfconf() int        { return 2 * int(w) }

// timespec reads the seconds and nanoseconds of a struct timespec.
func (c *call) timespec(addr uint64) (sec, nsec int64, e unix.Errno) {
	w := c.word()
	if c.compat.time64 {
		w = word64
	}
	var buf [2 * word64]byte
	b := buf[:2*w]
	if e := c.read(addr, b); e != 0 {
		return 0, 0, e
	}
	sec, nsec = w.int(b), w.int(b[w:])
	if c.compat.time64 {
		nsec = int64(uint32(nsec)) // the rest is padding (get_timespec64)
	}
	return sec, nsec, 0
}
