package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd"
	"github.com/alptrace/alptrace/rootd/proto"
)

// host is a network namespace with a rootd of its own.
type host struct {
	t           *testing.T
	exe, ns     string
	dir, socket string
	pins, table string
	policy      string
	cmd         *exec.Cmd
	log         *logFile
}

type logFile struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var any4 = netip.IPv4Unspecified()

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// newHost makes the namespace, with 10.99.0.1 on a veth, and builds rootd as it
// is shipped: without cgo.
func newHost(t *testing.T) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	dir, err := os.MkdirTemp("", "rd")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: dir, ns: filepath.Base(dir), exe: filepath.Join(dir, "rootd"), socket: filepath.Join(dir, "run", "rootd.sock"),
		pins: filepath.Join(dir, "bpf", "pins"), table: "rd_test", policy: filepath.Join(dir, "policy.toml")}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	build := exec.CommandContext(t.Context(), "go", "build", "-o", h.exe, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	bpf := filepath.Dir(h.pins)
	if err := os.Mkdir(bpf, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", bpf, "bpf", 0, ""); err != nil {
		t.Skipf("no BPF file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(bpf, unix.MNT_DETACH) })
	run(t, "ip", "netns", "add", h.ns)
	t.Cleanup(func() { run(t, "ip", "netns", "del", h.ns) })
	for _, args := range []string{"link set lo up", "link add rdv0 type veth peer name rdv1", "addr add 10.99.0.1/24 dev rdv0",
		"link set rdv0 up", "link set rdv1 up"} {
		run(t, "ip", append([]string{"-n", h.ns}, strings.Fields(args)...)...)
	}
	h.write("")
	t.Cleanup(func() {
		h.stop(unix.SIGKILL)
		if t.Failed() && h.log != nil {
			t.Log(h.log)
		}
	})
	return h
}

func (h *host) write(policy string) {
	h.t.Helper()
	if err := os.WriteFile(h.policy, []byte(policy), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// start runs the daemon, until it says on NOTIFY_SOCKET that it is ready.
func (h *host) start(extra ...string) {
	h.t.Helper()
	ready := filepath.Join(h.dir, "notify")
	_ = os.Remove(ready)
	nc, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ready, Net: "unixgram"})
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if h.log == nil {
		h.log = &logFile{}
	}
	h.cmd = exec.Command("ip", append([]string{"netns", "exec", h.ns, h.exe, "--socket", h.socket, "--policy", h.policy, //nolint:noctx // stop ends it
		"--pins", h.pins, "--table", h.table, "--prefix", "rdt"}, extra...)...)
	h.cmd.Stderr = h.log
	h.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 100)
	n, err := nc.Read(b)
	if err != nil || string(b[:n]) != "READY=1" {
		h.t.Fatalf("not ready: %q, %v\n%s", b[:n], err, h.log)
	}
}

func (h *host) stop(sig unix.Signal) {
	h.t.Helper()
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Signal(sig)
	done := make(chan error, 1)
	go func() { done <- h.cmd.Wait() }()
	select {
	case err := <-done:
		if sig != unix.SIGKILL && err != nil {
			h.t.Errorf("%v: %v\n%s", sig, err, h.log)
		}
	case <-time.After(20 * time.Second):
		_ = h.cmd.Process.Kill()
		h.t.Errorf("%v: does not end\n%s", sig, h.log)
	}
	h.cmd = nil
}

func (h *host) dial() *proto.Conn {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := proto.Dial(ctx, h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (h *host) hello() (*proto.Conn, proto.Welcome) {
	h.t.Helper()
	c := h.dial()
	w, err := c.Hello("test")
	if err != nil {
		h.t.Fatalf("%v\n%s", err, h.log)
	}
	h.t.Cleanup(func() { _ = w.File.Close() })
	return c, w
}

func (h *host) devices() string { return run(h.t, "ip", "-n", h.ns, "-o", "link", "show") }

// binds reports whether a program of the namespace's kernel may bind.
func (h *host) binds(network string, port uint16) bool {
	h.t.Helper()
	script := fmt.Sprintf("import socket\ns=socket.socket(socket.AF_INET, socket.SOCK_%s)\ns.bind(('0.0.0.0',%d))",
		map[string]string{"tcp": "STREAM", "udp": "DGRAM"}[network], port)
	err := exec.CommandContext(h.t.Context(), "ip", "netns", "exec", h.ns, "python3", "-c", script).Run()
	return err == nil
}

func grant(t *testing.T, c *proto.Conn, items ...proto.Item) []uint16 {
	t.Helper()
	rs, err := c.Grant(items)
	if err != nil {
		t.Fatal(err)
	}
	ports := make([]uint16, len(rs))
	for i, r := range rs {
		if r.Errno != 0 {
			t.Fatalf("%+v: %v", items[i], r.Errno)
		}
		ports[i] = r.Port
	}
	return ports
}

func TestIntegrationLease(t *testing.T) {
	h := newHost(t)
	h.write("[[access]]\nusers=['root']\nbind=[{ports=['any']}]\ngrants=12000\nrate=1000000\n")
	h.start()
	c, w := h.hello()
	if !strings.Contains(h.devices(), w.Device) {
		t.Errorf("no %s in %s", w.Device, h.devices())
	}
	grant(t, c, proto.Item{Proto: proto.TCP, Addr: any4, Port: 80}, proto.Item{Proto: proto.ICMP, Addr: any4, Port: 9})
	if h.binds("tcp", 80) {
		t.Error("the kernel gave port 80 away")
	}
	begin := time.Now()
	for n := 0; n < 10000; {
		ports, err := c.Ephemeral(proto.UDP, proto.IPv4, 1000)
		if err != nil {
			t.Fatal(n, err)
		}
		n += len(ports)
	}
	t.Logf("10,000 grants: %v", time.Since(begin))
	var out bytes.Buffer
	if err := printStatus(&out, h.socket, false); err != nil || !strings.Contains(out.String(), "10002") {
		t.Errorf("%v\n%s", err, &out)
	}
	t.Logf("\n%s", &out)

	// The client has still the device open, as a thief would.
	begin = time.Now()
	_ = c.Close()
	for strings.Contains(h.devices(), w.Device) {
		if time.Since(begin) > 2*time.Second {
			t.Fatalf("the device stays\n%s", h.devices())
		}
	}
	t.Logf("device gone after %v", time.Since(begin))
	if took := time.Since(begin); took > 200*time.Millisecond { // 100, and the time that looking takes
		t.Errorf("it took %v", took)
	}
	if h.binds("tcp", 80) {
		t.Error("port 80 is not held back")
	}
	h.stop(unix.SIGTERM)
	if !h.binds("tcp", 80) {
		t.Error("port 80 is not free after all")
	}
	h.nothingLeft()
}

// nothingLeft looks for what a daemon that was stopped might have left.
func (h *host) nothingLeft() {
	h.t.Helper()
	if devs := h.devices(); strings.Contains(devs, "rdt") {
		h.t.Errorf("devices:\n%s", devs)
	}
	if _, err := os.Stat(h.pins); !errors.Is(err, os.ErrNotExist) {
		h.t.Errorf("pins: %v", err)
	}
	if out, err := exec.CommandContext(h.t.Context(), "ip", "netns", "exec", h.ns, "nft", "list", "tables").CombinedOutput(); err == nil && len(out) > 0 {
		h.t.Errorf("tables: %s", out)
	}
	names, err := os.ReadDir(filepath.Dir(h.socket))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, n := range names {
		h.t.Errorf("file %s", n.Name())
	}
}

// Leases that end together do not wait long for each other.
func TestIntegrationManyLeases(t *testing.T) {
	h := newHost(t)
	h.start()
	const n = 30
	lease := regexp.MustCompile(`rdt\d+`)
	var conns []*proto.Conn
	begin := time.Now()
	for range n {
		c, _ := h.hello()
		if _, err := c.Ephemeral(proto.UDP, proto.Both, 20); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	t.Logf("%d leases with 40 grants each: %v", n, time.Since(begin))
	begin = time.Now()
	for _, c := range conns {
		_ = c.Close()
	}
	for len(lease.FindAllString(h.devices(), -1)) > 0 {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("devices stay\n%s", h.devices())
		}
	}
	t.Logf("gone after %v", time.Since(begin))
	h.stop(unix.SIGTERM)
	h.nothingLeft()
}

func TestIntegrationCapabilities(t *testing.T) {
	h := newHost(t)
	h.start()
	pid := h.cmd.Process.Pid // ip execs into rootd
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) < 2 {
		t.Fatal(tasks, err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for _, want := range []string{"CapPrm:\t0000008000001400", "CapEff:\t0000008000001400", "CapBnd:\t0000008000001400", "NoNewPrivs:\t1"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: not %s", task, want)
			}
		}
	}
	if err := daemon(t.Context(), &options{socket: h.socket, policy: h.policy, policySet: true}); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a second daemon: %v", err)
	}
	h.stop(unix.SIGTERM)
	h.nothingLeft()
}

// Killed or left on purpose, a daemon is followed by one that takes the leases
// up.
func TestIntegrationRestart(t *testing.T) {
	h := newHost(t)
	h.start()
	c, w := h.hello()
	port := grant(t, c, proto.Item{Proto: proto.TCP, Addr: any4})[0]
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGUSR2, unix.SIGKILL} {
		lost, other := h.hello()
		grant(t, lost, proto.Item{Proto: proto.UDP, Addr: any4, Port: 5353})
		h.stop(sig)
		<-c.Done()
		if !strings.Contains(h.devices(), w.Device) {
			t.Fatalf("%v: the device is gone", sig)
		}
		h.start()
		if h.binds("tcp", port) {
			t.Errorf("%v: the port is not taken up", sig)
		}
		c = h.dial()
		again, err := c.Resume(w.Lease, w.Token)
		if err != nil || again.Index != w.Index {
			t.Fatalf("%v: %+v, %v\n%s", sig, again, err, h.log)
		}
		grant(t, c, proto.Item{Proto: proto.TCP, Addr: any4, Port: port}, proto.Item{Proto: proto.UDP, Addr: any4})
		for end := time.Now().Add(8 * time.Second); strings.Contains(h.devices(), other.Device) || !h.binds("udp", 5353); {
			if time.Now().After(end) {
				t.Fatalf("%v: what is not resumed stays\n%s", sig, h.log)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	h.stop(unix.SIGTERM)
	h.nothingLeft()
}

// Killed at random moments under load, the daemon always comes back with the
// lease, and with what the lease was told that it has.
func TestIntegrationKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("twenty restarts")
	}
	h := newHost(t)
	h.start()
	c, w := h.hello()
	port := grant(t, c, proto.Item{Proto: proto.TCP, Addr: any4})[0]
	for i := range 20 {
		known := make(chan map[uint16]bool)
		go func() { known <- churn(c) }()
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		h.stop(unix.SIGKILL)
		have := <-known
		h.start()
		c = h.dial()
		if _, err := c.Resume(w.Lease, w.Token); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		text, err := c.Status()
		if err != nil {
			t.Fatal(err)
		}
		var st rootd.Status
		if err := json.Unmarshal(text, &st); err != nil || len(st.Leases) != 1 || st.Leases[0].Naked > 0 {
			t.Fatalf("kill %d: %v, %s", i, err, text)
		}
		if h.binds("tcp", port) {
			t.Errorf("kill %d: port %d is free", i, port)
		}
		// What the lease was told that it has it has: asking again for a port
		// of its own changes nothing, and the books show as many at least.
		items := []proto.Item{{Proto: proto.TCP, Addr: any4, Port: port}}
		for p := range have {
			items = append(items, proto.Item{Proto: proto.UDP, Addr: any4, Port: p})
		}
		if st.Leases[0].Grants < len(items) {
			t.Errorf("kill %d: %d grants of %d", i, st.Leases[0].Grants, len(items))
		}
		grant(t, c, items...)
		if _, err := c.Release(items[1:]); err != nil {
			t.Fatal(err)
		}
	}
	h.stop(unix.SIGTERM)
	h.nothingLeft()
}

// churn takes and gives ports until the connection ends, and returns those that
// it has.
func churn(c *proto.Conn) map[uint16]bool {
	have := map[uint16]bool{}
	for {
		ports, err := c.Ephemeral(proto.UDP, proto.IPv4, 20)
		if err != nil {
			return have
		}
		items := make([]proto.Item, 0, len(ports))
		for i, p := range ports {
			have[p] = true
			if i%2 == 0 {
				items = append(items, proto.Item{Proto: proto.UDP, Addr: any4, Port: p})
				delete(have, p) // given back, or not: not counted on
			}
		}
		if _, err := c.Release(items); err != nil {
			return have
		}
	}
}

func TestIntegrationReload(t *testing.T) {
	h := newHost(t)
	h.start()
	c := h.dial()
	revoked := make(chan []proto.Item, 1)
	c.OnRevoke(func(items []proto.Item) { revoked <- items })
	w, err := c.Hello("test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.File.Close() }()
	grant(t, c, proto.Item{Proto: proto.TCP, Addr: any4}, proto.Item{Proto: proto.UDP, Addr: any4})
	reload := func(policy string) {
		h.write(policy)
		if err := h.cmd.Process.Signal(unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	reload("[default]\nbnid = []\n")
	for end := time.Now().Add(5 * time.Second); !strings.Contains(h.log.String(), "unknown key"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no word of the bad policy\n%s", h.log)
		}
	}
	reload("[default]\nbind = [{protocols=['udp']}]\nreach = ['10.99.0.0/24']\n")
	select {
	case items := <-revoked:
		if len(items) != 1 || items[0].Proto != proto.TCP {
			t.Error(items)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("not revoked\n%s", h.log)
	}
	grant(t, c, proto.Item{Proto: proto.UDP, Addr: any4})
	h.stop(unix.SIGTERM)
	h.nothingLeft()
}

func TestIntegrationActivation(t *testing.T) {
	h := newHost(t)
	if err := os.Mkdir(filepath.Dir(h.socket), 0o755); err != nil { //nolint:gosec // as systemd has it
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: h.socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	early := make(chan error, 1)
	go func() { _, err := h.dial().Status(); early <- err }() // waits for the daemon
	// The shell knows its own pid, which LISTEN_PID has to be.
	ready := filepath.Join(h.dir, "notify")
	nc, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ready, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	h.log = &logFile{}
	h.cmd = exec.Command("ip", "netns", "exec", h.ns, "sh", "-c", //nolint:noctx // stop ends it
		`LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", h.exe, "--socket", h.socket, "--policy", h.policy,
		"--pins", h.pins, "--table", h.table, "--prefix", "rdt", "--log", "json")
	h.cmd.ExtraFiles = []*os.File{f} // 3
	h.cmd.Stderr = h.log
	h.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready)
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-early:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("no answer\n%s", h.log)
	}
	h.hello()
	h.stop(unix.SIGTERM)
	if _, err := os.Stat(h.socket); err != nil {
		t.Errorf("systemd's socket: %v", err)
	}
	if !strings.HasPrefix(h.log.String(), `{"`) {
		t.Errorf("not JSON: %s", h.log)
	}
}

func TestIntegrationWhatFails(t *testing.T) {
	h := newHost(t)
	bad, good := h.policy+".bad", h.policy
	if err := os.WriteFile(bad, []byte("[default]\nnonsense=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := h.policy + ".open"
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o666); err != nil { //nolint:gosec // that is the fault
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"bad policy":     {[]string{"--policy", bad}, "line 2"},
		"no policy":      {[]string{"--policy", bad + ".not"}, "no such file"},
		"others' policy": {[]string{"--policy", open}, "others than root"},
		"no BPF fs":      {[]string{"--policy", good, "--pins", h.dir + "/x"}, "BPF file system"},
		"long prefix":    {[]string{"--policy", good, "--pins", h.pins, "--prefix", "toolong"}, "prefix"},
		"status of none": {[]string{"status"}, "connect"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.ns, h.exe, "--socket", h.socket}, c.args...)...)
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil || !strings.Contains(string(out), c.want) || !strings.Contains(string(out), "rootd: ") {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
	if devs := h.devices(); strings.Contains(devs, "rdt") {
		t.Errorf("devices:\n%s", devs)
	}
}
