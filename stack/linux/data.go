package linux

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/internal/sockaddr"
	"github.com/alptrace/alptrace/stack/linux/internal/proto"
)

// ReadTo moves received bytes into w.
func (e *Endpoint) ReadTo(w io.Writer) (int, stack.Errno) {
	if n, errno, ok := e.readHeld(w); ok {
		return n, errno
	}
	// Nothing is expected: what read(2) says the guest must tell.
	r := e.call(proto.CallRecv, 0, 0, nil)
	if n, errno, ok := e.readHeld(w); ok && errno != unix.EAGAIN { // something came after all
		return n, errno
	}
	return 0, r.errno
}

// readHeld reads what the endpoint itself has; ok is false where it knows nothing.
func (e *Endpoint) readHeld(w io.Writer) (n int, errno stack.Errno, ok bool) {
	e.mu.Lock()
	switch {
	case e.held() > 0:
		n, _ = w.Write(e.in[e.head:])
		n = max(0, min(n, e.held()))
		if e.head += n; e.head == len(e.in) {
			e.in, e.head = e.in[:0], 0
		}
		owed := e.owes(n, proto.Window/2)
		e.mu.Unlock()
		e.credit(owed)
		if n == 0 {
			return 0, unix.EAGAIN, true
		}
		return n, 0, true
	case e.pending != 0:
		errno, e.pending = e.pending, 0
		ok = true
	case e.end:
		ok = true
	case e.open && e.mask&unix.POLLOUT != 0 && e.mask&(unix.POLLERR|unix.POLLHUP|unix.POLLRDHUP) == 0:
		errno, ok = unix.EAGAIN, true
	}
	e.mu.Unlock()
	return 0, errno, ok
}

// owes notes that n bytes have been taken, and gives what the agent is to be told:
// nothing until it is much. With mu.
func (e *Endpoint) owes(n, much int) int {
	if e.owed += n; e.owed < much {
		return 0
	}
	n = e.owed
	e.owed = 0
	return n
}

// owesMessage is owes for a message that costs n. At first the agent receives
// nothing ahead, so that it is the guest's buffer that overflows, and when; the
// more are taken the more it may. With mu.
func (e *Endpoint) owesMessage(n int) int {
	more := min(n, proto.MessageWindow-e.window)
	e.window += more
	owed := e.owes(n+more, min(e.window, proto.MessageWindow)/4)
	e.allowed += owed
	return owed
}

// messageCost is what a message takes of the agent's credit.
func messageCost(m *stack.Message) int { return len(m.Data) + len(m.Control) + proto.MessageCost }

// credit tells the agent that there is room for n bytes more.
func (e *Endpoint) credit(n int) {
	if n > 0 {
		x := proto.Args(uint32(n), 0, 0)
		e.engine.ch.put(true, args(proto.OpCredit, e.id), x[:])
	}
}

type buffer [64 << 10]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// WriteFrom moves bytes from r to the agent, as many as it has room for.
func (e *Endpoint) WriteFrom(r stack.Source) (int, stack.Errno) {
	e.wmu.Lock()
	defer e.wmu.Unlock()
	room, errno := e.writable()
	if errno != 0 {
		return 0, errno
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	total := 0
	for r.Len() > 0 && room > 0 {
		n, _ := r.Read(b[:min(r.Len(), room, len(b))])
		if n <= 0 {
			break
		}
		e.mu.Lock()
		e.unsent += n
		room = proto.Window - e.unsent
		e.full = room <= 0
		e.mu.Unlock()
		total += n
		e.engine.ch.put(false, args(proto.OpData, e.id), b[:n])
	}
	if total == 0 {
		if room <= 0 {
			return 0, unix.EAGAIN
		}
		return 0, 0
	}
	e.engine.ch.bell()
	return total, 0
}

// writable is how many bytes the agent has room for, or why none may be sent.
func (e *Endpoint) writable() (int, stack.Errno) {
	e.mu.Lock()
	errno := e.pending
	e.pending = 0
	shut := e.shutWR || e.closed
	healthy := e.open && e.mask&unix.POLLOUT != 0 && e.mask&(unix.POLLERR|unix.POLLHUP) == 0
	room := proto.Window - e.unsent
	if e.full {
		room = 0
	}
	e.mu.Unlock()
	switch {
	case errno != 0:
		return 0, errno
	case shut:
		return 0, unix.EPIPE
	case healthy:
		if room <= 0 {
			return 0, unix.EAGAIN
		}
		return room, 0
	}
	r := e.call(proto.CallProbe, 0, 0, nil)
	if errno := e.takePending(); errno != 0 {
		return 0, errno
	}
	if r.errno != 0 {
		return 0, r.errno
	}
	if room <= 0 {
		return 0, unix.EAGAIN
	}
	return room, 0
}

// Send is sendmsg(2).
func (e *Endpoint) Send(m *stack.Message) (int, stack.Errno) {
	if !e.stream {
		if errno := e.takePending(); errno != 0 {
			return 0, errno
		}
	}
	var name []byte
	if m.HasAddr {
		name = e.encode(m.Addr)
	}
	const longest = 66 << 10 // longer than any datagram: EMSGSIZE comes from the guest
	data := m.Data[:min(len(m.Data), longest)]
	x := proto.Args(uint32(m.Flags), uint32(len(name)), uint32(len(m.Control)))
	r := e.engine.ch.ask(args(proto.OpSend, e.id), x[:], name, m.Control, data)
	return int(r.result), r.errno
}

// reported are the flags of recvmsg(2) that Recv passes on.
const reported = unix.MSG_TRUNC | unix.MSG_CTRUNC | unix.MSG_ERRQUEUE | unix.MSG_OOB

// Recv takes the next message.
func (e *Endpoint) Recv(m *stack.Message) stack.Errno {
	if errno, ok := e.recvHeld(m); ok {
		return errno
	}
	// The guest may have more. What it has comes before the answer.
	e.mu.Lock()
	grant := 0
	if e.allowed <= 0 {
		grant = 1 - e.allowed
		e.allowed = 1
	}
	e.mu.Unlock()
	e.credit(grant)
	if r := e.call(proto.CallQueued, 0, 0, nil); r.errno != 0 {
		return r.errno
	}
	errno, _ := e.recvHeld(m)
	return errno
}

// recvHeld takes a message or error that is here. ok is false where there is none
// and the guest may have one; it is said once.
func (e *Endpoint) recvHeld(m *stack.Message) (errno stack.Errno, ok bool) {
	e.mu.Lock()
	if errno = e.pending; errno != 0 {
		e.pending = 0
		e.mu.Unlock()
		return errno, true
	}
	if len(e.msgs) == 0 {
		ask := e.unsure || e.mask&unix.POLLERR != 0
		e.unsure, e.more = false, false
		e.mu.Unlock()
		return unix.EAGAIN, !ask
	}
	got := e.msgs[0]
	e.msgs[0] = stack.Message{}
	if e.msgs = e.msgs[1:]; len(e.msgs) == 0 {
		e.msgs = nil
	}
	owed := e.owesMessage(messageCost(&got))
	e.unsure = e.unsure || owed > 0
	e.mu.Unlock()
	e.credit(owed)
	m.Data = append(m.Data[:0], got.Data...)
	m.Control = append(m.Control[:0], got.Control...)
	m.Addr, m.HasAddr, m.Flags = got.Addr, got.HasAddr, got.Flags
	return 0, true
}

// RecvError is recvmsg(2) with MSG_ERRQUEUE.
func (e *Endpoint) RecvError(m *stack.Message) stack.Errno {
	e.mu.Lock()
	none := e.mask&unix.POLLERR == 0
	e.mu.Unlock()
	if none {
		return unix.EAGAIN
	}
	r := e.call(proto.CallErrQueue, 0, 0, nil)
	if r.errno != 0 {
		return r.errno
	}
	got, ok := parseMessage(r.body)
	if !ok {
		return unix.EIO
	}
	m.Data = append(m.Data[:0], got.Data...)
	m.Control = append(m.Control[:0], got.Control...)
	m.Addr, m.HasAddr, m.Flags = got.Addr, got.HasAddr, got.Flags
	return 0
}

// parseMessage reads a message of the agent's, and copies it.
func parseMessage(p []byte) (m stack.Message, ok bool) {
	flags, name, control, rest, ok := proto.ParseArgs(p)
	if !ok || uint64(name)+uint64(control) > uint64(len(rest)) {
		return m, false
	}
	b := append([]byte(nil), rest...)
	var sa sockaddr.Sockaddr
	sa.Len = uint32(copy(sa.Raw[:], b[:name]))
	m.Addr, m.HasAddr = sockaddr.Decode(&sa)
	m.Control = b[name : name+control]
	m.Data = b[name+control:]
	m.Flags = int(flags) & reported
	return m, true
}
