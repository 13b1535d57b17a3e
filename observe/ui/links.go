package ui

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/step"
)

// Bounds of what is shown of a link.
const (
	maxPackets     = 500 // remembered
	packetsPerTick = 50
	notablePerTick = 30 // beginnings and ends of connections, beyond those
)

// LinkConfig describes a link.
type LinkConfig struct {
	Name string    // unique
	Ends [2]string // names of hosts; the second is "" if the page does not show it
}

// Link is a link on the page.
type Link struct {
	cfg    LinkConfig
	server *Server
	start  time.Time
	step   *step.Link
	impair *impair.Link // nil: cannot be changed
	medium link.Medium

	room    atomic.Int32 // for packets, in this tick
	notable atomic.Int32
	bytes   [2]atomic.Uint64 // passed, by step.Direction
	packets [2]atomic.Uint64

	mu    sync.Mutex
	taken []takenPacket // of this tick

	specMu sync.Mutex
	spec   [2]impair.Spec // by step.Direction
	asked  [2]string      // as it was asked for

	// The rest is the server's goroutine's.
	id     int
	at     time.Duration
	series series
	row    linkRow
	recent []packetRow
}

// takenPacket is the beginning of a packet.
type takenPacket struct {
	at  time.Time
	dir step.Direction
	len int
	n   int
	b   [headers]byte
}

// linkRow is a link as the page has it. Pairs are in, out, as the link's first
// end sees it. Rates are bytes and packets a second.
type linkRow struct {
	ID       int        `json:"id"`
	Rate     [2]float64 `json:"rate"`
	PPS      [2]float64 `json:"pps"`
	Bytes    [2]uint64  `json:"bytes"`
	Packets  [2]uint64  `json:"packets"`
	Queue    [2]int     `json:"queue"`    // packets before the line
	QueueB   [2]int     `json:"queueb"`   // bytes before the line
	InFlight [2]int     `json:"inflight"` // packets in the medium
	Full     [2]uint64  `json:"full"`     // dropped by the queue
	Lost     [2]uint64  `json:"lost"`     // by chance, or while down
	Marks    [2]uint64  `json:"marks"`
	Paused   bool       `json:"paused"`
	Waiting  [2]int     `json:"waiting"` // held back by the pause
	Dropped  [2]uint64  `json:"dropped"` // of those
	Next     [2]string  `json:"next"`    // what the next step lets pass
	Spec     [2]string  `json:"spec"`    // impairments, in impair's words
	limit    int
}

// NewLink makes a link that the page shows once it is attached.
func (s *Server) NewLink(cfg LinkConfig) *Link {
	return &Link{cfg: cfg, server: s, start: s.start, series: series{}}
}

// Attach says what is shown and controlled: s, whose Options.Passed must be
// l.Passed, and the impairments i around the same link, with their Config as
// the link was made. i is nil if there are none that can be changed. No packet
// has passed yet.
func (l *Link) Attach(s *step.Link, i *impair.Link, cfg impair.Config) {
	l.step, l.impair, l.medium = s, i, s.Medium()
	l.spec = [2]impair.Spec{step.In: cfg.In, step.Out: cfg.Out}
	l.asked = [2]string{cfg.In.String(), cfg.Out.String()}
	l.server.addLink(l)
}

// Passed takes packets as they pass; see [step.Options].
func (l *Link) Passed(d step.Direction, pkts []link.Packet) {
	n := uint64(0)
	for i := range pkts {
		n += uint64(pkts[i].Len())
	}
	l.bytes[d].Add(n)
	l.packets[d].Add(uint64(len(pkts)))
	if l.room.Load() <= 0 && l.notable.Load() <= 0 {
		return
	}
	for i := range pkts {
		if l.room.Add(-1) >= 0 || notable(first(&pkts[i]), l.medium) && l.notable.Add(-1) >= 0 {
			l.take(d, &pkts[i])
		}
	}
}

// first is the beginning of a packet: its headers, as far as they are in one
// piece.
func first(p *link.Packet) []byte {
	if len(p.Bufs) == 0 {
		return nil
	}
	return p.Bufs[0]
}

func (l *Link) take(d step.Direction, p *link.Packet) {
	t := takenPacket{at: time.Now(), dir: d, len: p.Len()}
	for _, b := range p.Bufs {
		if t.n == headers {
			break
		}
		t.n += copy(t.b[t.n:], b)
	}
	l.mu.Lock()
	l.taken = append(l.taken, t)
	l.mu.Unlock()
}

var dirNames = [2]string{step.In: "in", step.Out: "out"}

// collect describes the packets of this tick, and makes room for the next's.
func (l *Link) collect() (rows []packetRow) {
	l.mu.Lock()
	taken := l.taken
	l.taken = nil
	l.mu.Unlock()
	l.room.Store(packetsPerTick)
	l.notable.Store(notablePerTick)
	for i := range taken {
		t := &taken[i]
		r := describe(t.b[:t.n], l.medium)
		r.At, r.Dir, r.Len = t.at.Sub(l.start).Seconds(), dirNames[t.dir], t.len
		rows = append(rows, r)
	}
	l.recent = keep(l.recent, rows, maxPackets)
	return rows
}

// update takes in the link as it is at the time at.
func (l *Link) update(at time.Duration) {
	r := linkRow{ID: l.id}
	dt := (at - l.at).Seconds()
	l.at = at
	was := l.row
	for d := range 2 {
		r.Bytes[d], r.Packets[d] = l.bytes[d].Load(), l.packets[d].Load()
		if dt > 0 {
			r.Rate[d] = rate(r.Bytes[d], was.Bytes[d], dt)
			r.PPS[d] = rate(r.Packets[d], was.Packets[d], dt)
		}
	}
	if l.impair != nil {
		for d, id := range [2]impair.Direction{step.In: impair.In, step.Out: impair.Out} {
			s := l.impair.Stats(id)
			r.Queue[d], r.QueueB[d], r.InFlight[d] = s.QueueLen, s.QueueBytes, s.InFlight
			r.Full[d] = s.DropsQueue + s.DropsEarly + s.DropsMemory
			r.Lost[d] = s.DropsLoss + s.DropsDown
			r.Marks[d] = s.Marks
		}
		l.specMu.Lock()
		r.Spec = l.asked
		l.specMu.Unlock()
	}
	s := l.step.State()
	r.Paused, r.Waiting, r.Dropped, r.limit = s.Paused, s.Waiting, s.Dropped, s.Limit
	for d := range 2 {
		l.step.Next(step.Direction(d), func(b []byte) {
			p := describe(b[:min(len(b), headers)], l.medium)
			r.Next[d] = p.Proto + " " + p.Info + "  " + p.Src + " → " + p.Dst
		})
	}
	l.row = r
	for d, name := range dirNames {
		l.series.add("rate_"+name, r.Rate[d])
		l.series.add("queue_"+name, float64(r.Queue[d]))
		l.series.add("full_"+name, float64(r.Full[d]-was.Full[d]))
		l.series.add("lost_"+name, float64(r.Lost[d]-was.Lost[d]))
	}
}

// set changes the impairments of a direction ("in", "out" or "both").
func (l *Link) set(dir, text string) error {
	ways, err := directions(dir)
	if err != nil {
		return err
	}
	if l.impair == nil {
		return errors.New("this link cannot be impaired")
	}
	l.specMu.Lock()
	defer l.specMu.Unlock()
	for _, d := range ways {
		s, err := l.parse(d, text)
		if err != nil {
			return err
		}
		if s.MTU != l.spec[d].MTU {
			return errors.New(`"mtu": cannot be changed while the program runs`)
		}
		if err := l.impair.Set([2]impair.Direction{step.In: impair.In, step.Out: impair.Out}[d], s); err != nil {
			return err
		}
		l.spec[d], l.asked[d] = s, s.String()
	}
	return nil
}

// parse reads a specification. A trace is a file, which a page does not name:
// that of the command line may stay.
func (l *Link) parse(d step.Direction, text string) (impair.Spec, error) {
	var words []string
	var trace *impair.Trace
	for _, w := range strings.Fields(text) {
		if name, ok := strings.CutPrefix(w, "rate=trace:"); ok {
			if trace = l.spec[d].Trace; trace == nil || trace.File != name {
				return impair.Spec{}, errors.New(`"rate": a trace is given on the command line only`)
			}
			w = "rate=1gbit" // what needs a rate has one
		}
		words = append(words, w)
	}
	s, err := impair.Parse(strings.Join(words, " "))
	if err == nil && trace != nil {
		s.Rate, s.Trace = 0, trace
	}
	return s, err
}

// control pauses, resumes, steps or drops.
func (l *Link) control(do, dir string) error {
	switch do {
	case "pause":
		l.step.Pause()
		return nil
	case "resume":
		l.step.Resume()
		return nil
	}
	f := map[string]func(step.Direction) bool{"step": l.step.Step, "drop": l.step.Drop}[do]
	if f == nil {
		return fmt.Errorf("%q: want pause, resume, step or drop", do)
	}
	ways, err := directions(dir)
	if err != nil {
		return err
	}
	for _, d := range ways {
		if f(d) {
			return nil
		}
	}
	return errNothing
}

var errNothing = errors.New("no packet waits")

func directions(dir string) ([]step.Direction, error) {
	switch dir {
	case "in":
		return []step.Direction{step.In}, nil
	case "out":
		return []step.Direction{step.Out}, nil
	case "both", "":
		return []step.Direction{step.Out, step.In}, nil
	}
	return nil, fmt.Errorf("%q: want in, out or both", dir)
}
