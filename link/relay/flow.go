package relay

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// halfClosedKeepalive is when the far stack begins to ask whether a near socket
// that has sent FIN still exists. If the program closed it, the near stack
// forgets it after some time, and the host's connection should go as well.
const halfClosedKeepalive = 75 * time.Second

// tcpFlow is a connection of the near stack joined to one of the host. Two
// goroutines serve it, one for each direction; a direction that has ended still
// watches its side for an RST. Bytes wait in the two stacks only: what a side
// does not take is not read from the other.
type tcpFlow struct {
	r    *Relay
	log  *slog.Logger
	kind *counter

	ep   tcpip.Endpoint
	conn *net.TCPConn
	rc   syscall.RawConn

	wq               *waiter.Queue
	readW, writeW    waiter.Entry
	errW             waiter.Entry
	readable, writes chan struct{}

	out hostWriter
	in  hostReader

	// What the last step of each direction found.
	outcome, income step

	halves atomic.Int32 // directions that have ended by FIN
	outFIN atomic.Bool
	parked atomic.Bool   // the outward direction waits for the near stack
	wakes  atomic.Uint64 // times it has begun to work

	once sync.Once
	done chan struct{}
}

// step is why a direction stopped copying.
type step int

const (
	stepEmpty   step = iota // the source has no more just now
	stepFull                // the sink takes no more just now
	stepFIN                 // the source has ended
	stepNearErr             // the near connection is broken
	stepHostErr             // the host's connection is broken
)

func newTCPFlow(r *Relay, ep tcpip.Endpoint, wq *waiter.Queue, conn *net.TCPConn, log *slog.Logger) *tcpFlow {
	f := &tcpFlow{r: r, log: log, ep: ep, wq: wq, conn: conn, done: make(chan struct{})}
	f.readW, f.readable = waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	f.writeW, f.writes = waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	f.errW = waiter.NewFunctionEntry(waiter.EventHUp|waiter.EventErr, f.nearEvent)
	wq.EventRegister(&f.readW)
	wq.EventRegister(&f.errW)
	wq.EventRegister(&f.writeW)
	ep.SocketOptions().SetDelayOption(false)
	f.in.max = segmentPayload(r.cfg.MTU, ep)

	var err error
	if f.rc, err = conn.SyscallConn(); err == nil {
		// Urgent data in line: it would otherwise stop FIONREAD at the mark.
		_ = f.rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
		})
	}
	return f
}

// segmentPayload is how many bytes to give the far stack at once so that they
// make whole segments, bytes.
func segmentPayload(mtu int, ep tcpip.Endpoint) int {
	const timestamps = 12 // RFC 7323, 3.2, padded
	hdr := header.IPv4MinimumSize
	if info, ok := ep.Info().(*stack.TransportEndpointInfo); ok && info.NetProto == header.IPv6ProtocolNumber {
		hdr = header.IPv6MinimumSize
	}
	mss := mtu - hdr - header.TCPMinimumSize - timestamps
	return max(1, 65536/mss) * mss
}

// run starts both directions, in goroutines of their own: the caller's has a
// stack that connecting has made grow.
func (f *tcpFlow) run() {
	f.log.Debug("relay: flow begins")
	go f.pumpIn()
	go f.pumpOut()
}

// pumpOut copies from the near stack to the host.
func (f *tcpFlow) pumpOut() {
	for {
		f.wakes.Add(1)
		if f.rc.Write(f.outStep) != nil {
			// The flow has ended, or nearEvent says to give up.
			f.out.release()
			if tcp.EndpointState(f.ep.State()) == tcp.StateError {
				f.abortHost()
			}
			return
		}
		switch f.outcome {
		case stepEmpty:
			if !f.park() {
				return
			}
		case stepFIN:
			f.outFIN.Store(true)
			f.log.Debug("relay: near FIN")
			if err := f.conn.CloseWrite(); err != nil {
				f.abortNear(err)
				return
			}
			f.keepalive()
			f.endHalf()
			f.watchNear()
			return
		case stepHostErr:
			f.abortNear(f.out.err)
			return
		default:
			f.abortHost()
			return
		}
	}
}

// nearEvent makes the outward direction give up waiting for a host that does not
// read when the near connection has been reset. It is called with the far
// endpoint's locks held.
func (f *tcpFlow) nearEvent(waiter.EventMask) {
	if tcp.EndpointState(f.ep.State()) == tcp.StateError {
		_ = f.conn.SetWriteDeadline(time.Unix(1, 0))
	}
}

// park waits for the near stack; false if the flow has ended.
func (f *tcpFlow) park() bool {
	f.parked.Store(true)
	defer f.parked.Store(false)
	select {
	case <-f.readable:
		return true
	case <-f.done:
		return false
	}
}

// outStep copies what the near stack has sent into the host's socket. False asks
// to be called again when that is writable.
func (f *tcpFlow) outStep(fd uintptr) bool {
	w := &f.out
	w.fd = int(fd)
	for {
		w.err = nil
		w.flush()
		if w.err == nil {
			_, terr := f.ep.Read(w, tcpip.ReadOptions{})
			if w.err == nil {
				switch terr.(type) {
				case nil:
					continue
				case *tcpip.ErrWouldBlock:
					f.outcome = stepEmpty
				case *tcpip.ErrClosedForReceive:
					f.outcome = stepFIN
				default:
					f.outcome = stepNearErr
				}
				w.release()
				return true
			}
		}
		if errors.Is(w.err, unix.EAGAIN) {
			return false
		}
		f.outcome = stepHostErr
		w.release()
		return true
	}
}

// watchNear waits for the end of a flow whose near side has sent FIN, and ends it
// if the near side resets the connection.
func (f *tcpFlow) watchNear() {
	for {
		if tcp.EndpointState(f.ep.State()) == tcp.StateError {
			f.abortHost()
			return
		}
		select {
		case <-f.readable:
		case <-f.done:
			return
		}
	}
}

// pumpIn copies from the host to the near stack.
func (f *tcpFlow) pumpIn() {
	for {
		if f.rc.Read(f.inStep) != nil {
			return
		}
		switch f.income {
		case stepFull:
			select {
			case <-f.writes:
			case <-f.done:
				return
			}
		case stepFIN:
			f.log.Debug("relay: host FIN")
			if err := f.ep.Shutdown(tcpip.ShutdownWrite); err != nil {
				f.abortHost()
				return
			}
			f.endHalf()
			f.watchHost()
			return
		case stepHostErr:
			f.abortNear(f.in.err)
			return
		default:
			f.abortHost()
			return
		}
	}
}

// inStep copies what the host has received into the near stack's connection.
// False asks to be called again when there is more.
func (f *tcpFlow) inStep(fd uintptr) bool {
	in := &f.in
	in.fd = int(fd)
	for {
		n, eof := in.available()
		switch {
		case in.err != nil:
			f.income = stepHostErr
			return true
		case eof:
			f.income = stepFIN
			return true
		case n == 0:
			return false
		}
		_, terr := f.ep.Write(in, tcpip.WriteOptions{})
		if in.err != nil {
			f.income = stepHostErr
			return true
		}
		switch terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			f.income = stepFull
			return true
		default:
			f.income = stepNearErr
			return true
		}
	}
}

// watchHost waits for the end of a flow whose host side has sent FIN, and ends it
// if the host side resets the connection.
func (f *tcpFlow) watchHost() {
	var soErr int
	err := f.rc.Read(func(fd uintptr) bool {
		var err error
		soErr, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return err != nil || soErr != 0
	})
	if err == nil {
		f.abortNear(unix.Errno(soErr))
	}
}

// keepalive turns on the far stack's keepalive.
func (f *tcpFlow) keepalive() {
	idle := tcpip.KeepaliveIdleOption(halfClosedKeepalive)
	_ = f.ep.SetSockOpt(&idle)
	f.ep.SocketOptions().SetKeepAlive(true)
}

// endHalf ends one direction, and with the second the flow.
func (f *tcpFlow) endHalf() {
	if f.halves.Add(1) == 2 {
		f.finish()
	}
}

// finish closes both sides in order.
func (f *tcpFlow) finish() {
	f.end(func() {
		_ = f.conn.Close()
		f.ep.Close()
	})
}

// abortNear resets the near connection because the host's broke.
func (f *tcpFlow) abortNear(why error) {
	f.end(func() {
		f.log.Debug("relay: host broke the connection", "err", why)
		f.r.stats.tcpReset.Add(1)
		_ = f.conn.Close()
		f.ep.Abort()
		f.ep.Close()
	})
}

// abortHost resets the host's connection because the near one broke.
func (f *tcpFlow) abortHost() {
	f.end(func() {
		f.log.Debug("relay: near stack broke the connection")
		f.r.stats.tcpReset.Add(1)
		resetConn(f.conn)
		f.ep.Close()
	})
}

func (f *tcpFlow) end(how func()) {
	f.once.Do(func() {
		f.wq.EventUnregister(&f.readW)
		f.wq.EventUnregister(&f.writeW)
		f.wq.EventUnregister(&f.errW)
		how()
		f.r.removeTCP(f)
		close(f.done)
		f.log.Debug("relay: flow ends")
	})
}

// drained reports whether all that the near stack has sent is in the host's
// socket.
func (f *tcpFlow) drained() bool {
	select {
	case <-f.done:
		return true
	default:
	}
	if f.outFIN.Load() {
		return true
	}
	wakes := f.wakes.Load()
	if !f.parked.Load() {
		return false
	}
	n, err := f.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	return (err != nil || n == 0) && f.wakes.Load() == wakes && f.parked.Load()
}
