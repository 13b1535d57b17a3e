package rootd_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd"
	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/alptrace/alptrace/rootd/rootdtest"
)

// raw is a connection that says what it likes.
func raw(t testing.TB, d *rootdtest.Daemon) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: d.Socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func message(t testing.TB, seq uint32, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Append(nil, seq, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reply reads one message; io.EOF where the connection was closed.
func reply(t testing.TB, c *net.UnixConn) (uint32, proto.Message, error) {
	t.Helper()
	buf := make([]byte, proto.MaxMessage)
	n, err := c.Read(buf)
	if err != nil {
		return 0, nil, err
	}
	seq, m, err := proto.Decode(buf[:n])
	if err != nil {
		t.Fatalf("rootd sent %x: %v", buf[:n], err)
	}
	return seq, m, nil
}

// bystander has a lease that works, before and after what happens to others.
func bystander(t *testing.T, d *rootdtest.Daemon) func() {
	t.Helper()
	c, w := hello(t, d)
	port := must(t, c, proto.Item{Proto: proto.TCP, Addr: local})
	return func() {
		t.Helper()
		must(t, c, proto.Item{Proto: proto.TCP, Addr: local, Port: port})
		must(t, c, proto.Item{Proto: proto.UDP, Addr: any4})
		if gs := d.Datapath.Grants(w.Lease); len(gs) < 2 {
			t.Errorf("the bystander has %v", gs)
		}
	}
}

func TestJunk(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	well := bystander(t, d)
	grant := message(t, 1, proto.Grant{Items: []proto.Item{{Proto: proto.TCP, Addr: any4, Port: 5000}}})
	for name, junk := range map[string][]byte{
		"one byte":           {1},
		"text":               []byte("GET / HTTP/1.1\r\n\r\n"),
		"other version":      append([]byte{9}, grant[1:]...),
		"unknown type":       append([]byte{1, 0x60}, grant[2:]...),
		"cut":                grant[:len(grant)-1],
		"too long":           append(grant, 0),
		"oversized":          make([]byte, proto.MaxMessage+1),
		"far oversized":      make([]byte, 2*proto.MaxMessage),
		"sequence number 0":  message(t, 0, proto.Status{}),
		"from the wrong end": message(t, 1, proto.Welcome{Lease: 1, Device: "lo"}),
		"a false event":      message(t, 1, proto.Revoked{Items: []proto.Item{{Proto: proto.TCP, Addr: any4, Port: 80}}}),
		"zeros":              make([]byte, 100),
		"ones":               bytes.Repeat([]byte{0xff}, 1000),
	} {
		for _, first := range []bool{true, false} {
			c := raw(t, d)
			if !first {
				if _, err := c.Write(message(t, 1, proto.Hello{})); err != nil {
					t.Fatal(err)
				}
				if _, m, err := reply(t, c); err != nil {
					t.Fatal(m, err)
				}
			}
			if _, err := c.Write(junk); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			seq, m, err := reply(t, c)
			if f, ok := m.(proto.Failure); err != nil || seq != 0 || !ok || f.Errno != unix.EPROTO || f.Text == "" {
				t.Errorf("%s: answered by %d %+v, %v", name, seq, m, err)
			}
			if _, m, err := reply(t, c); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%s: then %+v, %v", name, m, err)
			}
		}
	}
	eventually(t, time.Second, "junk's leases end", func() bool { return len(d.Datapath.Leases()) == 1 })
	well()
}

// Requests out of order get an error and do no harm.
func TestOutOfOrder(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	item := []proto.Item{{Proto: proto.UDP, Addr: any4}}
	c := dial(t, d)
	if _, err := c.Grant(item); !errors.Is(err, unix.ENOTCONN) {
		t.Error(err)
	}
	if _, err := c.Release(item); !errors.Is(err, unix.ENOTCONN) {
		t.Error(err)
	}
	if _, err := c.Ephemeral(proto.TCP, proto.Both, 1); !errors.Is(err, unix.ENOTCONN) {
		t.Error(err)
	}
	w, err := c.Hello("")
	if err != nil {
		t.Fatal(err)
	}
	_ = w.File.Close()
	if _, err := c.Hello(""); !errors.Is(err, unix.EISCONN) {
		t.Error(err)
	}
	if _, err := c.Resume(w.Lease, w.Token); !errors.Is(err, unix.EISCONN) {
		t.Error(err)
	}
	// A lease that lives is nobody else's, token or not.
	if _, err := dial(t, d).Resume(w.Lease, w.Token); !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
	if rs, err := c.Grant(item); err != nil || rs[0].Errno != 0 {
		t.Error(rs, err)
	}
}

// What others hold cannot be released.
func TestReleaseOfOthers(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	well := bystander(t, d)
	c, _ := hello(t, d)
	for _, g := range d.Guard.Grants() {
		rs, err := c.Release([]proto.Item{{Proto: g.Proto, Addr: g.Addr, Port: g.Port}})
		if err != nil || rs[0].Errno != unix.EINVAL {
			t.Error(rs, err)
		}
	}
	well()
}

func TestSilent(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{FirstWord: 100 * time.Millisecond}, nil)
	c := raw(t, d)
	if _, m, err := reply(t, c); !errors.Is(err, io.EOF) {
		t.Error(m, err)
	}
	keep, _ := hello(t, d)
	time.Sleep(250 * time.Millisecond)
	must(t, keep, proto.Item{Proto: proto.UDP, Addr: any4})
}

// One who does not read is let go; others do not notice.
func TestSlowReader(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a timeout")
	}
	d := rootdtest.Start(t, rootd.Config{}, nil)
	well := bystander(t, d)
	c := raw(t, d)
	_ = c.SetReadBuffer(4096)
	begin := time.Now()
	var err error
	for i := uint32(1); err == nil && time.Since(begin) < 9*time.Second; i++ {
		_, err = c.Write(message(t, i, proto.Ephemeral{Proto: proto.UDP, Families: proto.IPv4, N: 1}))
		if i%1000 == 0 {
			well()
		}
	}
	if err == nil {
		t.Error("still connected")
	}
	well()
}

// A flood of requests is slowed down to the policy's rate, at the cost of the
// one who makes it, and its lease still ends at once.
func TestFlood(t *testing.T) {
	access := parse(t, "[default]\nrate=2000\n")
	d := rootdtest.Start(t, rootd.Config{}, access)
	c, w := hello(t, d)
	it := proto.Item{Proto: proto.UDP, Addr: any4}
	it.Port = must(t, c, it)
	items := make([]proto.Item, 500)
	for i := range items {
		items[i] = it
	}
	begin := time.Now()
	for range 7 { // 3500 items; 2000 are a burst
		if _, err := c.Grant(items); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 600*time.Millisecond || took > 5*time.Second {
		t.Errorf("3500 items took %v", took)
	}
	go func() { _, _ = c.Grant(make([]proto.Item, 0)); _, _ = c.Grant(append(items, items...)) }() // waits for its turn
	time.Sleep(50 * time.Millisecond)
	_ = c.Close()
	eventually(t, 100*time.Millisecond, "the end", func() bool { _, ok := d.Datapath.Leases()[w.Lease]; return !ok })
}

func TestRateZero(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, parse(t, "[default]\nrate=0\n"))
	c := dial(t, d)
	for range 20 {
		if _, err := c.Hello(""); err != nil {
			return
		}
	}
	t.Error("served at a rate of 0")
}

// Connections are limited, and descriptors that a client sends do not stay.
func TestManyConnections(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, parse(t, "[default]\nleases=4\n"))
	well := bystander(t, d)
	before := openFiles(t)
	var conns []*net.UnixConn
	refused := 0
	for range 100 {
		c := raw(t, d)
		conns = append(conns, c)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, m, err := reply(t, c); err == nil {
			if f, ok := m.(proto.Failure); !ok || f.Errno != unix.EAGAIN {
				t.Fatal(m)
			}
			refused++
		}
	}
	if refused < 80 {
		t.Errorf("%d of 100 refused", refused)
	}
	well()
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, time.Second, "room again", func() bool {
		c := dial(t, d)
		_, err := c.Status()
		_ = c.Close()
		return err == nil
	})
	c := raw(t, d)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	fds := make([]int, 200)
	for i := range fds {
		fds[i] = int(null.Fd())
	}
	if _, _, err := c.WriteMsgUnix(message(t, 1, proto.Status{}), unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
	_, m, err := reply(t, c)
	if _, ok := m.(proto.StatusReply); !ok {
		t.Error(m, err)
	}
	_ = c.Close()
	eventually(t, 2*time.Second, "no descriptor stays", func() bool { return openFiles(t) <= before+2 })
}

func openFiles(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// Many leases that come, take and go leave nothing.
func TestChurn(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{HoldBack: 50 * time.Millisecond}, parse(t, "[default]\nrate=1000000\nleases=64\n"))
	if _, err := dial(t, d).Status(); err != nil { // it serves
		t.Fatal(err)
	}
	before, threads := openFiles(t), runtime.NumGoroutine()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 40 {
				c, w := hello(t, d)
				if _, err := c.Ephemeral(proto.TCP, proto.Both, 20); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					_, _ = c.Ephemeral(proto.UDP, proto.IPv6, 5)
				}
				_ = w.File.Close()
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	defer func() {
		t.Logf("%+v, datapath %d, guard %d, files %d (%d before), goroutines %d (%d)", d.Status(0), d.Datapath.Len(),
			len(d.Guard.Grants()), openFiles(t), before, runtime.NumGoroutine(), threads)
	}()
	eventually(t, 5*time.Second, "nothing left", func() bool {
		st := d.Status(0)
		return st.Grants == 0 && len(st.Leases) == 0 && d.Datapath.Len() == 0 && len(d.Datapath.Leases()) == 0 &&
			len(d.Guard.Grants()) == 0 && openFiles(t) <= before && runtime.NumGoroutine() <= threads
	})
}

// As a user without privilege: what the default policy gives, what it does not,
// and that another user's are out of reach.
func TestUnprivilegedUser(t *testing.T) {
	if socket := os.Getenv("ROOTD_TEST_SOCKET"); socket != "" {
		asNobody(t, &rootdtest.Daemon{Socket: socket})
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	d := rootdtest.Start(t, rootd.Config{HoldBack: time.Hour}, parse(t, "[[access]]\ngroups=['54321']\ngrants=5\n"))
	roots, w := hello(t, d)
	port := must(t, roots, proto.Item{Proto: proto.TCP, Addr: local})
	gone, _ := hello(t, d)
	held := must(t, gone, proto.Item{Proto: proto.TCP, Addr: local})
	_ = gone.Close()
	eventually(t, time.Second, "the end", func() bool { return len(d.Datapath.Leases()) == 1 })

	exe, err := os.ReadFile("/proc/self/exe") // its directory may be root's only
	if err != nil {
		t.Fatal(err)
	}
	copied := d.Socket + ".test"
	if err := os.WriteFile(copied, exe, 0o755); err != nil { //nolint:gosec // to be run by another user
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), copied, "-test.run=^TestUnprivilegedUser$", "-test.v", "-test.timeout=30s")
	cmd.Dir = "/"
	cmd.Env = []string{"ROOTD_TEST_SOCKET=" + d.Socket, fmt.Sprintf("ROOTD_TEST_PORTS=%d %d", port, held),
		fmt.Sprintf("ROOTD_TEST_LEASE=%d %x", w.Lease, w.Token)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{7, 54321}}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
	must(t, roots, proto.Item{Proto: proto.TCP, Addr: local, Port: port})
}

func asNobody(t *testing.T, d *rootdtest.Daemon) {
	var port, held uint16
	var lease uint32
	var token []byte
	if _, err := fmt.Sscan(os.Getenv("ROOTD_TEST_PORTS"), &port, &held); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(os.Getenv("ROOTD_TEST_LEASE"), "%d %x", &lease, &token); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, d).Resume(lease, [proto.TokenLen]byte(token)); !errors.Is(err, unix.EACCES) {
		t.Errorf("another's lease: %v", err)
	}
	c, w := hello(t, d)
	if w.Limits.Grants != 5 {
		t.Errorf("not the rule of a supplementary group: %+v", w.Limits)
	}
	for _, it := range []proto.Item{
		{Proto: proto.TCP, Addr: local, Port: port, Flags: proto.ReuseAddr},
		{Proto: proto.TCP, Addr: local, Port: held, Flags: proto.ReuseAddr}, // root's, held back
		{Proto: proto.TCP, Addr: any4, Port: held, Flags: proto.ReuseAddr | proto.ReusePort},
	} {
		if _, err := one(t, c, it); err != unix.EADDRINUSE {
			t.Errorf("%+v: %v", it, err)
		}
	}
	if _, err := one(t, c, proto.Item{Proto: proto.TCP, Addr: any4, Port: 80}); err != unix.EACCES {
		t.Errorf("port 80: %v", err)
	}
	if ports, err := c.Ephemeral(proto.TCP, proto.Both, 10); err != nil || len(ports) != 2 {
		t.Errorf("%v, %v: not the limit of 5", ports, err)
	}
	text, err := c.Status()
	if err != nil || strings.Contains(string(text), `"uid":0`) || !strings.Contains(string(text), `"uid":65534`) {
		t.Errorf("%s, %v: not one's own only", text, err)
	}
}
