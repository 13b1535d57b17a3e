package host

import (
	"sync"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/internal/sockaddr"
	"golang.org/x/sys/unix"
)

// controlSize is room for the ancillary data of one message, bytes. The longest
// are IPv6 extension headers (IPV6_RECVHOPOPTS and the like, 2 KiB each).
const controlSize = 10 << 10

type controlBuffer [controlSize]byte

var controls = sync.Pool{New: func() any { return new(controlBuffer) }}

// reported are the flags of recvmsg(2) that Recv passes on.
const reported = unix.MSG_TRUNC | unix.MSG_CTRUNC | unix.MSG_ERRQUEUE | unix.MSG_OOB

// Send is sendmsg(2), with the message's flags and ancillary data. On a stream
// it may send urgent data (MSG_OOB), after what WriteFrom left over: EAGAIN
// until that is sent.
func (e *Endpoint) Send(m *stack.Message) (int, stack.Errno) {
	fd, ok := e.enter()
	if !ok {
		return 0, unix.EBADF
	}
	if e.typ == unix.SOCK_STREAM && e.hasOut.Load() {
		e.leave() // before wmu, which comes first
		e.wmu.Lock()
		defer e.wmu.Unlock()
		if fd, ok = e.enter(); !ok {
			return 0, unix.EBADF
		}
		if errno := e.flush(fd); errno == unix.EAGAIN {
			e.leave()
			return 0, errno
		}
	}
	defer e.leave()
	var sa *sockaddr.Sockaddr
	if m.HasAddr {
		sa = sockaddr.Encode(m.Addr, e.family)
	}
	return sysSendmsg(fd, m.Data, m.Control, sa, m.Flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

// Recv is recvmsg(2) with room for the longest datagram.
func (e *Endpoint) Recv(m *stack.Message) stack.Errno { return e.recv(m, 0) }

// RecvError is recvmsg(2) with MSG_ERRQUEUE: Data is the payload of the packet
// that failed, Addr its destination.
func (e *Endpoint) RecvError(m *stack.Message) stack.Errno { return e.recv(m, unix.MSG_ERRQUEUE) }

func (e *Endpoint) recv(m *stack.Message, flags int) stack.Errno {
	fd, ok := e.enter()
	if !ok {
		return unix.EBADF
	}
	defer e.leave()
	data := m.Data[:cap(m.Data)]
	direct := len(data) >= bufSize
	if !direct {
		buf := getBuffer()
		defer buffers.Put(buf)
		data = buf[:]
	}
	control := controls.Get().(*controlBuffer)
	defer controls.Put(control)
	got, errno := sysRecvmsg(fd, data, control[:], flags|unix.MSG_DONTWAIT)
	if errno != 0 {
		return errno
	}
	if direct {
		m.Data = data[:got.n]
	} else {
		m.Data = append(m.Data[:0], data[:got.n]...)
	}
	m.Control = append(m.Control[:0], control[:got.control]...)
	m.Addr, m.HasAddr = sockaddr.Decode(&got.from)
	m.Flags = got.flags & reported
	return 0
}
