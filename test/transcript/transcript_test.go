// Package transcript runs every program of testprogs natively and under
// alptrace, and demands the same transcript and the same end.
//
// Each run has a network namespace of its own with only the loopback interface
// up, so that fixed ports are free and nothing leaves the machine. Programs run
// as an unprivileged user, except those in needsRoot. Run by root or by a user
// who may make user namespaces; skipped for others.
package transcript

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alptrace/alptrace/testprogs"
)

var (
	nativeRuns = flag.Int("native-runs", 1, "run each program natively `N` times, all of which must agree")
	nativeOnly = flag.Bool("native-only", false, "do not run the programs under alptrace")
	binary     = flag.String("alptrace", "", "the alptrace `FILE` to test instead of a fresh build")
	kernel     = flag.String("linux", "", "run the programs under the engine that is this Linux `KERNEL` too")
	tcpName    = flag.String("tcp", "gvisor", "the `TCP` of the netstack engine")
	allEngines = flag.Bool("all", false, "run static and 32-bit programs under every engine too")
)

// needsRoot are the programs that test what only root may do.
var needsRoot = map[string]bool{"raw_icmp": true}

// bench is what the runs of one test share.
type bench struct {
	dir      string // readable by every user
	self     string // this test's binary
	alptrace string // empty when only native runs are wanted
}

func TestTranscripts(t *testing.T) {
	list, err := testprogs.List()
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	for _, p := range list {
		for _, how := range p.Linkages {
			t.Run(p.Name+"/"+string(how), func(t *testing.T) {
				t.Parallel()
				b.compare(t, p.Name, how)
			})
		}
	}
}

// newBench makes a folder that the unprivileged user can read, with this
// test's binary and alptrace in it. (t.TempDir is closed to other users.)
func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "alptrace-transcript-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: dir, self: "/proc/self/exe"}
	if *nativeOnly {
		return b
	}
	b.alptrace = filepath.Join(dir, "alptrace")
	if *binary != "" {
		if err := copyFile(b.alptrace, *binary); err != nil {
			t.Fatal(err)
		}
		return b
	}
	cmd := exec.Command("go", "build", "-o", b.alptrace, "github.com/alptrace/alptrace/cmd/alptrace")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build alptrace: %v\n%s", err, out)
	}
	return b
}

// compare runs one program in every way.
func (b *bench) compare(t *testing.T, name string, how testprogs.Linkage) {
	prog := filepath.Join(b.dir, name+"-"+string(how))
	if err := copyFile(prog, testprogs.BuildLinked(t, name, how)); err != nil {
		t.Fatal(err)
	}
	root := needsRoot[name]
	native := run(t, b.self, stage{Args: []string{prog}, Root: root})
	if native.status != "exit 0" {
		t.Fatalf("natively: %s\n%s\n%s", native.status, last(native.transcript, 5), native.stderr)
	}
	for i := 1; i < *nativeRuns; i++ {
		again := run(t, b.self, stage{Args: []string{prog}, Root: root})
		if d := diff(native.transcript, again.transcript); d != "" || again.status != native.status {
			t.Errorf("native run %d is not like the first: %s\n%s", i+1, again.status, d)
		}
	}
	if b.alptrace == "" {
		return
	}
	for _, engine := range engines(how) {
		kind, _, _ := strings.Cut(engine, "=")
		t.Run(kind, func(t *testing.T) {
			want, err := expected(name, kind, native.transcript)
			if err != nil {
				t.Fatal(err)
			}
			args := []string{b.alptrace, "--net", "none", "--engine", engine}
			if kind == "netstack" {
				args = append(args, "--tcp", *tcpName)
			}
			args = append(args, "--", prog)
			got := run(t, b.self, stage{Args: args, Root: root})
			d := diff(want, got.transcript)
			if d == "" && got.status == native.status {
				return
			}
			t.Errorf("natively %s, under alptrace %s; lines that differ (-native +alptrace):\n%s", native.status, got.status, d)
			if got.stderr != "" {
				t.Logf("stderr:\n%.4000s", got.stderr)
			}
		})
	}
}

// engines are those under which a program of this linkage runs. What a static or
// a 32-bit program adds is how it calls, which does not depend on the engine.
func engines(how testprogs.Linkage) []string {
	if (how == testprogs.Static || how == testprogs.M32) && !*allEngines {
		return []string{"netstack"}
	}
	if *kernel != "" {
		return []string{"netstack", "host", "linux=" + *kernel}
	}
	return []string{"netstack", "host"}
}

// copyFile copies an executable by cp(1). Written by this process, the file
// could be inherited, open for writing, by a child that another test is
// starting at this moment, and executing it would fail with ETXTBSY.
func copyFile(to, from string) error {
	if out, err := exec.Command("cp", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	if err := os.Chmod(to, 0o755); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

func last(lines []string, n int) []string {
	return lines[max(0, len(lines)-n):]
}
