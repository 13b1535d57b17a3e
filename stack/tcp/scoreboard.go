package tcp

import (
	"sort"
	"time"
)

// scoreboard is what is in flight: records of what was sent together, in the
// order of sequence numbers, without gaps. SACK splits them where it must
// (RFC 6675 3); what is SACKed is merged again.
type scoreboard struct {
	recs []record
	head int // the first in use

	sacked, lost, retrans int // bytes; lost counts what was retransmitted too
	marks                 int // how often markLost was called
	totalLost             uint64
	synRetried            bool
	// lostHint: nothing before it is lost and to be retransmitted.
	lostHint Seq
	highest  Seq // the end of the highest that was SACKed; valid if sacked > 0
}

// record is a piece of what was sent.
type record struct {
	start, end Seq
	flags      recordFlags
	// sent is when it was sent last.
	sent time.Duration
	// The state of the delivery rate's sampler at that time; see rate.go.
	delivered              uint64
	deliveredAt, firstSent time.Duration
	inFlight               int
	priorLost              uint64
}

func (r *record) len() int { return r.end.Sub(r.start) }

type recordFlags uint8

const (
	recSacked   recordFlags = 1 << iota
	recLost                 // believed to be lost
	recRetrans              // retransmitted since it was lost
	everRetrans             // retransmitted at any time
	recAppLimited
	recProbe // a path MTU probe
)

// maxRecords bounds the records: SACK splits none beyond it, so that a peer
// cannot make a list of single bytes.
const maxRecords = 16384

func (b *scoreboard) size() int        { return len(b.recs) - b.head }
func (b *scoreboard) empty() bool      { return len(b.recs) == b.head }
func (b *scoreboard) at(i int) *record { return &b.recs[b.head+i] }

// bytes is how much is outstanding: SND.NXT - SND.UNA.
func (b *scoreboard) bytes() int {
	if b.empty() {
		return 0
	}
	return b.recs[len(b.recs)-1].end.Sub(b.recs[b.head].start)
}

// pipe estimates what is in the network (RFC 6675 4, SetPipe).
func (b *scoreboard) pipe() int { return b.bytes() - b.sacked - b.lost + b.retrans }

func (b *scoreboard) reset() {
	b.recs, b.head = b.recs[:0], 0
	b.sacked, b.lost, b.retrans = 0, 0, 0
}

// forget gives the memory back when nothing is in flight.
func (b *scoreboard) forget() {
	if !b.empty() {
		return
	}
	b.recs, b.head = b.recs[:0], 0
	if cap(b.recs) > 4 {
		b.recs = nil
	}
}

// add appends what has just been sent.
func (b *scoreboard) add(start, end Seq, now time.Duration) *record {
	if b.head > 64 && b.head > len(b.recs)/2 {
		n := copy(b.recs, b.recs[b.head:])
		b.recs, b.head = b.recs[:n], 0
	}
	b.recs = append(b.recs, record{start: start, end: end, sent: now})
	return &b.recs[len(b.recs)-1]
}

// find is the index of the first record that ends after seq.
func (b *scoreboard) find(seq Seq) int {
	rs := b.recs[b.head:]
	return sort.Search(len(rs), func(i int) bool { return rs[i].end.After(seq) })
}

// split cuts record i at seq, which is inside of it.
func (b *scoreboard) split(i int, seq Seq) {
	b.recs = append(b.recs, record{})
	k := b.head + i
	copy(b.recs[k+1:], b.recs[k:])
	b.recs[k].end = seq
	b.recs[k+1].start = seq
	b.recs[k].flags &^= recProbe
	b.recs[k+1].flags &^= recProbe
}

// settle takes the record out of the sums, before its flags change.
func (b *scoreboard) settle(r *record) {
	n := r.len()
	switch {
	case r.flags&recSacked != 0:
		b.sacked -= n
	case r.flags&recLost != 0:
		b.lost -= n
	}
	if r.flags&recRetrans != 0 {
		b.retrans -= n
	}
}

// markLost says that record i is believed to be lost; its retransmission, if
// there was one, too.
func (b *scoreboard) markLost(i int) {
	r := b.at(i)
	if r.flags&recSacked != 0 {
		return
	}
	if r.flags&recRetrans != 0 {
		b.retrans -= r.len()
		r.flags &^= recRetrans
		b.totalLost += uint64(r.len())
	}
	if r.flags&recProbe == 0 {
		b.marks++
	}
	r.flags &^= recProbe
	if r.flags&recLost == 0 {
		b.totalLost += uint64(r.len())
		b.lost += r.len()
		r.flags |= recLost
	}
	if b.lostHint.After(r.start) || b.lost == r.len() {
		b.lostHint = r.start
	}
}

// loseHead marks the first n bytes lost.
func (b *scoreboard) loseHead(n int) {
	if b.empty() || b.at(0).flags&recSacked != 0 {
		return
	}
	if r := b.at(0); r.len() > n && n > 0 {
		b.split(0, r.start.Add(n))
	}
	b.markLost(0)
}

// unmarkLost says that nothing was lost after all.
func (b *scoreboard) unmarkLost() {
	for i := range b.size() {
		if r := b.at(i); r.flags&recLost != 0 {
			r.flags &^= recLost
			b.lost -= r.len()
			b.totalLost -= uint64(r.len())
		}
	}
}

// ackTo removes what is below ack, telling got of each record.
func (b *scoreboard) ackTo(ack Seq, got func(*record)) {
	for !b.empty() {
		r := b.at(0)
		if r.start.AtOrAfter(ack) {
			break
		}
		if r.end.After(ack) {
			b.split(0, ack)
			r = b.at(0)
		}
		b.settle(r)
		got(r)
		b.head++
	}
}

// sack marks what lies in the range, telling got of what is new.
func (b *scoreboard) sack(in Range, got func(*record)) {
	for i := b.find(in.Start); i < b.size(); i++ {
		r := b.at(i)
		if r.start.AtOrAfter(in.End) {
			break
		}
		if r.flags&recSacked != 0 {
			continue
		}
		if r.start.Before(in.Start) {
			if b.size() >= maxRecords {
				continue
			}
			b.split(i, in.Start)
			continue
		}
		if r.end.After(in.End) {
			if b.size() >= maxRecords {
				break
			}
			b.split(i, in.End)
			r = b.at(i)
		}
		b.settle(r)
		got(r)
		r.flags = r.flags&^(recLost|recRetrans) | recSacked
		b.sacked += r.len()
		if b.sacked == r.len() || r.end.After(b.highest) {
			b.highest = r.end
		}
	}
	b.merge(in)
}

// merge makes one of the SACKed records in and beside the range.
func (b *scoreboard) merge(in Range) {
	i := max(b.find(in.Start)-1, 0)
	j := i
	for ; j < b.size() && b.at(j).start.AtOrBefore(in.End); j++ {
	}
	if j-i < 2 {
		return
	}
	rs := b.recs[b.head:]
	out := i
	for k := i + 1; k < j; k++ {
		if rs[out].flags&rs[k].flags&recSacked != 0 {
			rs[out].end = rs[k].end
			continue
		}
		out++
		rs[out] = rs[k]
	}
	if out+1 < j {
		n := copy(rs[out+1:], rs[j:])
		b.recs = b.recs[:b.head+out+1+n]
	}
}

// renege forgets what was SACKed: the receiver may discard it (RFC 2018 8).
func (b *scoreboard) renege() {
	for i := range b.size() {
		b.at(i).flags &^= recSacked
	}
	b.sacked = 0
}
