package gostd

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

//go:embed exceptions.txt
var exceptionsText string

// packages are those whose tests use sockets, or what sockets share with files.
// Those with asRoot run a second time as root, for the tests that need it.
var packages = []struct {
	path   string
	asRoot bool
}{
	{"net", true},
	{"crypto/tls", false},
	{"net/rpc", false},
	{"net/smtp", false},
	{"log/syslog", false},
	{"os", false},
	{"net/http", false},
}

// limit bounds one run of one package's tests.
const limit = 100 * time.Second

// nobody is the user and group of the unprivileged runs.
const nobody = "65534"

// bench is what the runs share.
type bench struct {
	dir        string // binaries and homes
	goroot     string
	native     bool
	alptrace   string
	flags      []string
	exceptions []exception

	warmed chan struct{} // closed when warm has ended

	mu   sync.Mutex
	rows []row
}

// row is a line of the table.
type row struct {
	pkg                    string
	native, traced         int
	tookNative, tookTraced time.Duration
	differ                 []string
	twice                  []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "alptrace-gostd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+rwX", dir).Run(); os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	b := &bench{dir: dir, goroot: strings.TrimSpace(string(root)), flags: strings.Fields(os.Getenv("ALPTRACE_FLAGS"))}
	if b.exceptions, err = parseExceptions(exceptionsText); err != nil {
		t.Fatal(err)
	}
	switch r := os.Getenv("ALPTRACE_RUNNER"); r {
	case "native":
		b.native = true
	case "":
		b.alptrace = filepath.Join(dir, "alptrace")
		b.goCommand(t, "build", "-buildvcs=false", "-o", b.alptrace, "github.com/alptrace/alptrace/cmd/alptrace")
	default:
		if b.alptrace, err = filepath.Abs(r); err != nil {
			t.Fatal(err)
		}
	}
	b.warmed = make(chan struct{})
	go b.warm()
	t.Cleanup(func() { <-b.warmed })
	return b
}

// cache is the build cache of the tests that run the go command themselves.
func (b *bench) cache() string { return filepath.Join(b.dir, "cache") }

// warm fills the cache with what those tests build, so that they do not
// compile half of the library twice, and gives it to the unprivileged user.
// If it fails the tests only take longer.
func (b *bench) warm() {
	defer close(b.warmed)
	src := filepath.Join(b.dir, "warm.go")
	_ = os.WriteFile(src, []byte("package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() { fmt.Println(os.Executable()) }\n"), 0o644)
	for _, args := range [][]string{{"build", "-o", "/dev/null", src}, {"vet", "-tags=nethttpomithttp2", "net/http"}} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+b.cache(), "GOTOOLCHAIN=local")
		_ = cmd.Run()
	}
	if os.Getuid() == 0 {
		_ = exec.Command("chown", "-R", nobody+":"+nobody, b.cache()).Run()
	}
}

// goCommand runs the go command without cgo.
func (b *bench) goCommand(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// run runs a test binary in a namespace of its own, and returns the outcomes
// and how long it took. only, if not empty, are the only tests to run.
func (b *bench) run(t *testing.T, pkg string, traced, root bool, only []string) (map[string]outcome, time.Duration) {
	t.Helper()
	home, err := os.MkdirTemp(b.dir, "home-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	var args []string
	if os.Getuid() == 0 {
		args = append(args, "unshare", "-n", "sh", "-c", `ip link set lo up && exec "$@"`, "sh")
		if !root {
			args = append(args, "setpriv", "--reuid="+nobody, "--regid="+nobody, "--clear-groups")
		}
	}
	if traced && !b.native {
		args = append(append(args, b.alptrace, "--net", "none"), append(b.flags, "--")...)
	}
	args = append(args, b.binary(pkg), "-test.short", "-test.v=test2json", fmt.Sprintf("-test.timeout=%v", limit-5*time.Second))
	if len(only) > 0 {
		quoted := make([]string, len(only))
		for i, n := range only {
			quoted[i] = regexp.QuoteMeta(n)
		}
		args = append(args, "-test.run=^("+strings.Join(quoted, "|")+")$")
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = filepath.Join(b.goroot, "src", pkg)
	cmd.Env = []string{
		"PATH=" + filepath.Join(b.goroot, "bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + home, "TMPDIR=" + home, "GOCACHE=" + b.cache(), "CGO_ENABLED=0", "GOROOT=" + b.goroot, "GOTOOLCHAIN=local",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err = cmd.Run()
	took := time.Since(began)
	got, perr := parse(bytes.NewReader(out.Bytes()))
	if perr != nil {
		t.Fatal(perr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || len(got) == 0 {
		t.Fatalf("run %v: %v\n%s", args, err, tail(out.String()))
	}
	if count(got, fail) > 0 || err != nil {
		t.Logf("%s, traced %v: %v; failed:\n%s", pkg, traced, err, failures(out.String()))
	}
	return got, took
}

// failures is the part of a test's output that tells of failures.
func failures(out string) string {
	var b strings.Builder
	lines := strings.Split(strings.ReplaceAll(out, "\x16", ""), "\n")
	for i, l := range lines {
		if strings.Contains(l, "--- FAIL") || strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "fatal error:") {
			for _, k := range lines[max(0, i-6):min(len(lines), i+2)] {
				if !strings.Contains(k, "=== ") && !strings.Contains(k, "--- PASS") && !strings.Contains(k, "--- SKIP") {
					fmt.Fprintln(&b, k)
				}
			}
		}
	}
	if b.Len() == 0 {
		return tail(out)
	}
	return head(b.String())
}

func head(s string) string {
	if len(s) > 8000 {
		return s[:8000] + "..."
	}
	return s
}

func tail(s string) string {
	if len(s) > 3000 {
		return "..." + s[len(s)-3000:]
	}
	return s
}

func (b *bench) binary(pkg string) string {
	return filepath.Join(b.dir, strings.ReplaceAll(pkg, "/", "_")+".test")
}

// compare runs a package's tests both ways and records the row.
func (b *bench) compare(t *testing.T, pkg string, root bool) {
	native, tookNative := b.run(t, pkg, false, root, nil)
	traced, tookTraced := b.run(t, pkg, true, root, nil)
	r := row{pkg: pkg, native: count(native, pass), tookNative: tookNative, tookTraced: tookTraced}
	if root {
		r.pkg += " (root)"
	}
	if first := differing(native, traced); len(first) > 0 && len(first) < 200 {
		again, _ := b.run(t, pkg, true, root, roots(first))
		for _, n := range first {
			if again[n] == pass {
				traced[n] = pass
				r.twice = append(r.twice, n)
			}
		}
	}
	r.traced = 0
	for n, o := range native {
		if o == pass && traced[n] == pass {
			r.traced++
		}
	}
	for _, n := range differing(native, traced) {
		cause := ""
		for _, e := range b.exceptions {
			if e.covers(pkg, n) {
				cause = e.cause
			}
		}
		if cause == "" {
			t.Errorf("%s passes natively; under alptrace: %s", n, said(traced[n]))
		} else {
			n += " (" + cause + ")"
		}
		r.differ = append(r.differ, n)
	}
	b.mu.Lock()
	b.rows = append(b.rows, r)
	b.mu.Unlock()
}

func said(o outcome) string {
	if o == "" {
		return "no result"
	}
	return string(o)
}

// table is the comparison as text.
func (b *bench) table() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "package\tnative pass\talptrace pass\tnative s\talptrace s\tdiffering")
	var n, a int
	for _, r := range b.rows {
		names := strings.Join(r.differ, ", ")
		if len(r.differ) > 8 {
			names = fmt.Sprintf("%s, and %d more", strings.Join(r.differ[:8], ", "), len(r.differ)-8)
		}
		if len(r.twice) > 0 {
			names += fmt.Sprintf(" [passed in a second run: %s]", strings.Join(roots(r.twice), ", "))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1f\t%.1f\t%s\n", r.pkg, r.native, r.traced, r.tookNative.Seconds(), r.tookTraced.Seconds(), names)
		n, a = n+r.native, a+r.traced
	}
	fmt.Fprintf(w, "total\t%d\t%d\n", n, a)
	w.Flush()
	return out.String()
}

// TestStandardLibrary compares each package; see the package comment.
func TestStandardLibrary(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	b := newBench(t)
	t.Run("run", func(t *testing.T) {
		for _, p := range packages {
			t.Run(p.path, func(t *testing.T) {
				t.Parallel()
				b.goCommand(t, "test", "-c", "-o", b.binary(p.path), p.path)
				if p.path == "os" || p.path == "net/http" {
					<-b.warmed
				}
				b.compare(t, p.path, false)
				if p.asRoot && os.Getuid() == 0 {
					b.compare(t, p.path, true)
				}
			})
		}
	})
	t.Logf("\n%s", b.table())
	if f := os.Getenv("GOSTD_TABLE"); f != "" {
		if err := os.WriteFile(f, []byte(b.table()), 0o644); err != nil {
			t.Error(err)
		}
	}
}
