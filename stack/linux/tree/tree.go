// Package tree builds a kernel for ARCH=um from a source tree.
//
// The tree's own build system does all of it, in a directory beside the tree's
// files (O=), so that the tree stays clean and a build after a change is
// incremental: configured once, by the defconfig and a fragment that this package
// has (kconfig), and again whenever the fragment has changed.
package tree

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

//go:embed kconfig
var fragment []byte

// OutDir is where a tree is built, in the tree.
const OutDir = ".alptrace-um"

// Build builds the tree's kernel, where needed, and returns the path of its
// executable. What is done is told to progress, a line for each step.
func Build(dir string, progress io.Writer) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "arch/um/Kconfig")); err != nil {
		return "", fmt.Errorf("%s is no kernel's source tree: it has no arch/um", dir)
	}
	if _, err := exec.LookPath("make"); err != nil {
		return "", errors.New("make, a C compiler, flex, bison and bc are needed to build a kernel")
	}
	b := &build{dir: dir, out: filepath.Join(dir, OutDir), progress: progress}
	if err := b.configure(); err != nil {
		return "", err
	}
	if err := b.make("build the kernel", fmt.Sprintf("-j%d", runtime.NumCPU()), "linux"); err != nil {
		return "", err
	}
	return filepath.Join(b.out, "linux"), nil
}

type build struct {
	dir, out string
	progress io.Writer
}

// configure makes the configuration, unless it is there and is of this fragment.
func (b *build) configure() error {
	mark := filepath.Join(b.out, "alptrace.config")
	if old, err := os.ReadFile(mark); err == nil && bytes.Equal(old, fragment) {
		if _, err := os.Stat(filepath.Join(b.out, ".config")); err == nil {
			return nil
		}
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	if err := b.make("configure", "defconfig"); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(b.out, ".config"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err = f.Write(fragment); err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	if err := b.make("configure", "olddefconfig"); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return err
	}
	return os.WriteFile(mark, fragment, 0o644)
}

// check tells which options of the fragment the tree did not take.
func (b *build) check() error {
	text, err := os.ReadFile(filepath.Join(b.out, ".config"))
	if err != nil {
		return err
	}
	if missing := Missing(text); len(missing) > 0 {
		return fmt.Errorf("this tree cannot have %s", strings.Join(missing, ", "))
	}
	return nil
}

// Missing are the options that alptrace needs and that a configuration has
// neither built in nor as a module.
func Missing(config []byte) (missing []string) {
	have := map[string]bool{}
	for line := range strings.Lines(string(config)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && (value == "y" || value == "m") {
			have[name] = true
		}
	}
	for line := range strings.Lines(string(fragment)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && value == "y" && !strings.HasPrefix(line, "#") && !have[name] {
			missing = append(missing, name)
		}
	}
	return missing
}

// make runs make, and shows what it does in few lines.
func (b *build) make(what string, args ...string) error {
	args = append([]string{"-C", b.dir, "O=" + b.out, "ARCH=um", "SUBARCH=" + subarch()}, args...)
	cmd := exec.Command("make", args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return err
	}
	var tail []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		n := 0
		s := bufio.NewScanner(r)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			line := s.Text()
			if tail = append(tail, line); len(tail) > 20 {
				tail = tail[1:]
			}
			if strings.HasPrefix(line, "  CC") || strings.HasPrefix(line, "  LD") {
				if n++; n <= 3 || n%200 == 0 {
					fmt.Fprintf(b.progress, "alptrace: %s: %s (%d)\n", what, strings.Join(strings.Fields(line), " "), n)
				}
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	err := cmd.Wait()
	w.Close()
	<-done
	if err != nil {
		return fmt.Errorf("%s: make: %w\n%s", what, err, strings.Join(tail, "\n"))
	}
	return nil
}

// subarch is this machine's name in arch/um.
func subarch() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}
