package tcplog

import (
	"net/netip"
	"sync"
	"time"

	"github.com/alptrace/alptrace/internal/flow"
	"github.com/alptrace/alptrace/observe/owner"
	"github.com/alptrace/alptrace/stack"
)

// Options of a Log.
type Options struct {
	// Now is the time since the log's start; nil is that since New, by the
	// real clock.
	Now func() time.Duration
	// After calls f once, after d; nil is time.AfterFunc.
	After func(d time.Duration, f func())
	// Owners is who has the sockets; nil is nobody.
	Owners *owner.Registry
	// Host is where the connections are, if not the header's.
	Host string
}

// Log follows the TCP connections of one stack and writes down what they do:
// what the engine tells ([Log.Sample]), what passes its links ([Log.Wrap]), and
// what waits in an impaired one ([Log.Queues]).
type Log struct {
	w    *Writer
	opts Options

	mu    sync.Mutex
	conns map[ends]*conn
	ended []*conn // in the order in which they ended, to forget the oldest
	n     uint64
	sack  [maxSACK][2]uint32 // of the segment at hand
}

// ends is the two ends of a connection.
type ends struct{ local, remote netip.AddrPort }

// conn is a connection.
type conn struct {
	id    uint64
	ends  ends
	dir   [2]half // sent, received
	state string
	last  stack.TCPSample
	ended bool
}

// mostEnded is how many connections are remembered that have ended: segments of
// them may still come.
const mostEnded = 4096

// New makes a log of one stack that goes to w. Several may share it.
func New(w *Writer, o Options) *Log {
	if o.Now == nil {
		start := time.Now()
		o.Now = func() time.Duration { return time.Since(start) }
	}
	if o.After == nil {
		o.After = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	return &Log{w: w, opts: o, conns: make(map[ends]*conn)}
}

// conn finds a connection, or begins one. The caller holds l.mu.
func (l *Log) conn(p ends) *conn {
	c := l.conns[p]
	if c == nil {
		l.n++
		c = &conn{id: l.n, ends: p}
		l.conns[p] = c
	}
	return c
}

// anew begins a connection in the place of one that has ended.
func (l *Log) anew(c *conn) *conn {
	delete(l.conns, c.ends)
	return l.conn(c.ends)
}

// end notes that a connection has ended.
func (l *Log) end(c *conn) {
	if c.ended {
		return
	}
	c.ended = true
	if l.ended = append(l.ended, c); len(l.ended) > mostEnded {
		old := l.ended[0]
		l.ended[0] = nil
		l.ended = l.ended[1:]
		if l.conns[old.ends] == old {
			delete(l.conns, old.ends)
		}
	}
}

// record begins a record of a connection.
func (l *Log) record(c *conn, ev string) Record {
	r := Record{
		T: Seconds(l.opts.Now()), Ev: ev, Host: l.opts.Host,
		Conn: c.id, Local: c.ends.local, Remote: c.ends.remote,
	}
	if l.opts.Owners != nil {
		if o, ok := l.opts.Owners.Lookup(flow.Flow{Proto: flow.TCP, Src: c.ends.local, Dst: c.ends.remote}); ok {
			r.PID, r.Prog = o.PID, o.Prog
		}
	}
	return r
}

// tcpStates are the names of tcpi_state.
var tcpStates = [...]string{
	"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING",
}

// caStates are the names of tcpi_ca_state.
var caStates = [...]string{CAOpen, CADisorder, "CWR", CARecovery, CALoss}

// Numbers of tcpi_ca_state.
const (
	caDisorder = 1
	caRecovery = 3
	caLoss     = 4
)

// Sample takes what an engine tells; it is for [stack.Prober].
func (l *Log) Sample(s stack.TCPSample) {
	if int(s.State) >= len(tcpStates) || int(s.CAState) >= len(caStates) {
		return
	}
	state := tcpStates[s.State]
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conn(ends{s.Local, s.Remote})
	if c.ended && (state == "SYN_SENT" || state == "SYN_RECV") && state != c.state && c.state != "" {
		c = l.anew(c)
	}
	if state != c.state {
		r := l.record(c, EvState)
		r.State, r.From = state, c.state
		l.w.Write(&r)
		c.state = state
		if state == "CLOSE" || state == "TIME_WAIT" {
			l.end(c)
		}
	}
	if s.SndMSS == 0 {
		return
	}
	was := c.last
	c.last = s
	switch {
	case s.Timeouts > was.Timeouts:
		l.sampled(c, EvRTO)
	case s.CAState == caRecovery && was.CAState != caRecovery:
		l.sampled(c, EvFastRetx)
	case s.CAState <= caDisorder && was.CAState >= caRecovery:
		l.sampled(c, EvRecovered)
	}
	was.State, was.Timeouts = s.State, s.Timeouts
	if s != was {
		l.sampled(c, EvCC)
	}
}

// sampled writes what the engine has told last of a connection.
func (l *Log) sampled(c *conn, ev string) {
	r, s := l.record(c, ev), &c.last
	r.State, r.CA = c.state, caStates[s.CAState]
	r.Cwnd, r.Ssthresh, r.InFlight, r.SndWnd, r.MSS = s.SndCwnd, s.SndSsthresh, s.InFlight, s.SndWnd, uint64(s.SndMSS)
	r.SRTT, r.RTTVar, r.RTO, r.Retrans = Seconds(s.RTT), Seconds(s.RTTVar), Seconds(s.RTO), s.TotalRetrans
	l.w.Write(&r)
}
