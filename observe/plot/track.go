package plot

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/alptrace/alptrace/observe/tcplog"
)

// Mark is something that happens at one instant. V is a relative sequence
// number, or a queue's length.
type Mark struct {
	T    int64
	V    float64
	N    int // how many at once
	What string
}

// RTTStats sums up round-trip times.
type RTTStats struct {
	N        int
	Min, Max time.Duration
	Sum      time.Duration
}

func (s *RTTStats) add(d time.Duration) {
	if s.N == 0 || d < s.Min {
		s.Min = d
	}
	s.Max = max(s.Max, d)
	s.Sum += d
	s.N++
}

// flow is one direction of a connection: its data, and the acknowledgments
// that come back for it.
type flow struct {
	w   window
	bin int64 // ns

	// What goes into the picture.
	data, sack        *bars
	ack, wnd, flight  *line
	rtt               *dots
	marks             []Mark
	throughput, goodp []float64 // bytes in each bin of the window
	retxMarks         []Bar     // each retransmission, none joined
	ooo               []Bar     // each segment out of order

	// What the table of connections says.
	packets, retxN, oooN int
	payload, acked       uint64
	rttStats             RTTStats

	// The sender's state. Sequence numbers are relative and 64 bits wide: the
	// SYN has 0, the first byte 1.
	began    bool
	base     uint64 // the raw number, with its wraps, that is 0
	ref      uint64 // the highest raw number so far, with its wraps
	end      uint64 // one past the highest sent
	endAt    int64
	endTS    uint32
	una      uint64    // acknowledged below
	finEnd   uint64    // one past the FIN; 0: none yet
	seen     intervals // sent, from una on
	sacked   intervals // from una on
	unacked  []sent    // by sequence number
	firstTS  tsRing
	wscale   int8 // what this side offered to shift its window by; -1: nothing
	synced   bool // its SYN was seen
	mss      int
	firstRTT int64
	noWScale bool // a window could not be scaled
}

// sent is a segment that waits for its acknowledgment.
type sent struct {
	lo, hi uint64
	t      int64
	again  bool // sent more than once: Karn's algorithm
}

// maxUnacked bounds the segments that wait, as where a capture has one
// direction only.
const maxUnacked = 1 << 16

// tsRing remembers when each of the last values of the timestamp option was
// first sent.
type tsRing struct {
	list [][2]int64 // value, when
	n    int        // how many were put in
}

const maxTimestamps = 1024

func (r *tsRing) sent(val uint32, t int64) {
	if r.n > 0 && r.list[(r.n-1)%maxTimestamps][0] == int64(val) {
		return
	}
	e := [2]int64{int64(val), t}
	if r.n < maxTimestamps {
		r.list = append(r.list, e)
	} else {
		r.list[r.n%maxTimestamps] = e
	}
	r.n++
}

func (r *tsRing) when(val uint32) (int64, bool) {
	for i := r.n - 1; i >= max(0, r.n-maxTimestamps); i-- {
		if e := r.list[i%maxTimestamps]; e[0] == int64(val) {
			return e[1], true
		}
	}
	return 0, false
}

func newFlow(w window, bin int64) *flow {
	return &flow{
		w: w, bin: bin, wscale: -1,
		data: newBars(w), sack: newBars(w),
		ack: newLine(w), wnd: newLine(w), flight: newLine(w), rtt: newDots(w),
	}
}

// relative unwraps a raw sequence number of this side's.
func (f *flow) relative(raw uint32) uint64 {
	return f.ref + uint64(int64(int32(raw-uint32(f.ref)))) - f.base
}

// begin sets the origin at the first segment: of this side's, or the first
// acknowledgment of it.
func (f *flow) begin(raw uint32, syn bool) {
	// One turn is kept below, for what comes before what was seen first.
	f.began = true
	f.ref = 1<<32 + uint64(raw)
	f.base = f.ref
	if !syn {
		f.base--
		f.una, f.end = 1, 1
	}
}

// binned adds bytes at t to a rate.
func (f *flow) binned(rate *[]float64, t int64, bytes uint64) {
	if bytes == 0 || !f.w.has(t) {
		return
	}
	i := int((t - f.w.from) / f.bin)
	for len(*rate) <= i {
		*rate = append(*rate, 0)
	}
	(*rate)[i] += float64(bytes)
}

// wireBytes is what a packet takes at the IP layer, once it is cut into
// segments of the MSS where that was left to the device.
func (f *flow) wireBytes(s *segment) uint64 {
	n := s.segs
	if n == 0 && f.mss > 0 {
		n = (s.len + f.mss - 1) / f.mss
	}
	return uint64(s.ipLen + max(n-1, 0)*s.hdrLen)
}

// sends takes a segment of this side's.
func (f *flow) sends(s *segment, logRetx bool) {
	if !f.began {
		f.begin(s.seq, s.flags&flagSYN != 0)
	}
	f.packets++
	f.payload += uint64(s.len)
	f.binned(&f.throughput, s.t, f.wireBytes(s))
	if s.flags&flagSYN != 0 {
		f.synced, f.wscale = true, s.wscale
	}
	lo := f.relative(s.seq)
	hi := lo + s.seqLen()
	switch {
	case lo > math.MaxInt64: // long before what was seen first
		return
	case s.flags&flagRST != 0:
		f.mark(s.t, lo, "RST")
		return
	case lo == hi || lo+1 == f.end && s.len <= 1 && f.una >= f.end && s.flags&(flagSYN|flagFIN) == 0:
		return // an acknowledgment only, or a keep-alive
	}
	f.classify(s, lo, hi, logRetx)
	if s.hasTS {
		f.firstTS.sent(s.ts[0], s.t)
	}
	f.seen.add(max(lo, f.una), hi)
	if hi > f.end {
		f.end, f.endAt, f.endTS = hi, s.t, s.ts[0]
		f.ref = max(f.ref, f.base+hi)
	}
	if s.flags&flagSYN != 0 {
		f.mark(s.t, lo, "SYN")
	}
	if s.flags&flagFIN != 0 {
		f.finEnd = hi
		f.mark(s.t, hi, "FIN")
	}
	f.flight.add(s.t, float64(f.end-min(f.una, f.end)))
}

func (f *flow) mark(t int64, at uint64, what string) {
	if f.w.has(t) {
		f.marks = append(f.marks, Mark{t, float64(at), 1, what})
	}
}

// remember keeps a segment until it is acknowledged.
func (f *flow) remember(u sent) {
	i := len(f.unacked)
	for i > 0 && f.unacked[i-1].lo > u.lo {
		i--
	}
	f.unacked = slices.Insert(f.unacked, i, u)
	if len(f.unacked) > maxUnacked {
		f.unacked = slices.Clone(f.unacked[maxUnacked/2:])
	}
}

// classify decides whether [lo, hi) is new, sent again, or out of order, and
// remembers when it was sent.
func (f *flow) classify(s *segment, lo, hi uint64, logRetx bool) {
	again := logRetx || lo < f.una || f.seen.overlaps(lo, hi)
	late := !again && lo < f.end
	if late && !f.outOfOrder(s) {
		again = true // its first try was lost before it came here
	}
	switch {
	case again:
		f.retxN++
		if f.w.has(s.t) {
			f.retxMarks = append(f.retxMarks, Bar{s.t, float64(lo), float64(hi)})
		}
		first := sort.Search(len(f.unacked), func(i int) bool { return f.unacked[i].hi > lo })
		for i := first; i < len(f.unacked) && f.unacked[i].lo < hi; i++ {
			f.unacked[i].again = true
		}
		switch {
		case f.end < hi: // some of it is new
			f.remember(sent{max(lo, f.end), hi, s.t, true})
		case !f.seen.overlaps(lo, hi) && lo >= f.una:
			f.remember(sent{lo, hi, s.t, true})
		}
	case late:
		f.oooN++
		if f.w.has(s.t) {
			f.ooo = append(f.ooo, Bar{s.t, float64(lo), float64(hi)})
		}
		fallthrough
	default:
		f.data.add(s.t, lo, hi)
		f.remember(sent{lo, hi, s.t, false})
	}
}

// outOfOrder says whether a segment that fills a gap was overtaken and not
// sent again: its timestamp is older than what overtook it, or, where that
// does not tell, it comes within a round trip of it (3 ms if none is known),
// Wireshark's rule.
func (f *flow) outOfOrder(s *segment) bool {
	if s.hasTS && s.ts[0] != f.endTS {
		return int32(s.ts[0]-f.endTS) < 0
	}
	limit := f.firstRTT
	if limit == 0 {
		limit = 3e6
	}
	return s.t-f.endAt < limit
}

// acknowledged takes a segment of the other side's, whose window is wnd bytes
// if that is known.
func (f *flow) acknowledged(s *segment, wnd uint64, wndKnown bool) {
	if s.flags&flagACK == 0 || s.flags&flagRST != 0 {
		return
	}
	if !f.began {
		f.begin(s.ack, false)
	}
	ack := f.relative(s.ack)
	if ack > math.MaxInt64 {
		return
	}
	f.ref = max(f.ref, f.base+ack)
	fresh := uint64(0)
	newest, newestIsSack := ack, false
	for _, b := range s.sack[:s.nsack] {
		lo, hi := f.relative(b[0]), f.relative(b[1])
		if lo < ack || lo >= hi || hi > f.end { // below the ACK: a D-SACK, RFC 2883
			continue
		}
		f.sack.add(s.t, lo, hi)
		if n := f.sacked.add(lo, hi); n > 0 {
			fresh += n
			if hi > newest {
				newest, newestIsSack = hi, true
			}
		}
	}
	if ack > f.una {
		f.sample(s, ack)
		fresh += ack - f.una - min(f.sacked.below(ack), ack-f.una)
		if f.una == 0 && fresh > 0 {
			fresh-- // the SYN
		}
		if f.finEnd > f.una && f.finEnd <= ack && fresh > 0 {
			fresh--
		}
		f.seen.below(ack)
		f.una = ack
		f.end = max(f.end, ack)
	} else if newestIsSack {
		f.sampleSack(s, newest)
	}
	f.binned(&f.goodp, s.t, fresh)
	f.acked += fresh
	f.ack.add(s.t, float64(f.una))
	if wndKnown {
		f.wnd.add(s.t, float64(ack+wnd))
	}
	f.flight.add(s.t, float64(f.end-f.una))
}

// sample takes a round-trip time from an acknowledgment that moves una to
// ack: of the segment whose last byte, or the last byte acknowledged, is
// ack's. Karn: not of what was sent twice, except by timestamps (RFC 7323);
// nor of what was selectively acknowledged before.
func (f *flow) sample(s *segment, ack uint64) {
	var match sent
	found := false
	wasSacked := f.sacked.overlaps(ack-1, ack)
	for len(f.unacked) > 0 && f.unacked[0].lo < ack {
		match, found = f.unacked[0], f.unacked[0].hi >= ack
		if match.hi > ack {
			break // a part of what was one packet (GSO)
		}
		f.unacked = f.unacked[1:]
	}
	if !found || wasSacked {
		return
	}
	if !match.again {
		f.rttSample(s.t, match.t)
		return
	}
	if s.hasTS && s.flags&flagSYN == 0 {
		if at, ok := f.firstTS.when(s.ts[1]); ok && at >= match.t {
			f.rttSample(s.t, at)
		}
	}
}

// sampleSack takes one from a selective acknowledgment up to hi, as RFC 6298
// lets and Linux does.
func (f *flow) sampleSack(s *segment, hi uint64) {
	for i := len(f.unacked) - 1; i >= 0; i-- {
		if u := f.unacked[i]; u.lo < hi && hi <= u.hi {
			if !u.again {
				f.rttSample(s.t, u.t)
			}
			return
		}
	}
}

func (f *flow) rttSample(now, then int64) {
	d := now - then
	if d < 0 {
		return
	}
	if f.firstRTT == 0 {
		f.firstRTT = d
	}
	f.rtt.add(now, float64(d))
	f.rttStats.add(time.Duration(d))
}

// tracker follows a connection in the second pass.
type tracker struct {
	info *connInfo
	flow [2]*flow // of info.a and of info.b
	log  logLines
}

// logLines are what only the engine knows, of a log.
type logLines struct {
	cwnd, ssthresh, flight, srtt, rto *line
	marks                             []Mark
}

func newTracker(info *connInfo, w window, bin int64) *tracker {
	return &tracker{
		info: info,
		flow: [2]*flow{newFlow(w, bin), newFlow(w, bin)},
		log: logLines{cwnd: newLine(w), ssthresh: newLine(w), flight: newLine(w),
			srtt: newLine(w), rto: newLine(w)},
	}
}

func (tr *tracker) take(ev *event) {
	if ev.seg != nil {
		tr.segment(ev.seg, ev.rec != nil && ev.rec.Retx)
		return
	}
	r := ev.rec
	switch r.Ev {
	case tcplog.EvCC:
		tr.log.cwnd.add(ev.t, float64(r.Cwnd))
		if r.Ssthresh > 0 && r.Ssthresh < 1<<31 {
			tr.log.ssthresh.add(ev.t, float64(r.Ssthresh))
		}
		tr.log.flight.add(ev.t, float64(r.InFlight))
		if r.SRTT > 0 {
			tr.log.srtt.add(ev.t, float64(r.SRTT))
		}
		if r.RTO > 0 {
			tr.log.rto.add(ev.t, float64(r.RTO))
		}
	case tcplog.EvRTO, tcplog.EvFastRetx:
		if tr.flow[0].w.has(ev.t) {
			tr.log.marks = append(tr.log.marks, Mark{ev.t, float64(r.Cwnd), 1, r.Ev})
		}
	}
}

func (tr *tracker) segment(s *segment, retx bool) {
	from, to := tr.flow[0], tr.flow[1]
	if s.src != tr.info.a {
		from, to = to, from
	}
	from.sends(s, retx)
	if s.flags&flagSYN != 0 && s.mss > 0 {
		mss := int(s.mss)
		if s.hasTS {
			mss -= 12 // options come out of the MSS, RFC 6691
		}
		for _, f := range tr.flow {
			if f.mss == 0 || mss < f.mss {
				f.mss = mss
			}
		}
	}
	wnd, known := uint64(s.wnd), true
	if !s.scaled && s.flags&flagSYN == 0 {
		// Both must have offered it, RFC 7323 2.2; an offer that was not captured
		// leaves it open.
		switch {
		case from.synced && to.synced && from.wscale >= 0 && to.wscale >= 0:
			wnd <<= from.wscale
		case from.synced && from.wscale < 0 || to.synced && to.wscale < 0:
		case s.wnd != 0:
			known, to.noWScale = false, true
		}
	}
	to.acknowledged(s, wnd, known)
}
