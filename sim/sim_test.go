package sim

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/netstack"
)

func load(t testing.TB, text string, o Options) *Sim {
	t.Helper()
	lab, err := topo.Parse("test.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(lab, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func run(t testing.TB, text string, o Options) *Result {
	t.Helper()
	r, err := load(t, text, o).Run(0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// varied has everything: loss, reordering, a switch, address translation, two
// routers, all kinds but the trace of traffic.
const varied = `
duration = "8s"
[host.a]
traffic = [
    {kind = "bulk", to = "d", count = 5},
    {kind = "reqresp", to = "c", interval = "20ms", bytes = "200kB"},
    {kind = "onoff", to = "d", rate = "1mbit", on = "100ms", off = "100ms"},
]
[host.b]
traffic = [
    {kind = "bulk", to = "d", bytes = "300kB", cc = "reno"},
    {kind = "echo", to = "d", interval = "30ms"},
]
[host.c]
[host.d]
traffic = [{kind = "bulk", to = "c", start = "1s", stop = "5s"}]
[switch.s]
[router.nat]
nat = "up"
[router.r]
[[link]]
between = ["a", "s"]
impair = "rate=50mbit delay=1ms loss=0.5%"
[[link]]
between = ["b", "s"]
impair = "delay=2ms jitter=1ms reorder=1%"
[[link]]
between = ["s", "nat"]
impair = "corrupt=0.1%"
[[link]]
name = "up"
between = ["nat", "r"]
mtu = 1400
impair = "rate=20mbit delay=10ms queue=fq_codel dup=1%"
[[link]]
between = ["r", "d"]
impair = "delay=5ms jitter=3ms:normal"
[[link]]
between = ["r", "c"]
impair = "delay=5ms rate=10mbit queue=red"
`

// TestMain is, on demand, the process that simulates for TestSame.
func TestMain(m *testing.M) {
	seed := os.Getenv("SIM_TEST_SEED")
	if seed == "" {
		os.Exit(m.Run())
	}
	lab, err := topo.Parse("test.toml", []byte(varied), map[string]string{"seed": seed})
	if err != nil {
		panic(err)
	}
	s, err := Load(lab, Options{})
	if err != nil {
		panic(err)
	}
	r, err := s.Run(0)
	if err != nil {
		panic(err)
	}
	r.Wall = 0
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		panic(err)
	}
	os.Exit(0)
}

// TestSame: the same seed gives the same packets in other processes, whatever the
// number of processors and the garbage collector; another seed gives others.
func TestSame(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	simulate := func(seed string, env ...string) string {
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(append(os.Environ(), "SIM_TEST_SEED="+seed), env...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("seed %s, %s: %v", seed, env, err)
		}
		return string(out)
	}
	first := simulate("1", "GOMAXPROCS=1")
	var r Result
	if err := json.Unmarshal([]byte(first), &r); err != nil || r.Packets < 10000 {
		t.Fatalf("%d packets, %v", r.Packets, err)
	}
	for _, f := range r.Flows {
		if f.Corrupt != "" || f.Error != "" || f.Received == 0 {
			t.Errorf("flow %+v", f)
		}
	}
	for _, env := range [][]string{{"GOMAXPROCS=1", "GOGC=10"}, {"GOMAXPROCS=2", "GOGC=50"}, {"GOMAXPROCS=8", "GOGC=off"}, {"GODEBUG=asyncpreemptoff=1"}} {
		if again := simulate("1", env...); again != first {
			t.Errorf("%s: another result:\n%s%s", env, first, again)
		}
	}
	if other := simulate("2", "GOMAXPROCS=1"); strings.Contains(other, r.Hash) {
		t.Error("another seed, the same packets")
	}
}

// TestBulk: one flow fills its link, and the table says so.
func TestBulk(t *testing.T) {
	r := run(t, `
duration = "20s"
[host.a]
traffic = [{kind = "bulk", to = "b", bytes = "10MB"}]
[host.b]
[[link]]
name = "l"
between = ["a", "b"]
impair = "rate=10mbit delay=10ms queue=50p"
`, Options{})
	f := r.Flows[0]
	if !f.Done || f.Received != 10e6 || f.Goodput < 9e6 || f.Goodput > 9.6e6 || f.Completion < 8 || f.Completion > 9 {
		t.Errorf("flow %+v", f)
	}
	if f.RTT == nil || f.RTT.Min < 0.020 || f.RTT.Max > 0.090 || f.Connect < 0.020 || f.Connect > 0.021 {
		t.Errorf("RTT %+v, connected after %v", f.RTT, f.Connect)
	}
	if y := r.Links[0].Ways[0]; y.From != "a" || y.To != "b" || y.Packets == 0 || y.Offered != y.Packets+y.Drops.Total() {
		t.Errorf("link %+v", y)
	}
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a-b:5001", "bulk", "10.0 MB", r.Hash, "a     b"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestEnd: a run without a duration ends with its flows, at once.
func TestEnd(t *testing.T) {
	const lab = `
[host.a]
traffic = [{kind = "bulk", to = "b", bytes = "100kB"}, {kind = "trace", to = "b", file = "testdata/sizes.csv"}]
[host.b]
[[link]]
between = ["a", "b"]
impair = "delay=10ms"
`
	r := run(t, lab, Options{})
	if f := r.Flows[1]; !f.Done || f.Received != 1000+20000+5 || f.Completion < 3.5 || f.Completion > 3.6 {
		t.Errorf("trace: %+v", f)
	}
	if r.Duration > 4 {
		t.Errorf("ended after %v s", r.Duration)
	}
	s := load(t, strings.ReplaceAll(lab, `, bytes = "100kB"`, ""), Options{})
	if _, err := s.Run(0); err == nil {
		t.Error("a run without an end was begun")
	}
}

// TestKinds: requests, echoes and datagrams are counted and timed.
func TestKinds(t *testing.T) {
	r := run(t, `
duration = "10s"
[host.a]
traffic = [
    {kind = "reqresp", to = "b", interval = "100ms", response = "1kB", stop = "9s"},
    {kind = "echo", to = "b", interval = "100ms", stop = "5s"},
    {kind = "onoff", to = "b", rate = "80kbit", request = "100B", stop = "5s"},
]
[host.b]
[[link]]
between = ["a", "b"]
impair-ab = "delay=30ms"
impair-ba = "delay=20ms"
`, Options{})
	near := func(what string, got, want, within float64) {
		if got < want-within || got > want+within {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	q, e, o := r.Flows[0], r.Flows[1], r.Flows[2]
	near("requests", float64(q.MessagesReceived), 90, 1)
	near("latency", q.Latency.Median, 0.050, 0.002)
	near("echoes", float64(e.MessagesReceived), 50, 1)
	near("echo's RTT", e.RTT.Max, 0.050, 0.0001)
	near("datagrams", float64(o.MessagesReceived), 500, 1)
	near("one way", o.Latency.Mean, 0.030, 0.0001)
	for _, f := range r.Flows {
		if !f.Done || f.Corrupt != "" {
			t.Errorf("%+v", f)
		}
	}
}

// TestErrors: what cannot be simulated is said with its place; what fails within,
// with the flow.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ traffic, want string }{
		{`{kind = "bulk", to = "a"}`, "test.toml:3:12: traffic from a to itself"},
		{`{kind = "onoff", to = "b"}`, "goes with rate"},
	} {
		lab, err := topo.Parse("test.toml", []byte("[host.b]\n[host.a]\ntraffic = ["+c.traffic+"]\n[[link]]\nbetween = [\"a\", \"b\"]\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Load(lab, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.traffic, err)
		}
	}
	r := run(t, `
duration = "300s"
[host.a]
traffic = [{kind = "bulk", to = "b", bytes = "1kB"}, {kind = "bulk", to = "b", cc = "none", bytes = "1kB"}]
[host.b]
[[link]]
between = ["a", "b"]
impair = "loss=100%"
`, Options{})
	if f := r.Flows[0]; !strings.Contains(f.Error, "timed out") {
		t.Errorf("%+v", f)
	}
	if f := r.Flows[1]; !strings.HasPrefix(f.Error, "congestion control none") {
		t.Errorf("%+v", f)
	}
}

// TestIdle: an idle day costs nothing.
func TestIdle(t *testing.T) {
	s := New(1)
	c := s.Clock()
	fired := 0
	for i := range 100 {
		c.At(time.Duration(i)*time.Hour, func() { fired++ })
	}
	if _, err := s.Run(24 * time.Hour); err != nil || fired != 25 || c.Now() != 24*time.Hour {
		t.Errorf("%d fired, now %v, %v", fired, c.Now(), err)
	}
}

// TestLoopback: a host's connections to itself take their turn too.
func TestLoopback(t *testing.T) {
	s := New(1)
	defer s.Close()
	h, err := s.Host("h", netstack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	a := stack.Addr{IP: netip.MustParseAddr("127.0.0.1"), Port: 80}
	server, e1 := h.Engine.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	client, e2 := h.Engine.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if e1|e2|server.Bind(a)|server.Listen(1) != 0 {
		t.Fatal("no sockets")
	}
	if err := client.Connect(a); err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	if client.Readiness()&unix.POLLOUT != 0 {
		t.Error("connected before time went on")
	}
	if _, err := s.Run(time.Second); err != nil || client.Readiness()&unix.POLLOUT == 0 {
		t.Errorf("not connected: %v", err)
	}
	peer, err2 := server.Accept()
	if err2 != 0 {
		t.Fatal(err2)
	}
	out, in := source{limit: 1 << 20}, sink{wrong: -1}
	for now := time.Second; in.got < out.limit && now < 10*time.Second; now += time.Millisecond {
		_, _ = client.WriteFrom(&out) // what does not fit comes later
		if _, err := s.Run(now); err != nil {
			t.Fatal(err)
		}
		_, _ = peer.ReadTo(&in) // there may be nothing
	}
	if in.got != out.limit || in.wrong >= 0 {
		t.Errorf("%d bytes, wrong from %d", in.got, in.wrong)
	}
}
