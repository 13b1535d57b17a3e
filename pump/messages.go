package pump

import (
	"sync"
	"sync/atomic"

	"github.com/alptrace/alptrace/fdtable"
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Messages moves the datagrams of one socket.
type Messages struct {
	*fdtable.Messages
	task *Task
	ep   stack.Endpoint
	h    MessagesHandler

	mu   sync.Mutex
	held *stack.Message // received, but the stand-in is full
	done bool           // closed: End's number may be another descriptor's

	in, out *atomic.Uint64
}

// MessagesHandler is told what happens to a datagram socket.
type MessagesHandler interface {
	// MessagesReady: there may be datagrams to take, or room to send. e is an
	// error that the endpoint has reported.
	MessagesReady(e stack.Errno)
	// MessageRefused: a datagram that the program sent natively was not sent.
	MessageRefused(e stack.Errno)
}

var messages = sync.Pool{New: func() any { return &stack.Message{Data: make([]byte, 0, 1<<16)} }}

// NewMessages begins to move datagrams between the pair and ep, whose Notify
// it sets.
func (l *Loop) NewMessages(pair *fdtable.Messages, ep stack.Endpoint, h MessagesHandler, in, out *atomic.Uint64) (*Messages, error) {
	m := &Messages{Messages: pair, ep: ep, h: h, in: in, out: out}
	m.task = l.NewTask(func(events uint32) {
		if events&unix.EPOLLOUT != 0 {
			m.mu.Lock()
			m.task.WatchSpace(false)
			m.mu.Unlock()
		}
		m.Send()
		m.h.MessagesReady(m.Receive())
	})
	if err := m.task.Watch(pair.End()); err != nil {
		return nil, err
	}
	ep.Notify(m.task.Kick)
	return m, nil
}

// Send gives the endpoint what the program has sent natively.
func (m *Messages) Send() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done {
		return
	}
	msg := messages.Get().(*stack.Message)
	defer messages.Put(msg)
	for {
		n, errno := rawRead(m.End(), msg.Data[:cap(msg.Data)]) // never blocks
		if errno == unix.ECONNRESET || errno == unix.EINTR {
			continue // the program's half was disconnected
		}
		if errno != 0 {
			return
		}
		msg.Data, msg.HasAddr, msg.Control, msg.Flags = msg.Data[:n], false, nil, 0
		if _, e := m.ep.Send(msg); e != 0 {
			m.h.MessageRefused(e)
			continue
		}
		m.out.Add(uint64(n))
	}
}

// Receive gives the program what the endpoint has received, and returns the
// error that the endpoint reported instead, if any.
func (m *Messages) Receive() stack.Errno {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done {
		return 0
	}
	for {
		msg := m.held
		if msg == nil {
			msg = messages.Get().(*stack.Message)
			msg.Control, msg.Flags = nil, 0
			if e := m.ep.Recv(msg); e != 0 {
				messages.Put(msg)
				if e == unix.EAGAIN {
					e = 0
				}
				return e
			}
		}
		m.held = nil
		err := m.Push(msg.Data, fdtable.Origin{Source: msg.Addr, Control: msg.Control})
		if err != nil {
			m.held = msg
			m.task.WatchSpace(true)
			return 0
		}
		m.in.Add(uint64(len(msg.Data)))
		messages.Put(msg)
	}
}

// Fail makes the program's next native call fail. What it needs to queue on the
// pair must not be taken for a datagram, so nothing is moved meanwhile.
func (m *Messages) Fail(dup int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done {
		return unix.EBADF
	}
	replaced, err := m.Messages.Fail(dup)
	return m.rewatch(replaced, err)
}

// Connect lets the program send natively.
func (m *Messages) Connect(dup int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	replaced, err := m.Messages.Connect(dup)
	return m.rewatch(replaced, err)
}

// rewatch watches End if it is another socket, unless err.
func (m *Messages) rewatch(replaced bool, err error) error {
	if replaced {
		m.task.Unwatch()
		if e := m.task.Watch(m.End()); err == nil {
			err = e
		}
		m.task.Kick()
	}
	return err
}

// Kick schedules both directions.
func (m *Messages) Kick() { m.task.Kick() }

// Close ends the moving, and closes the tracer's half.
func (m *Messages) Close() {
	m.ep.Notify(nil)
	m.task.Unwatch()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = true
	m.Messages.Close()
}
