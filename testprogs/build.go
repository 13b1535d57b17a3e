// Package testprogs builds the small programs that the tests run: C programs
// linked dynamically and statically, C programs with no libc, and static Go
// programs. Each prints a transcript of what the socket layer answered, which
// depends neither on time nor on scheduling, and ends by itself.
//
// The sources are in folders of their own, because a Go package may not hold C
// files unless it uses cgo: c/NAME.c (glibc, with c/common.h), raw/NAME.c
// (system calls only, -nostdlib) and go/NAME/ (CGO_ENABLED=0).
package testprogs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
)

// Linkage is how a program is linked.
type Linkage string

// The ways to link a program.
const (
	Dynamic Linkage = "dynamic" // C, against the shared glibc
	Static  Linkage = "static"  // C, glibc linked in
	Raw     Linkage = "raw"     // C, no libc, system calls only
	Go      Linkage = "go"      // Go, static, no cgo
)

// Program is one source of this folder.
type Program struct {
	Name string
	// Linkages are those that the source can be built with.
	Linkages []Linkage
}

// Dir is the folder that holds the sources: the one of this file, as the
// compiler recorded it.
func Dir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// List gives every program, ordered by name.
func List() ([]Program, error) {
	var list []Program
	add := func(pattern, suffix string, linkages ...Linkage) error {
		names, err := filepath.Glob(filepath.Join(Dir(), pattern))
		if err != nil {
			return fmt.Errorf("list %s: %w", pattern, err)
		}
		for _, n := range names {
			list = append(list, Program{strings.TrimSuffix(filepath.Base(n), suffix), linkages})
		}
		return nil
	}
	if err := add("c/*.c", ".c", Dynamic, Static); err != nil {
		return nil, err
	}
	if err := add("raw/*.c", ".c", Raw); err != nil {
		return nil, err
	}
	if err := add("go/*", "", Go); err != nil {
		return nil, err
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

// Build gives the path of the named program, linked in the first way that its
// source allows, building it if the cache has none of the same content.
func Build(t testing.TB, name string) string {
	t.Helper()
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if p.Name == name {
			return BuildLinked(t, name, p.Linkages[0])
		}
	}
	t.Fatalf("no test program %q in %s", name, Dir())
	return ""
}

// BuildLinked is Build with the linkage named. It skips the test where the
// compiler is missing.
func BuildLinked(t testing.TB, name string, how Linkage) string {
	t.Helper()
	cmd, sources, err := recipe(name, how)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(cmd[0]); err != nil {
		t.Skipf("no %s here: %v", cmd[0], err)
	}
	sum, err := contentHash(cmd, sources)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, fmt.Sprintf("%s-%s-%s", name, how, sum[:16]))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	if err := compile(cmd, out, how); err != nil {
		t.Fatalf("build %s (%s): %v", name, how, err)
	}
	return out
}

// recipe gives the compiler's command line, without its output, and the files
// and folders that the result depends on.
func recipe(name string, how Linkage) (cmd, sources []string, err error) {
	dir := Dir()
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	headers, err := filepath.Glob(filepath.Join(dir, "*", "*.h"))
	if err != nil {
		return nil, nil, fmt.Errorf("list headers: %w", err)
	}
	switch how {
	case Dynamic, Static:
		src := filepath.Join(dir, "c", name+".c")
		cmd = []string{cc, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-nonnull", "-Wno-stringop-overflow",
			"-Wno-stringop-overread", "-pthread", src}
		if how == Static {
			cmd = append(cmd, "-static")
		}
		return cmd, append(headers, src), nil
	case Raw:
		src := filepath.Join(dir, "raw", name+".c")
		cmd = []string{cc, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-ffreestanding", "-fno-stack-protector",
			"-fno-pie", "-no-pie", "-nostdlib", "-static", src}
		return cmd, append(headers, src), nil
	case Go:
		src := filepath.Join(dir, "go", name)
		return []string{"go", "build", "-trimpath", src}, []string{src}, nil
	}
	return nil, nil, fmt.Errorf("program %s: unknown linkage %q", name, how)
}

// compile runs the recipe and moves its result to out in one step, so that
// tests of several packages may build at once.
func compile(cmd []string, out string, how Linkage) error {
	tmp, err := os.MkdirTemp(filepath.Dir(out), "build-")
	if err != nil {
		return fmt.Errorf("make a folder to build in: %w", err)
	}
	defer os.RemoveAll(tmp)
	bin := filepath.Join(tmp, "prog")
	args := append([]string{}, cmd[1:]...)
	if how == Go {
		args = append([]string{"build", "-o", bin}, cmd[2:]...)
	} else {
		args = append(args, "-o", bin)
	}
	c := exec.Command(cmd[0], args...)
	c.Dir = Dir()
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, text)
	}
	if err := os.Rename(bin, out); err != nil {
		return fmt.Errorf("keep the built program: %w", err)
	}
	return nil
}

// contentHash is a hash of the command line, the compiler's version and the
// content of the sources, as hex.
func contentHash(cmd, sources []string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.GOARCH, runtime.Version(), compilerVersion(cmd[0]))
	fmt.Fprintln(h, strings.Join(cmd, "\x00"))
	for _, src := range sources {
		err := filepath.Walk(src, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			fmt.Fprintln(h, path)
			_, err = io.Copy(h, f)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("hash %s: %w", src, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// compilerVersion is what the C compiler says of itself, empty for go, whose
// version the running program knows.
func compilerVersion(cc string) string {
	if cc == "go" {
		return ""
	}
	out, err := exec.Command(cc, "-dumpfullversion", "-dumpversion").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// cacheDir is where built programs are kept.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	dir := filepath.Join(base, "alptrace-testprogs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache of test programs: %w", err)
	}
	return dir, nil
}
