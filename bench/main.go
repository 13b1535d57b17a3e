// Command bench measures alptrace against the kernel's own stack, in one run
// on one machine with the same programs, and prints ratios.
//
// Two network namespaces are made. In one stands the peer, which always uses
// the kernel's stack. The subject uses the kernel's stack in the other
// namespace, over a veth pair; or alptrace's, over a TUN device whose kernel end
// is in the peer's namespace. The two take turns within each repetition, so
// that whatever else the machine does meets both. Each figure is the median of
// the repetitions' own ratios; the table shows the least and the greatest too.
//
// It needs root, for the namespaces and the device; both are gone when it ends,
// however it ends.
//
//	go run ./bench [-link tun] [-alptrace bin/alptrace] [-out out] [-reps 5] [-only REGEXP]
//
// With -link host alptrace is on the very addresses that the kernel uses, beside
// it, by a rootd that the benchmark starts.
//
// It writes a table to standard output and, in the directory -out, bench.svg (a
// picture), bench.json (all values) and bench.txt (the values as go test -bench
// writes them, for benchstat).
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is the command line.
type config struct {
	alptrace string
	load     string
	rootd    string
	link     string
	flags    string
	out      string
	reps     int
	only     string
	native   bool
	against  string
	check    bool
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&c.alptrace, "alptrace", "bin/alptrace", "the alptrace to measure")
	fs.StringVar(&c.link, "link", "tun", "how alptrace reaches the peer: tun, or host (the host's own addresses, by rootd)")
	fs.StringVar(&c.rootd, "rootd", "bin/rootd", "the rootd of -link host")
	fs.StringVar(&c.flags, "flags", "", "more flags for alptrace, such as \"--pcap FILE\"")
	fs.StringVar(&c.load, "load", "", "the load program (default: built from ./bench/load)")
	fs.StringVar(&c.out, "out", "out", "directory for bench.svg, bench.json and bench.txt")
	fs.IntVar(&c.reps, "reps", 5, "repetitions")
	fs.StringVar(&c.only, "only", "", "measure only what this regular expression matches")
	fs.BoolVar(&c.native, "native", false, "put the kernel in alptrace's place: every ratio should be 1")
	fs.StringVar(&c.against, "against", "", "compare with alptrace under these flags in place of the kernel, such as \"--tcp gvisor\"")
	fs.BoolVar(&c.check, "check", false, "fail if a target is missed")
	err := fs.Parse(args)
	if err == nil && c.against != "" && (c.native || c.link != "tun") {
		err = errors.New("-against is for -link tun, without -native")
	}
	if err == nil && c.link != "tun" && c.link != "host" {
		err = fmt.Errorf("-link %s: neither tun nor host", c.link)
	}
	return c, err
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("root is needed, to make network namespaces and a TUN device: sudo env PATH=\"$PATH\" make bench")
	}
	if err := raiseFiles(1 << 18); err != nil {
		return err
	}
	b, cleanup, err := setUp(ctx, &c)
	if err != nil {
		return err
	}
	defer cleanup()
	all := plan()
	switch {
	case c.link == "host":
		all = hostPlan()
	case c.against != "":
		all = tcpPlan()
	}
	groups, err := selected(all, c.only)
	if err != nil {
		return err
	}
	begin := time.Now()
	rows := b.measureAll(groups, c.reps, func(label string) {
		fmt.Fprintf(stderr, "%6.1fs  %s\n", time.Since(begin).Seconds(), label)
	})
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	fmt.Fprintln(stderr)
	if err := writeAll(rows, [2]string{b.kernel.name, b.tested.name}, c.out, stdout); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\n%d repetitions, %.0f s; picture and values in %s\n", c.reps, time.Since(begin).Seconds(), c.out)
	return outcome(rows, c.check)
}

// outcome is an error if a measurement failed or, if asked for, a target is missed.
func outcome(rows []row, check bool) error {
	failed, missed := 0, 0
	for i := range rows {
		switch {
		case rows[i].Err != nil:
			failed++
		case !rows[i].passed():
			missed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d measurements failed", failed, len(rows))
	}
	if check && missed > 0 {
		return fmt.Errorf("%d targets missed", missed)
	}
	return nil
}

// setUp builds what is to be run and makes the laboratory.
func setUp(ctx context.Context, c *config) (*bench, func(), error) {
	dir, err := os.MkdirTemp("", "alptrace-bench-")
	if err != nil {
		return nil, nil, err
	}
	cleanup := func() { _ = os.RemoveAll(dir) }
	if c.load == "" {
		c.load = filepath.Join(dir, "load")
		build := exec.CommandContext(ctx, "go", "build", "-o", c.load, "./bench/load")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			cleanup()
			return nil, nil, fmt.Errorf("build the load program: %w\n%s", err, out)
		}
	}
	l, err := newLab()
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	b := &bench{ctx: ctx, lab: l, load: c.load, port: 2000}
	b.kernel = side{name: "kernel", ns: l.subject, subject: vethSubject, peer: vethPeer}
	b.tested = b.kernel
	b.tested.name = "kernel again"
	if !c.native {
		err = b.setTested(c, dir)
	}
	if err != nil {
		l.close()
		cleanup()
		return nil, nil, err
	}
	return b, func() {
		if b.rootd != nil {
			b.rootd.stop()
		}
		l.close()
		cleanup()
	}, nil
}

// setTested makes alptrace, on the link that is asked for, what is tested.
func (b *bench) setTested(c *config, dir string) (err error) {
	if b.alptrace, err = filepath.Abs(c.alptrace); err == nil {
		_, err = os.Stat(b.alptrace)
	}
	if err != nil {
		return fmt.Errorf("the alptrace to measure: %w (make build makes it)", err)
	}
	wrap := []string{b.alptrace, "--net", "tun:" + tunName, "--addr", fmt.Sprintf("%s/%d", tunStack, prefix)}
	b.tested = side{name: "alptrace", ns: b.lab.peer, subject: tunStack, peer: tunPeer}
	if c.link == "host" {
		if b.rootd, err = startRootd(b.ctx, b.lab.subject, c.rootd, dir); err != nil {
			return err
		}
		wrap = []string{b.alptrace, "--net", "host", "--rootd", b.rootd.socket}
		b.tested = side{name: "alptrace", ns: b.lab.subject, subject: vethSubject, peer: vethPeer}
	}
	b.tested.wrap = append(append(slices.Clone(wrap), strings.Fields(c.flags)...), "--")
	if c.against != "" {
		b.tested.name = c.flags
		b.kernel = b.tested
		b.kernel.name = c.against
		b.kernel.wrap = append(append(wrap, strings.Fields(c.against)...), "--")
	}
	return nil
}

// plan is every measurement, in the table's order, and the time each takes.
func plan() [][]measurement {
	const (
		bulkTime = 1200 * time.Millisecond
		tripTime = 1200 * time.Millisecond
		udpTime  = 500 * time.Millisecond
		callTime = 250 * time.Millisecond
	)
	groups := [][]measurement{
		{{id: "bulk/send", label: "bulk TCP, sending", unit: bitsPerSecond, target: 0.5, once: bulk(true, bulkTime)}},
		{{id: "bulk/receive", label: "bulk TCP, receiving", unit: bitsPerSecond, target: 0.5, once: bulk(false, bulkTime)}},
		{
			{id: "rtt/p50", label: "1-byte round trip, p50", unit: seconds, want: ratioAtMost, target: 3, once: roundTrip(tripTime), part: "p50"},
			{id: "rtt/p99", label: "1-byte round trip, p99", unit: seconds, want: ratioAtMost, target: 3, part: "p99"},
		},
	}
	for _, threads := range []int{1, 4} {
		n := 4000 * threads / (1 + threads/2)
		at := fmt.Sprintf("%d at a time", threads)
		groups = append(groups,
			[]measurement{{id: fmt.Sprintf("conn/client-%d", threads), label: "connections, as client, " + at,
				unit: perSecond, target: 0.3, once: connections(false, n, threads)}},
			[]measurement{{id: fmt.Sprintf("conn/server-%d", threads), label: "connections, as server, " + at,
				unit: perSecond, target: 0.3, once: connections(true, n, threads)}})
	}
	for _, sends := range []bool{true, false} {
		for _, addressed := range []bool{false, true} {
			for _, size := range []int{64, 1400} {
				name := map[[2]bool]string{
					{true, false}: "send", {true, true}: "sendto",
					{false, false}: "recv", {false, true}: "recvfrom",
				}[[2]bool{sends, addressed}]
				groups = append(groups, []measurement{{
					id: fmt.Sprintf("udp/%s-%d", name, size), label: fmt.Sprintf("UDP datagrams, %d B, %s", size, name),
					unit: perSecond, reps: 3, once: datagrams(sends, addressed, size, udpTime),
				}})
			}
		}
	}
	const held = 10000
	return append(groups,
		[]measurement{
			{id: "idle/memory", label: "memory per idle connection", unit: bytesUnit, want: valueAtMost, target: 16 << 10,
				alone: true, reps: 1, once: idle(held), part: "memory"},
			{id: "idle/served", label: "connections held and served", unit: number, want: valueAtLeast, target: held,
				alone: true, part: "served"},
		},
		[]measurement{{id: "startup", label: "start-up over plain exec", unit: seconds, want: addedAtMost, target: 10e-3, once: startUp(20)}},
		[]measurement{{id: "call/getppid", label: "getppid (not trapped)", unit: seconds, want: addedAtMost, once: systemCall("getppid", callTime)}},
		[]measurement{{id: "call/read", label: "read of /dev/zero (not trapped)", unit: seconds, want: addedAtMost, once: systemCall("zero", callTime)}},
		[]measurement{{id: "call/getsockname", label: "getsockname (trapped)", unit: seconds, want: addedAtMost, once: systemCall("getsockname", callTime)}},
	)
}

// tcpPlan is the measurements of one TCP against another: the plan's of streams,
// with targets for the project's own against gVisor's.
func tcpPlan() [][]measurement {
	targets := map[string]float64{"rtt/p50": 0.7, "rtt/p99": 0.7, "idle/memory": 1}
	var kept [][]measurement
	for _, g := range plan() {
		var rows []measurement
		for _, m := range g {
			kind, _, _ := strings.Cut(m.id, "/")
			if !slices.Contains([]string{"bulk", "rtt", "conn", "idle"}, kind) || m.id == "idle/served" {
				continue
			}
			m.target = cmp.Or(targets[m.id], 1)
			if m.id == "idle/memory" {
				m.want, m.alone = ratioAtMost, false
			}
			rows = append(rows, m)
		}
		if len(rows) > 0 {
			kept = append(kept, rows)
		}
	}
	return kept
}

// selected keeps the groups with a row whose id matches the expression.
func selected(groups [][]measurement, only string) ([][]measurement, error) {
	re, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	var kept [][]measurement
	for _, g := range groups {
		for _, m := range g {
			if re.MatchString(m.id) {
				kept = append(kept, g)
				break
			}
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("-only: nothing is named like %q", only)
	}
	return kept, nil
}
