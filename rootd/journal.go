package rootd

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// journal collects what happens to the grants of one lease, so that the log
// has a line for many. It never holds more than journalMax entries.
type journal struct {
	mu       sync.Mutex
	in, out  []Grant
	refusals map[string][]Grant // by reason
	lost     int                // not written down one by one
	n        int
}

const (
	journalMax = 4096 // entries between two flushes
	rangesMax  = 16   // ranges of ports in one line of the log
)

func (j *journal) room() bool {
	if j.n >= journalMax {
		j.lost++
		return false
	}
	j.n++
	return true
}

func (j *journal) granted(g Grant) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.room() {
		j.in = append(j.in, g)
	}
}

func (j *journal) released(g Grant) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.room() {
		j.out = append(j.out, g)
	}
}

func (j *journal) refused(g Grant, why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.room() {
		return
	}
	if j.refusals == nil {
		j.refusals = map[string][]Grant{}
	}
	j.refusals[why.Error()] = append(j.refusals[why.Error()], g)
}

// flush writes what was collected.
func (j *journal) flush(log *slog.Logger) {
	j.mu.Lock()
	in, out, refusals, lost := j.in, j.out, j.refusals, j.lost
	j.in, j.out, j.refusals, j.lost, j.n = nil, nil, nil, 0, 0
	j.mu.Unlock()
	if len(in) > 0 {
		log.Info("granted", "count", len(in), "ports", brief(in))
	}
	if len(out) > 0 {
		log.Info("released", "count", len(out), "ports", brief(out))
	}
	for why, gs := range refusals {
		log.Warn("refused", "count", len(gs), "ports", brief(gs), "err", why)
	}
	if lost > 0 {
		log.Warn("more than the log takes", "count", lost)
	}
}

// flush writes the journal of l.
func (s *Server) flush(l *lease) {
	l.journal.flush(s.log.With("lease", l.id, "uid", l.peer.UID, "pid", l.peer.PID, "program", l.program))
}

func brief(gs []Grant) string {
	rs := ranges(gs)
	if n := len(rs) - rangesMax; n > 0 {
		rs = append(rs[:rangesMax], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(rs, ", ")
}

// ranges sorts grants and writes runs of ports as one: "tcp 0.0.0.0:80-82".
func ranges(gs []Grant) []string {
	gs = slices.Clone(gs)
	slices.SortFunc(gs, func(a, b Grant) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
	})
	gs = slices.Compact(gs)
	var out []string
	for i := 0; i < len(gs); {
		last := i
		for last+1 < len(gs) && gs[last+1].Proto == gs[i].Proto && gs[last+1].Addr == gs[i].Addr &&
			gs[last+1].Port == gs[last].Port+1 {
			last++
		}
		text := gs[i].String()
		if last > i {
			text += fmt.Sprintf("-%d", gs[last].Port)
		}
		out = append(out, text)
		i = last + 1
	}
	return out
}
