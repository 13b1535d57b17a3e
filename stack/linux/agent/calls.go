package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/ring"
)

// call is one call on an endpoint's socket.
func (a *agent) call(f ring.Frame, ep *endpoint, what uint32, x, y int, p []byte) {
	fd := uintptr(ep.fd)
	same := proto.MaskUnknown
	switch what {
	case proto.CallBind:
		_, errno := call(unix.SYS_BIND, fd, pointer(p), uintptr(len(p)))
		a.reply(f, errno, 0, same, nil)
	case proto.CallConnect:
		a.reply(f, a.connect(ep, p), 0, ep.mask, nil)
	case proto.CallListen:
		_, errno := call(unix.SYS_LISTEN, fd, uintptr(int32(x)))
		if errno == 0 && ep.mode != messages {
			ep.mode = listens
		}
		ep.mask = sysPoll(ep.fd)
		a.reply(f, errno, 0, ep.mask, nil)
	case proto.CallShutdown:
		a.reply(f, a.shutdown(ep, x), 0, ep.mask, nil)
	case proto.CallLocal:
		a.name(f, ep, unix.SYS_GETSOCKNAME)
	case proto.CallPeer:
		a.name(f, ep, unix.SYS_GETPEERNAME)
	case proto.CallSetOption:
		_, errno := call(unix.SYS_SETSOCKOPT, fd, uintptr(x), uintptr(y), pointer(p), uintptr(len(p)))
		a.reply(f, errno, 0, same, nil)
	case proto.CallGetOption:
		var size [4]byte
		binary.NativeEndian.PutUint32(size[:], uint32(len(p)))
		v := append(make([]byte, 0, len(p)+1), p...)
		_, errno := call(unix.SYS_GETSOCKOPT, fd, uintptr(x), uintptr(y), pointer(v), pointer(size[:]))
		a.reply(f, errno, 0, same, v[:min(int(binary.NativeEndian.Uint32(size[:])), len(p))])
	case proto.CallQueued:
		in, out := ioctlInt(ep.fd, unix.SIOCINQ), ioctlInt(ep.fd, unix.SIOCOUTQ)
		b := binary.LittleEndian.AppendUint32(nil, in)
		a.reply(f, 0, 0, same, binary.LittleEndian.AppendUint32(b, out+uint32(len(ep.out)-ep.sent)))
	case proto.CallError:
		var v [4]byte
		size := [4]byte{4}
		_, errno := call(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_ERROR, pointer(v[:]), pointer(size[:]))
		ep.mask = sysPoll(ep.fd)
		a.reply(f, errno, binary.NativeEndian.Uint32(v[:]), ep.mask, nil)
	case proto.CallRecv:
		a.probeRead(f, ep)
	case proto.CallProbe:
		_, errno := sysSend(ep.fd, nil, 0)
		ep.mask = sysPoll(ep.fd)
		if errno == unix.EINPROGRESS || errno == 0 && ep.mask&(unix.POLLOUT|unix.POLLERR|unix.POLLHUP) == 0 {
			errno = unix.EAGAIN
		}
		a.reply(f, errno, 0, ep.mask, nil)
	case proto.CallErrQueue:
		name, control, data, flags, errno := sysRecvmsg(ep.fd, a.scratch, unix.MSG_ERRQUEUE)
		var b []byte
		if errno == 0 {
			h := proto.Args(uint32(flags), uint32(len(name)), uint32(len(control)))
			b = bytes.Join([][]byte{h[:], name, control, data}, nil)
		}
		ep.mask = sysPoll(ep.fd)
		a.reply(f, errno, 0, ep.mask, b)
	default:
		a.reply(f, unix.ENOSYS, 0, same, nil)
	}
}

// connect is connect(2); with AF_UNSPEC the endpoint is as if new.
func (a *agent) connect(ep *endpoint, name []byte) unix.Errno {
	_, errno := call(unix.SYS_CONNECT, uintptr(ep.fd), pointer(name), uintptr(len(name)))
	unspec := len(name) >= 2 && binary.NativeEndian.Uint16(name) == unix.AF_UNSPEC
	switch {
	case ep.mode == messages:
	case unspec && errno == 0:
		ep.mode, ep.shutWR, ep.readable = fresh, false, false
		ep.out, ep.sent, ep.taken, ep.credit = ep.out[:0], 0, 0, proto.Window
	case !unspec && (errno == 0 || errno == unix.EINPROGRESS) && ep.mode == fresh:
		ep.mode = stream
	}
	ep.mask = sysPoll(ep.fd)
	return errno
}

// shutdown is shutdown(2); what waits to be sent goes first.
func (a *agent) shutdown(ep *endpoint, how int) (errno unix.Errno) {
	if len(ep.out) > 0 && (how == unix.SHUT_WR || how == unix.SHUT_RDWR) {
		ep.shutWR = true
		if how == unix.SHUT_RDWR {
			_, errno = call(unix.SYS_SHUTDOWN, uintptr(ep.fd), unix.SHUT_RD)
		}
	} else {
		_, errno = call(unix.SYS_SHUTDOWN, uintptr(ep.fd), uintptr(how))
	}
	if errno == 0 && ep.mode == listens && how != unix.SHUT_WR {
		ep.mode = fresh
	}
	ep.mask = sysPoll(ep.fd)
	if ep.mask&(unix.POLLIN|unix.POLLRDHUP) != 0 {
		ep.readable = true
	}
	return errno
}

// name is getsockname(2) or getpeername(2).
func (a *agent) name(f ring.Frame, ep *endpoint, trap uintptr) {
	name := make([]byte, nameRoom)
	size := [4]byte{nameRoom}
	_, errno := call(trap, uintptr(ep.fd), pointer(name), pointer(size[:]))
	a.reply(f, errno, 0, proto.MaskUnknown, name[:min(binary.NativeEndian.Uint32(size[:]), nameRoom)])
}

// probeRead receives on a stream where there should be nothing, to learn what
// read(2) says. If there is something after all it is told as ever, before the
// answer.
func (a *agent) probeRead(f ring.Frame, ep *endpoint) {
	var errno = unix.EAGAIN
	if ep.credit > 0 {
		var n int
		b := a.scratch[:min(ep.credit, 4096)]
		n, errno = sysRecv(ep.fd, b, 0)
		if errno == 0 && n > 0 {
			a.put(ring.Frame{Op: proto.OpIn, ID: ep.id}, b[:n])
			ep.credit -= n
			ep.readable = true
			errno = unix.EAGAIN
		}
	}
	ep.mask = sysPoll(ep.fd)
	a.reply(f, errno, 0, ep.mask, nil)
}

// chore is what is asked for now and then, of the guest as a whole.
func (a *agent) chore(f ring.Frame, x uint32, p []byte) {
	var b []byte
	var err error
	switch f.Op {
	case proto.OpReadFile:
		if b, err = os.ReadFile(string(p)); len(b) > 32<<10 {
			b = b[:32<<10]
		}
	case proto.OpFaces:
		b = faces()
	case proto.OpSetup:
		err = configure(p)
	default:
		if err = setAdmin(true); err == nil {
			err = a.change(f.Op, int(x), p)
			_ = setAdmin(false)
		}
	}
	if err != nil {
		errno := unix.EIO
		_ = errors.As(err, &errno)
		a.reply(f, errno, 0, proto.MaskUnknown, []byte(err.Error()))
		return
	}
	a.reply(f, 0, 0, proto.MaskUnknown, b)
}

// change is a chore that needs privilege.
func (a *agent) change(op uint16, split int, p []byte) error {
	if op == proto.OpModule {
		path, params, _ := bytes.Cut(p, []byte{0})
		return loadModule(string(path), string(params))
	}
	if split < 0 || split > len(p) {
		return unix.EINVAL
	}
	return os.WriteFile(string(p[:split]), p[split:], 0)
}
