// Package tracer answers the socket calls of the traced program.
//
// The program's descriptors are real kernel objects, the stand-ins of package
// fdtable; reading, writing, polling, duplicating and closing them happens in
// the kernel without the tracer. What reaches the tracer are the control calls
// that the seccomp filter (tracer/filter) traps. Each family of calls has a
// file of its own: connect.go answers connect.
//
// Calls are answered one after the other, in the order in which they come
// (notify.go says why). A call that must wait leaves a waiter with its socket (wait.go) and occupies nothing else; it
// is tried again whenever the endpoint says that something changed.
package tracer

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/alptrace/alptrace/fdtable"
	"github.com/alptrace/alptrace/internal/park"
	"github.com/alptrace/alptrace/observe/owner"
	"github.com/alptrace/alptrace/pump"
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Config says what a Tracer works with.
type Config struct {
	Listener int          // descriptor of the seccomp listener; the Tracer owns it once New has succeeded
	Engine   stack.Engine // serves the sockets
	Log      *slog.Logger // diagnostics; nil is silent
	Trace    *Trace       // a line for every call; nil for none
	Stats    *Stats       // counts of calls; nil for none
	Observer Observer     // hears of calls and sockets; nil for nobody
	// Owners is told who has which socket; nil for nobody.
	Owners *owner.Registry
	// Warn is called with one line for the user, once for each cause, where the
	// program cannot be served as it should be.
	Warn func(string)
	// Watch tells of closes; nil is one of the Tracer's own. Several Tracers of a
	// process share one, because a user may have few (128 inotify instances).
	Watch *fdtable.Watch
	// Redirect says where a flow to dst goes instead, and whether it does; the
	// program is shown dst. It does not block. nil is nowhere else.
	Redirect func(dst netip.AddrPort) (to netip.AddrPort, ok bool)
}

// Tracer serves the sockets of one program and its descendants.
type Tracer struct {
	listener int
	lot      *park.Lot // of listener
	engine   stack.Engine
	log      *slog.Logger
	trace    *Trace
	stats    *Stats
	observer Observer
	owners   *owner.Registry
	warn     func(string)
	redirect func(netip.AddrPort) (netip.AddrPort, bool)

	sockets *fdtable.Table[*socket]
	procs   *fdtable.Processes
	streams *fdtable.Streams
	watch   *fdtable.Watch
	loop    *pump.Loop

	ownWatch bool // watch is the Tracer's alone
	closing  sync.Once

	waitersMu sync.Mutex
	waiters   map[uint32]*waiter    // by thread
	lost      map[uint32]lostAnswer // by thread

	// holding is held for reading by whoever has a duplicate of a stand-in
	// while the program runs on (see settle).
	holding sync.RWMutex

	warned sync.Map // causes that the user was warned of

	// Bytes that the program received and sent; see also Bytes.
	In, Out atomic.Uint64

	observedIDs atomic.Uint64 // of sockets
}

// New prepares to serve.
func New(cfg Config) (*Tracer, error) {
	t := &Tracer{
		listener: cfg.Listener,
		engine:   cfg.Engine,
		log:      cfg.Log,
		trace:    cfg.Trace,
		stats:    cfg.Stats,
		observer: cfg.Observer,
		owners:   cfg.Owners,
		warn:     cfg.Warn,
		redirect: cfg.Redirect,
		procs:    fdtable.NewProcesses(),
		waiters:  make(map[uint32]*waiter),
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.sockets = fdtable.NewTable[*socket](t.procs)
	var err error
	if t.streams, err = fdtable.NewStreams(); err != nil {
		return nil, err
	}
	if t.watch = cfg.Watch; t.watch == nil {
		if t.watch, err = fdtable.NewWatch(); err != nil {
			t.streams.Close()
			return nil, err
		}
		t.ownWatch = true
	}
	if t.lot, err = park.New(cfg.Listener, "seccomp listener"); err != nil {
		t.streams.Close()
		if t.ownWatch {
			t.watch.Close()
		}
		return nil, err
	}
	t.loop = pump.NewLoop()
	return t, nil
}

// Close releases, after Serve, what the Tracer holds, the listener included. Where
// sockets are still to deliver (see Drain) it does nothing and reports false.
func (t *Tracer) Close() bool {
	if t.sockets.Len() > 0 {
		return false
	}
	t.closing.Do(func() {
		_ = t.lot.Close()
		t.streams.Close()
		if t.ownWatch {
			t.watch.Close()
		}
		t.procs.Close()
		t.loop.Close()
	})
	return true
}

// Serve answers calls until the last traced process has ended.
func (t *Tracer) Serve() error { return t.serve() }

// settle makes every close count that the program has made before its present
// call. A duplicate that we still had when the program closed its last one has
// delayed that close, so wait for those as well.
func (t *Tracer) settle() {
	t.holding.Lock()
	t.holding.Unlock() //nolint:staticcheck // a barrier
	t.watch.Sync()
}

// once warns the user of cause one time.
func (t *Tracer) once(cause string, format string, args ...any) {
	if _, again := t.warned.LoadOrStore(cause, true); again || t.warn == nil {
		return
	}
	t.warn(fmt.Sprintf(format, args...))
}

// ours is an answer for sockets of the engine: f gets the socket that the call's
// descriptor is, and a duplicate of it. The kernel answers for others.
func ours(f func(c *call, s *socket, dup int) result) func(*call) result {
	return func(c *call) result {
		s, dup, ok, err := c.t.sockets.Lookup(int(c.tid), c.fd())
		if err == unix.EPERM {
			c.onceUnseen()
		}
		if !ok {
			return toKernel
		}
		defer unix.Close(dup)
		s.seen(c)
		return f(c, s, dup)
	}
}

// onceUnseen warns of a process whose memory and descriptors are closed to us.
func (c *call) onceUnseen() {
	c.t.once("dumpable", "process %d cannot be looked into (it is not dumpable, or execute-only); its sockets are not served", c.tid)
}
