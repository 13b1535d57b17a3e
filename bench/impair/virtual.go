package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
)

// Where the number and the flow of a packet are: after the UDP header, and in
// its source port.
const seqAt, portAt = 28, 20

// udp is an IPv4 packet of n bytes, ECN-capable.
func udp(n int, port uint16) []byte {
	b := make([]byte, n)
	b[0], b[1], b[8], b[9] = 0x45, 2, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(b[portAt:], port)
	binary.BigEndian.PutUint16(b[24:], uint16(n-20))
	return b
}

// line is a Core in virtual time.
type line struct {
	*impair.Core
	spec impair.Spec
	now  time.Duration
	got  func(p *impair.Packet, n uint32) // may be nil
	sent uint32
}

func newLine(spec string) (*line, error) {
	s, err := impair.Parse("seed=7 " + spec)
	if err != nil {
		return nil, err
	}
	return lineOf(s)
}

func lineOf(s impair.Spec) (*line, error) {
	c, err := impair.NewCore(s, link.IP, 1500, 0)
	return &line{Core: c, spec: s}, err
}

// send sends b, numbered.
func (l *line) send(b []byte) {
	binary.BigEndian.PutUint32(b[seqAt:], l.sent)
	l.sent++
	l.Push(l.now, &link.Packet{Bufs: [][]byte{b}})
}

// until lets time pass.
func (l *line) until(end time.Duration) {
	for {
		at, ok := l.Next()
		if !ok || at > end {
			break
		}
		for p := l.Pop(at); p != nil; p = l.Pop(at) {
			if l.got != nil {
				l.got(p, binary.BigEndian.Uint32(p.Data[seqAt:]))
			}
			l.Free(p)
		}
	}
	l.now = end
}

// offer sends n packets of size bytes, a gap apart, and waits for all.
func (l *line) offer(n, size int, gap time.Duration) {
	b := udp(size, 1)
	for range n {
		l.send(b)
		l.until(l.now + gap)
	}
	l.until(l.now + time.Hour)
}

// share is a row of a count with a binomial distribution.
func share(what string, k, n uint64, p float64) row {
	allowed := 5 * math.Sqrt(p*(1-p)/float64(n))
	got := float64(k) / float64(n)
	return figure(what, percent(p), percent(got), "± "+percent(allowed), math.Abs(got-p) <= allowed)
}

// percent shows p with five digits or so.
func percent(p float64) string { return fmt.Sprintf("%.4f%%", p*100) }

// near is a row of a figure that may differ by a part of it.
func near(what, format string, asked, got, part float64) row {
	return figure(what, fmt.Sprintf(format, asked), fmt.Sprintf(format, got), fmt.Sprintf("± %g%%", part*100),
		math.Abs(got-asked) <= part*asked)
}

// exact is a row of a count that must be right.
func exact(what string, asked, got uint64) row {
	return figure(what, fmt.Sprint(asked), fmt.Sprint(got), "exact", asked == got)
}

func chances(m *measurement, _ time.Duration) ([]row, error) {
	l, err := newLine(m.spec)
	if err != nil {
		return nil, err
	}
	next, lost, bursts := uint32(0), uint64(0), uint64(0)
	l.got = func(_ *impair.Packet, n uint32) {
		if n > next {
			lost += uint64(n - next)
			bursts++
		}
		next = max(next, n+1)
	}
	l.offer(1_000_000, 64, time.Microsecond)
	st := l.Stats(l.now)
	s, g := &l.spec, &l.spec.Burst
	switch {
	case s.Loss > 0:
		return []row{share("lost", st.DropsLoss, st.In, s.Loss)}, nil
	case g.P > 0:
		inBad := g.P / (g.P + g.R)
		rows := []row{near("lost", "%.4f%%", 100*(inBad*g.Bad+(1-inBad)*g.Good), 100*float64(st.DropsLoss)/float64(st.In), 0.05)}
		if g.Bad == 1 && g.Good == 0 {
			rows = append(rows, near("burst, packets", "%.3f", 1/g.R, float64(lost)/float64(bursts), 0.03))
		}
		return rows, nil
	case s.Dup > 0:
		return []row{share("duplicated", st.Duplicated, st.In, s.Dup)}, nil
	case s.Corrupt > 0:
		return []row{share("corrupted", st.Corrupted, st.Delivered, s.Corrupt)}, nil
	}
	return []row{share("reordered", st.Reordered, st.In, s.Reorder)}, nil
}

// jitter compares the delays of packets so far apart that none waits for another
// with the distribution's mean and shape. The bound on the latter is that of the
// Kolmogorov-Smirnov test at a level of 0.001.
func jitter(m *measurement, _ time.Duration) ([]row, error) {
	l, err := newLine(m.spec)
	if err != nil {
		return nil, err
	}
	const n, gap = 200_000, time.Minute
	delays := make([]float64, 0, n)
	sum := 0.0
	l.got = func(p *impair.Packet, n uint32) {
		d := float64(p.At - time.Duration(n)*gap)
		delays = append(delays, d)
		sum += d
	}
	l.offer(n, 64, gap)
	slices.Sort(delays)
	delay, width := float64(l.spec.Delay), float64(l.spec.Jitter)
	cdf, sd := distribution(l.spec.Dist)
	far := 0.0
	for i, d := range delays {
		f := cdf((d - delay) / width)
		far = max(far, math.Abs(f-float64(i)/n), math.Abs(f-float64(i+1)/n))
	}
	mean, bound := sum/n, 5*sd*width/math.Sqrt(n)
	most := 1.95 / math.Sqrt(n)
	return []row{
		figure("mean, ms", fmt.Sprintf("%.3f", delay/1e6), fmt.Sprintf("%.3f", mean/1e6), fmt.Sprintf("± %.3f", bound/1e6), math.Abs(mean-delay) <= bound),
		figure("distance from "+l.spec.Dist.String(), "0", fmt.Sprintf("%.4f", far), fmt.Sprintf("≤ %.4f", most), far <= most),
	}, nil
}

// distribution is the cumulative distribution of a jitter of 1, and its standard
// deviation.
func distribution(d impair.Distribution) (cdf func(x float64) float64, sd float64) {
	switch d {
	case impair.Normal:
		return func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }, 1
	case impair.Pareto:
		return func(x float64) float64 {
			if y := x*math.Sqrt(0.75) + 1.5; y > 1 {
				return 1 - math.Pow(y, -3)
			}
			return 0
		}, 1
	}
	return func(x float64) float64 { return min(max((x+1)/2, 0), 1) }, 1 / math.Sqrt(3)
}

// dropTail offers ten times as much as there is room for, at once: one packet is
// on the line, and the queue is full.
func dropTail(m *measurement, _ time.Duration) ([]row, error) {
	l, err := newLine(m.spec)
	if err != nil {
		return nil, err
	}
	b := udp(1500, 1)
	room := uint64(max(l.spec.Queue.Packets, l.spec.Queue.Bytes/len(b)))
	for range 10 * room {
		l.send(b)
	}
	l.until(time.Hour)
	return []row{exact("delivered of a burst", room+1, l.Stats(l.now).Delivered)}, nil
}

// randomEarly holds the queue half way between the thresholds, where a packet is
// dropped with p/2. Floyd and Jacobson (1993, section 7) spread the drops evenly
// over 1/pb packets, so that the rate of drops is twice that.
func randomEarly(m *measurement, _ time.Duration) ([]row, error) {
	l, err := newLine(m.spec)
	if err != nil {
		return nil, err
	}
	q := &l.spec.Queue
	hold, b := (q.Min+q.Max)/2, udp(1500, 1)
	for l.Stats(l.now).QueueLen < hold {
		l.send(b)
	}
	// Its average takes some thousand packets to be there.
	var before impair.Stats
	for i := range 220_000 {
		if i == 20_000 {
			before = l.Stats(l.now)
		}
		for l.Stats(l.now).QueueLen <= hold {
			l.send(b)
		}
		l.until(l.now + time.Millisecond)
	}
	st := l.Stats(l.now)
	what, k := "dropped", st.DropsEarly-before.DropsEarly
	if l.spec.ECN {
		what, k = "marked", st.Marks-before.Marks
	}
	pb := q.P * float64(hold-q.Min) / float64(q.Max-q.Min)
	return []row{near(what, "%.3f%%", 200*pb, 100*float64(k)/float64(st.In-before.In), 0.05)}, nil
}

// controlLaw keeps a standing queue of 20 ms for 20 s, and counts the drops of
// RFC 8289, 5.3: the first when packets have waited for more than the target for
// an interval, the next interval/sqrt(n) later.
func controlLaw(m *measurement, _ time.Duration) ([]row, error) {
	l, err := newLine(m.spec)
	if err != nil {
		return nil, err
	}
	const target, interval, length = 5 * time.Millisecond, 100 * time.Millisecond, 20 * time.Second
	b := udp(1500, 1)
	for l.now < length {
		for l.Stats(l.now).QueueLen < 20 {
			l.send(b)
		}
		l.until(l.now + time.Millisecond)
	}
	asked, at := 0.0, target+interval
	for ; at < length; asked++ {
		at += time.Duration(float64(interval) / math.Sqrt(asked+1))
	}
	st := l.Stats(l.now)
	what, k := "drops in 20 s", st.DropsEarly
	if l.spec.ECN {
		what, k = "marks in 20 s", st.Marks
	}
	return []row{near(what, "%.0f", asked, float64(k), 0.01)}, nil
}

// fair lets a flow of 36 Mbit/s in large packets and one of 12 Mbit/s in small
// ones share a line of 10 Mbit/s with one that sends little, which should wait
// for no more than a packet of each (RFC 8290, 4.2).
func fair(m *measurement, _ time.Duration) ([]row, error) {
	l, err := newLine(m.spec)
	if err != nil {
		return nil, err
	}
	var bytes [4]float64
	var at []time.Duration
	worst := time.Duration(0)
	l.got = func(p *impair.Packet, n uint32) {
		port := binary.BigEndian.Uint16(p.Data[portAt:])
		bytes[port] += float64(len(p.Data))
		if port == 3 && p.At > time.Second {
			worst = max(worst, p.At-at[n])
		}
	}
	large, small, sparse := udp(1500, 1), udp(250, 2), udp(200, 3)
	send := func(n int, b []byte) {
		for range n {
			at = append(at, l.now)
			l.send(b)
		}
	}
	for i := range 10_000 {
		send(3, large)
		send(6, small)
		if i%50 == 0 {
			send(1, sparse)
		}
		l.until(l.now + time.Millisecond)
	}
	const most = 3 * time.Millisecond
	return []row{
		near("share of the large packets", "%.2f%%", 50, 100*bytes[1]/(bytes[1]+bytes[2]), 0.03),
		figure("a sparse flow waits, ms", "", fmt.Sprintf("%.2f", ms(worst)), fmt.Sprintf("≤ %.0f", ms(most)), worst <= most),
	}, nil
}

// flap counts what a line loses that is down now and then.
func flap(m *measurement, _ time.Duration) ([]row, error) {
	l, err := newLine(m.spec)
	if err != nil {
		return nil, err
	}
	const n, gap = 60_000, time.Millisecond
	l.offer(n, 64, gap)
	asked := uint64(0)
	for i := range n {
		at := time.Duration(i) * gap
		if at >= l.spec.Every && at%l.spec.Every < l.spec.Down {
			asked++
		}
	}
	return []row{exact("lost in 60 s, a packet a ms", asked, l.Stats(l.now).DropsDown)}, nil
}

// traced fills a line with a rate that varies.
func traced(*measurement, time.Duration) ([]row, error) {
	tr, err := impair.ReadTrace(strings.NewReader("1\n2\n2\n7\n10\n"))
	if err != nil {
		return nil, err
	}
	l, err := lineOf(impair.Spec{Trace: tr, Queue: impair.Queue{Packets: 100}})
	if err != nil {
		return nil, err
	}
	b := udp(1500, 1)
	const length = 60 * time.Second
	for l.now < length {
		for l.Stats(l.now).QueueLen < 100 {
			l.send(b)
		}
		l.until(l.now + time.Millisecond)
	}
	got := float64(l.Stats(l.now).DeliveredBytes) * 8 / length.Seconds()
	return []row{near("Mbit/s", "%.3f", tr.Rate()/1e6, got/1e6, 0.001)}, nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
