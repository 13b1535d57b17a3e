package alptcp

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	gtcp "gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/stack/tcp"
)

// endpoint is a socket's half in the stack: a connection, or a listener.
type endpoint struct {
	stack.TransportEndpointInfo
	tcpip.DefaultSocketOptionsHandler
	p     *Protocol
	queue *waiter.Queue
	ops   tcpip.SocketOptions

	inbox inbox
	// shown is the state as State shows it.
	shown atomic.Uint32

	mu       sync.Mutex // guards what follows, and the connection
	conn     *tcp.Conn
	out      outgoing
	listen   *listener // of a listening endpoint
	parent   *listener // of a connection that came to it
	place    int       // in parent.half; guarded by parent.mu
	timer    tcpip.Timer
	timerAt  time.Duration
	clock    time.Duration // the time since the endpoint was locked; 0: not read yet
	bound    bool
	started  bool // the connection has been opened
	closed   bool // the user has closed
	inTW     bool
	failed   bool // the error of the connection has not been taken
	reserved bool
	dual     bool // bound to IPv4 as well
	ttl      int16
	hops     int16
	tos      uint8
	tclass   uint8
	pmtud    tcpip.PMTUDStrategy
	res      ports.Reservation
	networks []tcpip.NetworkProtocolNumber // that it is registered for
	flags    ports.Flags
	regFlags ports.Flags
	device   tcpip.NICID
	early    bool // counted in parent.early
	stirred  bool // something happened since the last sample
}

var (
	_ tcpip.Endpoint          = (*endpoint)(nil)
	_ stack.TransportEndpoint = (*endpoint)(nil)
	_ tcp.Env                 = (*endpoint)(nil)
	_ stack.SendBufSizeProto  = (*Protocol)(nil)
)

func newEndpoint(p *Protocol, net tcpip.NetworkProtocolNumber, q *waiter.Queue) *endpoint {
	e := &endpoint{p: p, queue: q, timerAt: tcp.Never, ttl: tcpip.UseDefaultIPv4TTL, hops: tcpip.UseDefaultIPv6HopLimit}
	e.NetProto, e.TransProto = net, number
	e.ops.InitHandler(e, p.st, tcpip.GetStackSendBufferLimits, tcpip.GetStackReceiveBufferLimits)
	e.ops.SetSendBufferSize(int64(p.cfg.SendBuffer), false)
	e.ops.SetReceiveBufferSize(int64(p.cfg.RecvBuffer), false)
	e.conn = tcp.New(p.cfg, e)
	e.shown.Store(uint32(gtcp.StateInitial))
	return e
}

// inbox has what arrived while the endpoint was locked.
type inbox struct {
	n    atomic.Int32
	mu   sync.Mutex
	list []arrived
}

// arrived is a packet, an ICMP error about one, or the expiry of the timer.
type arrived struct {
	id  stack.TransportEndpointID
	pkt *stack.PacketBuffer
	err stack.TransportError
	seq tcp.Seq
}

// maxInbox bounds the inbox; what comes when it is full is lost.
const maxInbox = 4096

func (b *inbox) put(a arrived) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) < maxInbox {
		if a.pkt != nil {
			a.pkt.IncRef()
		}
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

// lock and unlock bracket everything that touches the connection. What arrived
// meanwhile is dealt with before the endpoint is let go.
func (e *endpoint) lock() {
	e.mu.Lock()
	e.clock = 0
}

func (e *endpoint) unlock() {
	for {
		for l := e.inbox.take(); l != nil; l = e.inbox.take() {
			for i := range l {
				e.handle(&l[i])
				if l[i].pkt != nil {
					l[i].pkt.DecRef()
				}
			}
		}
		e.settle()
		e.mu.Unlock()
		if e.inbox.n.Load() == 0 || !e.mu.TryLock() {
			return
		}
	}
}

// HandlePacket implements stack.TransportEndpoint.
func (e *endpoint) HandlePacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	if e.inbox.n.Load() == 0 && e.mu.TryLock() {
		e.handle(&arrived{id: id, pkt: pkt})
		e.unlock()
		return
	}
	e.inbox.put(arrived{id: id, pkt: pkt})
	if e.mu.TryLock() {
		e.unlock()
	}
}

// HandleError implements stack.TransportEndpoint: an ICMP error.
func (e *endpoint) HandleError(err stack.TransportError, pkt *stack.PacketBuffer) {
	a := arrived{err: err}
	if b, ok := pkt.Data().PullUp(8); ok {
		a.seq = tcp.Seq(binary.BigEndian.Uint32(b[4:]))
	}
	e.inbox.put(a)
	if e.mu.TryLock() {
		e.unlock()
	}
}

func (e *endpoint) handle(a *arrived) {
	e.stirred, e.clock = true, 0
	if a.pkt == nil {
		e.icmp(a)
		return
	}
	in := segments.Get().(*received)
	defer in.free()
	s := &in.seg
	count := &e.p.counts
	if !parse(a.pkt, s, e.listen == nil) {
		count.ChecksumErrors.Increment()
		count.InvalidSegmentsReceived.Increment()
		return
	}
	count.ValidSegmentsReceived.Increment()
	if e.listen != nil {
		e.arrive(a, s)
		return
	}
	switch {
	case !e.started || e.conn.State() == tcp.Closed:
		e.p.reset(a.id, a.pkt, s)
	case e.conn.Reusable(s):
		e.reopened(a)
	default:
		e.conn.Input(s)
	}
}

// received is a segment with room for its payload's pieces.
type received struct {
	seg  tcp.Segment
	data [4]tcp.Chunk
}

// segments are those not in use.
var segments = sync.Pool{New: func() any {
	r := new(received)
	r.seg.Data = r.data[:0]
	return r
}}

func (r *received) free() {
	clear(r.data[:])
	r.seg = tcp.Segment{Data: r.data[:0]}
	segments.Put(r)
}

func (e *endpoint) icmp(a *arrived) {
	if !e.started || e.listen != nil {
		return
	}
	if a.err.Kind() == stack.PacketTooBigTransportError {
		e.conn.PacketTooBig(int(a.err.Info())+e.headerLen(), a.seq)
		return
	}
	if errno := ofKind(a.err.Kind()); errno != 0 {
		e.conn.SoftError(errno)
	}
}

// settle follows every change of the connection: the state that is shown, and
// what is to be done when it is over.
func (e *endpoint) settle() {
	if e.started {
		switch e.conn.State() {
		case tcp.TimeWait:
			e.enteredTimeWait()
		case tcp.Closed:
			e.over()
		}
	}
	if e.early && !e.conn.FastOpenPending() {
		e.early = false
		e.parent.countEarly(-1)
	}
	e.shown.Store(uint32(e.state()))
	e.p.samples.take(e)
}

// state is the state in gVisor's numbers.
func (e *endpoint) state() gtcp.EndpointState {
	switch {
	case e.listen != nil:
		return gtcp.StateListen
	case !e.started && e.bound:
		return gtcp.StateBound
	case !e.started && e.closed:
		return gtcp.StateClose
	case !e.started:
		return gtcp.StateInitial
	}
	s := e.conn.State()
	if e.conn.FastOpenWaits() {
		return gtcp.StateEstablished // as far as the user goes
	}
	if s != tcp.Closed {
		return gtcp.EndpointState(s)
	}
	if e.conn.Err() == 0 || e.conn.PeerClosed() {
		return gtcp.StateClose
	}
	return gtcp.StateError
}

// The environment of the connection.

// Now implements tcp.Env: the clock is read once for all that is done under one
// lock.
func (e *endpoint) Now() time.Duration {
	if e.clock == 0 {
		e.clock = e.p.now()
	}
	return e.clock
}

// Send implements tcp.Env.
func (e *endpoint) Send(s *tcp.Segment) {
	if e.out.route != nil {
		e.stirred = true
		e.out.send(s)
	}
}

// SetTimer implements tcp.Env.
func (e *endpoint) SetTimer(at time.Duration) {
	e.timerAt = at
	switch {
	case at == tcp.Never:
		if e.timer != nil {
			e.timer.Stop()
		}
	case e.timer == nil:
		e.timer = e.p.clock.AfterFunc(max(at-e.Now(), 0), e.expired)
	default:
		e.timer.Reset(max(at-e.Now(), 0))
	}
}

// expired is called when the timer goes off.
func (e *endpoint) expired() {
	e.lock()
	if e.timerAt <= e.Now() {
		e.conn.Timer()
	} else if e.timerAt != tcp.Never { // an old expiry
		e.SetTimer(e.timerAt)
	}
	e.unlock()
}

// Alloc implements tcp.Env.
func (e *endpoint) Alloc(n int) tcp.Chunk {
	v := buffer.NewViewSize(n)
	return tcp.Chunk{B: v.AsSlice(), Owner: v}
}

// Wake implements tcp.Env.
func (e *endpoint) Wake() {
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
	switch e.conn.State() {
	case tcp.Closed, tcp.TimeWait:
		if !e.started {
			return res, &tcpip.ErrNotConnected{}
		}
		if err := e.takeFailure(); err != nil {
			return res, err
		}
		return res, &tcpip.ErrClosedForReceive{}
	case tcp.SynSent, tcp.SynReceived:
		if e.conn.FastOpening() {
			return res, &tcpip.ErrWouldBlock{}
		}
		return res, &tcpip.ErrNotConnected{}
	}
	if e.conn.PeerClosed() {
		return res, &tcpip.ErrClosedForReceive{}
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
	switch e.conn.State() {
	case tcp.SynSent, tcp.SynReceived:
		if !e.conn.FastOpenWaits() {
			return 0, &tcpip.ErrWouldBlock{}
		}
	case tcp.Closed:
		if err := e.takeFailure(); err != nil {
			return 0, err
		}
	}
	if !e.conn.CanWrite() {
		return 0, &tcpip.ErrClosedForSend{}
	}
	n := e.conn.Write(p)
	if n == 0 && p.Len() > 0 {
		return 0, &tcpip.ErrWouldBlock{}
	}
	return int64(n), nil
}

// Readiness implements waiter.Waitable.
func (e *endpoint) Readiness(mask waiter.EventMask) waiter.EventMask {
	e.lock()
	defer e.unlock()
	return e.ready(mask)
}

func (e *endpoint) ready(mask waiter.EventMask) waiter.EventMask {
	var r waiter.EventMask
	if e.listen != nil {
		if e.listen.any() {
			r = waiter.ReadableEvents
		}
		return r & mask
	}
	c := e.conn
	if c.Readable() > 0 {
		r |= waiter.ReadableEvents
	}
	switch c.State() {
	case tcp.Closed, tcp.TimeWait:
		if e.started {
			r |= allEvents
			if !e.failed {
				r &^= waiter.EventErr
			}
		}
	case tcp.SynSent, tcp.SynReceived:
		if c.FastOpenWaits() {
			r |= waiter.WritableEvents
		}
	default:
		if c.PeerClosed() {
			r |= waiter.ReadableEvents | waiter.EventRdHUp
		}
		if !c.CanWrite() || c.Writable() {
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
	if !e.started || e.conn.State() == tcp.Closed {
		return &tcpip.ErrNotConnected{}
	}
	if f&tcpip.ShutdownWrite != 0 {
		e.conn.Shutdown()
	}
	return nil
}

// Close implements tcpip.Endpoint.
func (e *endpoint) Close() {
	e.lock()
	defer e.unlock()
	if e.closed {
		return
	}
	e.closed = true
	l := e.ops.GetLinger()
	switch {
	case e.listen != nil:
		e.stopListening()
	case e.started && l.Enabled && l.Timeout == 0:
		e.conn.Abort()
	case e.started:
		e.conn.Close()
	}
	e.over()
}

// Abort implements stack.TransportEndpoint and tcpip.Endpoint.
func (e *endpoint) Abort() {
	e.lock()
	defer e.unlock()
	e.closed = true
	if e.listen != nil {
		e.stopListening()
	} else if e.started {
		e.conn.Abort()
	}
	e.over()
}

// Wait implements stack.TransportEndpoint.
func (*endpoint) Wait() {}

// enteredTimeWait counts the connections in TIME-WAIT, of which there may only
// be so many.
func (e *endpoint) enteredTimeWait() {
	if e.inTW {
		return
	}
	e.inTW = true
	e.p.mu.Lock()
	e.p.timeWait++
	full := e.p.timeWait > maxTimeWait
	e.p.mu.Unlock()
	if full {
		e.conn.Abort()
		e.over()
	}
}

// over gives back what a connection that is over had.
func (e *endpoint) over() {
	if e.started && e.conn.State() != tcp.Closed {
		return
	}
	if e.started && !e.failed && e.conn.Err() != 0 && e.networks != nil {
		e.failed = true
	}
	if e.inTW {
		e.inTW = false
		e.p.mu.Lock()
		e.p.timeWait--
		e.p.mu.Unlock()
	}
	if e.parent != nil && e.parent.forget(e) {
		e.closed = true // nobody has seen it
	}
	e.unregister()
	if e.out.route != nil {
		e.out.route.Release()
		e.out.route = nil
	}
	if e.closed && e.reserved {
		e.reserved = false
		e.p.st.ReleasePort(e.res)
	}
}

func (e *endpoint) unregister() {
	if e.networks != nil {
		e.p.st.UnregisterTransportEndpoint(e.networks, number, e.ID, e, e.regFlags, e.device)
		e.networks = nil
	}
}
