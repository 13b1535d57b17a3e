package lab_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sweepLab is 8 short simulations.
const sweepLab = `
duration = "4s"
[host.a]
traffic = [{kind = "bulk", to = "b", bytes = "400kB", cc = "${cc}"}, {kind = "reqresp", to = "b", request = 100, response = 2000, interval = "50ms", stop = "2s"}]
[host.b]
[[link]]
name = "line"
between = ["a", "b"]
impair = "rate=${rate} delay=10ms loss=1% queue=50p"
[sweep]
rate = ["2mbit", "10mbit"]
cc = ["reno", "cubic"]
seed = {from = 1, to = 2}
`

// sweeper runs alplab in a folder, as an unprivileged user.
type sweeper struct {
	*bench
}

func newSweeper(t *testing.T, text string) sweeper {
	t.Helper()
	s := sweeper{newBench(t)}
	s.file("lab.toml", text)
	return s
}

// want runs alplab, wants an exit status, and gives what was printed.
func (s sweeper) want(status int, args ...string) string {
	s.t.Helper()
	out, errs, got := s.run(args...)
	if got != status {
		s.t.Fatalf("alplab %s: status %d, want %d\n%s%s", strings.Join(args, " "), got, status, out, errs)
	}
	return out + errs
}

// text is what is in a file; of none, nothing.
func (s sweeper) text(name string) []byte {
	b, _ := os.ReadFile(filepath.Join(s.dir, name))
	return b
}

// same compares tables.
func (s sweeper) same(a, b string) {
	s.t.Helper()
	if len(s.text(a)) == 0 || !bytes.Equal(s.text(a), s.text(b)) {
		s.t.Errorf("%s and %s differ:\n%s\n%s", a, b, s.text(a), s.text(b))
	}
}

// TestSweepSameTable runs one sweep in many ways.
func TestSweepSameTable(t *testing.T) {
	s := newSweeper(t, sweepLab)
	s.want(0, "sweep", "lab.toml", "-o", "ref.csv", "-o", "ref.parquet", "-j", "1")
	if n := bytes.Count(s.text("ref.csv"), []byte("\n")); n != 9 {
		t.Fatalf("%d lines, want 9:\n%s", n, s.text("ref.csv"))
	}
	s.want(0, "sweep", "lab.toml", "-o", "par.csv", "-o", "par.parquet", "-j", "4")
	s.same("ref.csv", "par.csv")
	s.same("ref.parquet", "par.parquet")
	for _, shard := range []string{"3/3", "1/3", "2/3"} {
		s.want(0, "sweep", "lab.toml", "-o", "sh.csv", "--shard", shard)
	}
	s.want(2, "merge", "-o", "sh.csv", "sh.csv.1-of-3.rows", "sh.csv.3-of-3.rows")
	s.want(0, "merge", "-o", "sh.csv", "-o", "sh.parquet", "sh.csv.1-of-3.rows", "sh.csv.3-of-3.rows", "sh.csv.2-of-3.rows")
	s.same("ref.csv", "sh.csv")
	s.same("ref.parquet", "sh.parquet")
}

// TestSweepKilled kills a sweep with SIGKILL, again and again.
func TestSweepKilled(t *testing.T) {
	s := newSweeper(t, sweepLab)
	s.want(0, "sweep", "lab.toml", "-o", "ref.csv")
	kills := 0
	for range 30 {
		had := bytes.Count(s.text("out.csv.rows"), []byte("\n"))
		c := s.command("sweep", "lab.toml", "-o", "out.csv", "-j", "2")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Wait() }()
		for ended := false; !ended; {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				if kills == 0 {
					t.Error("it was done before it could be killed")
				}
				s.same("ref.csv", "out.csv")
				return
			case <-time.After(5 * time.Millisecond):
			}
			if bytes.Count(s.text("out.csv.rows"), []byte("\n")) >= had+2 {
				_ = c.Process.Kill()
				if err := <-done; err != nil {
					kills++
				}
				ended = true
			}
		}
	}
	t.Error("it never came to an end")
}

// TestSweepFailures sees failed rows, and what a mistake is told.
func TestSweepFailures(t *testing.T) {
	s := newSweeper(t, sweepLab)
	long := strings.Replace(sweepLab, `, bytes = "400kB"`, "", 1)
	long = strings.Replace(long, `"4s"`, `"100h"`, 1)
	s.file("long.toml", long)
	out := s.want(1, "sweep", "long.toml", "--timeout", "300ms", "--set", "seed=1", "--set", "cc=cubic")
	if !strings.Contains(out, "2 rows, 2 of them failed") {
		t.Errorf("said\n%s", out)
	}
	if n := bytes.Count(s.text("long.csv"), []byte("time limit of 300ms exceeded")); n != 2 {
		t.Errorf("%d rows have the time limit:\n%s", n, s.text("long.csv"))
	}
	for want, args := range map[string][]string{
		"another grid of parameters":  {"sweep", "long.toml", "--set", "seed=2"},
		"lab.toml:9:10: impair":       {"sweep", "lab.toml", "--set", "rate=fast"},
		"no string of the file has $": {"sweep", "lab.toml", "--set", "speed=1"},
		"want a name that ends in":    {"sweep", "lab.toml", "-o", "x.xls"},
		"shard \"9/8\"":               {"sweep", "lab.toml", "--shard", "9/8"},
		"not the log of a sweep":      {"merge", "lab.toml", "-o", "x.csv"},
	} {
		if out := s.want(2, args...); !strings.Contains(out, want) {
			t.Errorf("alplab %s: said %q, want %q", strings.Join(args, " "), out, want)
		}
	}
	if out := s.want(0, "sweep", "lab.toml", "--k8s", "img", "-n", "4"); !strings.Contains(out, "completionMode: Indexed") {
		t.Errorf("a job without completionMode:\n%s", out)
	}
}

// TestSweepPython reads a table with the csv module.
func TestSweepPython(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	s := newSweeper(t, sweepLab)
	s.want(0, "sweep", "lab.toml", "-o", "out.csv", "--set", "cc=cubic")
	out, err := exec.Command("python3", "-c", `
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1], newline="")))
assert [r["row"] for r in rows] == ["0", "1", "2", "3"], rows
for r in rows:
    assert None not in r and r["error"] == "" and len(r["hash"]) == 64, r
    assert 0 < float(r["flow.a-b:5001.goodput_bps"]) < float(r["rate"].replace("mbit", "e6")), r
    assert 0 < float(r["link.line.ab.utilisation"]) <= 1 and int(r["link.line.ab.drops"]) > 0, r
    assert 0.02 < float(r["flow.a-b:5001.rtt_mean_s"]) < 1, r
assert len({r["hash"] for r in rows}) == 4, "runs with other parameters are the same"
`, filepath.Join(s.dir, "out.csv")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
