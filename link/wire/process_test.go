package wire

import (
	"net"
	"sort"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/linktest"
	"github.com/alptrace/alptrace/link/internal/mesh"
)

// wake has every child answer, so that its address is known.
func wake(t testing.TB, m *member, n int) {
	t.Helper()
	linktest.Eventually(t, "members", func() bool { return m.Stats().Members == n })
	m.send(t, m.frame(broadcast, []byte("yes")))
	if got, _ := m.take(n); len(got) != n {
		t.Fatalf("%d of %d children answer", len(got), n)
	}
}

func TestIntegrationProcesses(t *testing.T) {
	dir := t.TempDir()
	a := spawn(t, dir)
	m := join(t, dir, Options{})
	b := spawn(t, dir)
	wake(t, m, 2)
	if k := socks(t, dir); k != 3 {
		t.Errorf("%d sockets", k)
	}
	m.send(t, m.frame(b.mac, []byte("you")))
	if got, _ := m.take(1); len(got) != 1 || net.HardwareAddr(got[0][6:12]).String() != b.mac.String() {
		t.Errorf("answer %q", got)
	}
	m.send(t, linktest.Segments(m, a.mac))
	if got, offs := m.take(1); len(got) != 1 || len(got[0]) != 65054 || offs[0].GSO != link.GSOTCP4 {
		t.Errorf("64 KiB there and back: %d, %+v", len(got), offs)
	}
	// One is killed: the others notice and sweep its socket.
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	linktest.Eventually(t, "kill seen", func() bool { return m.Stats().Members == 1 })
	linktest.Eventually(t, "socket swept", func() bool { return socks(t, dir) == 2 })
	// One leaves in order.
	_ = b.in.Close()
	if err := b.cmd.Wait(); err != nil {
		t.Error(err)
	}
	linktest.Eventually(t, "leave seen", func() bool { return m.Stats().Members == 0 && socks(t, dir) == 1 })
}

func TestIntegrationSweepAtJoin(t *testing.T) {
	dir := t.TempDir()
	a := spawn(t, dir)
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
	if k := socks(t, dir); k != 1 {
		t.Fatalf("%d sockets after the kill of the last", k)
	}
	m := join(t, dir, Options{})
	if k := socks(t, dir); k != 1 || m.Stats().Members != 0 {
		t.Errorf("%d sockets, %+v", k, m.Stats())
	}
}

// TestIntegrationStopped: a stopped member does not hold up the others.
func TestIntegrationStopped(t *testing.T) {
	dir := t.TempDir()
	a, b := spawn(t, dir), spawn(t, dir)
	m := join(t, dir, Options{})
	wake(t, m, 2)
	if err := a.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(a.cmd.Process.Pid, &ws, unix.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("stop: %v, %#x", err, ws)
	}
	fill := linktest.Segments(m, a.mac)
	var worst, total time.Duration
	for range 1000 { // 10 s, if each waited
		t0 := time.Now()
		_, _ = m.Send([]link.Packet{fill})
		worst, total = max(worst, time.Since(t0)), total+time.Since(t0)
	}
	if s := m.Stats(); s.TxDropped == 0 {
		t.Fatalf("the stopped member took all: %+v", s)
	}
	t.Logf("1000 sends of 64 KiB to the stopped member: worst %v, all %v", worst, total)
	if total > 3*time.Second {
		t.Errorf("sends to the stopped member took %v, the worst %v", total, worst)
	}
	var rtts []time.Duration
	for range 200 {
		t0 := time.Now()
		m.send(t, m.frame(b.mac, []byte("you")))
		if got, _ := m.take(1); len(got) != 1 {
			t.Fatal("the other member does not answer")
		}
		rtts = append(rtts, time.Since(t0))
	}
	sort.Slice(rtts, func(i, j int) bool { return rtts[i] < rtts[j] })
	t.Logf("round trip to the other: median %v, worst %v", rtts[100], rtts[199])
	if rtts[100] > 100*time.Millisecond {
		t.Errorf("median round trip %v", rtts[100])
	}
	// A member that joins now is not held up either.
	t0 := time.Now()
	c := join(t, dir, Options{})
	linktest.Eventually(t, "join", func() bool { return m.Stats().Members == 3 && c.Stats().Members == 3 })
	t.Logf("joined in %v", time.Since(t0))
	// The stopped member comes back: what was dropped is lost, the rest works.
	if err := a.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	linktest.Eventually(t, "answer after SIGCONT", func() bool {
		m.send(t, m.frame(broadcast, []byte("back?")))
		got, _ := m.take(1)
		for _, f := range got {
			if net.HardwareAddr(f[6:12]).String() == a.mac.String() && string(f[14:]) == "back?" {
				return true
			}
		}
		return false
	})
}

// hostile connects to m as another process might.
func hostile(t *testing.T, m *member) int {
	t.Helper()
	fd, err := m.dir.dial(m.self + suffix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestHostile(t *testing.T) {
	dir := t.TempDir()
	m := join(t, dir, Options{})
	say := func(fd int, b []byte) { _ = unix.Send(fd, b, unix.MSG_NOSIGNAL) }
	for _, first := range [][]byte{{}, []byte("alpwire2" + m.self), []byte(hello + m.self), []byte(hello + "../../../../../../../etc/passwd1"), make([]byte, 60000)} {
		fd := hostile(t, m)
		say(fd, first)
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 2000); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(fd, make([]byte, 1)); n != 0 && err == nil {
			t.Errorf("%q is accepted", first)
		}
	}
	if s := m.Stats(); s.Members != 0 {
		t.Fatalf("%+v", s)
	}
	fd := hostile(t, m)
	say(fd, []byte(hello+"0123456789abcdef0123456789abcdef"))
	good := append(make([]byte, link.VnetLen), m.HardwareAddr()...)
	good = append(good, 2, 0, 0, 0, 0, 9, 8, 6, 'x')
	n := 0
	for _, spoil := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:1] },
		func(b []byte) []byte { return b[:link.VnetLen+13] },
		func(b []byte) []byte { b[0], b[6], b[7] = 1, 0xff, 0xff; return b }, // checksum outside
		func(b []byte) []byte { b[1], b[4] = 1, 100; return b },              // GSO of ARP
		func(b []byte) []byte { b[1] = 3; return b },                         // unknown GSO
		func(b []byte) []byte { b[link.VnetLen+6] |= 1; return b },           // multicast source
		func(b []byte) []byte { return append(b, make([]byte, 1501)...) },    // giant
		func(b []byte) []byte { return append(b, make([]byte, 70000)...) },   // larger than any
	} {
		say(fd, spoil(append([]byte{}, good...)))
		n++
	}
	for i := range 3 * mesh.MaxMACs { // it claims many addresses
		b := append([]byte{}, good...)
		b[link.VnetLen+10] = byte(i)
		say(fd, b)
	}
	got, _ := m.take(3 * mesh.MaxMACs)
	if len(got) != 3*mesh.MaxMACs || m.Stats().RxDropped != uint64(n) {
		t.Errorf("%d delivered, %+v, %d malformed sent", len(got), m.Stats(), n)
	}
}

// FuzzExamine: whatever a member sends, nothing is read outside the message, and
// what is delivered is a whole Ethernet frame for us.
func FuzzExamine(f *testing.F) {
	hw := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	l := &Link{}
	l.net, _ = mesh.New[*peer](mesh.Config{HardwareAddr: hw})
	m := &members{l: l}
	ok := append(make([]byte, link.VnetLen), hw...)
	ok = append(ok, 2, 0, 0, 0, 0, 2, 8, 0)
	f.Add(ok)
	f.Add(append(append([]byte{1, 1, 54, 0, 100, 0, 34, 0, 16, 0}, ok[10:]...), linktest.Segments(l, hw).Bufs[1][:3000]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		l.net.Clear()
		o, ok := m.examine(&peer{name: "x"}, b)
		if !ok {
			return
		}
		frame := b[link.VnetLen:]
		if len(frame) < mesh.EthLen || o.GSO == link.GSONone && len(frame) > l.MTU()+mesh.EthLen+4 || frame[0]&1 == 0 && string(frame[:6]) != string(hw) {
			t.Fatalf("delivered %x with %+v", frame, o)
		}
	})
}

func BenchmarkRTT(b *testing.B) {
	dir := b.TempDir()
	c := spawn(b, dir)
	l, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	back := make(chan struct{}, 4)
	_ = l.Start(func([]link.Packet) { back <- struct{}{} })
	m := &member{Link: l.(*Link)}
	p := []link.Packet{m.frame(c.mac, []byte{1})}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = l.Send(p)
		<-back
	}
}

func BenchmarkSend(b *testing.B) {
	for _, bc := range []struct {
		name  string
		size  int
		batch int
	}{{"64B", 50, 1}, {"64B-batch", 50, 32}, {"1500B-batch", 1500, 32}, {"64KiB", 0, 1}} {
		b.Run(bc.name, func(b *testing.B) {
			dir := b.TempDir()
			c := spawn(b, dir)
			m := join(b, dir, Options{})
			wake(b, m, 1)
			p := m.frame(c.mac, make([]byte, bc.size))
			if bc.size == 0 {
				p = linktest.Segments(m, c.mac)
			}
			p.Bufs[1][1] = 'n'
			var pkts []link.Packet
			for range bc.batch {
				pkts = append(pkts, p)
			}
			b.SetBytes(int64(p.Len() * bc.batch))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = m.Send(pkts)
			}
			s := m.Stats()
			b.ReportMetric(float64(s.Sent)/b.Elapsed().Seconds(), "frames/s")
			b.ReportMetric(float64(s.TxDropped), "dropped")
		})
	}
}
