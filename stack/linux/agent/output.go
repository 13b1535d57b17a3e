package agent

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/ring"
)

// data sends bytes of a stream, from where they are. What the socket has no room
// for is kept: other endpoints' data is behind it.
func (a *agent) data(ep *endpoint, f ring.Frame) {
	off := 0
	for len(ep.out) == 0 && off < int(f.Size) {
		p := a.side.In.Payload(f, off)
		n, errno := sysSend(ep.fd, p, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN || errno == unix.EINPROGRESS:
			n = 0
		case errno != 0:
			a.lost(ep, int(f.Size)-off, errno)
			return
		}
		off += n
		ep.taken += n
		if n < len(p) {
			break
		}
	}
	for off < int(f.Size) {
		p := a.side.In.Payload(f, off)
		ep.out = append(ep.out, p...)
		off += len(p)
	}
	a.tellTaken(ep, proto.Window/4)
}

// lost drops n bytes, and what is kept, as the connection is broken.
func (a *agent) lost(ep *endpoint, n int, errno unix.Errno) {
	ep.taken += n + len(ep.out) - ep.sent
	ep.out, ep.sent = ep.out[:0], 0
	a.tellTaken(ep, 1)
	if errno == unix.EPIPE {
		errno = 0 // it comes again by itself
	}
	a.tell(ep, sysPoll(ep.fd), errno, 0)
}

// tellTaken tells how much was taken, if it is at least so much.
func (a *agent) tellTaken(ep *endpoint, least int) {
	if ep.taken < least || ep.taken == 0 {
		return
	}
	x := proto.Args(uint32(ep.taken), 0, 0)
	ep.taken = 0
	if !ep.closing {
		a.put(ring.Frame{Op: proto.OpTaken, ID: ep.id}, x[:])
	}
}

// flush goes on sending what was kept.
func (a *agent) flush(ep *endpoint) {
	for ep.sent < len(ep.out) {
		n, errno := sysSend(ep.fd, ep.out[ep.sent:], 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN || errno == unix.EINPROGRESS:
			a.tellTaken(ep, 1)
			return
		case errno != 0:
			a.lost(ep, 0, errno)
			return
		}
		ep.sent += n
		ep.taken += n
	}
	ep.out, ep.sent = ep.out[:0], 0
	a.tellTaken(ep, 1)
	if ep.shutWR {
		ep.shutWR = false
		_, _ = call(unix.SYS_SHUTDOWN, uintptr(ep.fd), unix.SHUT_WR)
	}
}

// send sends a message; p is its address, control data and data.
func (a *agent) send(f ring.Frame, ep *endpoint, flags, name, control int, p []byte) {
	if name < 0 || control < 0 || name > len(p) || control > len(p)-name {
		a.reply(f, unix.EINVAL, 0, proto.MaskUnknown, nil)
		return
	}
	if len(ep.out) > 0 {
		a.reply(f, unix.EAGAIN, 0, proto.MaskUnknown, nil)
		return
	}
	n, errno := sysSendmsg(ep.fd, p[:name], p[name:name+control], p[name+control:], flags)
	mask := proto.MaskUnknown
	if errno != 0 && ep.mode == messages {
		if errno == unix.EAGAIN && !ep.waitsOut {
			ep.waitsOut = true
			_ = a.watch(ep, unix.EPOLL_CTL_MOD)
		}
		ep.mask = sysPoll(ep.fd)
		mask = ep.mask
	}
	a.reply(f, errno, uint32(n), mask, nil)
}

// patience is how long to wait for events, milliseconds.
func (a *agent) patience() int {
	if a.probe > 0 && len(a.eps) > 0 {
		return a.probe
	}
	return -1
}

// sample tells the state of each stream that has changed.
func (a *agent) sample() {
	if a.probe == 0 {
		return
	}
	var b [256]byte
	for _, ep := range a.eps {
		if ep.mode != stream {
			continue
		}
		size := [4]byte{byte(len(b) - 1)}
		_, errno := call(unix.SYS_GETSOCKOPT, uintptr(ep.fd), unix.IPPROTO_TCP, unix.TCP_INFO, pointer(b[:]), pointer(size[:]))
		if errno != 0 || int(size[0]) < infoTimes[1] {
			continue
		}
		now := b[:size[0]]
		if ep.last != nil && bytes.Equal(now[:infoTimes[0]], ep.last[:infoTimes[0]]) && bytes.Equal(now[infoTimes[1]:], ep.last[infoTimes[1]:]) {
			continue
		}
		ep.last = append(ep.last[:0], now...)
		a.put(ring.Frame{Op: proto.OpSample, ID: ep.id}, now)
	}
}

// infoTimes are the places of tcpi_last_data_sent and of what follows
// tcpi_last_ack_recv in struct tcp_info: times that are never the same.
var infoTimes = [2]int{44, 60}
