package netstack

import (
	"math/bits"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack"
)

// socketState is the state of the socket above TCP (enum socket_state in the
// kernel): what connect(2) has answered so far.
type socketState uint8

const (
	unconnected socketState = iota
	connecting
	connected
)

// tcpState is the state of a connection as Linux counts it, with the numbers
// of tcp_info.tcpi_state.
type tcpState uint8

const (
	tcpEstablished tcpState = iota + 1
	tcpSynSent
	tcpSynRecv
	tcpFinWait1
	tcpFinWait2
	tcpTimeWait
	tcpClose
	tcpCloseWait
	tcpLastAck
	tcpListen
	tcpClosing
)

// somaxconn is the default of net.core.somaxconn, the most that listen(2)'s
// backlog counts.
const somaxconn = 4096

// orphanTimeout is how long a closed connection tries to deliver what was
// written: about the 8 retransmissions of Linux's tcp_orphan_retries.
const orphanTimeout = 102 * time.Second

// tcpSock is a TCP socket, or one of another protocol with streams (Config.Transports);
// it implements stack.Endpoint.
type tcpSock struct {
	sock
	queueMem waiter.Queue // the queue of a socket that was not accepted

	state socketState
	// harvested says that the error of netstack's endpoint has been taken
	// into sock.err.
	harvested bool
	// fin says that the peer's FIN has been seen.
	fin     bool
	backlog uint16 // of listen
	// grown says that the send buffer has its size for a connection.
	grown bool
	// written and read count bytes, for TCP_INFO.
	written, read atomic.Uint64
	// listenPort is the port in the engine's list of listeners.
	listenPort uint16

	name string // TCP_CONGESTION, if set
}

var _ stack.Endpoint = (*tcpSock)(nil)

func (e *Engine) newTCP(family, proto int) (stack.Endpoint, stack.Errno) {
	t := &tcpSock{}
	t.engine, t.proto = e, uint16(proto)
	netProto := ipv4Number
	if family == unix.AF_INET6 {
		netProto = ipv6Number
	}
	ep, err := e.st.NewEndpoint(t.number(), netProto, &t.queueMem)
	if err != nil {
		return nil, errno(err)
	}
	t.init(e, family, kindTCP, proto, ep, &t.queueMem)
	t.applyDefaults()
	return t, 0
}

// applyDefaults tells a new netstack endpoint where Linux's defaults differ
// from netstack's.
func (t *tcpSock) applyDefaults() {
	t.ep.SocketOptions().SetDelayOption(true)
}

// linuxState is the state as Linux has it. A connection in TIME_WAIT is no
// longer the socket's, which is then in CLOSE.
func (t *tcpSock) linuxState() tcpState {
	switch st := tcp.EndpointState(t.ep.State()); st {
	case tcp.StateEstablished, tcp.StateSynSent, tcp.StateSynRecv, tcp.StateFinWait1, tcp.StateFinWait2,
		tcp.StateCloseWait, tcp.StateLastAck, tcp.StateListen, tcp.StateClosing:
		return tcpState(st)
	case tcp.StateConnecting:
		return tcpSynSent
	default:
		return tcpClose
	}
}

// gone says that there was a connection, or an attempt at one, and it is over.
func (t *tcpSock) gone() bool {
	switch tcp.EndpointState(t.ep.State()) {
	case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
		return true
	}
	return false
}

// harvest takes the error of a connection that has ended into t.err.
func (t *tcpSock) harvest() {
	if t.harvested {
		return
	}
	switch tcp.EndpointState(t.ep.State()) {
	case tcp.StateError:
		t.harvested = true
		if err := t.errno(t.ep.LastError()); err != 0 {
			t.noteReset(err)
		}
	case tcp.StateClose: // netstack's name for a reset in CLOSE_WAIT
		t.harvested = true
		if _, ok := t.ep.LastError().(*tcpip.ErrAborted); ok {
			t.fin = true
			t.noteReset(unix.ECONNRESET)
		}
	}
}

// noteReset records the error that ended the connection. A reset after the
// peer's FIN is EPIPE (tcp_reset in the kernel).
func (t *tcpSock) noteReset(err stack.Errno) {
	if err == unix.ECONNRESET && t.fin && t.shut&sndShutdown == 0 {
		err = unix.EPIPE
	}
	t.err = err
}

// reopen puts a fresh netstack endpoint under the socket, with its options and
// what the program bound: what tcp_disconnect leaves in the kernel.
func (t *tcpSock) reopen() {
	t.engine.listeners.remove(t)
	old, h := t.ep, t.hold
	ep, err := t.engine.st.NewEndpoint(t.number(), t.network(), t.queue)
	if err != nil {
		return // only unknown protocols fail
	}
	t.ep = ep
	old.Abort()
	if t.hold = nil; t.hasPort {
		t.hold = h.ref()
	}
	t.engine.shared.reaped(old, h)
	t.applyDefaults()
	t.applyAll()
	t.applyCongestion()
	t.state, t.shut, t.harvested, t.fin = unconnected, 0, false, false
	t.grown = false
	t.written.Store(0)
	t.read.Store(0)
	if t.hasPort || t.hasAddr {
		if err := t.bindAgain(); err != 0 {
			t.engine.log.Warn("bind again after disconnect", "addr", t.bound, "err", err)
		}
	} else {
		t.bound = stack.Addr{}
	}
}

// bindAgain binds a fresh netstack endpoint to what the program had bound.
func (t *tcpSock) bindAgain() stack.Errno {
	if t.hold == nil {
		return t.bindPort(t.bound)
	}
	return bindErrno(t.ep.Bind(t.full(t.held(t.bound))))
}

// Bind is bind(2).
func (t *tcpSock) Bind(a stack.Addr) stack.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.checkBind(a); err != 0 {
		return err
	}
	if tcp.EndpointState(t.ep.State()) != tcp.StateInitial {
		return unix.EINVAL
	}
	if t.engine.listeners.conflict(t, a) {
		return unix.EADDRINUSE
	}
	if err := t.bindPort(a); err != 0 {
		return err
	}
	t.noteBound(a)
	return 0
}

// queueFor is the backlog that netstack is given. Linux's is the number of
// complete connections; netstack counts handshakes under way in it as well, and
// beyond it answers with SYN cookies, whose connections it resets if they send
// before there is room. So a burst of clients gets more room than the backlog,
// unless it is so short that it asks for a queue that fills.
func queueFor(backlog int) int {
	if backlog >= shortQueue {
		return max(backlog, minQueue) + 1
	}
	return backlog + 1
}

// A backlog of shortQueue or more is given at least minQueue.
const (
	shortQueue = 5
	minQueue   = 64
)

// Listen is listen(2). A backlog of n lets n+1 connections wait.
func (t *tcpSock) Listen(backlog int) stack.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	if backlog < 0 || backlog > somaxconn {
		backlog = somaxconn
	}
	switch t.linuxState() {
	case tcpListen:
		t.backlog = uint16(backlog)
		// netstack refuses a backlog shorter than what waits; it keeps its
		// own, and the shorter one takes effect with the next listen.
		_ = t.ep.Listen(queueFor(backlog))
		return 0
	case tcpClose:
		if t.state != unconnected {
			return unix.EINVAL
		}
	default:
		return unix.EINVAL
	}
	if t.gone() {
		t.reopen()
	}
	if t.engine.listeners.conflict(t, t.local()) {
		return unix.EADDRINUSE
	}
	if t.engine.shared != nil && tcp.EndpointState(t.ep.State()) == tcp.StateInitial {
		if err := t.bindPort(stack.Addr{}); err != 0 {
			return err
		}
	}
	switch err := t.ep.Listen(queueFor(backlog)); err.(type) {
	case nil:
		t.err, t.backlog = 0, uint16(backlog)
		t.engine.listeners.add(t, t.local())
		return 0
	case *tcpip.ErrPortInUse, *tcpip.ErrNoPortAvailable:
		t.reopen()
		return unix.EADDRINUSE
	default:
		return errno(err)
	}
}

// Accept gives the next established connection.
func (t *tcpSock) Accept() (stack.Endpoint, stack.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.linuxState() != tcpListen {
		return nil, unix.EINVAL
	}
	ep, q, err := t.ep.Accept(nil)
	if err != nil {
		return nil, errno(err)
	}
	n := &tcpSock{state: connected}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.init(t.engine, int(t.family), kindTCP, int(t.proto), ep, q)
	n.opts = t.opts.inherited()
	n.name = t.name
	n.hold = t.hold.ref()
	n.applyDefaults()
	n.applyAll()
	n.applyCongestion()
	widenRcvBuf(ep)
	t.engine.probe.called(ep)
	return n, 0
}

// growSndBuf gives a new connection the send buffer that Linux gives it
// (tcp_sndbuf_expand): room for twice the initial window of 10 segments, each
// with its sk_buff. netstack lets it grow only later, with the window.
func (t *tcpSock) growSndBuf() {
	if t.grown || tcp.EndpointState(t.ep.State()) != tcp.StateEstablished {
		return
	}
	t.grown = true
	if t.opts.has(optSndBuf) {
		return
	}
	const overhead, skb, segments = 320 + 320, 256, 20 // MAX_TCP_HEADER, skb_shared_info, sk_buff
	mss := detail(t.ep).sndMSS
	if mss == 0 {
		return
	}
	size := int64(segments * (1<<bits.Len(uint(mss+overhead-1)) + skb))
	so := t.ep.SocketOptions()
	if size = min(size, tcpSndMax); size > so.GetSendBufferSize() {
		so.SetSendBufferSize(size, false)
	}
}

// Shutdown is shutdown(2) (inet_shutdown).
func (t *tcpSock) Shutdown(how int) stack.Errno {
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return unix.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	flags := uint8(how + 1)
	st := t.linuxState()
	if t.state == connecting && st != tcpSynSent && st != tcpSynRecv && st != tcpClose {
		t.state = connected
	}
	switch st {
	case tcpClose:
		t.shut |= flags
		t.wake()
		return unix.ENOTCONN
	case tcpListen:
		if flags&rcvShutdown != 0 {
			t.disconnect()
		}
		return 0
	case tcpSynSent:
		t.disconnect()
		return 0
	}
	t.shut |= flags
	if flags&sndShutdown != 0 {
		// Only this side goes to netstack; see the package comment.
		_ = t.ep.Shutdown(tcpip.ShutdownWrite)
		pushFIN(t.ep)
	}
	t.wake()
	return 0
}

// LocalAddr is getsockname(2).
func (t *tcpSock) LocalAddr() stack.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.local()
}

func (t *tcpSock) local() stack.Addr {
	full, err := t.ep.GetLocalAddress()
	if err != nil {
		return stack.Addr{}
	}
	return t.localAddr(full)
}

// PeerAddr is getpeername(2).
func (t *tcpSock) PeerAddr() (stack.Addr, stack.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peer()
}

func (t *tcpSock) peer() (stack.Addr, stack.Errno) {
	switch t.linuxState() {
	case tcpClose, tcpSynSent, tcpListen:
		return stack.Addr{}, unix.ENOTCONN
	}
	full, err := t.ep.GetRemoteAddress()
	if err != nil {
		return stack.Addr{}, unix.ENOTCONN
	}
	return toAddr(int(t.family), full), 0
}

// Close is the last close(2): what was written is still delivered, then FIN;
// RST if there is unread data or SO_LINGER says so.
func (t *tcpSock) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	t.queue.EventUnregister(&t.entry)
	t.engine.listeners.remove(t)
	if t.opts.get(optUserTimeout) == 0 {
		timeout := tcpip.TCPUserTimeoutOption(orphanTimeout)
		t.ep.SetSockOpt(&timeout)
	}
	t.ep.Close()
	pushFIN(t.ep)
	if ep, ok := t.ep.(*tcp.Endpoint); ok {
		t.engine.orphans.add(ep)
	}
	t.engine.shared.reaped(t.ep, t.hold)
}

// Abort releases the socket at once.
func (t *tcpSock) Abort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	t.queue.EventUnregister(&t.entry)
	t.engine.listeners.remove(t)
	t.ep.Abort()
	t.engine.shared.reaped(t.ep, t.hold)
}
