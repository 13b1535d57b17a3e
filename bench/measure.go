package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alptrace/alptrace/bench/result"
)

// unit is what a measurement's figures are in, and how they are printed.
type unit string

// The units, all with a base unit of one.
const (
	bitsPerSecond unit = "bit/s"
	perSecond     unit = "/s"
	seconds       unit = "s"
	bytesUnit     unit = "B"
	number        unit = ""
)

// verdict says what is compared with the target.
type verdict int

const (
	ratioAtLeast verdict = iota // alptrace/kernel, more is better
	ratioAtMost                 // alptrace/kernel, less is better
	addedAtMost                 // alptrace-kernel, less is better
	valueAtMost                 // alptrace alone, less is better
	valueAtLeast                // alptrace alone, more is better
)

// measurement is one row of the table: how to measure it once on a side.
type measurement struct {
	id     string // for the JSON and for go test -bench style output
	label  string
	unit   unit
	want   verdict
	target float64 // 0: none is set
	alone  bool    // the kernel has no such figure
	reps   int     // 0: as many as all the others
	once   func(*bench, side) (map[string]float64, error)
	part   string // which of the values that once returns; "" if there is one
}

// row is a measurement with what was measured: one value a repetition.
type row struct {
	measurement
	Kernel   []float64
	Alptrace []float64
	Err      error
}

// measureAll measures every row, the two sides in turn within each repetition,
// and rows with the same once together.
func (b *bench) measureAll(groups [][]measurement, reps int, progress func(string)) []row {
	var rows []row
	for _, group := range groups {
		progress(group[0].label)
		rows = append(rows, b.measureGroup(group, reps)...)
		if b.ctx.Err() != nil {
			break
		}
	}
	return rows
}

func (b *bench) measureGroup(group []measurement, reps int) []row {
	rows := make([]row, len(group))
	for i, m := range group {
		rows[i].measurement = m
	}
	fail := func(err error) []row {
		for i := range rows {
			rows[i].Err = err
		}
		return rows
	}
	if group[0].reps > 0 {
		reps = min(reps, group[0].reps)
	}
	for range reps {
		kernel := map[string]float64{}
		if !group[0].alone {
			var err error
			if kernel, err = group[0].once(b, b.kernel); err != nil {
				return fail(fmt.Errorf("%s: %w", b.kernel.name, err))
			}
		}
		tested, err := group[0].once(b, b.tested)
		if err != nil {
			return fail(fmt.Errorf("%s: %w", b.tested.name, err))
		}
		for i := range rows {
			if v, ok := kernel[rows[i].part]; ok {
				rows[i].Kernel = append(rows[i].Kernel, v)
			}
			rows[i].Alptrace = append(rows[i].Alptrace, tested[rows[i].part])
		}
	}
	return rows
}

// figure is what is compared with the target, one for each repetition: each
// repetition of alptrace against the kernel's of the same moment.
func (r *row) figures() []float64 {
	f := slices.Clone(r.Alptrace)
	for i := range f {
		if i >= len(r.Kernel) {
			break
		}
		switch r.want {
		case ratioAtLeast, ratioAtMost:
			f[i] /= r.Kernel[i]
		case addedAtMost:
			f[i] -= r.Kernel[i]
		case valueAtMost, valueAtLeast:
		}
	}
	return f
}

// figure is the median of figures.
func (r *row) figure() float64 { return median(r.figures()) }

// passed says whether the target is met; true where there is none.
func (r *row) passed() bool {
	switch {
	case r.Err != nil:
		return false
	case r.target == 0:
		return true
	case r.want == ratioAtLeast, r.want == valueAtLeast:
		return r.figure() >= r.target
	default:
		return r.figure() <= r.target
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// value is the map of a measurement with one value.
func value(v float64, err error) (map[string]float64, error) {
	return map[string]float64{"": v}, err
}

// bulk is the throughput of one connection, bits per second as the receiver
// saw it.
func bulk(subjectSends bool, d time.Duration) func(*bench, side) (map[string]float64, error) {
	e := endpoints{
		server:           []string{"sink"},
		client:           []string{"source", "-time", d.String()},
		readServerResult: true,
	}
	if !subjectSends {
		e.server, e.client = e.client, e.server
		e.readServerResult = false
	}
	return func(b *bench, s side) (map[string]float64, error) {
		l, err := b.pair(s, e)
		return value(l.Throughput()*8, err)
	}
}

// roundTrip is the time of one byte there and one back, seconds.
func roundTrip(d time.Duration) func(*bench, side) (map[string]float64, error) {
	return func(b *bench, s side) (map[string]float64, error) {
		l, err := b.pair(s, endpoints{server: []string{"echo"}, client: []string{"ping", "-time", d.String()}})
		return map[string]float64{"p50": l.P50 / 1e9, "p99": l.P99 / 1e9}, err
	}
}

// connections is the rate of connections, a byte each way on each.
func connections(subjectIsServer bool, n, threads int) func(*bench, side) (map[string]float64, error) {
	flags := []string{"-n", strconv.Itoa(n), "-threads", strconv.Itoa(threads)}
	e := endpoints{
		server:          append([]string{"conn-server"}, flags...),
		client:          append([]string{"conn-client"}, flags...),
		subjectIsServer: subjectIsServer,
	}
	return func(b *bench, s side) (map[string]float64, error) {
		l, err := b.pair(s, e)
		return value(l.Rate(), err)
	}
}

// datagrams is the rate of datagrams that arrive.
func datagrams(subjectSends, addressed bool, size int, d time.Duration) func(*bench, side) (map[string]float64, error) {
	flags := []string{"-size", strconv.Itoa(size), "-time", d.String()}
	if addressed {
		flags = append(flags, "-addr")
	}
	return func(b *bench, s side) (map[string]float64, error) {
		l, err := b.udpPair(s, subjectSends, flags)
		return value(l.Rate(), err)
	}
}

// systemCall is the time of one system call, seconds.
func systemCall(name string, d time.Duration) func(*bench, side) (map[string]float64, error) {
	return func(b *bench, s side) (map[string]float64, error) {
		p, err := b.startSubject(s, []string{"calls", "-call", name, "-time", d.String()})
		if err != nil {
			return nil, err
		}
		defer p.stop()
		if err := p.wait(); err != nil {
			return nil, err
		}
		return value(1/p.load.Rate(), nil)
	}
}

// startUp is the median time of n runs of /bin/true, seconds.
func startUp(n int) func(*bench, side) (map[string]float64, error) {
	return func(b *bench, s side) (map[string]float64, error) {
		argv := []string{"/bin/true"}
		if s.name == b.tested.name && b.alptrace != "" {
			argv = []string{b.alptrace, "/bin/true"}
		}
		times := make([]float64, 0, n)
		for range n {
			begin := time.Now()
			p, err := start(b.ctx, s.ns, argv)
			if err != nil {
				return nil, err
			}
			if err := p.wait(); err != nil {
				return nil, err
			}
			times = append(times, time.Since(begin).Seconds())
		}
		return value(median(times), nil)
	}
}

// idle opens n connections to a server under test, measures what each of them
// costs alptrace in resident memory, and proves that all are served.
func idle(n int) func(*bench, side) (map[string]float64, error) {
	return func(b *bench, s side) (map[string]float64, error) {
		const warm = 200
		addr := s.subject + ":" + strconv.Itoa(b.nextPort())
		server, err := b.startSubject(s, []string{"hold-server", "-n", strconv.Itoa(n), "-listen", addr})
		if err != nil {
			return nil, err
		}
		defer server.stop()
		if err := server.expect("ready"); err != nil {
			return nil, err
		}
		client, err := b.startPeer([]string{"hold-client", "-n", strconv.Itoa(n), "-warm", strconv.Itoa(warm), "-connect", addr})
		if err != nil {
			return nil, err
		}
		defer client.stop()
		var resident [2]int64
		for i, word := range []string{"warm", "held"} {
			if err := client.expect(word); err != nil {
				return nil, fmt.Errorf("%w; server: %s", err, strings.TrimSpace(server.stderr.String()))
			}
			time.Sleep(500 * time.Millisecond)
			resident[i] = b.resident(server.cmd.Process.Pid)
			if err := client.tell("on"); err != nil {
				return nil, err
			}
		}
		l, err := b.finish(server, client, false)
		return idleResult(l, resident, n-warm, err)
	}
}

func idleResult(l result.Load, resident [2]int64, n int, err error) (map[string]float64, error) {
	return map[string]float64{
		"memory": float64(resident[1]-resident[0]) / float64(n),
		"served": float64(l.Count),
	}, err
}

// resident is the resident memory, bytes, of the processes of alptrace in the
// tree under pid; of pid alone if alptrace is not what is measured.
func (b *bench) resident(pid int) int64 {
	pids := []int{pid}
	if b.alptrace != "" {
		pids = alptraces(pid, b.alptrace)
	}
	var sum int64
	for _, p := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p))
		if err != nil {
			continue // it has ended
		}
		if f := strings.Fields(string(text)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			sum += pages * int64(os.Getpagesize())
		}
	}
	return sum
}
