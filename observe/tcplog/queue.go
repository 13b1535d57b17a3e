package tcplog

import (
	"sync"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
)

// queueEvery is how often a queue is looked at, while packets pass; after
// queueIdle looks that saw no change it is not until the next packet.
const (
	queueEvery = 10 * time.Millisecond
	queueIdle  = 20
)

// queue writes down the counts of an impaired link's direction.
func (l *Log) queue(name, dir string, s *impair.Stats) {
	r := Record{
		T: Seconds(l.opts.Now()), Ev: EvQueue, Host: l.opts.Host, Link: name, Dir: dir,
		Pkts: uint64(s.QueueLen), Bytes: uint64(s.QueueBytes), Dropped: s.DropsQueue + s.DropsEarly,
		Marked: s.Marks, Lost: s.DropsLoss + s.DropsDown, Sent: s.Delivered,
	}
	l.w.Write(&r)
}

// sameLine says whether a and b have the same line, its time aside.
func sameLine(a, b *impair.Stats) bool {
	return a.QueueLen == b.QueueLen && a.QueueBytes == b.QueueBytes && a.Delivered == b.Delivered &&
		a.DropsQueue+a.DropsEarly == b.DropsQueue+b.DropsEarly &&
		a.Marks == b.Marks && a.DropsLoss+a.DropsDown == b.DropsLoss+b.DropsDown
}

// Queues has the queues of an impaired link written down while packets pass k,
// which is around it; at most every 10 ms, and only what changed.
func (l *Log) Queues(k *Link, q *impair.Link) {
	w := &queues{log: l, link: q, name: q.Name()}
	k.moved = w.moved
}

// WrapQueues is as Queues for a link whose segments are not to be written down.
// under is q, or around it; name is the link's in the log.
func (l *Log) WrapQueues(under link.Link, q *impair.Link, name string) *Link {
	w := &queues{log: l, link: q, name: name}
	return &Link{Link: under, moved: w.moved}
}

// queues looks at the queues of a link.
type queues struct {
	log  *Log
	link *impair.Link
	name string

	mu      sync.Mutex
	looking bool
	idle    int // looks without a change
	last    [2]impair.Stats
}

func (w *queues) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle = 0; !w.looking {
		w.looking = true
		w.log.opts.After(queueEvery, w.look)
	}
}

func (w *queues) look() {
	var now [2]impair.Stats
	for i, d := range [...]impair.Direction{out: impair.Out, in: impair.In} {
		now[i] = w.link.Stats(d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle++
	for i := range now {
		if !sameLine(&now[i], &w.last[i]) {
			w.idle = 0
			w.log.queue(w.name, dirs[i], &now[i])
			w.last[i] = now[i]
		}
	}
	if w.looking = w.idle < queueIdle; w.looking {
		w.log.opts.After(queueEvery, w.look)
	}
}
