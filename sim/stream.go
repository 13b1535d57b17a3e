package sim

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// stream is one side of a TCP flow.
type stream struct {
	flow            *flow
	ep              stack.Endpoint
	task            task
	out             source
	in              sink
	up              bool // connected
	shut            bool // has sent its FIN
	eof             bool // has seen the peer's
	closed          bool
	retransmissions uint64 // as last asked
	step            func() // what the program does after it has sent and received
}

// The streams of a flow begin at different places of the pattern.
const clientPhase, serverPhase = 0, 12345

func (f *flow) newStream(h *Host, ep stack.Endpoint, out, in int64) *stream {
	st := &stream{flow: f, ep: ep, out: source{phase: out}, in: sink{phase: in, wrong: -1}}
	st.task = task{host: h, run: st.run}
	return st
}

// startStream connects.
func (f *flow) startStream() {
	family := unix.AF_INET
	if f.dst.IP.Is6() {
		family = unix.AF_INET6
	}
	ep, err := f.from.Engine.Socket(family, unix.SOCK_STREAM, 0)
	if err != 0 {
		f.fail("socket", err)
		return
	}
	st := f.newStream(f.from, ep, clientPhase, serverPhase)
	f.client = st
	if !f.choose(ep) {
		return
	}
	if f.spec.Kind == "reqresp" { // as whoever cares for latency does
		_ = ep.SetOption(unix.SOL_TCP, unix.TCP_NODELAY, []byte{1, 0, 0, 0})
	}
	switch f.spec.Kind {
	case "bulk":
		st.step = st.bulk
	case "reqresp":
		st.step = (&requests{st: st}).client
	case "trace":
		st.step = st.replay()
	}
	ep.Notify(st.task.wake)
	if err := ep.Connect(f.dst); err != 0 && err != unix.EINPROGRESS {
		f.fail("connect", err)
		return
	}
	if f.spec.Stop > 0 {
		f.sim.clock.At(f.spec.Stop, st.task.run0)
	}
}

// choose sets the flow's congestion control, and reports whether there is one of
// that name.
func (f *flow) choose(ep stack.Endpoint) bool {
	if f.spec.CC == "" {
		return true
	}
	err := ep.SetOption(unix.SOL_TCP, unix.TCP_CONGESTION, []byte(f.spec.CC))
	if err != 0 {
		f.fail("congestion control "+f.spec.CC, err)
	}
	return err == 0
}

// run0 runs the task outside of the queue of those that have been woken.
func (t *task) run0() {
	t.run()
	t.host.settled()
}

// accept takes connections, each for its flow.
func (l *listener) accept() {
	for {
		ep, err := l.ep.Accept()
		if err != 0 {
			return
		}
		peer, _ := ep.PeerAddr()
		f := l.flowOf(peer, func(f *flow) (stack.Addr, bool) {
			if f.client == nil {
				return stack.Addr{}, false
			}
			return f.client.ep.LocalAddr(), true
		}, func(f *flow) bool { return f.server != nil || f.over })
		if f == nil { // its client has given up
			ep.Abort()
			continue
		}
		st := f.newStream(l.task.host, ep, serverPhase, clientPhase)
		st.up = true
		f.server = st
		st.step = st.serve
		if f.spec.Kind == "reqresp" { // most bytes are the server's
			if !f.choose(ep) {
				continue
			}
			_ = ep.SetOption(unix.SOL_TCP, unix.TCP_NODELAY, []byte{1, 0, 0, 0})
			st.step = (&requests{st: st}).server
		}
		ep.Notify(st.task.wake)
		st.run()
	}
}

// run moves bytes both ways, and lets the program go on.
func (st *stream) run() {
	f := st.flow
	if st.closed || f.over && st.eof {
		return
	}
	if !st.up && !st.connected() {
		return
	}
	if st.receive(); f.over && f.m.err != "" {
		return
	}
	for {
		st.step()
		if st.closed || st.shut || st.out.Len() == 0 {
			return
		}
		before := st.out.sent
		if _, err := st.ep.WriteFrom(&st.out); err == unix.EAGAIN {
			return
		} else if err != 0 {
			f.fail("write", err)
			return
		}
		if st.out.sent == before {
			return
		}
	}
}

// connected looks whether the handshake is over.
func (st *stream) connected() bool {
	if st.ep.Readiness()&(unix.POLLOUT|unix.POLLERR|unix.POLLHUP) == 0 {
		return false
	}
	f := st.flow
	switch err := st.ep.Connect(f.dst); err {
	case 0, unix.EISCONN:
		st.up = true
		f.m.connected = f.sim.clock.now - f.m.started
		return true
	case unix.EALREADY:
	default:
		f.fail("connect", err)
	}
	return false
}

// receive reads what there is.
func (st *stream) receive() {
	f := st.flow
	for !st.eof {
		n, err := st.ep.ReadTo(&st.in)
		switch {
		case err == unix.EAGAIN:
			return
		case err != 0:
			f.fail("read", err)
			return
		case n == 0:
			st.eof = true
		case st == f.server:
			f.got()
		}
		if st.in.wrong >= 0 && f.m.corrupt == "" {
			f.m.corrupt = fmt.Sprintf("byte %d of what %s received is wrong", st.in.wrong, st.task.host.Name)
		}
	}
}

// shutdown sends FIN.
func (st *stream) shutdown() {
	if !st.shut {
		st.shut = true
		st.ep.Shutdown(unix.SHUT_WR)
	}
}

// close closes the socket, after asking it a last time.
func (st *stream) close() {
	if !st.closed {
		st.flow.observe(st)
		st.closed = true
		st.ep.Notify(nil)
		st.ep.Close()
	}
}

// bulk is the program that sends as much as it can.
func (st *stream) bulk() {
	f := st.flow
	st.out.limit = st.out.sent + 1<<30
	if f.spec.Bytes > 0 {
		st.out.limit = f.spec.Bytes
	}
	if f.stopped() || f.spec.Bytes > 0 && st.out.sent == f.spec.Bytes {
		st.out.limit = st.out.sent
		st.shutdown()
	}
	if st.eof {
		st.close()
	}
}

// serve is the program that takes everything; with the client's FIN the flow is
// complete.
func (st *stream) serve() {
	if !st.eof {
		return
	}
	f := st.flow
	if f.client != nil && f.m.corrupt == "" && st.in.got != f.client.out.sent {
		f.m.corrupt = fmt.Sprintf("%d bytes arrived of %d sent", st.in.got, f.client.out.sent)
	}
	f.finish("")
	st.shut = true
	st.close()
}

// replay is the program that sends so many bytes at given times.
func (st *stream) replay() func() {
	f := st.flow
	left := len(f.steps)
	for _, x := range f.steps {
		f.sim.clock.At(f.spec.Start+x.at, func() {
			left--
			if !f.over {
				st.out.limit += x.bytes
				st.task.run0()
			}
		})
	}
	return func() {
		if left == 0 && st.out.sent == st.out.limit || f.stopped() {
			st.out.limit = st.out.sent
			st.shutdown()
		}
		if st.eof {
			st.close()
		}
	}
}

// requests is the state of a program that asks, or answers.
type requests struct {
	st         *stream
	n          int64 // requests sent, or answered
	asked      bool  // the answer has not come yet
	began, due time.Duration
}

// Sizes that a file leaves out, bytes.
const (
	defaultRequest  = 100
	defaultResponse = 10000
	defaultMessage  = 64
	defaultDatagram = 1200
)

func orDefault(n, d int64) int64 {
	if n == 0 {
		return d
	}
	return n
}

// client asks, waits for the answer, and asks again.
func (q *requests) client() {
	st, f := q.st, q.st.flow
	size, answer := orDefault(f.spec.Request, defaultRequest), orDefault(f.spec.Response, defaultResponse)
	now := f.sim.clock.now
	if q.asked && st.in.got >= q.n*answer {
		q.asked = false
		f.m.gotMsgs++
		f.m.latency.add(now - q.began)
		if q.due = max(now, q.began+f.spec.Interval); q.due > now {
			f.sim.clock.At(q.due, st.task.run0)
		}
	}
	switch {
	case st.eof:
		st.close()
	case st.shut || q.asked:
	case f.stopped() || f.spec.Bytes > 0 && st.in.got >= f.spec.Bytes:
		st.shutdown()
	case now >= q.due:
		q.began, q.asked = now, true
		q.n++
		f.m.sentMsgs++
		st.out.limit += size
	}
}

// server answers each whole request.
func (q *requests) server() {
	st, f := q.st, q.st.flow
	size, answer := orDefault(f.spec.Request, defaultRequest), orDefault(f.spec.Response, defaultResponse)
	for st.in.got >= (q.n+1)*size {
		q.n++
		st.out.limit += answer
	}
	if st.eof && st.out.sent == st.out.limit {
		f.finish("")
		st.shutdown()
		st.close()
	}
}
