// Package testprogs builds the small programs that the tests run: C programs
// linked dynamically and statically, C programs with no libc, and static Go
// programs; some of them for 32 bits as well. Each prints a transcript of what the socket layer answered, which
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

	// The same for the 32-bit architecture that amd64 runs too.
	M32   Linkage = "m32"   // C, glibc linked in; socketcall(2)
	Raw32 Linkage = "raw32" // C, no libc; the direct calls, int 0x80
	Go32  Linkage = "go32"  // Go; socketcall(2)
)

// thirtyTwo are the C programs that are built for 32 bits as well: those that
// together have every call and structure whose layout differs.
var thirtyTwo = map[string]bool{
	"accept4":          true,
	"accept_fork":      true,
	"connect_nonblock": true,
	"daemon":           true,
	"epoll_level":      true,
	"errqueue":         true,
	"exec_inherit":     true,
	"ifconf":           true,
	"ioctls":           true,
	"iov":              true,
	"mmsg":             true,
	"msg_flags":        true,
	"multicast":        true,
	"names":            true,
	"not_sockets":      true,
	"opts_ip":          true,
	"opts_ipv6":        true,
	"opts_socket":      true,
	"opts_tcp":         true,
	"pktinfo":          true,
	"prefork":          true,
	"scm_rights":       true,
	"sendfile_splice":  true,
	"signal_connect":   true,
	"socket_args":      true,
	"tcp_echo":         true,
	"threads":          true,
	"timeouts":         true,
	"udp_echo":         true,
	"wild_ptrs":        true,
}

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
			p := Program{strings.TrimSuffix(filepath.Base(n), suffix), linkages}
			if p.Linkages[0] == Dynamic && thirtyTwo[p.Name] && runtime.GOARCH == "amd64" {
				p.Linkages = append(p.Linkages[:len(linkages):len(linkages)], M32)
			}
			list = append(list, p)
		}
		return nil
	}
	if err := add("c/*.c", ".c", Dynamic, Static); err != nil {
		return nil, err
	}
	raw, golang := []Linkage{Raw}, []Linkage{Go}
	if runtime.GOARCH == "amd64" {
		raw, golang = append(raw, Raw32), append(golang, Go32)
	}
	if err := add("raw/*.c", ".c", raw...); err != nil {
		return nil, err
	}
	if err := add("go/*", "", golang...); err != nil {
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
	if how == M32 && !hasLibc32(cmd[0]) {
		t.Skipf("no 32-bit libc for %s here (gcc-multilib)", cmd[0])
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
	case Dynamic, Static, M32:
		src := filepath.Join(dir, "c", name+".c")
		cmd = []string{cc, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-nonnull", "-Wno-stringop-overflow",
			"-Wno-stringop-overread", "-pthread", src}
		switch how {
		case Static:
			cmd = append(cmd, "-static")
		case M32:
			cmd = append(cmd, "-static", "-m32")
		}
		return cmd, append(headers, src), nil
	case Raw, Raw32:
		src := filepath.Join(dir, "raw", name+".c")
		cmd = []string{cc, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-ffreestanding", "-fno-stack-protector",
			"-fno-pie", "-no-pie", "-nostdlib", "-static", src}
		if how == Raw32 {
			cmd = append(cmd, "-m32")
		}
		return cmd, append(headers, src), nil
	case Go, Go32:
		src := filepath.Join(dir, "go", name)
		return []string{"go", "build", "-trimpath", src}, []string{src}, nil
	}
	return nil, nil, fmt.Errorf("program %s: unknown linkage %q", name, how)
}

// hasLibc32 tells whether the C compiler finds a 32-bit static libc: only then
// does it answer with a path.
func hasLibc32(cc string) bool {
	out, err := exec.Command(cc, "-m32", "-print-file-name=libc.a").Output()
	return err == nil && strings.Contains(string(out), "/")
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
	if how == Go || how == Go32 {
		args = append([]string{"build", "-o", bin}, cmd[2:]...)
	} else {
		args = append(args, "-o", bin)
	}
	c := exec.Command(cmd[0], args...)
	c.Dir = Dir()
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if how == Go32 {
		c.Env = append(c.Env, "GOARCH=386")
	}
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
