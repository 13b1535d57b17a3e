package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/linktest"
)

const childEnv = "ALPTRACE_WIRE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(echoMember(dir))
	}
	os.Exit(m.Run())
}

// echoMember is a member in a process of its own: it sends every frame back to
// its source until its standard input ends.
func echoMember(dir string) int {
	l, err := Open(dir, Options{})
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	var out []link.Packet
	_ = l.Start(func(pkts []link.Packet) {
		out = out[:0]
		for _, p := range pkts {
			b := p.Bufs[0]
			copy(b, b[6:12])
			copy(b[6:], l.HardwareAddr())
			if len(b) > 15 && (b[14] == 'n' || b[15] == 'n') { // no answer wanted
				continue
			}
			out = append(out, p)
		}
		_, _ = l.Send(out)
	})
	os.Stdout.WriteString(l.HardwareAddr().String() + "\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if l.Close() != nil {
		return 2
	}
	return 0
}

// child is an echoMember.
type child struct {
	cmd *exec.Cmd
	in  io.Closer
	mac net.HardwareAddr
}

func spawn(t testing.TB, dir string) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	mac, err := net.ParseMAC(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return &child{cmd, in, mac}
}

// member is a member in this process that keeps what it receives.
type member struct {
	*Link
	*linktest.Sink
}

func join(t testing.TB, dir string, opts Options) *member {
	t.Helper()
	l, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &member{l.(*Link), linktest.Start(t, l)}
}

func (m *member) take(n int) ([][]byte, []link.Offload) { return m.Take(n, linktest.Patience) }

func (m *member) frame(dst net.HardwareAddr, payload []byte) link.Packet {
	return linktest.Frame(m, dst, payload)
}

func (m *member) send(t testing.TB, p link.Packet) {
	t.Helper()
	linktest.Send(t, m, p)
}

var broadcast = linktest.Broadcast

func socks(t testing.TB, dir string) int {
	t.Helper()
	s, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return len(s)
}

func TestFloodLearnUnicast(t *testing.T) {
	dir := t.TempDir() + "/w"
	a, b, c := join(t, dir, Options{}), join(t, dir, Options{}), join(t, dir, Options{})
	for _, m := range []*member{a, b, c} {
		linktest.Eventually(t, "three members", func() bool { return m.Stats().Members == 2 })
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", st.Mode(), err)
	}
	a.send(t, a.frame(broadcast, []byte("who")))
	for _, m := range []*member{b, c} {
		if got, _ := m.take(1); len(got) != 1 || string(got[0][14:]) != "who" {
			t.Fatalf("broadcast: %q", got)
		}
	}
	// b has learned where a is: c sees nothing of it, not even to ignore.
	b.send(t, b.frame(a.HardwareAddr(), []byte("me")))
	if got, _ := a.take(1); len(got) != 1 || string(got[0][14:]) != "me" {
		t.Fatalf("unicast: %q", got)
	}
	if s := c.Stats(); s.RxOther != 0 {
		t.Errorf("c was sent another's frame: %+v", s)
	}
	// Nobody knows c yet: the frame is flooded, and only c delivers it.
	a.send(t, a.frame(c.HardwareAddr(), []byte("hi c")))
	if got, _ := c.take(1); len(got) != 1 {
		t.Fatalf("unknown unicast: %q", got)
	}
	linktest.Eventually(t, "b ignores it", func() bool { return b.Stats().RxOther == 1 })
}

func TestSimultaneousJoin(t *testing.T) {
	const n = 8
	for range 10 {
		dir := t.TempDir()
		ms := make([]*member, n)
		var wg sync.WaitGroup
		for i := range ms {
			wg.Go(func() { ms[i] = join(t, dir, Options{}) })
		}
		wg.Wait()
		for _, m := range ms {
			linktest.Eventually(t, "full mesh", func() bool { return m.Stats().Members == n-1 })
		}
		// Once settled, a broadcast arrives exactly once everywhere.
		time.Sleep(20 * time.Millisecond)
		ms[0].send(t, ms[0].frame(broadcast, []byte("once")))
		for _, m := range ms[1:] {
			if got, _ := m.take(1); len(got) != 1 {
				t.Errorf("%d copies", len(got))
			}
		}
		for _, m := range ms {
			_ = m.Close()
		}
		if k := socks(t, dir); k != 0 {
			t.Errorf("%d sockets are left", k)
		}
	}
}

func TestGSOAndMTU(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, Options{}), join(t, dir, Options{})
	linktest.Eventually(t, "two members", func() bool { return a.Stats().Members == 1 && b.Stats().Members == 1 })
	p := linktest.Segments(a, b.HardwareAddr())
	a.send(t, p)
	got, offs := b.take(1)
	want := p.Offload
	want.CsumValid = true
	if len(got) != 1 || !bytes.Equal(got[0], p.AppendTo(nil)) || offs[0] != want {
		t.Fatalf("%d frames, %+v", len(got), offs)
	}
	if n, err := a.Send([]link.Packet{a.frame(b.HardwareAddr(), make([]byte, 1600))}); n != 0 || !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("giant: %d, %v", n, err)
	}
	if n, err := a.Send([]link.Packet{{Bufs: [][]byte{{1, 2}}}}); n != 0 || !errors.Is(err, unix.EINVAL) {
		t.Errorf("runt: %d, %v", n, err)
	}
	// A larger segment than the receiver's MTU is dropped there.
	c := join(t, dir, Options{MTU: 9000})
	linktest.Eventually(t, "three members", func() bool { return c.Stats().Members == 2 })
	c.send(t, c.frame(b.HardwareAddr(), make([]byte, 5000)))
	c.send(t, c.frame(b.HardwareAddr(), make([]byte, 1500)))
	if got, _ := b.take(1); len(got) != 1 || len(got[0]) != 1514 {
		t.Errorf("%d frames", len(got))
	}
	if s := b.Stats(); s.RxDropped != 1 {
		t.Errorf("%+v", s)
	}
}

func TestManyBuffersAndBatches(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, Options{}), join(t, dir, Options{})
	linktest.Eventually(t, "two members", func() bool { return a.Stats().Members == 1 && b.Stats().Members == 1 })
	var pkts []link.Packet
	for i := range 150 {
		p := a.frame(b.HardwareAddr(), []byte{byte(i)})
		for j := range i * 4 { // up to 600 pieces of a byte
			p.Bufs = append(p.Bufs, []byte{byte(j)})
		}
		pkts = append(pkts, p)
	}
	if n, err := a.Send(pkts); n != len(pkts) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	got, _ := b.take(len(pkts))
	if len(got) != len(pkts) {
		t.Fatalf("%d of %d", len(got), len(pkts))
	}
	for i := range got {
		if !bytes.Equal(got[i], pkts[i].AppendTo(nil)) {
			t.Fatalf("frame %d differs", i)
		}
	}
}

func TestDirectory(t *testing.T) {
	for _, tc := range []struct {
		name string
		st   unix.Stat_t
		ok   bool
	}{
		{"mine", unix.Stat_t{Uid: 1000, Mode: 0o700}, true},
		{"mine, readable", unix.Stat_t{Uid: 1000, Mode: 0o755}, true},
		{"mine, group writes", unix.Stat_t{Uid: 1000, Mode: 0o770}, false},
		{"mine, all write", unix.Stat_t{Uid: 1000, Mode: 0o777}, false},
		{"sticky", unix.Stat_t{Uid: 0, Mode: 0o777 | unix.S_ISVTX}, true},
		{"sticky of another", unix.Stat_t{Uid: 1001, Mode: 0o777 | unix.S_ISVTX}, false},
		{"another's", unix.Stat_t{Uid: 1001, Mode: 0o755}, false},
	} {
		if err := checkDir(&tc.st, 1000); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, unix.EPERM) {
		t.Errorf("open for all: %v", err)
	}
	long := t.TempDir() + strings.Repeat("/a-long-name-of-a-directory", 10)
	join(t, long, Options{})
	if _, err := Open("/proc", Options{}); err == nil {
		t.Error("a socket where there can be none")
	}
	if _, err := Open(t.TempDir(), Options{MTU: 10}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("mtu 10: %v", err)
	}
	if _, err := Open(t.TempDir(), Options{HardwareAddr: broadcast}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("broadcast address: %v", err)
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, Options{}), join(t, dir, Options{})
	linktest.Eventually(t, "two members", func() bool { return b.Stats().Members == 1 })
	if a.Start(nil) == nil {
		t.Error("started twice")
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := a.Send(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: %v", err)
	}
	linktest.Eventually(t, "alone", func() bool { return b.Stats().Members == 0 })
	b.send(t, b.frame(broadcast, []byte("anyone?")))
}

// TestChurn: members come and go under traffic, and leave nothing behind.
func TestChurn(t *testing.T) {
	dir := t.TempDir()
	m := join(t, dir, Options{})
	fds := func() int {
		f, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(f)
	}
	before := fds()
	var comers, sender sync.WaitGroup
	stop := make(chan struct{})
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = m.Send([]link.Packet{m.frame(broadcast, make([]byte, 1000))})
			}
		}
	})
	for range 4 {
		comers.Go(func() {
			for range 20 {
				l, err := Open(dir, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				_ = l.Start(func(pkts []link.Packet) { _, _ = l.Send(pkts) })
				time.Sleep(time.Millisecond)
				_ = l.Close()
			}
		})
	}
	comers.Wait()
	close(stop)
	sender.Wait()
	linktest.Eventually(t, "all gone", func() bool { return m.Stats().Members == 0 && socks(t, dir) == 1 && fds() == before })
	late := join(t, dir, Options{})
	linktest.Eventually(t, "two members", func() bool { return m.Stats().Members == 1 && late.Stats().Members == 1 })
	m.send(t, m.frame(broadcast, []byte("still here")))
	if got, _ := late.take(1); len(got) != 1 || string(got[0][14:]) != "still here" {
		t.Errorf("%q", got)
	}
}
