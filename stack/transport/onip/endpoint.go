package onip

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	gtcp "gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack/transport"
)

// endpoint is a SOCK_STREAM socket's half in the stack: a connection, or a
// listener.
type endpoint struct {
	stack.TransportEndpointInfo
	tcpip.DefaultSocketOptionsHandler
	p     *protocol
	queue *waiter.Queue
	ops   tcpip.SocketOptions

	inbox inbox
	shown atomic.Uint32 // the state as State shows it

	mu        sync.Mutex // guards what follows, and the connection
	conn      *transport.Socket
	route     *stack.Route
	listen    *listener // of a listening endpoint
	parent    *listener // of a connection that came to it, until it was accepted
	maxPacket int       // as ICMP said; 0: as the route says
	bound     bool
	started   bool // the connection has been opened
	closed    bool // by the user
	failed    bool // the error of the connection has not been taken
	over      bool // everything was given back
	timer     tcpip.Timer
	ttl, hops int16
	tos, tc   uint8
	port      port
}

var (
	_ tcpip.Endpoint          = (*endpoint)(nil)
	_ stack.TransportEndpoint = (*endpoint)(nil)
	_ transport.Host          = (*endpoint)(nil)
)

// The default sizes of the buffers, bytes.
const sendBuffer, receiveBuffer = 256 << 10, 256 << 10

func newEndpoint(p *protocol, net tcpip.NetworkProtocolNumber, q *waiter.Queue) *endpoint {
	e := &endpoint{p: p, queue: q, ttl: -1, hops: -1}
	e.NetProto, e.TransProto = net, p.number
	e.ops.InitHandler(e, p.st, tcpip.GetStackSendBufferLimits, tcpip.GetStackReceiveBufferLimits)
	e.ops.SetSendBufferSize(sendBuffer, false)
	e.ops.SetReceiveBufferSize(receiveBuffer, false)
	e.conn = transport.NewSocket(e, &p.Protocol, sendBuffer, receiveBuffer)
	e.shown.Store(uint32(gtcp.StateInitial))
	return e
}

// inbox has what arrived while the endpoint was locked.
type inbox struct {
	n    atomic.Int32
	mu   sync.Mutex
	list []arrived
}

// arrived is a packet, or an ICMP error about one.
type arrived struct {
	id  stack.TransportEndpointID
	net tcpip.NetworkProtocolNumber
	nic tcpip.NICID
	pkt []byte // after its ports
	err unix.Errno
	mtu int
}

// maxInbox bounds the inbox; what comes when it is full is lost.
const maxInbox = 4096

func (b *inbox) put(a arrived) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) < maxInbox {
		b.list = append(b.list, a)
		b.n.Store(int32(len(b.list)))
	}
}

func (b *inbox) take() []arrived {
	if b.n.Load() == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.list
	b.list = nil
	b.n.Store(0)
	return l
}

func (e *endpoint) lock() { e.mu.Lock() }

// unlock deals with what arrived meanwhile before the endpoint is let go.
func (e *endpoint) unlock() {
	for {
		for l := e.inbox.take(); l != nil; l = e.inbox.take() {
			for i := range l {
				e.handle(&l[i])
			}
		}
		e.settle()
		e.mu.Unlock()
		if e.inbox.n.Load() == 0 || !e.mu.TryLock() {
			return
		}
	}
}

func (e *endpoint) arrive(a arrived) {
	e.inbox.put(a)
	if e.mu.TryLock() {
		e.unlock()
	}
}

// HandlePacket implements stack.TransportEndpoint.
func (e *endpoint) HandlePacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	if b, ok := e.p.packet(pkt); ok {
		e.arrive(arrived{id: id, net: pkt.NetworkProtocolNumber, nic: pkt.NICID, pkt: b})
	}
}

// HandleError implements stack.TransportEndpoint: an ICMP error.
func (e *endpoint) HandleError(err stack.TransportError, _ *stack.PacketBuffer) {
	e.arrive(arrived{err: errnoOf(err.Kind()), mtu: int(err.Info())})
}

func (e *endpoint) handle(a *arrived) {
	switch {
	case a.pkt == nil && e.started:
		if a.err == unix.EMSGSIZE {
			e.maxPacket = max(a.mtu-transport.PortsLen, 0)
		}
		if a.err != 0 {
			e.conn.Error(a.err)
		}
	case a.pkt == nil:
	case e.listen != nil:
		e.open(a)
	case e.started:
		e.conn.Receive(a.pkt)
	}
}

// settle follows every change of the connection.
func (e *endpoint) settle() {
	if e.parent != nil && e.conn.Phase() == transport.Open {
		e.parent.admit(e)
	}
	if e.started && e.conn.Phase() == transport.Closed {
		e.release()
	}
	e.shown.Store(uint32(e.state()))
}

// state is the state in the numbers of gVisor's TCP, which are Linux's.
func (e *endpoint) state() gtcp.EndpointState {
	switch {
	case e.listen != nil:
		return gtcp.StateListen
	case !e.started && e.closed:
		return gtcp.StateClose
	case !e.started && e.bound:
		return gtcp.StateBound
	case !e.started:
		return gtcp.StateInitial
	}
	ended, acked, peer := e.conn.Ends()
	switch e.conn.Phase() {
	case transport.Closed:
		if e.conn.Err() != 0 {
			return gtcp.StateError
		}
		return gtcp.StateClose
	case transport.Fresh, transport.Opening:
		if e.parent != nil {
			return gtcp.StateSynRecv
		}
		return gtcp.StateSynSent
	}
	switch {
	case ended && acked && peer:
		return gtcp.StateTimeWait
	case ended && peer:
		return gtcp.StateLastAck
	case ended && acked:
		return gtcp.StateFinWait2
	case ended:
		return gtcp.StateFinWait1
	case peer:
		return gtcp.StateCloseWait
	}
	return gtcp.StateEstablished
}

// The connection's host.

// Now implements transport.Host.
func (e *endpoint) Now() time.Duration { return e.p.now() }

// Rand implements transport.Host.
func (e *endpoint) Rand() uint64 { return e.p.rand() }

// Send implements transport.Host.
func (e *endpoint) Send(b []byte) {
	if e.route == nil {
		return
	}
	ttl, tos := e.ttl, e.tos
	if e.route.NetProto() != e.NetProto || e.NetProto == ipv6 {
		ttl, tos = e.hops, e.tc
	}
	e.p.send(e.route, e.ID, uint8(max(ttl, 0)), tos, b)
}

// SetTimer implements transport.Host.
func (e *endpoint) SetTimer(at time.Duration) {
	switch {
	case at == 0:
		if e.timer != nil {
			e.timer.Stop()
		}
	case e.timer == nil:
		e.timer = e.p.st.Clock().AfterFunc(max(at-e.Now(), 0), func() {
			e.lock()
			e.conn.Timer()
			e.unlock()
		})
	default:
		e.timer.Reset(max(at-e.Now(), 0))
	}
}

// MaxPacket implements transport.Host.
func (e *endpoint) MaxPacket() int {
	if e.route == nil {
		return 0
	}
	n := maxPacket(e.route)
	if e.maxPacket > 0 {
		n = min(n, e.maxPacket)
	}
	return n
}

// Changed implements transport.Host.
func (e *endpoint) Changed() {
	if e.conn != nil && !e.closed {
		e.queue.Notify(allEvents)
	}
}

const allEvents = waiter.ReadableEvents | waiter.WritableEvents | waiter.EventErr | waiter.EventHUp | waiter.EventRdHUp

// Read implements tcpip.Endpoint.
func (e *endpoint) Read(w io.Writer, _ tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error) {
	e.lock()
	defer e.unlock()
	var res tcpip.ReadResult
	if e.conn.Readable() > 0 {
		n := e.conn.Read(w)
		if n == 0 {
			return res, &tcpip.ErrBadBuffer{}
		}
		res.Count, res.Total = n, n
		return res, nil
	}
	if !e.started {
		return res, &tcpip.ErrNotConnected{}
	}
	_, _, peer := e.conn.Ends()
	switch {
	case e.conn.Phase() == transport.Closed:
		if err := e.takeFailure(); err != nil {
			return res, err
		}
		return res, &tcpip.ErrClosedForReceive{}
	case peer:
		return res, &tcpip.ErrClosedForReceive{}
	case e.conn.Phase() != transport.Open:
		return res, &tcpip.ErrNotConnected{}
	}
	return res, &tcpip.ErrWouldBlock{}
}

// takeFailure is why the connection ended, once.
func (e *endpoint) takeFailure() tcpip.Error {
	if !e.failed {
		return nil
	}
	e.failed = false
	return toError(e.conn.Err())
}

// Write implements tcpip.Endpoint.
func (e *endpoint) Write(p tcpip.Payloader, _ tcpip.WriteOptions) (int64, tcpip.Error) {
	e.lock()
	defer e.unlock()
	ended, _, _ := e.conn.Ends()
	switch {
	case e.started && e.conn.Phase() == transport.Opening:
		return 0, &tcpip.ErrWouldBlock{}
	case e.conn.Phase() == transport.Closed:
		if err := e.takeFailure(); err != nil {
			return 0, err
		}
		return 0, &tcpip.ErrClosedForSend{}
	case !e.started || ended:
		return 0, &tcpip.ErrClosedForSend{}
	}
	n := min(p.Len(), e.conn.Space())
	if n == 0 && p.Len() > 0 {
		return 0, &tcpip.ErrWouldBlock{}
	}
	b := make([]byte, n)
	n, err := io.ReadFull(p, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return 0, &tcpip.ErrBadBuffer{}
	}
	e.conn.Write(b[:n])
	return int64(n), nil
}

// Readiness implements waiter.Waitable.
func (e *endpoint) Readiness(mask waiter.EventMask) waiter.EventMask {
	e.lock()
	defer e.unlock()
	var r waiter.EventMask
	if e.listen != nil {
		if e.listen.any() {
			r = waiter.ReadableEvents
		}
		return r & mask
	}
	if e.conn.Readable() > 0 {
		r |= waiter.ReadableEvents
	}
	ended, _, peer := e.conn.Ends()
	switch e.conn.Phase() {
	case transport.Closed:
		r |= allEvents
		if !e.failed {
			r &^= waiter.EventErr
		}
	case transport.Open:
		if peer {
			r |= waiter.ReadableEvents | waiter.EventRdHUp
		}
		if ended || e.conn.Space() > int(e.ops.GetSendBufferSize())/3 { // as sk_stream_is_writeable
			r |= waiter.WritableEvents
		}
	}
	return r & mask
}

// Shutdown implements tcpip.Endpoint. The receiving side stays as it is.
func (e *endpoint) Shutdown(f tcpip.ShutdownFlags) tcpip.Error {
	e.lock()
	defer e.unlock()
	if e.listen != nil {
		if f&tcpip.ShutdownRead != 0 {
			e.stopListening()
		}
		return nil
	}
	if !e.started || e.conn.Phase() == transport.Closed {
		return &tcpip.ErrNotConnected{}
	}
	if f&tcpip.ShutdownWrite != 0 {
		e.conn.End()
	}
	return nil
}

// Close implements tcpip.Endpoint: what was written is still delivered, unless
// there is unread data or SO_LINGER says otherwise.
func (e *endpoint) Close() {
	l := e.ops.GetLinger()
	e.end(l.Enabled && l.Timeout == 0)
}

// Abort implements stack.TransportEndpoint and tcpip.Endpoint.
func (e *endpoint) Abort() { e.end(true) }

func (e *endpoint) end(abort bool) {
	e.lock()
	defer e.unlock()
	if e.closed && !abort {
		return
	}
	e.closed = true
	switch {
	case e.listen != nil:
		e.stopListening()
	case e.started && (abort || e.conn.Readable() > 0 || e.conn.Phase() == transport.Opening):
		e.conn.Abort()
	case e.started:
		e.conn.End()
	}
	if !e.started {
		e.release()
	}
}

// Wait implements stack.TransportEndpoint.
func (*endpoint) Wait() {}

// release gives back what a connection that is over had. The port stays the
// user's until the socket is closed.
func (e *endpoint) release() {
	if e.started && !e.over {
		e.over = true
		e.failed = e.conn.Err() != 0
		if e.parent != nil {
			e.parent.forget(e)
			e.closed = true // nobody has seen it
		}
		if e.route != nil {
			e.route.Release()
			e.route = nil
		}
	}
	e.port.unregister(e)
	if e.closed {
		e.port.release(e.p.st)
	}
}

// socketSizes follows SO_SNDBUF and SO_RCVBUF.
func (e *endpoint) socketSizes(send, receive int64) {
	e.lock()
	defer e.unlock()
	e.conn.SetBuffers(int(send), int(receive))
}

// port is the endpoint's place among the ports of the stack.
type port struct {
	flags      ports.Flags
	device     tcpip.NICID
	res        ports.Reservation
	reserved   bool
	networks   []tcpip.NetworkProtocolNumber // that it is registered for
	registered ports.Flags                   // with these
}

func (p *port) register(e *endpoint, nets []tcpip.NetworkProtocolNumber, id stack.TransportEndpointID) tcpip.Error {
	if err := e.p.st.RegisterTransportEndpoint(nets, e.p.number, id, e, p.flags, p.device); err != nil {
		return err
	}
	p.networks, p.registered = nets, p.flags
	return nil
}

func (p *port) unregister(e *endpoint) {
	if p.networks != nil {
		e.p.st.UnregisterTransportEndpoint(p.networks, e.p.number, e.ID, e, p.registered, p.device)
		p.networks = nil
	}
}

func (p *port) release(st *stack.Stack) {
	if p.reserved {
		p.reserved = false
		st.ReleasePort(p.res)
	}
}
