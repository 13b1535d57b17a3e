package sweep

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/alptrace/alptrace/sim/sweep/grid"
)

// TestMain is also the worker process of the tests.
func TestMain(m *testing.M) {
	scenarios := map[string]func(string, []byte) (Runner, error){
		"worker":   func(string, []byte) (Runner, error) { return queue, nil },
		"simulate": Simulate,
	}
	if open := scenarios[os.Args[len(os.Args)-1]]; open != nil {
		if err := Work(open); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// queue is a scenario that can be computed: an M/D/1 queue of utilisation rho with a
// service time of 1, whose mean wait is rho / (2 (1-rho)) (Pollaczek and Khinchine).
// The parameter "act" makes it misbehave.
func queue(params []grid.Param) ([]Cell, error) {
	m := grid.Map(params)
	switch m["act"] {
	case "error":
		return nil, errors.New("no such thing")
	case "panic":
		panic("lost at 0xc000123456")
	case "goroutine":
		go func() { panic("elsewhere") }()
		select {}
	case "hang":
		for { //nolint:staticcheck // as a broken simulation does
		}
	case "exit":
		os.Exit(3)
	case "more":
		return []Cell{{"extra", TextValue("a,\"b\"")}, {"wait", FloatValue(1)}}, nil
	case "slow":
		time.Sleep(20 * time.Millisecond)
	}
	rho, err := strconv.ParseFloat(m["rho"], 64)
	if err != nil {
		return nil, err
	}
	seed, _ := strconv.ParseUint(m["seed"], 10, 64)
	rng := rand.New(rand.NewPCG(seed, 0))
	const n = 20000
	var now, free, sum float64
	for range n {
		now += rng.ExpFloat64() / rho
		start := max(now, free)
		sum += start - now
		free = start + 1
	}
	return []Cell{
		{"wait", FloatValue(sum / n)},
		{"served", IntValue(n)},
		{"theory", FloatValue(rho / (2 * (1 - rho)))},
	}, nil
}

const queueFile = "[sweep]\nrho = {from = 0.1, to = 0.7, step = 0.2}\nseed = {from = 1, to = 6}\n"

// plan is a plan of a file's text.
func plan(t *testing.T, text string, set ...string) *Plan {
	t.Helper()
	g, err := grid.Parse("q.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Set(set); err != nil {
		t.Fatal(err)
	}
	return &Plan{Name: "q.toml", Text: []byte(text), Grid: *g, Program: "test"}
}

// config runs a plan into dir/out.csv and dir/out.parquet.
func config(dir string) Config {
	out := filepath.Join(dir, "out.csv")
	return Config{
		Shard: Whole, Outputs: []string{out, filepath.Join(dir, "out.parquet")},
		Log: out + ".rows", Worker: []string{os.Args[0], "worker"}, Jobs: 2,
	}
}

func run(t *testing.T, p *Plan, c Config) Summary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := Run(ctx, p, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same compares the tables of two runs.
func same(t *testing.T, a, b string) {
	t.Helper()
	for _, f := range []string{"out.csv", "out.parquet"} {
		if x, y := read(t, filepath.Join(a, f)), read(t, filepath.Join(b, f)); !bytes.Equal(x, y) {
			t.Errorf("%s differs:\n%.2000q\n%.2000q", f, x, y)
		}
	}
}

func TestTable(t *testing.T) {
	dir := t.TempDir()
	s := run(t, plan(t, queueFile), config(dir))
	if s.Rows != 24 || s.Ran != 24 || s.Failed != 0 {
		t.Errorf("summary %+v", s)
	}
	recs, err := csv.NewReader(bytes.NewReader(read(t, filepath.Join(dir, "out.csv")))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(recs[0], " "); got != "row rho seed error wait served theory" {
		t.Errorf("columns %q", got)
	}
	for i, r := range recs[1:] {
		wait, err1 := strconv.ParseFloat(r[4], 64)
		theory, err2 := strconv.ParseFloat(r[6], 64)
		if r[0] != strconv.Itoa(i) || err1 != nil || err2 != nil || wait < theory*0.85 || wait > theory*1.15 {
			t.Errorf("row %d: %v", i, r)
		}
	}
	if _, err := os.Stat(config(dir).Log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log is still there: %v", err)
	}
}

// TestSameBytes sees that neither workers, processes nor shards change the table.
func TestSameBytes(t *testing.T) {
	p, ref := plan(t, queueFile), t.TempDir()
	run(t, p, config(ref))
	for _, tt := range []struct{ jobs, perProc int }{{1, 0}, {5, 0}, {2, 1}} {
		dir := t.TempDir()
		c := config(dir)
		c.Jobs, c.PerProc = tt.jobs, tt.perProc
		run(t, p, c)
		same(t, ref, dir)
	}
	for _, n := range []int{2, 7, 30} {
		dir := t.TempDir()
		var logs []string
		for i := n; i >= 1; i-- {
			c := config(dir)
			c.Shard = Shard{i, n}
			c.Log = filepath.Join(dir, fmt.Sprint(i))
			run(t, p, c)
			logs = append(logs, c.Log)
		}
		table, failed, err := Merge(logs)
		if err != nil || failed != 0 {
			t.Fatalf("%d shards: %d failed, %v", n, failed, err)
		}
		if err := WriteTables(config(dir).Outputs, table); err != nil {
			t.Fatal(err)
		}
		same(t, ref, dir)
	}
}

// stopper is progress that ends the sweep after some rows.
type stopper struct {
	after int
	stop  context.CancelFunc
}

func (s *stopper) Start(int, int) {}
func (s *stopper) End()           {}
func (s *stopper) Row(Row, []grid.Param) {
	if s.after--; s.after == 0 {
		s.stop()
	}
}

// TestResume interrupts a sweep again and again, and damages its log.
func TestResume(t *testing.T) {
	p, ref, dir := plan(t, queueFile, "act=slow"), t.TempDir(), t.TempDir()
	run(t, p, config(ref))
	c := config(dir)
	ran := 0
	for i := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		c.Progress = &stopper{after: 3, stop: cancel}
		s, err := Run(ctx, p, c)
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		ran += s.Ran
		b := read(t, c.Log)
		switch i {
		case 0: // the last line is cut off
			b = b[:len(b)-5]
		case 1: // what was written last never came to the disk
			b = append(b, make([]byte, 100)...)
		case 2: // a byte of the last line is wrong
			b[len(b)-3] ^= 1
		}
		if err := os.WriteFile(c.Log, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	c.Progress = nil
	s := run(t, p, c)
	if s.Ran == 0 || s.Ran+ran < 24 || s.Ran+ran > 26 {
		t.Errorf("%d rows ran, %d of them at last: at most two were damaged", s.Ran+ran, s.Ran)
	}
	same(t, ref, dir)
}

// TestTornHeader begins anew where a crash left less than a header.
func TestTornHeader(t *testing.T) {
	p, ref, dir := plan(t, queueFile), t.TempDir(), t.TempDir()
	run(t, p, config(ref))
	whole := must(line(p.header(Whole)))
	for _, n := range []int{0, 1, 8, 9, 100, len(whole) - 1} {
		c := config(dir)
		if err := os.WriteFile(c.Log, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		run(t, p, c)
		same(t, ref, dir)
	}
}

func TestFailures(t *testing.T) {
	text := "[sweep]\nact = [\"error\", \"panic\", \"goroutine\", \"hang\", \"exit\", \"\", \"more\"]\nrho = 0.5\nseed = 1"
	p, dir := plan(t, text), t.TempDir()
	c := config(dir)
	c.Timeout = time.Second
	s := run(t, p, c)
	if s.Failed != 5 {
		t.Errorf("summary %+v", s)
	}
	want := `row,act,rho,seed,error,wait,served,theory,extra
0,error,0.5,1,no such thing,,,,
1,panic,0.5,1,panic: lost at 0x...,,,,
2,goroutine,0.5,1,panic: elsewhere,,,,
3,hang,0.5,1,time limit of 1s exceeded,,,,
4,exit,0.5,1,the worker ended: exit status 3,,,,
`
	got := string(read(t, c.Outputs[0]))
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s...", got, want)
	}
	if tail := `6,more,0.5,1,,1,,,"a,""b"""` + "\n"; !strings.HasSuffix(got, tail) {
		t.Errorf("got\n%s\nwant the end %s", got, tail)
	}
	l, err := ReadLog(c.Log)
	if err != nil {
		t.Fatal(err)
	}
	if d := l.Rows[1].Detail; !strings.Contains(d, "sweep_test.go") {
		t.Errorf("no stack trace of the panic: %q", d)
	}
	if s = run(t, p, c); s.Ran != 0 || s.Failed != 5 {
		t.Errorf("again: %+v", s)
	}
	c.Retry = true
	if s = run(t, p, c); s.Ran != 5 || s.Failed != 5 {
		t.Errorf("retried: %+v", s)
	}
	if b := string(read(t, c.Outputs[0])); b != got {
		t.Errorf("retried: got\n%s\nwant\n%s", b, got)
	}
}

// TestChanged sees that rows of different sweeps do not mix.
func TestChanged(t *testing.T) {
	dir := t.TempDir()
	c := config(dir)
	p := plan(t, queueFile, "act=error")
	run(t, p, c) // leaves a log, as rows failed
	other := plan(t, queueFile+"# changed", "act=error")
	input := plan(t, queueFile, "act=error")
	input.Inputs = []File{{"trace", []byte("1")}}
	program := plan(t, queueFile, "act=error")
	program.Program = "newer"
	for what, q := range map[string]*Plan{
		"scenario has changed": other, "scenario, or": input,
		"version of the program (test, not newer)": program,
		"grid of parameters":                       plan(t, queueFile, "act=error", "seed=1"),
	} {
		_, err := Run(t.Context(), q, c)
		var m *MismatchError
		if !errors.As(err, &m) || !strings.Contains(err.Error(), what) {
			t.Errorf("error %v, want %q", err, what)
		}
	}
	c.Restart = true
	if s := run(t, other, c); s.Ran != 24 {
		t.Errorf("restarted: %+v", s)
	}
	c.Restart = false
	if err := os.WriteFile(c.Log, []byte("my diary\nof a year\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), p, c); err == nil || !strings.Contains(err.Error(), "not the log of a sweep") {
		t.Errorf("error %v", err)
	}
}

func TestLocked(t *testing.T) {
	c, p := config(t.TempDir()), plan(t, queueFile)
	l, err := OpenLog(c.Log, p.header(Whole))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Run(t.Context(), p, c); err == nil || !strings.Contains(err.Error(), "another sweep") {
		t.Errorf("error %v", err)
	}
}

func TestMergeErrors(t *testing.T) {
	dir := t.TempDir()
	shard := func(p *Plan, s Shard, name string) string {
		c := config(dir)
		c.Shard, c.Log = s, filepath.Join(dir, name)
		run(t, p, c)
		return c.Log
	}
	small := "[sweep]\nrho = [0.5]\nseed = {from = 1, to = 7}\n"
	p := plan(t, small)
	a, b := shard(p, Shard{1, 5}, "a"), shard(p, Shard{3, 5}, "b")
	again, quarter := shard(p, Shard{1, 5}, "again"), shard(p, Shard{1, 4}, "quarter")
	changed := shard(plan(t, small+"#"), Shard{2, 5}, "changed")
	short := filepath.Join(dir, "short")
	whole := read(t, a)
	if err := os.WriteFile(short, whole[:len(whole)-1], 0o666); err != nil {
		t.Fatal(err)
	}
	for want, paths := range map[string][]string{
		"no shards":                 {},
		"are missing: 2, 4-5":       {a, b},
		"are both shard 1/5":        {a, b, again},
		"not of one sweep":          {a, quarter},
		"another scenario":          {a, changed},
		"has 1 of its 2 rows":       {short, b},
		"not the log of a sweep":    {a, os.Args[0]},
		"no such file or directory": {a, "nowhere"},
	} {
		_, _, err := Merge(paths)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", paths, err, want)
		}
	}
}

func TestParseShard(t *testing.T) {
	for _, tt := range []struct{ in, env, want string }{
		{"1/1", "", "1/1"}, {"3/8", "", "3/8"},
		{"auto/4", "JOB_COMPLETION_INDEX=0", "1/4"},
		{"auto/4", "SLURM_ARRAY_TASK_ID=4", "4/4"},
		{"auto/auto", "SLURM_ARRAY_TASK_ID=10 SLURM_ARRAY_TASK_MIN=10 SLURM_ARRAY_TASK_COUNT=3", "1/3"},
		{"0/4", "", "error"}, {"5/4", "", "error"}, {"1", "", "error"}, {"1/0", "", "error"}, {"x/2", "", "error"},
		{"auto/4", "", "error"}, {"auto/4", "JOB_COMPLETION_INDEX=4", "error"}, {"1/auto", "", "error"},
	} {
		env := map[string]string{}
		for _, e := range strings.Fields(tt.env) {
			k, v, _ := strings.Cut(e, "=")
			env[k] = v
		}
		s, err := ParseShard(tt.in, func(k string) string { return env[k] })
		got := s.String()
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%q with %q: %v, %v", tt.in, tt.env, got, err)
		}
	}
}

// TestParquet reads a table back.
func TestParquet(t *testing.T) {
	table := &Table{
		Columns: []Column{{"row", Int}, {"b", Float}, {"a", Text}, {"none", Null}},
		Rows:    [][]Value{{IntValue(0), FloatValue(0.5), {}, {}}, {IntValue(1), {}, TextValue("x"), {}}},
	}
	path := filepath.Join(t.TempDir(), "t.parquet")
	if err := WriteTables([]string{path}, table); err != nil {
		t.Fatal(err)
	}
	b := read(t, path)
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range f.Schema().Fields() {
		names = append(names, c.Name())
	}
	if got := strings.Join(names, " "); got != "row b a none" {
		t.Errorf("columns %q", got)
	}
	rows := f.RowGroups()[0].Rows()
	defer rows.Close()
	got := make([]parquet.Row, 2)
	if n, _ := rows.ReadRows(got); n != 2 {
		t.Fatalf("%d rows", n)
	}
	if s := fmt.Sprint(got); s != "[[0 0.5 <null> <null>] [1 <null> x <null>]]" {
		t.Errorf("rows %s", s)
	}
}

// FuzzLog sees that no bytes make the reader of logs panic or accept rows beyond the grid.
func FuzzLog(f *testing.F) {
	h := Header{Schema: schema, Shard: Whole, Grid: grid.Grid{Axes: []grid.Axis{{Names: []string{"a"}, Points: [][]string{{"1"}, {"2"}}}}}}
	b := must(line(h))
	f.Add(b)
	f.Add(append(b, must(line(Row{Index: 1, Cells: []Cell{{"x", FloatValue(1)}}}))...))
	f.Add(append(b, must(line(Row{Index: 9}))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, end, err := readLog(bytes.NewReader(b), "f")
		if err != nil {
			return
		}
		if end+l.Dropped != int64(len(b)) {
			t.Errorf("%d and %d bytes of %d", end, l.Dropped, len(b))
		}
	})
}
