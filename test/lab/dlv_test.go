package lab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dlvSession is what docs/debugging.md has the reader type.
func dlvSession(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/debugging.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```dlv " + name + "\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatalf("docs/debugging.md has no session %q", name)
	}
	return string(m[1])
}

// dlvBench is a folder with an alptrace that can be debugged.
type dlvBench struct {
	t         *testing.T
	dir, port string
	sum       [32]byte
}

func newDlvBench(t *testing.T) *dlvBench {
	t.Helper()
	need(t, "dlv", "curl")
	b := &dlvBench{t: t, dir: t.TempDir()}
	if err := build("alptrace", filepath.Join(b.dir, "alptrace.debug"), "-gcflags=all=-N -l"); err != nil {
		t.Fatal(err)
	}
	b.port, b.sum = serveData(t, 2_000_000)
	return b
}

func (b *dlvBench) command(name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	b.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = b.dir
	c.Env = append(os.Environ(), "HOME="+b.dir, "TERM=dumb", "NO_COLOR=1")
	return c
}

// session runs dlv with a session of the documentation.
func (b *dlvBench) session(name string, args ...string) string {
	b.t.Helper()
	init := filepath.Join(b.dir, "init")
	if err := os.WriteFile(init, []byte(dlvSession(b.t, name)), 0o600); err != nil {
		b.t.Fatal(err)
	}
	c := b.command("dlv", append([]string{name, "--allow-non-terminal-interactive=true", "--init", init}, args...)...)
	c.Stdin = strings.NewReader("n\n")
	if name == "exec" {
		c.Stdin = strings.NewReader("quit\n")
	}
	out, err := c.CombinedOutput()
	if err != nil {
		b.t.Fatalf("dlv %s: %v\n%s", name, err, out)
	}
	for _, e := range regexp.MustCompile(`init:\d+: (.*)`).FindAllSubmatch(out, -1) {
		if !bytes.HasSuffix(e[1], []byte("has exited with status 0")) {
			b.t.Errorf("dlv: %s", e[0])
		}
	}
	return string(out)
}

func (b *dlvBench) got(out string) {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "got"))
	if err != nil || sha256.Sum256(data) != b.sum {
		b.t.Errorf("curl got %d bytes, not what was served: %v\n%s", len(data), err, out)
	}
}

func (b *dlvBench) url() string { return "http://10.0.2.2:" + b.port + "/" }

// want looks for patterns in what dlv said, one after the other.
func (b *dlvBench) want(out string, patterns ...string) {
	b.t.Helper()
	rest := out
	for _, p := range patterns {
		at := regexp.MustCompile(p).FindStringIndex(rest)
		if at == nil {
			b.t.Fatalf("dlv did not say %q (in this order) in\n%s", p, out)
		}
		rest = rest[at[1]:]
	}
}

// TestDlvExec runs the first session of docs/debugging.md: curl's segment stops
// in the stack, and the transfer completes.
func TestDlvExec(t *testing.T) {
	b := newDlvBench(t)
	out := b.session("exec", "./alptrace.debug", "--", "--net", "relay", "curl", "-so", "got", b.url())
	b.want(out, `Breakpoint segment set`, `> \[segment\].*handleSegmentLocked`, `0 .*\n? *.*handleSegmentLocked`,
		`s = \(`, `\n\d+\n\d+\n`, `handleSegmentLocked\(\).*connect\.go:\d+ `, `connect\.go:\d+ `,
		`cleared`, `exited with status 0`)
	b.got(out)
}

// TestDlvAttach runs the second: a transfer that is on its way stops, and goes on
// when the debugger has left.
func TestDlvAttach(t *testing.T) {
	b := newDlvBench(t)
	run := b.command("./alptrace.debug", "--net", "relay", "curl", "-s", "--limit-rate", "500k", "-o", "got", b.url())
	var stderr bytes.Buffer
	run.Stderr = &stderr
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if i, err := os.Stat(filepath.Join(b.dir, "got")); err == nil && i.Size() > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing arrives")
		}
	}
	out := b.session("attach", strconv.Itoa(run.Process.Pid), "./alptrace.debug")
	b.want(out, `Breakpoint segment set`, `handleSegmentLocked`, b.port, `cleared`)
	if err := run.Wait(); err != nil {
		t.Errorf("alptrace: %v\n%s\n%s", err, stderr.String(), out)
	}
	b.got(out)
}
