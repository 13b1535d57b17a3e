package sweep

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const scenarioText = `
duration = "3s"
[host.a]
traffic = [{kind = "bulk", to = "b", cc = "${cc}", count = 2}, {kind = "echo", to = "b", interval = "20ms", request = 200}]
[host.b]
[router.r]
[[link]]
between = ["a", "r"]
[[link]]
name = "line"
between = ["r", "b"]
impair = "rate=10mbit delay=${delay}ms jitter=1ms loss=0.5% dup=0.1% queue=50p"
[sweep]
delay = {from = 5, to = 45, step = 20}
cc = ["reno", "cubic"]
`

// open makes the plan of a lab file with this text.
func open(t *testing.T, text string, set ...string) (*Plan, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lab.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Open(path, set)
}

// TestSimulations sees that a simulation depends neither on the processors and memory
// that it has nor on what its process did before.
func TestSimulations(t *testing.T) {
	p, err := open(t, scenarioText)
	if err != nil {
		t.Fatal(err)
	}
	ref := ""
	for _, tt := range []struct {
		env     []string
		perProc int
	}{
		{nil, 0},
		{nil, 1},
		{[]string{"GOMAXPROCS=2"}, 0},
		{[]string{"GOGC=20"}, 0},
		{[]string{"GOMAXPROCS=2", "GOGC=off"}, 1},
	} {
		dir := t.TempDir()
		c := config(dir)
		c.Worker = append(append([]string{"env"}, tt.env...), os.Args[0], "simulate")
		c.PerProc = tt.perProc
		if s := run(t, p, c); s.Failed > 0 {
			t.Fatalf("%d rows failed:\n%s", s.Failed, read(t, c.Outputs[0]))
		}
		if ref == "" {
			ref = dir
			continue
		}
		t.Log(tt.env, tt.perProc)
		same(t, ref, dir)
	}
}

// TestOpenErrors sees that what is wrong in any row is said before anything runs.
func TestOpenErrors(t *testing.T) {
	for want, set := range map[string]string{
		"lab.toml:12:10: impair: \"delay=xms\"": "delay=x",
		"(with delay=x cc=reno)":                "delay=x",
		"no string of the file has ${speed}":    "speed=1",
		"want name=value":                       "delay",
	} {
		if _, err := open(t, scenarioText, "delay=1", set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", set, err, want)
		}
	}
}
