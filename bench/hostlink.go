package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
)

// How long rootd may take to come and to go.
const (
	rootdStart = 10 * time.Second
	rootdStop  = 10 * time.Second
)

// rootdPolicy lets this benchmark have more than a user has by default.
const rootdPolicy = `
[limits]
grants = 60000
[[access]]
users = ["*"]
leases = 64
grants = 60000
rate = 1000000
bind = [{ ports = ["unprivileged"] }]
`

// daemon is a running rootd.
type daemon struct {
	socket string
	gone   chan struct{} // closed when it has ended
	err    error         // how, then
	pid    int
	ns     netns.NsHandle
	exe    string
}

// startRootd starts rootd in the namespace ns. Its files are in dir.
func startRootd(ctx context.Context, ns netns.NsHandle, exe, dir string) (*daemon, error) {
	policy := filepath.Join(dir, "access.toml")
	if err := os.WriteFile(policy, []byte(rootdPolicy), 0o644); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("albench%d", os.Getpid())
	d := &daemon{socket: filepath.Join(dir, "rootd.sock"), gone: make(chan struct{}), ns: ns, exe: exe}
	cmd := exec.CommandContext(ctx, exe, "--socket", d.socket, "--policy", policy, "--pins", "/sys/fs/bpf/"+name,
		"--table", name, "--log-level", "warn")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	// A SIGTERM, unlike a SIGKILL, leaves nothing behind.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = rootdStop
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for the signal when this thread dies; it is not unlocked
		err := within(ns, func() error {
			err := cmd.Start()
			started <- err
			if err != nil {
				return nil
			}
			return cmd.Wait()
		})
		select {
		case started <- err:
		default:
		}
		d.err = err
		close(d.gone)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", exe, err)
	}
	d.pid = cmd.Process.Pid
	limit := time.After(rootdStart)
	for {
		if c, err := proto.Dial(ctx, d.socket); err == nil {
			_ = c.Close()
			return d, nil
		}
		select {
		case <-d.gone:
			return nil, fmt.Errorf("rootd: %w: %s", d.err, strings.TrimSpace(complaint.String()))
		case <-limit:
			d.stop()
			return nil, fmt.Errorf("rootd does not listen after %v: %s", rootdStart, strings.TrimSpace(complaint.String()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop ends rootd and waits for that.
func (d *daemon) stop() {
	_ = unix.Kill(d.pid, unix.SIGTERM)
	select {
	case <-d.gone:
	case <-time.After(rootdStop):
		_ = unix.Kill(d.pid, unix.SIGKILL)
		<-d.gone
	}
}

// restartRootd ends rootd, with all that it has, and starts another.
func (b *bench) restartRootd() (err error) {
	d := b.rootd
	d.stop()
	b.rootd, err = startRootd(b.ctx, d.ns, d.exe, filepath.Dir(d.socket))
	return err
}

// lease is a connection to rootd that the benchmark itself holds.
func (b *bench) lease() (*proto.Conn, error) {
	c, err := proto.Dial(b.ctx, b.rootd.socket)
	if err != nil {
		return nil, err
	}
	w, err := c.Hello("bench")
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = w.File.Close()
	return c, nil
}

// items are n ports of UDP, from the first on, of any address of IPv4.
func items(first, n int) []proto.Item {
	all := make([]proto.Item, n)
	for i := range all {
		all[i] = proto.Item{Proto: unix.IPPROTO_UDP, Addr: netip.IPv4Unspecified(), Port: uint16(first + i)}
	}
	return all
}

// take grants the items; one that is refused is an error.
func take(c *proto.Conn, all []proto.Item) error {
	results, err := c.Grant(all)
	if err != nil {
		return err
	}
	for i, r := range results {
		if r.Errno != 0 {
			return fmt.Errorf("grant of port %d: %w", all[i].Port, r.Errno)
		}
	}
	return nil
}

// grantCost is the time of a grant and its release, seconds: each in a message
// of its own, or many to a message.
func grantCost(batched bool) func(*bench, side) (map[string]float64, error) {
	return func(b *bench, _ side) (map[string]float64, error) {
		c, err := b.lease()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		const n = 2000
		per := 1
		if batched {
			per = n
		}
		all := items(20000, n)
		begin := time.Now()
		for i := 0; i < n; i += per {
			if err := take(c, all[i:i+per]); err != nil {
				return nil, err
			}
			if _, err := c.Release(all[i : i+per]); err != nil {
				return nil, err
			}
		}
		return value(time.Since(begin).Seconds()/n, nil)
	}
}

// crowded measures the kernel's own traffic twice: as it is, in the kernel's
// place, and beside n grants, in alptrace's.
func crowded(n int, once func(*bench, side) (map[string]float64, error)) func(*bench, side) (map[string]float64, error) {
	return func(b *bench, s side) (map[string]float64, error) {
		if s.name == b.kernel.name {
			return once(b, b.kernel)
		}
		c, err := b.lease()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if err := take(c, items(20000, n)); err != nil {
			return nil, err
		}
		return once(b, b.kernel)
	}
}

// fresh measures with a rootd that holds nothing back: the ports of many
// connections exceed what may be open, and rootd keeps them for as long as
// TIME_WAIT lasts.
func fresh(once func(*bench, side) (map[string]float64, error)) func(*bench, side) (map[string]float64, error) {
	return func(b *bench, s side) (map[string]float64, error) {
		if s.name != b.kernel.name {
			if err := b.restartRootd(); err != nil {
				return nil, err
			}
		}
		return once(b, s)
	}
}

// hostPlan is every measurement of the link on the host's own addresses.
func hostPlan() [][]measurement {
	targets := map[string]float64{
		"bulk/send": 0.6, "bulk/receive": 0.6, "udp/send-64": 0.5, "udp/recv-64": 0.5,
	}
	var groups [][]measurement
	for _, g := range plan() {
		family, _, _ := strings.Cut(g[0].id, "/")
		switch family {
		case "bulk", "rtt", "conn", "udp":
		default:
			continue
		}
		for i := range g {
			if t, ok := targets[g[i].id]; ok {
				g[i].target = t
			}
			if family == "conn" {
				g[i].once = fresh(g[i].once)
			}
		}
		groups = append(groups, g)
	}
	const many, d = 10000, 1200 * time.Millisecond
	return append(groups,
		[]measurement{{id: "grant/single", label: "grant and release, one to a message", unit: seconds, want: valueAtMost, alone: true, once: fresh(grantCost(false))}},
		[]measurement{{id: "grant/batch", label: "grant and release, many to a message", unit: seconds, want: valueAtMost, alone: true, once: fresh(grantCost(true))}},
		[]measurement{{id: "crowd/bulk", label: "kernel's bulk TCP beside 10,000 grants", unit: bitsPerSecond, target: 0.95, once: fresh(crowded(many, bulk(true, d)))}},
		[]measurement{{id: "crowd/rtt", label: "kernel's round trip beside 10,000 grants", unit: seconds, want: ratioAtMost, target: 1.05, once: fresh(crowded(many, roundTrip(d))), part: "p50"}},
		[]measurement{{id: "crowd/conn", label: "kernel's connections beside 10,000 grants", unit: perSecond, target: 0.95, once: fresh(crowded(many, connections(true, 8000, 4)))}},
	)
}
