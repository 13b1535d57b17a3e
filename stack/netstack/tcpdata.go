package netstack

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack"
)

// sourceReader is a stack.Source as netstack's Payloader. netstack asks for
// nothing now and then, and never gives up on a source that gives nothing.
type sourceReader struct{ r stack.Source }

// sources are sourceReaders not in use.
var sources = sync.Pool{New: func() any { return new(sourceReader) }}

// Len is how many bytes can be read now.
func (s *sourceReader) Len() int { return s.r.Len() }

// Read reads from the source; a source that has less than it promised ends the
// write with an error.
func (s *sourceReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.r.Read(p)
	if n > 0 {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}

// ReadTo moves received bytes into w (tcp_recvmsg).
func (t *tcpSock) ReadTo(w io.Writer) (int, stack.Errno) {
	ep := t.endpoint()
	res, err := ep.Read(w, tcpip.ReadOptions{})
	if err == nil {
		if res.Count == 0 {
			return 0, unix.EAGAIN
		}
		t.read.Add(uint64(res.Count))
		ep.ModerateRecvBuf(res.Count)
		return res.Count, 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch err.(type) {
	case *tcpip.ErrBadBuffer: // w took nothing
		return 0, unix.EAGAIN
	case *tcpip.ErrWouldBlock:
		if t.err != 0 {
			return 0, t.takeErr()
		}
		if t.shut&rcvShutdown != 0 {
			return 0, 0
		}
		return 0, unix.EAGAIN
	case *tcpip.ErrClosedForReceive:
		if tcp.EndpointState(t.ep.State()) != tcp.StateError {
			t.fin = true
		}
		if t.harvest(); t.fin {
			return 0, 0 // what came after the FIN is for write (SOCK_DONE)
		}
		return 0, t.takeErr()
	case *tcpip.ErrNotConnected:
		return 0, t.readUnconnected()
	default:
		t.harvested = true
		t.noteReset(t.errno(err))
		return 0, t.takeErr()
	}
}

// readUnconnected is the answer of read(2) when there is no connection.
func (t *tcpSock) readUnconnected() stack.Errno {
	switch {
	case t.linuxState() == tcpListen:
		return unix.ENOTCONN
	case t.err != 0:
		return t.takeErr()
	case t.shut&rcvShutdown != 0:
		return 0
	case t.state == connecting && !t.gone():
		return unix.EAGAIN
	default:
		return unix.ENOTCONN
	}
}

// WriteFrom moves bytes from r into the send queue (tcp_sendmsg).
func (t *tcpSock) WriteFrom(r stack.Source) (int, stack.Errno) {
	t.mu.Lock()
	ep := t.ep
	if t.err != 0 {
		defer t.mu.Unlock()
		return 0, t.takeErr()
	}
	if t.shut&sndShutdown != 0 {
		t.harvest()
		defer t.mu.Unlock()
		if t.err != 0 {
			return 0, t.takeErr()
		}
		return 0, unix.EPIPE
	}
	t.growSndBuf()
	t.mu.Unlock()

	src := sources.Get().(*sourceReader)
	src.r = r
	n, err := ep.Write(src, tcpip.WriteOptions{Atomic: true})
	src.r = nil
	sources.Put(src)
	switch err.(type) {
	case nil:
		t.written.Add(uint64(n))
		t.engine.probe.called(ep)
		return int(n), 0
	case *tcpip.ErrWouldBlock:
		return 0, unix.EAGAIN
	case *tcpip.ErrClosedForSend:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.harvest()
		if t.err != 0 {
			return 0, t.takeErr()
		}
		return 0, unix.EPIPE
	case *tcpip.ErrBadBuffer:
		return 0, unix.EFAULT
	default:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.harvested = true
		t.noteReset(t.errno(err))
		return 0, t.takeErr()
	}
}

// pushFIN sends what TCP_CORK or Nagle's algorithm keeps in front of a FIN that
// is queued: neither holds a FIN (tcp_nagle_test in the kernel). netstack sends
// it as a segment of its own, so that the last data would wait for more.
func pushFIN(ep tcpip.Endpoint) {
	so := ep.SocketOptions()
	if so.GetCorkOption() {
		so.SetCorkOption(false)
	}
	if so.GetDelayOption() {
		so.SetDelayOption(false)
	}
}

// TakeError is SO_ERROR.
func (t *tcpSock) TakeError() stack.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.harvest()
	return t.takeErr()
}

// Readiness is tcp_poll.
func (t *tcpSock) Readiness() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	ready := t.ep.Readiness(waiter.ReadableEvents | waiter.WritableEvents)
	st := t.linuxState()
	if st == tcpListen {
		if ready&waiter.EventIn != 0 {
			return unix.POLLIN
		}
		return 0
	}
	shut := t.shut
	if t.gone() {
		t.harvest()
		shut = allShutdown
	} else if t.finSeen(st, ready) {
		shut |= rcvShutdown
	}
	var mask uint32
	if shut == allShutdown || st == tcpClose {
		mask |= unix.POLLHUP
	}
	if shut&rcvShutdown != 0 {
		mask |= unix.POLLIN | unix.POLLRDHUP
	}
	if st != tcpSynSent && st != tcpSynRecv {
		if ready&waiter.EventIn != 0 && st != tcpClose && t.enough() {
			mask |= unix.POLLIN
		}
		if shut&sndShutdown != 0 || st == tcpClose || ready&waiter.EventOut != 0 {
			mask |= unix.POLLOUT
		}
	}
	if t.err != 0 || t.ep.SocketOptions().PeekErr() != nil {
		mask |= unix.POLLERR
	}
	return mask
}

// finSeen says whether the peer has sent FIN.
func (t *tcpSock) finSeen(st tcpState, ready waiter.EventMask) bool {
	if t.fin {
		return true
	}
	switch {
	case ready&waiter.EventRdHUp != 0, st == tcpCloseWait, st == tcpLastAck, st == tcpClosing:
		t.fin = true
	case t.shut&sndShutdown != 0 && ready&waiter.EventIn != 0:
		n, err := t.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
		t.fin = err == nil && n == 0
	}
	return t.fin
}

// enough says whether as many bytes wait as SO_RCVLOWAT asks for.
func (t *tcpSock) enough() bool {
	low := t.opts.get(optRcvLowat)
	if low <= 1 || t.fin {
		return true
	}
	n, err := t.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	return err != nil || int64(n) >= low
}

// Queued is SIOCINQ and SIOCOUTQ.
func (t *tcpSock) Queued() (in, out int) {
	ep := t.endpoint()
	if n, err := ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err == nil {
		in = n
	}
	return in, detail(ep).unsent
}

// Send is send(2) of one buffer; the address is ignored, as Linux does. There is
// no urgent data: EOPNOTSUPP for MSG_OOB.
func (t *tcpSock) Send(m *stack.Message) (int, stack.Errno) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	return t.WriteFrom(&bytesSource{m.Data})
}

// bytesSource is a stack.Source of bytes in memory.
type bytesSource struct{ b []byte }

func (b *bytesSource) Len() int { return len(b.b) }

func (b *bytesSource) Read(p []byte) (int, error) {
	n := copy(p, b.b)
	b.b = b.b[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Recv gives what there is as one message.
func (t *tcpSock) Recv(m *stack.Message) stack.Errno {
	w := appendWriter{b: m.Data[:0]}
	_, err := t.ReadTo(&w)
	m.Data, m.HasAddr, m.Control, m.Flags = w.b, false, m.Control[:0], 0
	return err
}

// appendWriter appends what is written to it.
type appendWriter struct{ b []byte }

func (w *appendWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}
