package ui

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/alptrace/alptrace/observe"
)

// Bounds of what is shown of a host.
const (
	maxSockets    = 256 // looked at in a tick
	maxClosed     = 100 // remembered
	maxCalls      = 500 // remembered
	callsPerTick  = 60
	closedPerTick = 40
)

// HostConfig describes a host.
type HostConfig struct {
	Name    string // unique; "" is fine for a single one
	Program string // what runs, as a shell would have it
	Stack   string // what serves its sockets ("netstack, relay")
}

// Source is where the state of a host comes from; a tracer.Tracer is one. It is
// asked ten times a second, by one goroutine.
type Source interface {
	// Sockets appends the sockets as they are now to list, at most as many as
	// most, and says how many there are.
	Sockets(list []observe.Socket, most int) (all []observe.Socket, total int)
	// Bytes are what the programs have received and sent so far.
	Bytes() (in, out uint64)
}

// Host is a host on the page. Its methods implement tracer.Observer.
type Host struct {
	cfg    HostConfig
	server *Server
	source Source
	roots  func() []int // the first processes
	start  time.Time
	room   atomic.Int32 // for calls, in this tick

	mu     sync.Mutex
	calls  []callRow // of this tick
	closed []observe.Socket

	// The rest is the server's goroutine's.
	id      int
	series  series
	at      time.Duration
	in, out uint64
	rates   [2]float64 // bytes a second
	rows    map[uint64]*socketState
	gone    []uint64 // closed rows, oldest first
	sockets []observe.Socket
	total   int
	recent  []callRow
	procs   *processes // nil: none to be seen
}

// callRow is a call as the page has it.
type callRow struct {
	At     float64 `json:"t"` // seconds since the start
	Took   float64 `json:"us"`
	PID    int     `json:"pid"` // the thread's
	Name   string  `json:"name"`
	Args   string  `json:"args"`
	Result string  `json:"res"`
	Bad    bool    `json:"bad,omitempty"`
}

// NewHost makes a host that the page shows once it is attached.
func (s *Server) NewHost(cfg HostConfig) *Host {
	h := &Host{cfg: cfg, server: s, start: s.start, series: series{}, rows: map[uint64]*socketState{}}
	h.room.Store(callsPerTick)
	return h
}

// Attach says where the host's state comes from. roots are the pids of the
// programs that it runs, 0 for one that does not run yet; nil if no processes
// can be seen.
func (h *Host) Attach(src Source, roots func() []int) {
	h.source, h.roots = src, roots
	if roots != nil {
		h.procs = newProcesses()
	}
	h.server.addHost(h)
}

// WantsCall says whether there is room for a call in this tick.
func (h *Host) WantsCall() bool { return h.room.Load() > 0 }

// Call shows a call.
func (h *Host) Call(c observe.Call) {
	if h.room.Add(-1) < 0 {
		return
	}
	row := callRow{
		At: c.Start.Sub(h.start).Seconds(), Took: float64(c.Took) / 1e3, PID: c.TID,
		Name: c.Name, Args: clip(c.Args, 300), Result: clip(c.Result, 120), Bad: c.Err != 0,
	}
	h.mu.Lock()
	h.calls = append(h.calls, row)
	h.mu.Unlock()
}

// Closed shows the last of a socket.
func (h *Host) Closed(s observe.Socket) {
	h.mu.Lock()
	if len(h.closed) < closedPerTick {
		h.closed = append(h.closed, s)
	}
	h.mu.Unlock()
}

// clip bounds a text.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

// keep appends to the latest, of which it keeps most.
func keep[T any](latest, more []T, most int) []T {
	latest = append(latest, more...)
	if n := len(latest) - most; n > 0 {
		latest = append(latest[:0], latest[n:]...)
	}
	return latest
}
