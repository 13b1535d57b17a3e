package topo

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const dumbbell = `
name = "dumbbell"
seed = 7
duration = "60s"
[host.client1]
run = ["curl -so /dev/null 'http://server1/a b'"]
traffic = [{kind = "bulk", to = "server1", stop = "30s", bytes = "10MB", port = 5001, count = "${n}", cc = "cubic"}]
[host.client2]
run = [{cmd = "curl server2", name = "get", env = {A = "b"}, start = "1s", after = "server1:80", tcp = "gvisor"}]
[host.server1]
run = [{cmd = "nginx", background = true}]
[host.server2]
[router.r1]
[router.r2]
[[link]]
between = ["client1", "r1"]
[[link]]
between = ["client2", "r1"]
[[link]]
name = "bottleneck"
between = ["r1", "r2"]
addrs = ["10.1.0.1/24", "10.1.0.2/24 fd01::2/64"]
impair = "rate=${rate} delay=20ms queue=100p"
impair-ba = "delay=1ms"
mtu = 1400
[[link]]
between = ["r2", "server1"]
[[link]]
between = ["r2", "server2"]
[sweep]
rate = ["10mbit", "100mbit"]
n = {from = 4, to = 6}
`

func mustParse(t *testing.T, text string, params map[string]string) *Lab {
	t.Helper()
	l, err := Parse("dir/x.toml", []byte(text), params)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDumbbell(t *testing.T) {
	l := mustParse(t, dumbbell, map[string]string{"rate": "20mbit"})
	if l.Name != "dumbbell" || l.Seed != 7 || l.Duration != time.Minute {
		t.Errorf("%+v", l)
	}
	c1, c2 := l.Node("client1"), l.Node("client2")
	if got := fmt.Sprintf("%q", c1.Run[0].Argv); got != `["curl" "-so" "/dev/null" "http://server1/a b"]` {
		t.Error(got)
	}
	if p := c2.Run[0]; p.Name != "get" || p.Start != time.Second || p.After.Host.Name != "server1" || p.After.Port != 80 || p.TCP != "gvisor" || p.Env[0] != "A=b" {
		t.Errorf("%+v", p)
	}
	if tr := c1.Traffic[0]; tr.Bytes != 1e7 || tr.Count != 4 || tr.To.Name != "server1" || tr.CC != "cubic" {
		t.Errorf("%+v", tr)
	}
	b := l.Link("bottleneck")
	if b.MTU != 1400 || b.AB.Rate != 2e7 || b.BA.Rate != 0 || b.BA.Delay != time.Millisecond || b.AB.Seed == 0 || b.AB.Seed == b.BA.Seed {
		t.Errorf("%+v", b)
	}
	if got := fmt.Sprint(c1.Ifaces[0].Addrs); got != "[10.0.1.1/24 fd00:a1b:0:1::1/64]" {
		t.Error(got)
	}
	if got := fmt.Sprint(c1.Routes); got != "[{0.0.0.0/0 10.0.1.2 0} {::/0 fd00:a1b:0:1::2 0}]" {
		t.Error(got)
	}
	want := "[{10.0.3.0/24 10.1.0.2 2} {fd00:a1b:0:3::/64 fd01::2 2} {10.0.4.0/24 10.1.0.2 2} {fd00:a1b:0:4::/64 fd01::2 2}]"
	if got := fmt.Sprint(l.Node("r1").Routes); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := fmt.Sprint(l.Lookup(c1, "server1")); got != "[10.0.3.2 fd00:a1b:0:3::2]" {
		t.Error(got)
	}
	if got := fmt.Sprint(l.Sweep); !strings.Contains(got, "[n] [[4] [5] [6]]") || !strings.Contains(got, "[rate] [[10mbit] [100mbit]]") {
		t.Error(got)
	}
}

func TestNAT(t *testing.T) {
	l := mustParse(t, `
[host.in1]
[host.out1]
[switch.s]
[router.gate]
nat = "up"
[router.far]
[[link]]
between = ["in1", "s"]
[[link]]
between = ["s", "gate"]
[[link]]
name = "up"
between = ["gate", "far"]
[[link]]
between = ["far", "out1"]
`, nil)
	if n := l.Node("gate").NAT; n != 1 {
		t.Errorf("nat is interface %d", n)
	}
	for _, r := range append(l.Node("far").Routes, l.Node("out1").Routes...) {
		if r.Dst.Bits() > 0 && r.Dst.Contains(netip.MustParseAddr("10.0.1.1")) {
			t.Errorf("a route to what is behind the NAT: %+v", r)
		}
	}
	if got := l.Lookup(l.Node("in1"), "out1"); len(got) != 2 {
		t.Error(got)
	}
	if got := l.Lookup(l.Node("out1"), "gate"); fmt.Sprint(got) != "[10.0.2.1 fd00:a1b:0:2::1]" {
		t.Error(got)
	}
	if in, s := l.Node("in1"), l.Node("gate"); in.Ifaces[0].Addrs[0].Masked() != s.Ifaces[0].Addrs[0].Masked() {
		t.Error("the switch does not join a subnet")
	}
}

func TestErrors(t *testing.T) {
	const ok = "[host.a]\n[host.b]\n[[link]]\nbetween = [\"a\", \"b\"]\n"
	tests := []struct {
		text string
		want []string // of the errors, in order
	}{
		{"name = ", []string{"x.toml:1:7: "}},
		{"[host.a]\n[host.a]\n", []string{"x.toml:2:"}},
		{"nam = 1\n" + ok, []string{`x.toml:1:1: "nam": unknown in a lab file, which may have duration, host`}},
		{ok + "mtu = 100\nimpair = 'dealy=1ms'\n", []string{"x.toml:5:7: \"100\": want a number from 576", "x.toml:6:10: impair: \"dealy=1ms\": unknown word"}},
		{"[host.a]\nrun = [\"x 'y\", {cmd=\"\"}]\n", []string{"x.toml:2:8: command", "x.toml:2:"}},
		{"[host.a]\n[[link]]\nbetween = [\"a\", \"c\"]\n", []string{`x.toml:3:17: "c": want the name`}},
		{"[host.a]\nrun = [{cmd = 'x', after = 'q:1'}]\n", []string{`x.toml:2:28: "q:1": want a host`}},
		{ok + "addrs = ['10.0.0.1/24', '10.0.0.1/24']\n", []string{"both have the address 10.0.0.1"}},
		{ok + "addrs = ['10.0.0.1', '10.0.0.1/33']\n", []string{"x.toml:5:10: ", "x.toml:5:22: "}},
		{ok + "[[link]]\nbetween = ['b', 'a']\n" + "[[link]]\nbetween = ['a', 'b']\n", []string{`another link is named "a-b", at x.toml:3:3`}},
		{"[switch.a]\n[switch.b]\n[switch.c]\n[[link]]\nbetween=['a','b']\n[[link]]\nbetween=['b','c']\n[[link]]\nbetween=['c','a']\n", []string{"x.toml:8:3: the link c-a closes a loop"}},
		{"duration = '${no}'\n", []string{"x.toml:1:12: ${no}: there is no such parameter", "x.toml:1:12: want a time"}},
		{"[sweep]\na = []\nb = {from = 3, to = 1}\n", []string{`x.toml:2:1: sweep: a has no values`, "x.toml:3:1: "}},
		{"[sweep]\nunused = [1]\nseed = [2]\n", []string{"x.toml:2:1: parameter unused: no string of the file has ${unused}"}},
		{"[router.r]\nnat = 'x'\n", []string{`x.toml:2:7: "x": want the name of a link of r`}},
		{"[host.a]\ntraffic = [{kind = 'bulk'}, {kind = 'x', to = 'a'}]\n", []string{"x.toml:2:12: traffic: want kind and to", `"x": want bulk`}},
		{"[host.a]\n[router.a]\n", []string{`x.toml:2:9: "a" is also a host, at x.toml:1:7`}},
	}
	for _, tt := range tests {
		_, err := Parse("x.toml", []byte(tt.text), nil)
		var errs Errors
		if !errors.As(err, &errs) {
			t.Errorf("%s\ngave %v, want errors", tt.text, err)
			continue
		}
		for i, w := range tt.want {
			if i >= len(errs) || !strings.Contains(errs[i].Error(), w) {
				t.Errorf("%s\ngave\n%v\nwant as %d: %s", tt.text, err, i, w)
				break
			}
		}
	}
}

func TestManyOnASwitch(t *testing.T) {
	var b strings.Builder
	b.WriteString("[switch.s]\n")
	for i := range 300 {
		fmt.Fprintf(&b, "[host.h%d]\n[[link]]\nbetween = ['h%d', 's']\n", i, i)
	}
	l := mustParse(t, b.String(), nil)
	if got := l.Hosts[299].Ifaces[0].Addrs[0].String(); got != "10.128.1.44/16" {
		t.Error(got)
	}
}

func TestWords(t *testing.T) {
	for in, want := range map[string]string{
		`a b  c`:          `["a" "b" "c"]`,
		`a 'b c' "d\"e"`:  `["a" "b c" "d\"e"]`,
		`a\ b '' "x"'y'z`: `["a b" "" "xyz"]`,
		`$HOME *`:         `["$HOME" "*"]`,
	} {
		got, err := words(in)
		if s := fmt.Sprintf("%q", got); err != nil || s != want {
			t.Errorf("%s: %s, %v; want %s", in, s, err, want)
		}
	}
}

// TestExamples reads every lab that comes with the project.
func TestExamples(t *testing.T) {
	files, _ := filepath.Glob("../../examples/lab/*.toml")
	if len(files) == 0 {
		t.Fatal("no examples")
	}
	for _, f := range files {
		if _, err := Load(f, nil); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(dumbbell))
	f.Add([]byte("[[link]]\nbetween=['a','a']\n[host.a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "file") || strings.Contains(string(text), "trace") {
			t.Skip("files of the machine are not read")
		}
		l, err := Parse(os.DevNull, text, nil)
		if err == nil && l == nil {
			t.Error("neither a lab nor an error")
		}
	})
}

// TestSeed sees that the parameter "seed" is the lab's, and that of its links.
func TestSeed(t *testing.T) {
	text := "seed = 3\n[host.a]\n[host.b]\n[[link]]\nbetween = ['a', 'b']\nimpair = 'loss=1%'\n"
	plain := mustParse(t, text, nil)
	given := mustParse(t, text, map[string]string{"seed": "9"})
	swept := mustParse(t, text+"[sweep]\nseed = {from = 5, to = 6}\n", nil)
	if plain.Seed != 3 || given.Seed != 9 || swept.Seed != 5 {
		t.Errorf("seeds %d, %d and %d", plain.Seed, given.Seed, swept.Seed)
	}
	if plain.Links[0].AB.Seed == given.Links[0].AB.Seed {
		t.Error("another seed, and the link has the same")
	}
	for want, params := range map[string]map[string]string{
		"want a number from 1":                        {"seed": "x"},
		"parameter rate: no string of the file has $": {"rate": "1"},
	} {
		if _, err := Parse("x.toml", []byte(text), params); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
