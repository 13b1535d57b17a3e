package linux

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/internal/sockaddr"
	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/ring"
)

// Endpoint is one socket of the guest. mu is not held while the agent is asked:
// who takes its answer delivers to endpoints.
type Endpoint struct {
	engine      *Engine
	id          uint32
	family, typ int
	stream      bool
	notify      atomic.Pointer[func()]

	wmu sync.Mutex // of WriteFrom

	mu       sync.Mutex
	mask     uint32 // as the agent told last
	pending  stack.Errno
	open     bool // a stream that has, or makes, a connection
	accepted bool
	shutWR   bool
	closed   bool
	end      bool   // the peer's FIN came behind in
	in       []byte // received, from head on
	head     int
	msgs     []stack.Message
	owed     int  // taken from in or msgs, not told to the agent
	window   int  // of messages: how far ahead of Recv the agent may receive
	allowed  int  // of messages: the agent's credit, as far as is known here
	unsure   bool // of messages: the agent's credit was used up, there may be more
	more     bool // of messages: there is more
	full     bool // of a stream: there was no room, and still is little
	unsent   int  // given to the agent, not taken by the socket
	local    stack.Addr

	names         [2]netip.AddrPort // for samples, once named
	named, naming bool
}

var _ stack.Endpoint = (*Endpoint)(nil)

// deliver is what the agent tells.
func (e *Endpoint) deliver(f ring.Frame, p []byte) {
	e.mu.Lock()
	switch f.Op {
	case proto.OpIn:
		if e.head > 0 && len(e.in)+len(p) > cap(e.in) {
			e.in = append(e.in[:0], e.in[e.head:]...)
			e.head = 0
		}
		e.in = append(e.in, p...)
	case proto.OpMessage:
		if m, ok := parseMessage(p); ok {
			e.msgs = append(e.msgs, m)
			e.allowed -= messageCost(&m)
			e.unsure, e.more = e.unsure || e.allowed <= 0, false
		}
	case proto.OpEvent:
		errno, mask, flags, _, ok := proto.ParseArgs(p)
		if !ok {
			break
		}
		e.mask = mask
		if !e.stream && mask&unix.POLLIN != 0 && e.allowed <= 0 {
			e.unsure, e.more = true, true
		}
		if errno != 0 {
			e.pending = stack.Errno(errno)
		}
		if flags&proto.EventEnd != 0 {
			e.end = true
		}
	case proto.OpTaken:
		if n, _, _, _, ok := proto.ParseArgs(p); ok {
			e.unsent = max(0, e.unsent-int(n))
			e.full = e.full && e.unsent > outLow
		}
	case proto.OpSample:
		e.sample(p)
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	e.changed()
}

// die is the end of the kernel.
func (e *Endpoint) die() {
	e.mu.Lock()
	e.mask, e.pending = unix.POLLERR|unix.POLLHUP|unix.POLLIN|unix.POLLOUT|unix.POLLRDHUP, unix.ENETDOWN
	e.mu.Unlock()
	e.changed()
}

func (e *Endpoint) changed() {
	if f := e.notify.Load(); f != nil {
		(*f)()
	}
}

// Notify sets the function called after each change.
func (e *Endpoint) Notify(f func()) {
	if f == nil {
		e.notify.Store(nil)
		return
	}
	e.notify.Store(&f)
}

// call is one call on the guest's socket.
func (e *Endpoint) call(what uint32, b, c int, bytes []byte) *request {
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return &request{errno: unix.EBADF}
	}
	x := proto.Args(what, uint32(b), uint32(c))
	return e.engine.ch.ask(args(proto.OpCall, e.id), x[:], bytes)
}

func (e *Endpoint) encode(a stack.Addr) []byte {
	sa := sockaddr.Encode(a, e.family)
	return sa.Raw[:sa.Len]
}

func decode(b []byte) (stack.Addr, bool) {
	var sa sockaddr.Sockaddr
	sa.Len = uint32(copy(sa.Raw[:], b))
	return sockaddr.Decode(&sa)
}

// Bind is bind(2).
func (e *Endpoint) Bind(a stack.Addr) stack.Errno {
	return e.call(proto.CallBind, 0, 0, e.encode(a)).errno
}

// takePending is the error that the agent has met, which is cleared.
func (e *Endpoint) takePending() stack.Errno {
	e.mu.Lock()
	defer e.mu.Unlock()
	errno := e.pending
	e.pending = 0
	return errno
}

// Connect is connect(2) on a non-blocking socket.
func (e *Endpoint) Connect(a stack.Addr) stack.Errno {
	if e.stream {
		// Before the agent's answer there may be events of the connection.
		e.mu.Lock()
		was := e.open
		e.open = true
		e.mu.Unlock()
		errno := e.call(proto.CallConnect, 0, 0, e.encode(a)).errno
		if errno != 0 && errno != unix.EINPROGRESS && !was {
			e.mu.Lock()
			e.open = false
			e.mu.Unlock()
		}
		if errno == unix.ECONNABORTED { // unless the agent has taken the error
			if pending := e.takePending(); pending != 0 {
				return pending
			}
		}
		return errno
	}
	return e.call(proto.CallConnect, 0, 0, e.encode(a)).errno
}

// Disconnect is connect(2) with AF_UNSPEC.
func (e *Endpoint) Disconnect() stack.Errno {
	sa := sockaddr.Unspec()
	r := e.call(proto.CallConnect, 0, 0, sa.Raw[:sa.Len])
	if r.errno == 0 {
		e.mu.Lock()
		e.pending = 0
		if e.stream {
			e.in, e.head, e.end, e.owed, e.unsent = nil, 0, false, 0, 0
			e.open, e.shutWR, e.accepted, e.full = false, false, false, false
		}
		e.mu.Unlock()
	}
	return r.errno
}

// Listen is listen(2).
func (e *Endpoint) Listen(backlog int) stack.Errno {
	return e.call(proto.CallListen, backlog, 0, nil).errno
}

// Accept is accept4(2).
func (e *Endpoint) Accept() (stack.Endpoint, stack.Errno) {
	ep := e.engine.newEndpoint(e.family, e.typ)
	if ep == nil {
		return nil, unix.ENETDOWN
	}
	ep.open, ep.accepted, ep.mask = true, true, unix.POLLOUT
	x := proto.Args(ep.id, 0, 0)
	r := e.engine.ch.ask(args(proto.OpAccept, e.id), x[:])
	if r.errno != 0 {
		e.engine.forget(ep)
		return nil, r.errno
	}
	e.engine.sockets.Add(1)
	return ep, 0
}

// Shutdown is shutdown(2). If bytes wait to be sent the FIN follows them.
func (e *Endpoint) Shutdown(how int) stack.Errno {
	r := e.call(proto.CallShutdown, how, 0, nil)
	if r.errno == 0 && (how == unix.SHUT_WR || how == unix.SHUT_RDWR) {
		e.mu.Lock()
		e.shutWR = e.open
		e.mu.Unlock()
	}
	return r.errno
}

// LocalAddr is getsockname(2).
func (e *Endpoint) LocalAddr() stack.Addr {
	e.mu.Lock()
	local := e.local
	e.mu.Unlock()
	if local.Port != 0 {
		return local
	}
	r := e.call(proto.CallLocal, 0, 0, nil)
	if r.errno != 0 {
		return stack.Addr{}
	}
	a, _ := decode(r.body)
	if e.accepted { // it stays what it is
		e.mu.Lock()
		e.local = a
		e.mu.Unlock()
	}
	return a
}

// PeerAddr is getpeername(2).
func (e *Endpoint) PeerAddr() (stack.Addr, stack.Errno) {
	r := e.call(proto.CallPeer, 0, 0, nil)
	if r.errno != 0 {
		return stack.Addr{}, r.errno
	}
	a, _ := decode(r.body)
	return a, 0
}

// foreign reports whether an option's value names memory or descriptors of the
// process that makes the call, which is in another kernel.
func foreign(level, name int) bool {
	if level != unix.SOL_SOCKET {
		return level == unix.IPPROTO_TCP && name == unix.TCP_ZEROCOPY_RECEIVE
	}
	switch name {
	case unix.SO_ATTACH_FILTER, unix.SO_ATTACH_BPF, unix.SO_ATTACH_REUSEPORT_CBPF, unix.SO_ATTACH_REUSEPORT_EBPF:
		return true
	}
	return false
}

// SetOption is setsockopt(2). Options whose value holds a pointer or a descriptor
// of the caller's process answer ENOPROTOOPT.
func (e *Endpoint) SetOption(level, name int, val []byte) stack.Errno {
	if foreign(level, name) {
		return unix.ENOPROTOOPT
	}
	return e.call(proto.CallSetOption, level, name, val).errno
}

// GetOption is getsockopt(2).
func (e *Endpoint) GetOption(level, name int, val []byte) (int, stack.Errno) {
	if level == unix.SOL_SOCKET {
		switch name {
		case unix.SO_GET_FILTER: // the same number as SO_ATTACH_FILTER
			return 0, 0
		case unix.SO_ERROR:
			var b [4]byte
			binary.NativeEndian.PutUint32(b[:], uint32(e.TakeError()))
			return copy(val, b[:]), 0
		}
	}
	if foreign(level, name) {
		return 0, unix.ENOPROTOOPT
	}
	r := e.call(proto.CallGetOption, level, name, val)
	if r.errno != 0 {
		return 0, r.errno
	}
	return copy(val, r.body), 0
}

// TakeError is SO_ERROR.
func (e *Endpoint) TakeError() stack.Errno {
	if errno := e.takePending(); errno != 0 {
		return errno
	}
	e.mu.Lock()
	none := e.mask&unix.POLLERR == 0
	e.mu.Unlock()
	if none {
		return 0
	}
	r := e.call(proto.CallError, 0, 0, nil)
	if r.errno != 0 {
		return r.errno
	}
	return stack.Errno(r.result)
}

// outLow is how much may wait to be sent for a stream that was full to have room
// again: two thirds of all, as with Linux's own sockets.
const outLow = proto.Window * 2 / 3

// Readiness is what poll(2) says.
func (e *Endpoint) Readiness() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	mask := e.mask
	if e.pending != 0 {
		mask |= unix.POLLERR
	}
	switch {
	case !e.stream:
		mask &^= unix.POLLIN
		if len(e.msgs) > 0 || e.more || mask&(unix.POLLRDHUP) != 0 {
			mask |= unix.POLLIN
		}
	case e.open:
		mask &^= unix.POLLIN
		if e.held() > 0 || e.end || mask&(unix.POLLRDHUP|unix.POLLHUP) != 0 || e.pending != 0 {
			mask |= unix.POLLIN
		}
		if e.full && !e.shutWR && mask&(unix.POLLERR|unix.POLLHUP) == 0 {
			mask &^= unix.POLLOUT
		}
	}
	return mask
}

func (e *Endpoint) held() int { return len(e.in) - e.head }

// Queued is SIOCINQ and SIOCOUTQ.
func (e *Endpoint) Queued() (in, out int) {
	r := e.call(proto.CallQueued, 0, 0, nil)
	if r.errno == 0 && len(r.body) >= 8 {
		in = int(int32(binary.LittleEndian.Uint32(r.body)))
		out = int(int32(binary.LittleEndian.Uint32(r.body[4:])))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stream {
		return in + e.held(), out
	}
	if len(e.msgs) > 0 {
		in = len(e.msgs[0].Data)
	}
	return in, out
}

// Close is close(2).
func (e *Endpoint) Close() { e.release(false) }

// Abort is close(2) of a stream with RST.
func (e *Endpoint) Abort() { e.release(true) }

func (e *Endpoint) release(reset bool) {
	e.notify.Store(nil)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	how := uint32(proto.CloseQuietly)
	if reset || e.held() > 0 {
		how = proto.CloseReset
	}
	e.in, e.head, e.msgs = nil, 0, nil
	e.mu.Unlock()
	e.engine.forget(e)
	x := proto.Args(how, 0, 0)
	e.engine.ch.put(true, args(proto.OpClose, e.id), x[:])
}
