package datapath

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// madeWith is the major version of the clang that made the objects: others make
// other code of the same source.
const madeWith = "14"

// TestGenerated builds the objects again and compares.
func TestGenerated(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	out, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Skip("no clang: ", err)
	}
	if m := regexp.MustCompile(`clang version (\d+)`).FindSubmatch(out); m == nil || string(m[1]) != madeWith {
		t.Skipf("the objects are made with clang %s, here is %s", madeWith, bytes.TrimSpace(bytes.SplitN(out, []byte("\n"), 2)[0]))
	}
	if _, err := exec.LookPath("llvm-strip"); err != nil {
		t.Skip(err)
	}
	src, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(src), "//go:generate ")
	if !ok {
		t.Fatal("no go:generate line")
	}
	dir := t.TempDir()
	args := strings.Fields(line)
	args = append(args[:3:3], append([]string{"-output-dir", dir}, args[3:]...)...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "GOPACKAGE=datapath")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, pattern := range []string{"prog_*.go", "prog_*.o"} {
		names, _ := filepath.Glob(pattern)
		if len(names) != 2 {
			t.Errorf("%s: %v", pattern, names)
		}
		for _, n := range names {
			want, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(dir, n))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not what its source makes: run go generate", n)
			}
		}
	}
}

// TestReasons compares the names of drops here and in the programs.
func TestReasons(t *testing.T) {
	src, err := os.ReadFile("bpf/maps.h")
	if err != nil {
		t.Fatal(err)
	}
	_, enum, _ := strings.Cut(string(src), "enum reason {")
	names := regexp.MustCompile(`DROP_\w+`).FindAllString(enum[:strings.Index(enum, "DROPS")], -1)
	want := []string{"NOT_IP", "MALFORMED", "PROTOCOL", "NOT_GRANTED", "NOT_LOCAL", "FRAGMENT", "MULTICAST", "LOOPBACK", "FORBIDDEN", "NO_ROUTE", "TOO_BIG", "INTERNAL"}
	if len(names) != len(want) || len(reasons) != len(want) || len(progCounters{}.Drops) < len(want) {
		t.Fatalf("%d names, %d reasons, want %d", len(names), len(reasons), len(want))
	}
	for i, n := range names {
		if n != "DROP_"+want[i] {
			t.Errorf("reason %d (%s) is %s", i, reasons[i], n)
		}
	}
}
