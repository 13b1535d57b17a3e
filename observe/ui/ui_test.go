package ui

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/pair"
	"github.com/alptrace/alptrace/link/step"
	"github.com/alptrace/alptrace/observe"
	"golang.org/x/sys/unix"
)

func TestParseAddr(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"0", "127.0.0.1:0"},
		{":0", "127.0.0.1:0"},
		{"8080", "127.0.0.1:8080"},
		{"127.0.0.1:8080", "127.0.0.1:8080"},
		{"127.9.9.9:1", "127.9.9.9:1"},
		{"localhost:80", "127.0.0.1:80"},
		{"[::1]:0", "[::1]:0"},
		{"", "!want PORT"},
		{"x", "!want PORT"},
		{"70000", "!want PORT"},
		{"::1", "!want PORT"},
		{"0.0.0.0:80", "!only loopback"},
		{"[::]:80", "!only loopback"},
		{"192.0.2.1:80", "!only loopback"},
		{"example.org:80", "!want PORT"},
	} {
		got, err := ParseAddr(c.in)
		if want, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, %v", c.in, got, err)
			}
		} else if err != nil || got.String() != c.want {
			t.Errorf("%q: %v, %v", c.in, got, err)
		}
	}
}

func TestLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:80": true, "localhost": true, "LocalHost:1": true, "[::1]:9": true, "[::1]": true,
		"": false, "example.org:80": false, "127.0.0.1.example.org": false, "0.0.0.0:80": false, "192.168.0.1": false,
	} {
		if loopbackHost(host) != want {
			t.Errorf("%q", host)
		}
	}
}

func TestDescribe(t *testing.T) {
	ip4 := func(proto byte, payload ...byte) []byte {
		h := []byte{0x45, 0, 0, byte(20 + len(payload)), 0, 7, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}
		return append(h, payload...)
	}
	tcp := []byte{0x1f, 0x90, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x12, 0x10, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4}
	fragment := ip4(17, 1, 2, 3, 4)
	fragment[7] = 3
	for _, c := range []struct {
		name    string
		b       []byte
		m       link.Medium
		want    string
		notable bool
	}{
		{"SYN", ip4(6, tcp...), link.IP, "tcp 10.0.0.1:8080 10.0.0.2:80 SYN ACK  seq 1  ack 2  win 4096  len 0  mss 1460", true},
		{"UDP", ip4(17, 0, 53, 0, 54, 0, 12, 0, 0, 1, 2, 3, 4), link.IP, "udp 10.0.0.1:53 10.0.0.2:54 length 4", false},
		{"ping", ip4(1, 8, 0, 0, 0, 0, 5, 0, 6), link.IP, "icmp 10.0.0.1 10.0.0.2 echo request  id 5  seq 6", true},
		{"fragment", fragment, link.IP, "ip 10.0.0.1 10.0.0.2 fragment at 24 of id 7", false},
		{"ARP", append(make([]byte, 12), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2), link.Ethernet, "arp 10.0.0.1 10.0.0.2 who has 10.0.0.2? tell 10.0.0.1", true},
		{"nothing", nil, link.IP, "eth   type 0x0800", true},
		{"short", ip4(6, tcp...)[:30], link.IP, "ip 10.0.0.1 10.0.0.2 protocol 6, length 24", false},
	} {
		r := describe(c.b, c.m)
		if got := strings.Join([]string{r.Proto, r.Src, r.Dst, r.Info}, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if notable(c.b, c.m) != c.notable {
			t.Errorf("%s: notable %v", c.name, !c.notable)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add([]byte{0x45}, false)
	f.Add(make([]byte, 60), true)
	f.Fuzz(func(_ *testing.T, b []byte, ethernet bool) {
		m := link.IP
		if ethernet {
			m = link.Ethernet
		}
		describe(b, m)
		notable(b, m)
	})
}

func TestParseStat(t *testing.T) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Skip(err)
	}
	if s, ok := parseStat(string(b)); !ok || s.parent != os.Getppid() || s.threads < 1 || s.rss == 0 {
		t.Errorf("%+v", s)
	}
	if s, ok := parseStat("1 (a) b) R 7 0 0 0 0 0 0 0 0 0 150 50 0 0 0 0 3 0 0 0 2 0"); !ok || s.name != "a) b" || s.cpu != 2 || s.parent != 7 || s.threads != 3 {
		t.Errorf("%+v", s)
	}
	for _, bad := range []string{"", "1 (a", "1 )a(", "1 (a) R"} {
		if _, ok := parseStat(bad); ok {
			t.Errorf("%q", bad)
		}
	}
}

func TestRing(t *testing.T) {
	var r ring
	for i := range historyTicks + 7 {
		r.add(float64(i))
	}
	if all := r.all(); len(all) != historyTicks || all[0] != 7 || all[historyTicks-1] != historyTicks+6 {
		t.Errorf("%d values from %v to %v", len(all), all[0], all[len(all)-1])
	}
}

// source is a host without programs.
type source struct{ sockets []observe.Socket }

func (s *source) Sockets(list []observe.Socket, most int) ([]observe.Socket, int) {
	return append(list, s.sockets[:min(most, len(s.sockets))]...), len(s.sockets)
}
func (s *source) Bytes() (in, out uint64) { return 1000, 2000 }

func newServer(t *testing.T) (*Server, *Host) {
	t.Helper()
	s, err := Listen(Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Title: "test"})
	if err != nil {
		t.Fatal(err)
	}
	h := s.NewHost(HostConfig{Name: "a"})
	h.Attach(&source{[]observe.Socket{{ID: 1, Family: unix.AF_INET, Type: unix.SOCK_STREAM, State: "LISTEN"}}}, nil)
	return s, h
}

// read reads events until f is content.
func read(t *testing.T, body *bufio.Scanner, f func(kind string, data []byte) bool) {
	t.Helper()
	kind := ""
	for body.Scan() {
		line := body.Text()
		if k, ok := strings.CutPrefix(line, "event: "); ok {
			kind = k
		}
		if d, ok := strings.CutPrefix(line, "data: "); ok && f(kind, []byte(d)) {
			return
		}
	}
	t.Fatal("the events end early")
}

func TestEvents(t *testing.T) {
	s, h := newServer(t)
	if !h.WantsCall() {
		t.Error("no call wanted")
	}
	for range callsPerTick + 10 {
		h.Call(observe.Call{Start: time.Now(), Name: "bind", TID: 1, Err: unix.EACCES})
	}
	resp, err := http.Get(s.URL() + "events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<20)
	read(t, sc, func(kind string, data []byte) bool {
		var m hello
		if err := json.Unmarshal(data, &m); err != nil || kind != "hello" {
			t.Fatalf("%s: %v", kind, err)
		}
		if len(m.Hosts) != 1 || m.Hosts[0].Name != "a" || len(m.Hosts[0].Sockets) != 1 || m.Hosts[0].In != 1000 {
			t.Errorf("%s", data)
		}
		return true
	})
	h.Closed(observe.Socket{ID: 2, Closed: true, Type: unix.SOCK_STREAM, In: 7})
	read(t, sc, func(_ string, data []byte) bool {
		var f frame
		if err := json.Unmarshal(data, &f); err != nil {
			t.Fatal(err)
		}
		rows := f.Hosts[0].Sockets
		return len(rows) == 1 && rows[0].ID == 2 && rows[0].Closed && rows[0].In == 7 && rows[0].State == "CLOSE"
	})
	go s.Close("exit status 3")
	read(t, sc, func(_ string, data []byte) bool { return strings.Contains(string(data), `"end":"exit status 3"`) })
	if len(h.recent) != callsPerTick {
		t.Errorf("%d calls of a tick, want %d", len(h.recent), callsPerTick)
	}
}

// TestSlowPage: a page that reads nothing is cut off, and the end does not wait
// for it.
func TestSlowPage(t *testing.T) {
	s, _ := newServer(t)
	g := s.pages.join()
	for range pageQueue + 2 {
		s.pages.send(&frame{}, func() any { return nil })
	}
	if s.Watched() {
		t.Error("the page is not cut off")
	}
	n := 0
	for range g.frames {
		n++
	}
	if n > pageQueue+1 {
		t.Errorf("%d frames were kept", n)
	}
	for range maxPages {
		s.pages.join()
	}
	if s.pages.join() != nil {
		t.Error("too many pages")
	}
	began := time.Now()
	s.Close("")
	if d := time.Since(began); d > 5*closeTime {
		t.Errorf("closing took %v", d)
	}
	if s.pages.join() != nil {
		t.Error("a page after the end")
	}
}

func TestLink(t *testing.T) {
	s, _ := newServer(t)
	defer s.Close("")
	a, z := pair.New(pair.Options{})
	defer z.Close()
	cfg := impair.Config{Live: true}
	w, err := impair.Wrap(a, cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := s.NewLink(LinkConfig{Name: "l", Ends: [2]string{"a", ""}})
	st := step.Wrap(w, step.Options{Passed: l.Passed})
	defer st.Close()
	l.Attach(st, w.(*impair.Link), cfg)
	for _, c := range []struct{ dir, spec, want string }{
		{"both", "delay=5ms loss=1%", ""},
		{"out", "", ""},
		{"in", "rate=10mbit queue=5p", ""},
		{"sideways", "", "want in, out or both"},
		{"in", "dely=1s", "unknown word"},
		{"in", "mtu=1000", "cannot be changed"},
		{"in", "rate=trace:/dev/zero", "command line only"},
	} {
		err := l.set(c.dir, c.spec)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v", c.dir, c.spec, err)
		}
	}
	if l.asked != [2]string{"rate=10mbit queue=5p", ""} {
		t.Errorf("%q", l.asked)
	}
	send := func() { st.Send([]link.Packet{{Bufs: [][]byte{make([]byte, 100)}}}) }
	send()
	if err := l.control("step", "out"); err != errNothing {
		t.Errorf("a step of an open link: %v", err)
	}
	l.control("pause", "")
	send()
	send()
	if err := l.control("step", "both"); err != nil {
		t.Error(err)
	}
	if err := l.control("drop", "out"); err != nil {
		t.Error(err)
	}
	l.control("resume", "")
	if l.control("fly", "") == nil || l.control("step", "up") == nil {
		t.Error("nonsense is done")
	}
	if n, b := l.packets[step.Out].Load(), l.bytes[step.Out].Load(); n != 2 || b != 200 {
		t.Errorf("%d packets, %d bytes passed", n, b)
	}
}

// TestInUse: the port is somebody's.
func TestInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := Listen(Config{Addr: netip.MustParseAddrPort(ln.Addr().String())}); err == nil {
		t.Error("no error")
	}
}

// BenchmarkPassed is what the page costs a packet when a tick's are taken.
func BenchmarkPassed(b *testing.B) {
	l := &Link{}
	pkts := []link.Packet{{Bufs: [][]byte{make([]byte, 1500)}}}
	for b.Loop() {
		l.Passed(step.Out, pkts)
	}
}
