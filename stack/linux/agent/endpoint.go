package agent

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/ring"
)

// What a socket is, as far as the agent must know.
const (
	fresh    = iota // a stream that has no connection yet
	listens         // a stream that listens
	stream          // a stream that has, or makes, a connection
	messages        // any other
)

// endpoint is one socket.
type endpoint struct {
	id       uint32
	fd       int
	mode     int
	mask     uint32 // as it was last told
	credit   int    // what the engine has room for, bytes
	readable bool   // there may be something to receive
	waitsOut bool   // messages: EPOLLOUT is asked for
	out      []byte // taken from the engine, not sent yet
	sent     int    // of out
	taken    int    // not told yet, bytes
	shutWR   bool   // SHUT_WR waits for out to be sent
	closing  bool   // close(2) waits for out to be sent
	last     []byte // the tcp_info that was told last
}

const pollMask = unix.POLLIN | unix.POLLOUT | unix.POLLPRI | unix.POLLRDHUP | unix.POLLERR | unix.POLLHUP

// do is one request or piece of data of the engine's.
func (a *agent) do(f ring.Frame) {
	if f.Op == proto.OpData {
		if ep := a.eps[f.ID]; ep != nil {
			a.data(ep, f)
		}
		return
	}
	a.buf = a.side.In.Append(a.buf[:0], f)
	x, y, z, rest, ok := proto.ParseArgs(a.buf)
	if !ok {
		return
	}
	ep := a.eps[f.ID]
	switch f.Op {
	case proto.OpCredit:
		if ep != nil {
			ep.credit += int(x)
			a.receive(ep, ep.mask)
		}
		return
	case proto.OpClose:
		if ep != nil {
			a.close(ep, x == proto.CloseReset)
		}
		return
	case proto.OpProbe:
		a.probe = max(0, int(x)/1000)
		return
	case proto.OpPowerOff:
		a.gone = true
		return
	}
	a.asked = true
	switch f.Op {
	case proto.OpSocket:
		a.socket(f, int(x), int(y), int(z))
		return
	case proto.OpUnsent:
		n := uint32(0)
		for _, ep := range a.eps {
			if ep.closing {
				n++
			}
		}
		a.reply(f, 0, n, proto.MaskUnknown, nil)
		return
	case proto.OpReadFile, proto.OpWriteFile, proto.OpSetup, proto.OpFaces, proto.OpModule:
		a.chore(f, x, rest)
		return
	}
	if ep == nil {
		a.reply(f, unix.EBADF, 0, proto.MaskUnknown, nil)
		return
	}
	switch f.Op {
	case proto.OpAccept:
		a.accept(f, ep, x)
	case proto.OpSend:
		a.send(f, ep, int(x), int(y), int(z), rest)
	case proto.OpCall:
		a.call(f, ep, x, int(y), int(z), rest)
	default:
		a.reply(f, unix.ENOSYS, 0, proto.MaskUnknown, nil)
	}
}

// socket makes an endpoint.
func (a *agent) socket(f ring.Frame, family, typ, protocol int) {
	fd, errno := call(unix.SYS_SOCKET, uintptr(family), uintptr(typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC), uintptr(protocol))
	if errno != 0 {
		a.reply(f, errno, 0, proto.MaskUnknown, nil)
		return
	}
	ep := &endpoint{id: f.ID, fd: fd, mode: messages, mask: unix.POLLOUT}
	if typ == unix.SOCK_STREAM {
		ep.mode, ep.credit, ep.mask = fresh, proto.Window, unix.POLLOUT|unix.POLLHUP
	}
	if errno := a.watch(ep, unix.EPOLL_CTL_ADD); errno != 0 {
		_, _ = call(unix.SYS_CLOSE, uintptr(fd))
		a.reply(f, errno, 0, proto.MaskUnknown, nil)
		return
	}
	a.reply(f, 0, 0, ep.mask, nil)
}

// watch puts ep among the watched sockets. Sockets of messages tell of room only
// where it was missing, for otherwise they would after each that is sent.
func (a *agent) watch(ep *endpoint, op int) unix.Errno {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | edge, Fd: int32(ep.id)}
	if ep.mode != messages || ep.waitsOut {
		ev.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(a.epoll, op, ep.fd, &ev); err != nil {
		return err.(unix.Errno)
	}
	a.eps[ep.id] = ep
	return 0
}

// accept takes a connection.
func (a *agent) accept(f ring.Frame, l *endpoint, id uint32) {
	fd, errno := call(unix.SYS_ACCEPT4, uintptr(l.fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if errno != 0 {
		l.mask = sysPoll(l.fd)
		a.reply(f, errno, 0, l.mask, nil)
		return
	}
	l.mask = sysPoll(l.fd)
	ep := &endpoint{id: id, fd: fd, mode: stream, credit: proto.Window, mask: unix.POLLOUT}
	if errno := a.watch(ep, unix.EPOLL_CTL_ADD); errno != 0 {
		_, _ = call(unix.SYS_CLOSE, uintptr(fd))
		a.reply(f, errno, 0, l.mask, nil)
		return
	}
	a.reply(f, 0, 0, l.mask, nil)
}

// event is called when something has happened to ep.
func (a *agent) event(ep *endpoint, events uint32) {
	mask := events & pollMask
	switch ep.mode {
	case stream:
		if len(ep.out) > 0 && mask&(unix.POLLOUT|unix.POLLERR|unix.POLLHUP) != 0 {
			a.flush(ep)
		}
		if mask&(unix.POLLIN|unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0 {
			ep.readable = true
		}
		if ep.closing {
			a.endClosing(ep)
			return
		}
		if a.receive(ep, mask) {
			return // and it has told
		}
		if (mask^ep.mask)&^unix.POLLIN != 0 {
			a.tell(ep, mask, 0, 0)
		}
	case messages:
		if ep.waitsOut {
			if mask&(unix.POLLOUT|unix.POLLERR) != 0 {
				ep.waitsOut = false
				_ = a.watch(ep, unix.EPOLL_CTL_MOD)
			}
		} else {
			mask |= ep.mask & unix.POLLOUT
		}
		if mask&(unix.POLLIN|unix.POLLERR) != 0 {
			ep.readable = true
		}
		full := ep.credit <= 0 // what is there stays there
		if a.receive(ep, mask) {
			return
		}
		if (mask^ep.mask)&^unix.POLLIN != 0 || mask&unix.POLLERR != 0 || full && mask&unix.POLLIN != 0 {
			a.tell(ep, mask, 0, 0)
		}
	default:
		if mask != ep.mask || mask&unix.POLLIN != 0 {
			a.tell(ep, mask, 0, 0)
		}
	}
}

// tell tells the engine what poll(2) says of ep.
func (a *agent) tell(ep *endpoint, mask uint32, errno unix.Errno, flags uint32) {
	ep.mask = mask
	x := proto.Args(uint32(errno), mask, flags)
	a.put(ring.Frame{Op: proto.OpEvent, ID: ep.id}, x[:])
}

// receive takes what there is, as far as the engine has room. It reports whether
// it has told the engine the mask.
func (a *agent) receive(ep *endpoint, mask uint32) (told bool) {
	switch {
	case !ep.readable || ep.credit <= 0:
		return false
	case ep.mode == stream:
		return a.receiveStream(ep, mask)
	case ep.mode == messages:
		return a.receiveMessages(ep)
	}
	return false
}

func (a *agent) receiveStream(ep *endpoint, mask uint32) (told bool) {
	for ep.credit > 0 {
		b := a.side.Out.Space(min(ep.credit, proto.MaxData))
		if b == nil {
			a.published = true
			a.ring()
			pause()
			continue
		}
		n, errno := sysRecv(ep.fd, b, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN || errno == unix.ENOTCONN:
			ep.readable = false
			return told
		case errno != 0: // a pending error, which is the engine's now
			ep.readable = false
			a.tell(ep, sysPoll(ep.fd), errno, 0)
			return true
		case n == 0:
			ep.readable = false
			a.tell(ep, mask, 0, proto.EventEnd)
			return true
		}
		a.side.Out.Commit(ring.Frame{Size: uint32(n), Op: proto.OpIn, ID: ep.id})
		a.published = true
		ep.credit -= n
		if n < len(b) && mask&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) == 0 {
			ep.readable = false // what comes now has an edge of its own
			return told
		}
	}
	return told
}

func (a *agent) receiveMessages(ep *endpoint) (told bool) {
	for ep.credit > 0 {
		name, control, data, flags, errno := sysRecvmsg(ep.fd, a.scratch, 0)
		switch errno {
		case 0:
			a.putMessage(ring.Frame{Op: proto.OpMessage, ID: ep.id}, name, control, data, flags)
			ep.credit -= len(data) + len(control) + proto.MessageCost
			told = false
		case unix.EINTR:
		case unix.EAGAIN:
			ep.readable = false
			return told
		default:
			a.tell(ep, sysPoll(ep.fd), errno, 0)
			told = true
		}
	}
	return told
}

func (a *agent) putMessage(f ring.Frame, name, control, data []byte, flags int) {
	x := proto.Args(uint32(flags), uint32(len(name)), uint32(len(control)))
	a.put(f, x[:], name, control, data)
}

// close is the last close(2).
func (a *agent) close(ep *endpoint, reset bool) {
	if ep.mode == stream && !reset && len(ep.out) > 0 {
		unread := ep.readable || ioctlInt(ep.fd, unix.SIOCINQ) > 0
		if !unread {
			ep.closing = true
			return
		}
		reset = true
	}
	a.release(ep, reset)
}

// endClosing goes on with a close that waits. Data for a closed endpoint resets
// it, as it resets an orphan of the kernel's.
func (a *agent) endClosing(ep *endpoint) {
	unread := ioctlInt(ep.fd, unix.SIOCINQ) > 0
	if len(ep.out) == 0 || unread {
		a.release(ep, unread)
	}
}

// release closes the socket, without waiting for SO_LINGER.
func (a *agent) release(ep *endpoint, reset bool) {
	delete(a.eps, ep.id)
	if ep.mode != messages {
		var l [8]byte
		size := [4]byte{8}
		if reset {
			l[0] = 1
			_, _ = call(unix.SYS_SETSOCKOPT, uintptr(ep.fd), unix.SOL_SOCKET, unix.SO_LINGER, pointer(l[:]), 8)
		} else if _, errno := call(unix.SYS_GETSOCKOPT, uintptr(ep.fd), unix.SOL_SOCKET, unix.SO_LINGER, pointer(l[:]), pointer(size[:])); errno == 0 &&
			binary.NativeEndian.Uint32(l[:]) != 0 && binary.NativeEndian.Uint32(l[4:]) != 0 {
			l = [8]byte{}
			_, _ = call(unix.SYS_SETSOCKOPT, uintptr(ep.fd), unix.SOL_SOCKET, unix.SO_LINGER, pointer(l[:]), 8)
		}
	}
	_, _ = call(unix.SYS_CLOSE, uintptr(ep.fd))
}
