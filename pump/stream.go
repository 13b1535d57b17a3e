package pump

import (
	"sync/atomic"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Stream moves the bytes of one connection.
type Stream struct {
	task *Task
	end  int // the tracer's end of the stand-in
	ep   stack.Endpoint
	h    StreamHandler

	src source
	dst sink

	inDone   bool // the peer's FIN is delivered
	outDone  bool // our FIN is sent
	hangup   bool // the program has closed, or shut down both ways
	rdhup    bool // the program writes no more
	finished bool

	failure atomic.Uint32 // Fail's errno

	in, out *atomic.Uint64
}

// StreamHandler is told how a stream ends.
type StreamHandler interface {
	// StreamFailed: the connection has failed with e (ECONNRESET, ETIMEDOUT,
	// ...). The handler lets the program know and closes end.
	StreamFailed(end int, e stack.Errno)
	// StreamClosed: the program has closed its last descriptor, or shut down
	// both ways, and everything that it wrote has reached the endpoint. reset
	// says that it left bytes unread. The handler closes the endpoint; end is
	// closed already.
	StreamClosed(reset bool)
}

// NewStream begins to move bytes between end, which it owns from now on, and
// ep, whose Notify it sets. in and out count bytes, from the program's view.
func (l *Loop) NewStream(end int, ep stack.Endpoint, h StreamHandler, in, out *atomic.Uint64) (*Stream, error) {
	s := &Stream{end: end, ep: ep, h: h, in: in, out: out}
	s.src.fd, s.dst.fd = end, end
	s.task = l.NewTask(s.run)
	if err := s.task.Watch(end); err != nil {
		return nil, err
	}
	ep.Notify(s.task.Kick)
	s.task.Kick()
	return s, nil
}

// turn bounds what one run moves each way, bytes, so that no connection keeps
// the others waiting.
const turn = 1 << 20

func (s *Stream) run(events uint32) {
	if s.finished {
		return
	}
	if e := s.failure.Load(); e != 0 {
		s.fail(stack.Errno(e))
		return
	}
	if events&unix.EPOLLRDHUP != 0 {
		s.rdhup = true
	}
	if events&unix.EPOLLHUP != 0 {
		s.hangup = true
	}
	if events&unix.EPOLLOUT != 0 {
		s.dst.full = false
		s.task.WatchSpace(false)
	}
	if !s.inDone {
		s.receive()
	} else if s.ep.Readiness()&unix.POLLERR != 0 {
		s.fail(s.ep.TakeError())
	}
	if !s.finished {
		s.send()
	}
}

// receive moves what the peer sent to the program.
func (s *Stream) receive() {
	if s.dst.full || s.hangup {
		return
	}
	s.dst.moved = 0
	for {
		n, e := s.ep.ReadTo(&s.dst)
		if s.dst.full {
			s.task.WatchSpace(true)
			break
		}
		if e == unix.EAGAIN {
			break
		}
		if e != 0 {
			s.count()
			s.fail(e)
			return
		}
		if n == 0 {
			s.inDone = true
			unix.Shutdown(s.end, unix.SHUT_WR)
			break
		}
		if s.dst.moved >= turn {
			s.task.Kick()
			break
		}
	}
	s.count()
}

func (s *Stream) count() {
	if s.dst.moved > 0 {
		s.in.Add(uint64(s.dst.moved))
		s.dst.moved = 0
	}
}

// send moves what the program wrote to the peer.
func (s *Stream) send() {
	if s.outDone && !s.hangup {
		return
	}
	for moved := 0; !s.outDone; {
		have := waiting(s.end)
		if have == 0 {
			break
		}
		s.src.left = have
		n, e := s.ep.WriteFrom(&s.src)
		if e == unix.EAGAIN {
			return // on writability the endpoint notifies
		}
		if e != 0 {
			if s.hangup {
				s.finish(true)
				return
			}
			s.fail(e)
			return
		}
		s.out.Add(uint64(n))
		if moved += n; moved >= turn {
			s.task.Kick()
			return
		}
		if n < have {
			continue
		}
		if !s.rdhup && !s.hangup {
			return
		}
	}
	switch {
	case s.hangup:
		// The kernel says ECONNRESET where the program left bytes unread:
		// on TCP that close sends RST (RFC 2525, 2.17).
		e, _ := unix.GetsockoptInt(s.end, unix.SOL_SOCKET, unix.SO_ERROR)
		s.finish(e == int(unix.ECONNRESET))
	case s.rdhup && !s.outDone:
		s.outDone = true
		s.ep.Shutdown(unix.SHUT_WR)
	}
}

// Fail ends the stream as if the connection had failed with e.
func (s *Stream) Fail(e stack.Errno) {
	s.failure.Store(uint32(e))
	s.task.Kick()
}

// fail ends the stream because the connection has failed.
func (s *Stream) fail(e stack.Errno) {
	s.release()
	s.h.StreamFailed(s.end, e)
}

// finish ends the stream because the program has closed it.
func (s *Stream) finish(reset bool) {
	s.release()
	unix.Close(s.end)
	s.h.StreamClosed(reset)
}

func (s *Stream) release() {
	s.finished = true
	s.ep.Notify(nil)
	s.task.Unwatch()
}
