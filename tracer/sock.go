package tracer

import (
	"sync"
	"sync/atomic"

	"github.com/alptrace/alptrace/fdtable"
	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/pump"
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// state is what a stream socket's stand-in is.
type state int

const (
	fresh      state = iota // unconnected AF_UNIX socket
	connecting              // handshake under way
	connected               // a stream moves the bytes
	listening
	broken // was connected or refused: the stand-in serves no second connection
)

// socket is one socket of the program.
type socket struct {
	t                  *Tracer
	cookie             uint64
	family, typ, proto int
	last               atomic.Uint64 // where it was seen last: thread and descriptor
	watch              atomic.Pointer[observed]
	owned              owned

	mu      sync.Mutex
	ep      stack.Endpoint
	state   state
	err     unix.Errno // pending error (SO_ERROR)
	shut    bool       // the program has called shutdown(2)
	watched bool       // the last close is watched for
	gone    bool       // closed by the program
	waiters []*waiter
	events  *pump.Task // runs onEvent

	redirects redirects

	// stream sockets
	end     int // the tracer's end while connecting without blocking, else -1
	stream  *pump.Stream
	name    unix.Sockaddr // of the listening stand-in
	queue   int           // how many connections wait on the stand-in at most
	pending []pendingConn // connections queued on the listening stand-in
	timeout timeouts
	to      stack.Addr // where it connects
	told    told       // the blocking connect(2) that succeeded
	due     bool       // the next connect(2) reports the outcome of the last

	// datagram sockets
	messages *pump.Messages
	injected bool // the stand-in has been given an error as well
}

// pendingConn is a connection that the program has not accepted. Where ep is
// nil it is only a sign that the endpoint has one (see listen.go).
type pendingConn struct {
	ep  stack.Endpoint
	end int
}

func (p pendingConn) drop() {
	if p.ep != nil {
		p.ep.Abort()
	}
	unix.Close(p.end)
}

func (s *socket) isStream() bool { return s.typ == unix.SOCK_STREAM }

// seen remembers where the socket was seen, for fdtable's Find.
func (s *socket) seen(c *call) {
	c.tr.ours = true
	s.sawAt(c.tid, c.fd())
	if s.t.owners != nil {
		s.ownedBy(c)
	}
}

func (s *socket) sawAt(tid uint32, fd int) { s.last.Store(uint64(tid)<<32 | uint64(uint32(fd))) }

// find duplicates the stand-in outside of any call; -1 if nobody holds it. The
// caller gives it to found.
func (s *socket) find() int {
	s.t.holding.RLock()
	last := s.last.Load()
	dup, ok := s.t.procs.Find(s.cookie, int(last>>32), int(int32(last)))
	if !ok {
		s.t.holding.RUnlock()
		return -1
	}
	return dup
}

// found ends the use of what find returned.
func (s *socket) found(dup int) {
	if dup >= 0 {
		unix.Close(dup)
		s.t.holding.RUnlock()
	}
}

// socket answers socket(2).
func (c *call) socket() result {
	family, typ, proto := int(c.int32(0)), int(c.int32(1)), int(c.int32(2))
	flags := typ &^ 0xf
	typ &= 0xf
	if flags&^(unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) != 0 {
		return fail(unix.EINVAL)
	}
	switch v := policy.Socket(family, typ, proto); v.Where {
	case policy.Kernel:
		return toKernel
	case policy.Refuse:
		return fail(v.Errno)
	}
	ep, e := c.t.engine.Socket(family, typ, proto)
	if e != 0 {
		return fail(e)
	}
	s := &socket{t: c.t, family: family, typ: typ, proto: proto, ep: ep, end: -1}
	fd, err := s.makeStandin()
	if err != nil {
		ep.Close()
		c.t.log.Warn("make stand-in", "err", err)
		return fail(unix.ENFILE)
	}
	c.t.holding.RLock()
	defer c.t.holding.RUnlock()
	defer unix.Close(fd)
	if flags&unix.SOCK_NONBLOCK != 0 {
		unix.SetNonblock(fd, true)
	}
	r, ok := c.giveFD(fd, flags&unix.SOCK_CLOEXEC != 0)
	if ok {
		s.sawAt(c.tid, int(r.val))
	}
	// Where it was not taken, closing fd is the last close.
	return r
}

// makeStandin makes the stand-in of a new socket and registers it.
func (s *socket) makeStandin() (fd int, err error) {
	var pair *fdtable.Messages
	if s.isStream() {
		fd, err = s.t.streams.New()
	} else {
		pair, fd, err = fdtable.NewMessages()
	}
	if err != nil {
		return -1, err
	}
	if s.cookie, err = fdtable.Cookie(fd); err == nil {
		err = s.watchClose(fd)
	}
	if err != nil {
		unix.Close(fd)
		if pair != nil {
			pair.Close()
		}
		return -1, err
	}
	if pair == nil {
		s.events = s.t.loop.NewTask(func(uint32) { s.onEvent() })
	} else {
		in, out := s.counters()
		s.messages, err = s.t.loop.NewMessages(pair, s.ep, s, in, out)
		if err != nil {
			unix.Close(fd)
			pair.Close()
			return -1, err
		}
	}
	s.t.sockets.Add(s.cookie, s)
	return fd, nil
}

// watchClose has closed called at the last close of the stand-in fd.
func (s *socket) watchClose(fd int) error {
	if s.watched {
		return nil
	}
	cookie := s.cookie
	if err := s.t.watch.Add(fd, func() { s.closed(cookie) }); err != nil {
		return err
	}
	s.watched = true
	return nil
}

// closed is the program's last close of the stand-in with this cookie.
func (s *socket) closed(cookie uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cookie == cookie && s.state == connected && !s.gone {
		// The stream sees the end of the stand-in by itself, after the last
		// byte; it closes the endpoint, and Drain waits for that.
		s.gone = true
		return
	}
	s.t.sockets.Remove(cookie)
	if s.cookie == cookie { // not replaced by another stand-in
		s.release()
	}
}

// release closes the endpoint and everything that hangs on it. The caller
// holds s.mu.
func (s *socket) release() {
	if s.gone {
		return
	}
	s.observeClose()
	s.gone = true
	if s.messages != nil {
		s.messages.Send()
		s.messages.Close()
	} else {
		s.ep.Notify(nil)
	}
	for _, p := range s.pending {
		p.drop()
	}
	s.pending = nil
	if s.end >= 0 {
		unix.Close(s.end)
		s.end = -1
	}
	s.ep.Close()
	s.failWaiters(unix.EBADF)
}

// StreamFailed lets the program know that its connection has failed. It is
// part of pump.StreamHandler.
func (s *socket) StreamFailed(end int, e stack.Errno) {
	dup := s.find()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.err, s.stream = broken, e, nil
	s.t.streams.Reset(dup, end)
	if dup < 0 { // nobody has it any more
		s.t.sockets.Remove(s.cookie)
		s.observeClose()
		s.gone = true
		s.ep.Close()
		return
	}
	if err := s.watchClose(dup); err != nil {
		s.t.log.Warn("watch stand-in", "err", err)
	}
	s.found(dup)
	s.tryWaiters()
}

// StreamClosed is part of pump.StreamHandler. If the program has shut the socket
// down it may still hold it; then the watch tells of the close.
func (s *socket) StreamClosed(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.stream = broken, nil
	if s.shut && !s.gone {
		s.ep.Shutdown(unix.SHUT_RDWR)
		return
	}
	s.observeClose()
	if reset {
		s.ep.Abort()
	} else {
		s.ep.Close()
	}
	s.gone = true
	s.t.sockets.Remove(s.cookie)
}

// MessagesReady is part of pump.MessagesHandler.
func (s *socket) MessagesReady(e stack.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	if e == 0 && s.ep.Readiness()&unix.POLLERR != 0 {
		e = s.ep.TakeError()
	}
	s.fault(e)
	s.tryWaiters()
}

// MessageRefused is part of pump.MessagesHandler.
func (s *socket) MessageRefused(e stack.Errno) {
	// Too late for the call that sent it: the next one fails. The caller holds
	// the pump's locks, so that is a task of its own.
	s.t.loop.NewTask(func(uint32) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault(e)
	}).Kick()
}

// fault makes e the pending error of a datagram socket, and wakes a program
// that sleeps natively on it. The caller holds s.mu.
func (s *socket) fault(e unix.Errno) {
	if e == 0 || s.gone {
		return
	}
	s.err = e
	dup := s.find()
	if dup < 0 {
		return
	}
	defer s.found(dup)
	if err := s.messages.Fail(dup); err != nil {
		s.t.log.Debug("fail stand-in", "err", err)
		return
	}
	s.injected = true
}

// takeError returns and clears the pending error. The caller holds s.mu; dup is
// the stand-in, or -1.
func (s *socket) takeError(dup int) unix.Errno {
	e := s.err
	s.err = 0
	if e != 0 && dup >= 0 && (s.state == broken || s.injected) {
		s.injected = false
		// The stand-in carries the same error: reported once, by whichever
		// way the program asks first.
		own, err := unix.GetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && own == 0 {
			e = 0
		}
	}
	if e == 0 && s.state != connected {
		e = s.ep.TakeError()
	}
	return e
}
