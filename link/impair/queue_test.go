package impair

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
)

// TestREDCurve: at a fixed average, distances between drops are uniform on
// 1..1/pb-1 (Floyd and Jacobson 1993, section 7), their rate 2*pb.
func TestREDCurve(t *testing.T) {
	c := newCore(t, "rate=10mbit queue=red:limit=400p,min=50p,max=150p,p=10%")
	r := c.queue.(*red)
	p := &Packet{size: 1500}
	for _, k := range []struct{ avg, pb float64 }{
		{0, 0}, {49.9, 0}, {75, 0.025}, {100, 0.05}, {140, 0.09}, {165, 0.1 + 0.9*0.1}, {301, 1},
	} {
		const n = 100_000
		drops, longest, since := 0, 0, 0
		r.avg, r.count = k.avg, -1
		for range n {
			since++
			if r.verdict(p) != redPass {
				drops++
				since = 0
			}
			longest = max(longest, since)
		}
		want := math.Min(1, 2*k.pb)
		if k.pb > 0.1 && k.pb < 1 {
			want = rounded(k.pb)
		}
		if got := float64(drops) / n; math.Abs(got-want) > 0.03*want {
			t.Errorf("average %g: %.4f dropped, want %.4f", k.avg, got, want)
		}
		if k.pb > 0 && float64(longest) > 1/k.pb {
			t.Errorf("average %g: %d in a row pass", k.avg, longest)
		}
	}
}

// rounded is the rate of drops where 1/pb is small: the reciprocal of the mean
// distance, with the last step cut short.
func rounded(pb float64) float64 {
	mean, pass := 0.0, 1.0
	for n := 1; pass > 0; n++ {
		pa := 1.0
		if d := 1 - float64(n)*pb; d > 0 {
			pa = math.Min(1, pb/d)
		}
		mean += float64(n) * pass * pa
		pass *= 1 - pa
	}
	return 1 / mean
}

// TestREDAverage: the average follows the queue with its weight, and decays
// while the line is idle.
func TestREDAverage(t *testing.T) {
	c := newCore(t, "rate=12mbit queue=red:limit=400p,min=100p,max=300p,weight=1%") // 1 ms a packet
	r := c.queue.(*red)
	for range 201 {
		c.Push(0, packet(udp4(1500, 1, 0)))
	}
	want := 0.0
	for q := 1.0; q < 200; q++ {
		want += 0.01 * (q - want)
	}
	if math.Abs(r.avg-want) > 1e-6 {
		t.Errorf("average %g, want %g", r.avg, want)
	}
	finish(c, func(*Packet) {})
	idle := r.idle // the last one began its way on the line
	before := r.avg
	c.Push(idle+500*time.Millisecond, packet(udp4(1500, 1, 0)))
	if want := before * math.Pow(0.99, 500); math.Abs(r.avg-want) > 1e-6 {
		t.Errorf("after 500 ms idle %g, want %g", r.avg, want)
	}
}

// TestCoDelSchedule compares with the RFC's own description: the first drop an
// interval after the delay rose above target, the following ones by the control
// law, none below target.
func TestCoDelSchedule(t *testing.T) {
	c := newCore(t, "rate=12mbit queue=codel:limit=100000p") // 1 ms a packet
	q := c.queue.(*codelQueue)
	// Packets that have always waited for 50 ms.
	var drops []time.Duration
	for i := range 3000 {
		now := time.Duration(i) * time.Millisecond
		for q.len() < 20 {
			q.push(now-50*time.Millisecond, c.filled())
		}
		before := c.stats.DropsEarly
		c.Free(q.pop(now))
		for range c.stats.DropsEarly - before {
			drops = append(drops, now)
		}
	}
	next, want := 100*time.Millisecond, []time.Duration(nil)
	for n := 1; next < 3*time.Second; n++ {
		want = append(want, (next + time.Millisecond - 1).Truncate(time.Millisecond)) // at the next packet
		next += time.Duration(100e6 / math.Sqrt(float64(n)))
	}
	if len(drops) != len(want) {
		t.Fatalf("%d drops, want %d: %v", len(drops), len(want), drops)
	}
	for i := range want {
		if drops[i] != want[i] {
			t.Fatalf("drop %d at %v, want %v", i, drops[i], want[i])
		}
	}
	// Below target it leaves the drop state at once.
	for i := range 200 {
		now := 3*time.Second + time.Duration(i)*time.Millisecond
		for q.len() < 20 {
			q.push(now, c.filled())
		}
		for range 20 {
			c.Free(q.pop(now))
		}
	}
	if q.state.dropping {
		t.Error("still dropping")
	}
	// Soon after, it begins with the rate of drops that it had.
	had := q.state.count - q.state.lastCount
	for now := 3200 * time.Millisecond; !q.state.dropping; now += time.Millisecond {
		for q.len() < 20 {
			q.push(now-50*time.Millisecond, c.filled())
		}
		c.Free(q.pop(now))
	}
	if q.state.count != had || had < 100 {
		t.Errorf("count %d, had %d", q.state.count, had)
	}
}

// TestCoDelSlow: a packet that takes longer than target to be sent, and the one
// behind it, are no standing queue (RFC 8289 5.2).
func TestCoDelSlow(t *testing.T) {
	c := newCore(t, "rate=100kbit queue=codel")
	offer(c, 600, 1500, 120*time.Millisecond, func(*Packet) {})
	c.Push(never/2, packet(udp4(1500, 1, 0)))
	for i := range 200 { // always one behind the one on the line
		now := never/2 + time.Duration(i)*120*time.Millisecond + time.Millisecond
		c.Push(now, packet(udp4(1500, 1, 0)))
		until(c, now, func(*Packet) {})
	}
	if c.stats.DropsEarly != 0 {
		t.Errorf("%+v", c.stats)
	}
}

// filled is a packet for a queue.
func (c *Core) filled() *Packet {
	p := c.alloc(1500)
	p.Data = append(p.Data, udp4(1500, 1, 0)...)
	p.size = 1500
	c.held += cap(p.Data)
	return p
}

// reno is a sender that halves its window at each loss or mark, to close the
// loop around a queue in virtual time.
func reno(t *testing.T, spec string, seconds int) (mean time.Duration, c *Core) {
	c = newCore(t, spec)
	const rtt = 50 * time.Millisecond
	window, inFlight, seq := 10.0, 0, uint32(0)
	sent := map[uint32]time.Duration{}
	type ack struct {
		at time.Duration
		ce bool
	}
	var acks []ack
	var wait, count time.Duration
	cut := time.Duration(0)
	lost := uint64(0)
	for now := time.Duration(0); now < time.Duration(seconds)*time.Second; now += 200 * time.Microsecond {
		for len(acks) > 0 && acks[0].at <= now {
			inFlight--
			window += 1 / window
			if acks[0].ce && now > cut {
				window, cut = max(window/2, 2), now+rtt
			}
			acks = acks[1:]
		}
		if d := c.Stats(now).Drops(); d > lost {
			inFlight -= int(d - lost)
			lost = d
			if now > cut {
				window, cut = max(window/2, 2), now+rtt
			}
		}
		for inFlight < int(window) {
			sent[seq] = now
			c.Push(now, packet(udp4(1500, 1, seq)))
			inFlight++
			seq++
		}
		until(c, now, func(p *Packet) {
			if now > 5*time.Second {
				wait += p.At - sent[seqOf(p)]
				count++
			}
			acks = append(acks, ack{p.At + rtt, p.Data[1]&ecnMask == ecnCE})
		})
	}
	return wait / max(count, 1), c
}

// TestCoDelControls: a queue that a long buffer would fill stays near target.
func TestCoDelControls(t *testing.T) {
	long, _ := reno(t, "rate=10mbit queue=500p", 30)
	for _, q := range []string{"codel", "fq_codel"} {
		for _, ecn := range []string{"", " ecn"} {
			short, c := reno(t, "rate=10mbit queue="+q+ecn, 30)
			s := c.stats
			if short > 15*time.Millisecond || long < 100*time.Millisecond {
				t.Errorf("%s%s: %v of queue, drop-tail %v", q, ecn, short, long)
			}
			if marks := s.Marks > 0; marks != (ecn != "") || marks == (s.DropsEarly > 0) {
				t.Errorf("%s%s: %+v", q, ecn, s)
			}
			if got := float64(s.DeliveredBytes) * 8 / 30; got < 8e6 {
				t.Errorf("%s%s: %.1f Mbit/s", q, ecn, got/1e6)
			}
		}
	}
}

// TestFQCoDelFair: flows get the same bytes, however many or large their
// packets, and one that sends little does not wait.
func TestFQCoDelFair(t *testing.T) {
	run := func(queue string) (bytes map[uint16]int, worst time.Duration) {
		c := newCore(t, "rate=10mbit queue="+queue)
		bytes = map[uint16]int{}
		at := map[uint32]time.Duration{}
		got := func(p *Packet) {
			bytes[portOf(p)] += len(p.Data)
			if d := p.At - at[seqOf(p)]; portOf(p) == 3 && p.At > time.Second {
				worst = max(worst, d)
			}
		}
		seq := uint32(0)
		send := func(now time.Duration, n int, port uint16) {
			seq++
			at[seq] = now
			c.Push(now, packet(udp4(n, port, seq)))
		}
		for i := range 10_000 {
			now := time.Duration(i) * time.Millisecond
			until(c, now, got)
			for range 3 {
				send(now, 1500, 1) // 36 Mbit/s
			}
			for range 6 {
				send(now, 250, 2) // 12 Mbit/s
			}
			if i%50 == 0 {
				send(now, 200, 3)
			}
		}
		return bytes, worst
	}
	bytes, worst := run("fq_codel")
	if r := float64(bytes[1]) / float64(bytes[2]); r < 0.97 || r > 1.03 {
		t.Errorf("shares are %v", bytes)
	}
	if bytes[3] < 199*200 || worst > 3*time.Millisecond {
		t.Errorf("the sparse flow: %d bytes, up to %v", bytes[3], worst)
	}
	if bytes, _ = run("1000p"); float64(bytes[1])/float64(bytes[2]) < 1.5 || bytes[3] > 100*200 {
		t.Errorf("without FQ the same: %v", bytes)
	}
}

// TestFQCoDelShed: at the limit the fattest flow pays.
func TestFQCoDelShed(t *testing.T) {
	c := newCore(t, "rate=1mbit queue=fq_codel:limit=100p,target=1h,interval=1h")
	for i := range 300 {
		c.Push(0, packet(udp4(1000, 1, uint32(i))))
		if i%30 == 0 {
			c.Push(0, packet(udp4(1000, 2, uint32(i))))
		}
	}
	got := map[uint16]int{}
	finish(c, func(p *Packet) { got[portOf(p)]++ })
	if got[2] != 10 || c.stats.DropsQueue == 0 {
		t.Errorf("%v, %+v", got, c.stats)
	}
	balanced(t, c)
}

// TestTrace: opportunities carry what they carry in Mahimahi.
func TestTrace(t *testing.T) {
	tr, err := ReadTrace(strings.NewReader("# three a period\n2\n5\n\n5\n10\n"))
	if err != nil {
		t.Fatal(err)
	}
	core := func() *Core {
		c, err := NewCore(Spec{Trace: tr}, link.IP, 1500, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	departures := func(sizes ...int) (ms []int) {
		c := core()
		for _, n := range sizes {
			c.Push(time.Second, packet(udp4(n, 1, 0)))
		}
		finish(c, func(p *Packet) { ms = append(ms, int((p.At-time.Second)/time.Millisecond)) })
		balanced(t, c)
		return ms
	}
	for _, k := range []struct{ sizes, want []int }{
		{[]int{1500, 1500, 1500, 1500, 1500, 1500}, []int{2, 5, 5, 10, 12, 15}},
		{[]int{748, 748, 748, 748}, []int{2, 2, 5, 5}},     // two fill one
		{[]int{1000, 1000, 1000, 1000}, []int{2, 5, 5, 5}}, // the second goes in two parts
		{[]int{9000}, []int{15}},                           // 9004 bytes are six
	} {
		got := departures(k.sizes...)
		if len(got) != len(k.want) {
			t.Fatalf("%v: %v", k.sizes, got)
		}
		for i := range got {
			if got[i] != k.want[i] {
				t.Errorf("%v: %v, want %v", k.sizes, got, k.want)
			}
		}
	}
	// Unused opportunities are gone, also after many repetitions.
	c := core()
	for _, k := range []struct{ at, want int }{{3, 5}, {5, 10}, {10, 12}, {100_010, 100_012}, {100_015, 100_020}} {
		c.Push(time.Second+time.Duration(k.at)*time.Millisecond, packet(udp4(1500, 1, 0)))
		finish(c, func(p *Packet) {
			if p.At != time.Second+time.Duration(k.want)*time.Millisecond {
				t.Errorf("at %d ms: %v, want %d ms", k.at, p.At, k.want)
			}
		})
	}
	for _, bad := range []string{"", "0\n0\n", "5\n4\n", "x\n", "-1\n", "1.5\n"} {
		if _, err := ReadTrace(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
