// Package sharing_test runs rootd and alptrace --net host together, in
// namespaces of their own, and breaks things.
package sharing_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses of the lab.
const (
	hostIP, peerIP   = "10.77.0.1", "10.77.0.2"
	hostIP6, peerIP6 = "fd77::1", "fd77::2"
	hostDev, peerDev = "shhost", "shpeer"
	nobody           = 65534
)

// programs are what the tests run; TestMain builds them.
var programs struct{ dir, alptrace, rootd, chat string }

func TestMain(m *testing.M) {
	code, err := func() (int, error) {
		if os.Geteuid() != 0 {
			return m.Run(), nil // each test skips itself
		}
		dir, err := os.MkdirTemp("", "alptrace-sharing-")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			return 1, err
		}
		programs.dir = dir
		for _, p := range []struct {
			to  *string
			pkg string
		}{
			{&programs.alptrace, "cmd/alptrace"}, {&programs.rootd, "cmd/rootd"}, {&programs.chat, "test/sharing/chat"},
		} {
			*p.to = filepath.Join(dir, filepath.Base(p.pkg))
			build := exec.Command("go", "build", "-o", *p.to, "github.com/alptrace/alptrace/"+p.pkg)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				return 1, fmt.Errorf("build %s: %w\n%s", p.pkg, err, out)
			}
		}
		return m.Run(), nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// lab is a host and a peer, joined by a veth pair, and the host's rootd.
type lab struct {
	t          *testing.T
	host, peer netns.NsHandle
	dir        string // readable by all
	pins       string
	rootd      *proc
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("root is needed, to make network namespaces")
	}
	l := &lab{t: t, dir: filepath.Join(programs.dir, t.Name())}
	l.pins = fmt.Sprintf("/sys/fs/bpf/alptrace-%s-%d", t.Name(), os.Getpid())
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l.host, l.peer = l.namespace(), l.namespace()
	l.within(l.host, func() error {
		pair := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: hostDev}, PeerName: peerDev, PeerNamespace: netlink.NsFd(int(l.peer)),
		}
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		return address(hostDev, hostIP+"/24", hostIP6+"/64")
	})
	l.within(l.peer, func() error { return address(peerDev, peerIP+"/24", peerIP6+"/64") })
	return l
}

// namespace is a new one, with lo up, without a name: it goes with the test.
func (l *lab) namespace() (ns netns.NsHandle) {
	l.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends here
		var err error
		if ns, err = netns.New(); err == nil {
			err = address("lo")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func address(dev string, addrs ...string) error {
	d, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		a.Flags |= unix.IFA_F_NODAD
		if err := netlink.AddrAdd(d, a); err != nil {
			return fmt.Errorf("%s on %s: %w", s, dev, err)
		}
	}
	return netlink.LinkSetUp(d)
}

// within runs f in a namespace; a process that f starts is born there.
func (l *lab) within(ns netns.NsHandle, f func() error) {
	l.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends here
		err := netns.Set(ns)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		l.t.Fatal(err)
	}
}

// proc is a running program.
type proc struct {
	cmd    *exec.Cmd
	name   string
	ready  chan struct{}
	ended  chan struct{}
	lines  atomic.Int64
	stderr strings.Builder // complete when ended is closed
}

// start runs argv in ns, as nobody if user.
func (l *lab) start(ns netns.NsHandle, user bool, argv ...string) *proc {
	l.t.Helper()
	p := &proc{cmd: exec.Command(argv[0], argv[1:]...), name: strings.Join(argv, " "), ready: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	p.cmd.Dir = l.dir
	if user {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	l.within(ns, p.cmd.Start)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			if p.lines.Add(1) == 1 {
				close(p.ready)
			}
		}
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	l.t.Cleanup(p.kill)
	return p
}

// alptrace runs a program on the host's addresses, as nobody.
func (l *lab) alptrace(argv ...string) *proc {
	l.t.Helper()
	return l.start(l.host, true, append([]string{programs.alptrace, "--net", "host", "--rootd", l.socket(), "--"}, argv...)...)
}

// await waits for the program's first line.
func (l *lab) await(p *proc) *proc {
	l.t.Helper()
	select {
	case <-p.ready:
	case <-p.ended:
		l.t.Fatalf("%s has ended: %v: %s", p.name, p.cmd.ProcessState, p.stderr.String())
	case <-time.After(10 * time.Second):
		l.t.Fatalf("%s is not ready", p.name)
	}
	return p
}

func (p *proc) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill is SIGKILL.
func (p *proc) kill() { p.signal(unix.SIGKILL) }

// signal sends sig and waits for the end, a while.
func (p *proc) signal(sig unix.Signal) {
	if p.running() {
		_ = p.cmd.Process.Signal(sig)
		p.endsWithin(5 * time.Second)
	}
}

func (p *proc) endsWithin(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(d):
		return false
	}
}

// child is the process that runs chat somewhere under p; 0 if there is none.
func (p *proc) child() int {
	for queue := []int{p.cmd.Process.Pid}; len(queue) > 0; queue = queue[1:] {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", queue[0])); err == nil && exe == programs.chat {
			return queue[0]
		}
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", queue[0]))
		for _, name := range lists {
			b, _ := os.ReadFile(name)
			for _, f := range strings.Fields(string(b)) {
				if n, err := strconv.Atoi(f); err == nil {
					queue = append(queue, n)
				}
			}
		}
	}
	return 0
}

func (l *lab) socket() string { return filepath.Join(l.dir, "rootd.sock") }

// startRootd starts a rootd, again perhaps, and waits until it answers.
func (l *lab) startRootd(flags ...string) {
	l.t.Helper()
	argv := append([]string{
		programs.rootd, "--socket", l.socket(), "--pins", l.pins, "--table", "alptrace", "--log-level", "warn",
	}, flags...)
	l.rootd = l.start(l.host, false, argv...)
	l.t.Cleanup(func() { l.rootd.signal(unix.SIGTERM) }) // pins are nobody's namespace
	for end := time.Now().Add(10 * time.Second); ; {
		if _, err := l.status(); err == nil {
			return
		} else if !l.rootd.running() || time.Now().After(end) {
			l.t.Fatalf("rootd: %v: %s", err, l.rootd.stderr.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// status is what is read of rootd status --json.
type status struct {
	Leases []struct {
		PID     int    `json:"pid"`
		Program string `json:"program"`
		Waiting bool   `json:"waiting"`
	} `json:"leases"`
}

func (l *lab) status() (s status, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, programs.rootd, "status", "--json", "--socket", l.socket()).Output()
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// leasesAre waits until rootd has n leases.
func (l *lab) leasesAre(n int, within time.Duration) {
	l.t.Helper()
	var s status
	var err error
	for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		if s, err = l.status(); err == nil && len(s.Leases) == n {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("leases: %+v (%v), want %d", s.Leases, err, n)
		}
	}
}
