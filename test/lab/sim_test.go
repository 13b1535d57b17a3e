package lab_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alptrace/alptrace/observe/tcplog"
	"github.com/alptrace/alptrace/sim"
)

// simulated runs alplab sim --json, with variables of the environment.
func simulated(b *bench, env []string, args ...string) *sim.Result {
	b.t.Helper()
	c := b.command(append([]string{"sim", "--json"}, args...)...)
	c.Env = append(c.Env, env...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		b.t.Fatalf("alplab sim %s: %v\n%s", args, err, stderr.String())
	}
	r := &sim.Result{}
	if err := json.Unmarshal(out, r); err != nil {
		b.t.Fatalf("%v in\n%s", err, out)
	}
	return r
}

// simBench has the examples of simulations in its folder.
func simBench(t *testing.T, tools ...string) *bench {
	b := newBench(t, tools...)
	files, err := filepath.Glob("../../examples/sim/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.file("sim-"+filepath.Base(f), string(text))
	}
	return b
}

// TestSimSame: the command's result is the same for one seed, whatever the number
// of processors and the garbage collector, and whether it records; another seed's
// is another.
func TestSimSame(t *testing.T) {
	b := simBench(t)
	dumbbell := []string{"sim-dumbbell.toml", "--duration", "8s"}
	first := simulated(b, nil, dumbbell...)
	if len(first.Hash) != 64 || first.Duration != 8 || first.Packets < 10000 || len(first.Flows) != 4 {
		t.Fatalf("%+v", first)
	}
	for _, env := range [][]string{{"GOMAXPROCS=1", "GOGC=20"}, {"GOMAXPROCS=2"}, {"GOMAXPROCS=8", "GOGC=off"}} {
		if r := simulated(b, env, dumbbell...); r.Hash != first.Hash || r.Events != first.Events {
			t.Errorf("%s: hash %s, first %s", env, r.Hash, first.Hash)
		}
	}
	if r := simulated(b, nil, append(dumbbell, "-o", "run")...); r.Hash != first.Hash {
		t.Errorf("recorded: hash %s, first %s", r.Hash, first.Hash)
	}
	if r := simulated(b, nil, append(dumbbell, "--seed", "8")...); r.Hash == first.Hash || r.Seed != 8 {
		t.Errorf("seed %d: hash %s", r.Seed, r.Hash)
	}
}

// TestSimExamples: every example runs, nothing arrives changed, and both outputs
// agree.
func TestSimExamples(t *testing.T) {
	b := simBench(t)
	files, _ := filepath.Glob(filepath.Join(b.dir, "sim-*.toml"))
	for _, f := range files {
		r := simulated(b, nil, f, "--duration", "8s")
		for _, f := range r.Flows {
			if f.Error != "" || f.Corrupt != "" || f.Received == 0 {
				t.Errorf("%s: %+v", r.Name, f)
			}
		}
		out, errs, code := b.run("sim", f, "--duration", "8s")
		if code != 0 || !strings.Contains(out, "hash "+r.Hash) {
			t.Errorf("%s: status %d, want hash %s in\n%s%s", f, code, r.Hash, out, errs)
		}
	}
}

// TestSimCapture: Wireshark reads what a simulation has captured. Its times are
// virtual, the round trip is that of the links, and all the bytes are there.
func TestSimCapture(t *testing.T) {
	b := simBench(t, "tshark")
	b.file("pair.toml", `
duration = "5s"
[host.a]
traffic = [
    {kind = "bulk", to = "b", bytes = "100kB", start = "1s"},
    {kind = "bulk", to = "b", bytes = "50kB", start = "2s", ip = 6},
]
[host.b]
[router.r]
[[link]]
between = ["a", "r"]
impair = "delay=20ms"
[[link]]
between = ["r", "b"]
`)
	simulated(b, nil, "pair.toml", "-o", "run")
	s := &seen{t, filepath.Join(b.dir, "run")}
	if rows := s.fields("a-eth0.pcapng", "tcp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed", "frame.number"); len(rows) > 0 {
		t.Errorf("malformed: %s", rows)
	}
	for _, c := range []struct {
		filter string
		start  float64
		bytes  float64
	}{{"ip", 1, 100e3}, {"ipv6 && tcp", 2, 50e3}} {
		rows := s.fields("a-eth0.pcapng", c.filter+" && tcp.flags.syn == 1", "frame.time_epoch")
		if len(rows) != 2 {
			t.Fatalf("%s: SYNs %s", c.filter, rows)
		}
		epoch := float64(sim.Epoch.Unix())
		syn, answer := number(t, rows[:1], 0)-epoch, number(t, rows[1:], 0)-epoch
		if math.Abs(syn-c.start) > 1e-6 || math.Abs(answer-syn-0.040) > 1e-6 {
			t.Errorf("%s: SYN at %.9f, answer at %.9f", c.filter, syn, answer)
		}
		if n := number(t, s.fields("b-eth0.pcapng", c.filter+" && tcp.dstport >= 5001 && tcp.dstport <= 5002", "tcp.len"), 0); n != c.bytes {
			t.Errorf("%s: %v bytes, want %v", c.filter, n, c.bytes)
		}
	}
	f, err := os.Open(s.path("a.tcp.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, h, err := tcplog.NewReader(f)
	if err != nil || h.Clock != tcplog.Virtual || !h.Start.Equal(sim.Epoch) || h.Host != "a" {
		t.Errorf("log: %+v, %v", h, err)
	}
}

// TestSimRefuses: errors have the place in the file, and a flow that fails is the
// command's status.
func TestSimRefuses(t *testing.T) {
	b := simBench(t)
	b.file("bad.toml", "[host.a]\ntcp = \"mine\"\n")
	if _, errs, code := b.run("sim", "bad.toml"); code == 0 || !strings.Contains(errs, "bad.toml:2:7: tcp") {
		t.Errorf("status %d: %s", code, errs)
	}
	b.file("cut.toml", `
duration = "300s"
[host.a]
traffic = [{kind = "bulk", to = "b", bytes = "1kB"}]
[host.b]
[[link]]
between = ["a", "b"]
impair = "loss=100%"
`)
	if out, errs, code := b.run("sim", "cut.toml"); code != 1 || !strings.Contains(out, "timed out") {
		t.Errorf("status %d: %s%s", code, out, errs)
	}
}
