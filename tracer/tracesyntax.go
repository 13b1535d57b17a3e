package tracer

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// argument appends the text of argument i of a call that ended with r.
type argument func(c *call, r result, i int, b []byte) []byte

// syntax is how a call is written.
type syntax struct {
	name string
	args []argument
}

func syntaxOf(nr int32) syntax {
	if s, ok := syntaxes[nr]; ok {
		return s
	}
	return syntax{name: "syscall_" + strconv.Itoa(int(nr))}
}

var syntaxes = map[int32]syntax{
	unix.SYS_SOCKET:         {"socket", []argument{argName(families), argType, argProto}},
	unix.SYS_BIND:           {"bind", []argument{argInt, argAddr, argInt}},
	unix.SYS_CONNECT:        {"connect", []argument{argInt, argAddr, argInt}},
	unix.SYS_LISTEN:         {"listen", []argument{argInt, argInt}},
	unix.SYS_ACCEPT:         {"accept", []argument{argInt, argAddr, argLen}},
	unix.SYS_ACCEPT4:        {"accept4", []argument{argInt, argAddr, argLen, argFlags(socketFlags)}},
	unix.SYS_GETSOCKNAME:    {"getsockname", []argument{argInt, argAddr, argLen}},
	unix.SYS_GETPEERNAME:    {"getpeername", []argument{argInt, argAddr, argLen}},
	unix.SYS_GETSOCKOPT:     {"getsockopt", []argument{argInt, argName(levels), argOption, argValue, argLen}},
	unix.SYS_SETSOCKOPT:     {"setsockopt", []argument{argInt, argName(levels), argOption, argValue, argInt}},
	unix.SYS_SHUTDOWN:       {"shutdown", []argument{argInt, argName(hows)}},
	unix.SYS_SENDTO:         {"sendto", []argument{argInt, argSent, argInt, argFlags(messageFlags), argAddr, argInt}},
	unix.SYS_RECVFROM:       {"recvfrom", []argument{argInt, argReceived, argInt, argFlags(messageFlags), argAddr, argLen}},
	unix.SYS_SENDMSG:        {"sendmsg", []argument{argInt, argMsg, argFlags2(2)}},
	unix.SYS_RECVMSG:        {"recvmsg", []argument{argInt, argMsg, argFlags2(2)}},
	unix.SYS_SENDMMSG:       {"sendmmsg", []argument{argInt, argMsg, argInt, argFlags(messageFlags)}},
	unix.SYS_RECVMMSG:       {"recvmmsg", []argument{argInt, argMsg, argInt, argFlags(messageFlags), argPtr}},
	unix.SYS_IOCTL:          {"ioctl", []argument{argInt, argIoctl, argPtr}},
	unix.SYS_IO_URING_SETUP: {"io_uring_setup", []argument{argInt, argPtr}},
}

func argInt(c *call, _ result, i int, b []byte) []byte {
	return strconv.AppendInt(b, int64(c.int32(i)), 10)
}

func argPtr(c *call, _ result, i int, b []byte) []byte {
	if c.args[i] == 0 {
		return append(b, "NULL"...)
	}
	return fmt.Appendf(b, "%#x", c.args[i])
}

// argName writes an integer by its name.
func argName(names map[int]string) argument {
	return func(c *call, _ result, i int, b []byte) []byte {
		return appendName(b, names, int(c.int32(i)))
	}
}

func appendName(b []byte, names map[int]string, v int) []byte {
	if n, ok := names[v]; ok {
		return append(b, n...)
	}
	return fmt.Appendf(b, "%#x", uint32(v))
}

// flagName is a bit, or several, with its name.
type flagName struct {
	bits int
	name string
}

func argFlags(names []flagName) argument {
	return func(c *call, _ result, i int, b []byte) []byte {
		return appendFlags(b, names, int(c.int32(i)))
	}
}

// argFlags2 writes message flags that are argument i whatever their place.
func argFlags2(i int) argument {
	return func(c *call, r result, _ int, b []byte) []byte { return argFlags(messageFlags)(c, r, i, b) }
}

func appendFlags(b []byte, names []flagName, v int) []byte {
	if v == 0 {
		return append(b, '0')
	}
	sep := ""
	for _, f := range names {
		if v&f.bits == f.bits {
			b = append(append(b, sep...), f.name...)
			v &^= f.bits
			sep = "|"
		}
	}
	if v != 0 {
		b = fmt.Appendf(b, "%s%#x", sep, uint32(v))
	}
	return b
}

func argType(c *call, _ result, i int, b []byte) []byte {
	v := int(c.int32(i))
	b = appendName(b, types, v&0xf)
	if v &^= 0xf; v != 0 {
		b = appendFlags(append(b, '|'), socketFlags, v)
	}
	return b
}

func argProto(c *call, _ result, i int, b []byte) []byte {
	return appendName(b, protocols, int(c.int32(i)))
}

// argAddr writes the address that the call read or wrote.
func argAddr(c *call, r result, i int, b []byte) []byte {
	if c.tr.addrs == 0 || c.args[i] == 0 {
		return argPtr(c, r, i, b)
	}
	return appendAddr(b, c.tr.addr)
}

func appendAddr(b []byte, sa sockaddr) []byte {
	switch {
	case sa.addr.IP.IsValid() && sa.family == unix.AF_INET:
		return fmt.Appendf(b, "{sa_family=AF_INET, sin_port=htons(%d), sin_addr=inet_addr(%q)}", sa.addr.Port, sa.addr.IP.Unmap())
	case sa.family == unix.AF_INET6 && (sa.addr.IP.IsValid() || sa.len >= minSockaddrIn6):
		ip := "::"
		if sa.addr.IP.IsValid() {
			ip = sa.addr.IP.String()
		}
		b = fmt.Appendf(b, "{sa_family=AF_INET6, sin6_port=htons(%d), sin6_addr=%q", sa.addr.Port, ip)
		if sa.addr.Scope != 0 {
			b = fmt.Appendf(b, ", sin6_scope_id=%d", sa.addr.Scope)
		}
		return append(b, '}')
	case sa.family == unix.AF_INET && sa.len >= sizeofSockaddrIn:
		return fmt.Appendf(b, "{sa_family=AF_INET, sin_port=htons(%d), sin_addr=inet_addr(\"0.0.0.0\")}", sa.addr.Port)
	}
	return appendName(append(b, "{sa_family="...), families, sa.family)
}

// argLen writes the integer that argument i points to.
func argLen(c *call, r result, i int, b []byte) []byte {
	v, e := c.readUint32(c.args[i])
	if c.args[i] == 0 || e != 0 {
		return argPtr(c, r, i, b)
	}
	return fmt.Appendf(b, "[%d]", int32(v))
}

func argOption(c *call, _ result, i int, b []byte) []byte {
	return appendName(b, options[int(c.int32(1))], int(c.int32(i)))
}

func argValue(c *call, r result, i int, b []byte) []byte {
	switch v := c.tr.value; {
	case v == nil:
		return argPtr(c, r, i, b)
	case len(v) == 4:
		n := int32(binary.NativeEndian.Uint32(v))
		if int(c.int32(1)) == unix.SOL_SOCKET && int(c.int32(2)) == unix.SO_ERROR && n != 0 {
			return append(append(append(b, '['), unix.ErrnoName(unix.Errno(n))...), ']')
		}
		return fmt.Appendf(b, "[%d]", n)
	default:
		return appendBytes(b, v, len(v))
	}
}

// shown is how many bytes of a buffer are written, as with strace -s.
const shown = 32

func appendBytes(b, data []byte, total int) []byte {
	b = strconv.AppendQuoteToASCII(b, string(data[:min(len(data), shown)]))
	if total > shown {
		b = append(b, "..."...)
	}
	return b
}

func argSent(c *call, r result, i int, b []byte) []byte {
	return argData(c, r, i, b, int(min(c.args[2], maxCount)))
}

func argReceived(c *call, r result, i int, b []byte) []byte {
	if r.how != answered || r.err != 0 {
		return argPtr(c, r, i, b)
	}
	return argData(c, r, i, b, min(int(r.val), int(min(c.args[2], maxCount))))
}

func argData(c *call, r result, i int, b []byte, n int) []byte {
	data := make([]byte, min(n, shown))
	if c.read(c.args[i], data) != 0 {
		return argPtr(c, r, i, b)
	}
	return appendBytes(b, data, n)
}

// argMsg writes a msghdr: its address and the sizes of its parts.
func argMsg(c *call, r result, i int, b []byte) []byte {
	m, e := c.readMsghdr(c.args[i], 0)
	if e != 0 {
		return argPtr(c, r, i, b)
	}
	b = append(b, "{msg_name="...)
	if c.tr.addrs > 0 && m.name != 0 {
		b = appendAddr(b, c.tr.addr)
	} else {
		b = append(b, "NULL"...)
	}
	return fmt.Appendf(b, ", msg_iov=[%d, %d bytes], msg_controllen=%d}", len(m.vec), m.total, m.ctlLen)
}

func argIoctl(c *call, _ result, i int, b []byte) []byte {
	return appendName(b, ioctls, int(uint32(c.args[i])))
}
