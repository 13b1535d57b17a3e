package sim

import (
	"github.com/alptrace/alptrace/observe/tcplog"
)

// QueueWriter takes records of the queues; a [tcplog.Writer] is one.
type QueueWriter interface {
	Write(r *tcplog.Record)
}

// queueLog writes down what waits in the queues, when it has changed.
type queueLog struct {
	sim  *Sim
	last []tcplog.Record
	most []int
}

func newQueueLog(s *Sim) *queueLog {
	q := &queueLog{sim: s, last: make([]tcplog.Record, 2*len(s.wires)), most: make([]int, 2*len(s.wires))}
	var t *Timer
	t = s.clock.timer(func() {
		q.look()
		t.Set(s.clock.now + s.opts.Sample)
	})
	t.Set(0)
	return q
}

func (q *queueLog) look() {
	for i, w := range q.sim.wires {
		for e := range 2 {
			spec := w.ways[e].core.Spec()
			if spec.IsZero() {
				continue
			}
			st := w.Stats(e)
			k := 2*i + e
			q.most[k] = max(q.most[k], st.QueueLen)
			r := tcplog.Record{
				Ev: tcplog.EvQueue, Link: w.ends[e].name,
				Pkts: uint64(st.QueueLen), Bytes: uint64(st.QueueBytes),
				Dropped: st.DropsQueue + st.DropsEarly, Marked: st.Marks,
				Lost: st.DropsLoss + st.DropsDown, Sent: st.Delivered,
			}
			old := q.last[k]
			q.last[k] = r
			if old.Pkts == r.Pkts && old.Bytes == r.Bytes && old.Dropped == r.Dropped && old.Marked == r.Marked && old.Lost == r.Lost && old.Sent == r.Sent && q.sim.clock.now > 0 {
				continue
			}
			r.T = tcplog.Seconds(q.sim.clock.now)
			q.sim.opts.Queues.Write(&r)
		}
	}
}
