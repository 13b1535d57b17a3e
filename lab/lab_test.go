package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
)

const small = `
[host.a]
run = ["sh -c 'echo out; echo err >&2; printf end'"]
[host.b]
[router.r]
[[link]]
between = ["a", "r"]
[[link]]
between = ["r", "b"]
mtu = 1300
impair = "delay=1ms"
`

func parse(t *testing.T, text string) *topo.Lab {
	t.Helper()
	l, err := topo.Parse(filepath.Join(t.TempDir(), "small.toml"), []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRun(t *testing.T) {
	var out bytes.Buffer
	dir := t.TempDir()
	opts := Options{Dir: filepath.Join(dir, "run"), Runtime: filepath.Join(dir, "sockets"), Output: &out}
	tp := parse(t, small)
	l, err := Up(t.Context(), tp, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Up(t.Context(), tp, opts); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("a second lab of the same name: %v", err)
	}
	if err := l.Run(t.Context()); err != nil {
		t.Error(err)
	}
	s, err := AskStatus(opts.Runtime, "")
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Nodes[0].Programs[0]; p.State != Ended || p.Exit != "0" {
		t.Errorf("%+v", p)
	}
	if got := s.Links[1].AB.Impair; got != "delay=1ms" {
		t.Errorf("impairment %q", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"a | out\n", "a | err\n", "a | end\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
	log, _ := os.ReadFile(filepath.Join(opts.Dir, "a-sh.log"))
	if len(log) != len("out\nerr\nend") {
		t.Errorf("log %q", log)
	}
	if names := RunningLabs(opts.Runtime); len(names) != 0 {
		t.Errorf("still there: %v", names)
	}
}

func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	l, err := Up(t.Context(), parse(t, strings.Replace(small, "sh -c 'echo out; echo err >&2; printf end'", "sleep 60", 1)),
		Options{Dir: filepath.Join(dir, "run"), Runtime: filepath.Join(dir, "sockets"), NoCapture: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	// A time of the caller's own is no interrupt, as with a lab's duration.
	if err := l.Run(ctx); err != nil && !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("ended after %v", d)
	}
}

func TestNames(t *testing.T) {
	lab := parse(t, small)
	n := &names{lab: lab, node: lab.Node("a")}
	for _, tt := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string
	}{
		{"b.", dns.TypeA, dns.RcodeSuccess, "10.0.2.2"},
		{"B.", dns.TypeAAAA, dns.RcodeSuccess, "fd00:a1b:0:2::2"},
		{"r.", dns.TypeA, dns.RcodeSuccess, "10.0.1.2 10.0.2.1"},
		{"b.", dns.TypeMX, dns.RcodeSuccess, ""},
		{"b.example.", dns.TypeA, dns.RcodeNameError, ""},
		{"2.2.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, "b."},
		{"9.9.9.9.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
	} {
		q, err := new(dns.Msg).SetQuestion(tt.name, tt.qtype).Pack()
		if err != nil {
			t.Fatal(err)
		}
		var r dns.Msg
		if err := r.Unpack(n.answer(q)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, rr := range r.Answer {
			f := strings.Fields(rr.String())
			got = append(got, f[len(f)-1])
		}
		if r.Rcode != tt.rcode || strings.Join(got, " ") != tt.want {
			t.Errorf("%s %s: %s, %v; want %s", tt.name, dns.TypeToString[tt.qtype], dns.RcodeToString[r.Rcode], got, tt.want)
		}
	}
	for dst, want := range map[string]bool{"192.0.2.53:53": true, "[2001:db8::1]:53": true, "10.0.2.2:53": false, "192.0.2.53:80": false} {
		if _, ok := n.redirect(netip.MustParseAddrPort(dst)); ok != want {
			t.Errorf("%s: led away: %v", dst, ok)
		}
	}
}

func FuzzNames(f *testing.F) {
	l, err := topo.Parse("small.toml", []byte(small), nil)
	if err != nil {
		f.Fatal(err)
	}
	n := &names{lab: l, node: l.Node("a")}
	q, _ := new(dns.Msg).SetQuestion("b.", dns.TypeA).Pack()
	f.Add(q)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := n.answer(b); r != nil && new(dns.Msg).Unpack(r) != nil {
			t.Error("an answer that cannot be read")
		}
	})
}

func TestPairOptions(t *testing.T) {
	l := parse(t, "[host.a]\n[host.b]\n[host.c]\n[switch.s]\n[switch.u]\n[router.r]\n"+
		"[[link]]\nbetween=['a','s']\n[[link]]\nbetween=['s','u']\n[[link]]\nbetween=['u','r']\n[[link]]\nbetween=['b','c']\n")
	for i, want := range []bool{false, false, false, true} {
		if o := pairOptions(l.Links[i], i); o.Features.TSO != want || (o.Medium == link.Ethernet) != (i < 3) {
			t.Errorf("link %s: %+v", l.Links[i].Name, o)
		}
	}
}

func TestSlack(t *testing.T) {
	r, w := io.Pipe()
	s := newSlack(w)
	block := make([]byte, 1<<20)
	for range 2 * slackSize / len(block) { // nobody reads: none of it waits
		if n, err := s.Write(block); n != len(block) || err != nil {
			t.Fatal(n, err)
		}
	}
	done := make(chan int64)
	go func() { n, _ := io.Copy(io.Discard, r); done <- n }()
	s.close()
	w.Close()
	if n := <-done; n < slackSize-1<<20 || n > slackSize+1<<20 || n%(1<<20) != 0 {
		t.Errorf("%d bytes came through, want about %d in whole blocks", n, slackSize)
	}
}

func TestOwnDir(t *testing.T) {
	dir := t.TempDir()
	for name, ok := range map[string]bool{"new": true, "open": false, "file": false} {
		path := filepath.Join(dir, name)
		switch name {
		case "open":
			if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777)); err != nil {
				t.Fatal(err)
			}
		case "file":
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := ownDir(path); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOutput(t *testing.T) {
	lab := parse(t, "[host.long]\nrun = ['true', 'true']\n[host.b]\nrun = ['true']\n")
	var b bytes.Buffer
	o := newOutput(&b, true, lab.Hosts)
	o.line("b", "b", []byte("x"))
	if got := fmt.Sprintf("%q", b.String()); got != `"\x1b[33mb          \x1b[0m | x\n"` {
		t.Error(got)
	}
}
