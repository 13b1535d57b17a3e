package plot

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alptrace/alptrace/observe/tcplog"
)

// run is a file.
type run struct {
	path, label string
	open        opener
	index       *index
	zero        int64 // what its time counts from, ns since 1970
}

// curve is a connection that is drawn.
type curve struct {
	run   *run
	track *tracker
	dir   int // whose data: 0 info.a's, 1 info.b's
	label string
}

func (c *curve) flow() *flow { return c.track.flow[c.dir] }

// queue is a link's queue that is drawn.
type queue struct {
	run    *run
	key    linkKey
	label  string
	length *line
	marks  []Mark
	counts [3]uint64 // dropped, marked, lost: as last seen
	total  [3]uint64
	begun  bool
}

// Picture is what was read of the files, ready to be drawn.
type Picture struct {
	// Warnings are about what could not be read or drawn, one sentence each.
	Warnings []string

	opts     Options
	from, to int64 // the shown time, ns since zero
	bin      int64 // ns
	runs     []*run
	curves   []*curve
	queues   []*queue
}

// perPicture is how many connections are drawn unless they are named.
const perPicture = 4

// Load reads captures (pcapng, pcap) and tcp-logs. A file that stops making
// sense somewhere is used up to there, with a warning; one of which nothing
// can be read is an error.
func Load(paths []string, opts Options) (*Picture, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if len(opts.Labels) > len(paths) {
		return nil, fmt.Errorf("%d labels for %d files", len(opts.Labels), len(paths))
	}
	p := &Picture{opts: opts}
	if err := p.firstPass(paths); err != nil {
		return nil, err
	}
	p.align()
	chosen, err := p.choose()
	if err != nil {
		return nil, err
	}
	if err := p.frame(chosen); err != nil {
		return nil, err
	}
	for i, r := range p.runs {
		if err := p.secondPass(r, chosen[i]); err != nil {
			return nil, err
		}
	}
	p.warn()
	return p, nil
}

func (p *Picture) firstPass(paths []string) error {
	for i, path := range paths {
		r := &run{path: path, open: openFile(path), label: nameOf(path)}
		if i < len(p.opts.Labels) && p.opts.Labels[i] != "" {
			r.label = p.opts.Labels[i]
		}
		x, err := buildIndex(r.open)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		case x.err != nil:
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s: %v; drawn is what comes before", path, x.err))
		case len(x.conns) == 0 && len(x.links) == 0 && x.isStrange:
			return fmt.Errorf("%s: no TCP in %d packets: link type %d is not read", path, x.packets, x.strange)
		case len(x.conns) == 0 && len(x.links) == 0:
			return fmt.Errorf("%s: no TCP in %d packets or records", path, x.packets+x.records)
		}
		if d := x.last - x.first; d > maxSpan || d < 0 {
			return fmt.Errorf("%s: its times make no sense: %d years apart", path, uint64(d)/(maxSpan/30))
		}
		r.index = x
		p.runs = append(p.runs, r)
	}
	return nil
}

// nameOf is a file's name for a legend.
func nameOf(path string) string {
	base := filepath.Base(path)
	for _, ext := range []string{".pcapng", ".pcap", ".jsonl", ".json", ".log"} {
		if s, ok := strings.CutSuffix(base, ext); ok && s != "" {
			return s
		}
	}
	return base
}

// align sets the files' zeros.
func (p *Picture) align() {
	first, last := p.runs[0].index.first, p.runs[0].index.last
	latest := first
	for _, r := range p.runs {
		first, latest = min(first, r.index.first), max(latest, r.index.first)
		last = min(last, r.index.last)
	}
	clock := p.opts.Align == AlignClock || p.opts.Align == AlignAuto && latest <= last
	for _, r := range p.runs {
		r.zero = r.index.first
		if clock {
			r.zero = first
		}
	}
}

// choose picks each file's connections.
func (p *Picture) choose() ([][]*connInfo, error) {
	chosen := make([][]*connInfo, len(p.runs))
	used := make([]bool, len(p.opts.Conns))
	for i, r := range p.runs {
		all := slices.Clone(r.index.conns)
		if len(p.opts.Conns) > 0 {
			all = slices.DeleteFunc(all, func(c *connInfo) bool {
				keep := false
				for j, filter := range p.opts.Conns {
					if c.matches(filter) {
						keep, used[j] = true, true
					}
				}
				return !keep
			})
			chosen[i] = all
			continue
		}
		slices.SortStableFunc(all, func(a, b *connInfo) int {
			switch {
			case a.size() != b.size():
				return cmpUint(b.size(), a.size())
			case a.cc != b.cc && a.cc:
				return -1
			}
			return a.index - b.index
		})
		n := min(len(all), max(1, perPicture/len(p.runs)))
		for n > 1 && all[n-1].size()*100 < all[0].size() {
			n--
		}
		all = all[:n]
		slices.SortFunc(all, func(a, b *connInfo) int { return a.index - b.index })
		chosen[i] = all
	}
	for j, ok := range used {
		if !ok {
			return nil, fmt.Errorf("no connection %s in the files", p.opts.Conns[j])
		}
	}
	return chosen, nil
}

func cmpUint(a, b uint64) int {
	if a < b {
		return -1
	}
	return 1
}

// matches says whether a filter of Options.Conns means c.
func (c *connInfo) matches(filter string) bool {
	if n, err := strconv.Atoi(filter); err == nil {
		return c.index == n
	}
	if filter == c.prog {
		return true
	}
	host, port, err := net.SplitHostPort(filter)
	if err != nil {
		host, port = strings.Trim(filter, "[]"), ""
	}
	for _, e := range []string{c.a.String(), c.b.String()} {
		h, q, _ := net.SplitHostPort(e)
		if (host == "" || host == h) && (port == "" || port == q) {
			return true
		}
	}
	return false
}

// maxSpan is 30 years, in ns.
const maxSpan = 30 * 365 * 24 * 3600 * 1e9

// frame sets the shown time and the bins.
func (p *Picture) frame(chosen [][]*connInfo) error {
	lo, hi := int64(1<<62), int64(-1<<62)
	for i, r := range p.runs {
		for _, c := range chosen[i] {
			lo, hi = min(lo, c.first-r.zero), max(hi, c.last-r.zero)
		}
		if len(r.index.links) > 0 {
			lo, hi = min(lo, r.index.first-r.zero), max(hi, r.index.last-r.zero)
		}
	}
	if lo > hi {
		lo, hi = 0, 0
	}
	if hi-lo > maxSpan || hi-lo < 0 || max(hi, -lo) > maxSpan {
		return fmt.Errorf("the files' times make no sense: %v apart", time.Duration(hi-lo))
	}
	if lo < hi/4 {
		lo = min(lo, 0)
	}
	p.from, p.to = lo, hi
	if p.opts.From != 0 {
		p.from = int64(p.opts.From)
	}
	if p.opts.To != 0 {
		p.to = int64(p.opts.To)
	}
	p.from, p.to = max(p.from, -maxSpan), min(p.to, maxSpan)
	if p.from > hi || p.to < lo {
		return fmt.Errorf("nothing is between %v and %v: the files are from %v to %v",
			time.Duration(p.from), time.Duration(p.to), time.Duration(lo), time.Duration(hi))
	}
	p.to = max(p.to, p.from+1000)
	p.bin = int64(p.opts.Bin)
	if p.bin == 0 {
		p.bin = max(int64(niceStep(float64(p.to-p.from)/120)), 1e6)
	}
	if n := (p.to - p.from) / p.bin; n > 1e6 {
		return fmt.Errorf("%d bins of %v are too many", n, time.Duration(p.bin))
	}
	return nil
}

// secondPass follows the chosen connections of a file, and its queues.
func (p *Picture) secondPass(r *run, chosen []*connInfo) error {
	w := window{r.zero + p.from, r.zero + p.to}
	tracks := make([]*tracker, len(r.index.conns)+1)
	for _, c := range chosen {
		tracks[c.index] = newTracker(c, w, p.bin)
	}
	queues := make(map[linkKey]*queue)
	d := newDemux()
	n, err := scan(r.open, func(ev *event) {
		if ev.rec != nil && ev.rec.Ev == tcplog.EvQueue {
			key := linkKey{ev.rec.Host, ev.rec.Link, ev.rec.Dir}
			if queues[key] == nil {
				queues[key] = &queue{run: r, key: key, length: newLine(w)}
			}
			queues[key].take(ev)
			return
		}
		if c := d.of(ev); c != nil && c.index < len(tracks) && tracks[c.index] != nil {
			tracks[c.index].take(ev)
		}
	})
	if err != nil && n.packets+n.records == 0 {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	for _, c := range chosen {
		cv := &curve{run: r, track: tracks[c.index]}
		if cv.dir = 0; cv.track.flow[1].payload > cv.track.flow[0].payload && !c.cc {
			cv.dir = 1
		}
		if p.opts.Reverse {
			cv.dir = 1 - cv.dir
		}
		cv.label = p.curveLabel(r, c, cv.dir, len(chosen))
		p.curves = append(p.curves, cv)
	}
	var names []linkKey
	for key := range queues {
		names = append(names, key)
	}
	slices.SortFunc(names, func(a, b linkKey) int {
		return strings.Compare(a.host+" "+a.link+" "+a.dir, b.host+" "+b.link+" "+b.dir)
	})
	for _, key := range names {
		q := queues[key]
		if q.idle() {
			continue // a direction that never had a queue
		}
		words := []string{key.host, key.link, key.dir}
		if len(p.runs) > 1 {
			words[0] = r.label
		}
		q.label = strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), " ")
		p.queues = append(p.queues, q)
	}
	return nil
}

func (p *Picture) curveLabel(r *run, c *connInfo, dir, of int) string {
	from, to := c.a.String(), c.b.String()
	if dir == 1 {
		from, to = to, from
	}
	ends := from + " to " + to
	if c.prog != "" {
		ends = c.prog + " " + ends
	}
	switch {
	case len(p.runs) == 1:
		return ends
	case of == 1:
		return r.label
	}
	return r.label + ": " + ends
}

// take follows a queue by its records.
func (q *queue) take(ev *event) {
	r := ev.rec
	q.length.add(ev.t, float64(r.Pkts))
	for i, n := range [3]uint64{r.Dropped, r.Marked, r.Lost} {
		if q.begun && n > q.counts[i] || !q.begun && n > 0 {
			more := n - q.counts[i]
			if q.length.w.has(ev.t) {
				q.total[i] += more
				q.marks = append(q.marks, Mark{ev.t, float64(r.Pkts), int(more), queueEvents[i]})
			}
		}
		q.counts[i] = n
	}
	q.begun = true
}

// The marks on a queue's line.
var queueEvents = [3]string{"dropped", "ECN mark", "lost"}

func (q *queue) idle() bool { return q.length.highest == 0 && len(q.marks) == 0 }

// warn says what the picture lacks.
func (p *Picture) warn() {
	for _, c := range p.curves {
		if c.flow().noWScale {
			p.Warnings = append(p.Warnings, fmt.Sprintf(
				"%s: %s: the handshake is not in the capture, so the window's scale is not known, and the window not drawn", c.run.path, c.label))
		}
	}
}
