package apps

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

//go:embed lib.sh
var library string

// limit bounds every command of a scene.
const limit = 60 * time.Second

// nobody is the unprivileged user and group of scenes.
const nobody = 65534

// scene is where one test's programs run; see the package comment.
type scene struct {
	t    *testing.T
	dir  string   // owned by the scene's user
	ns   *netns   // nil when the tests are not root
	net  []string // alptrace's --net and its relatives
	uid  int      // 0 for root
	gid  int
	env  []string // beside PATH, HOME, D, ...
	logs []string // globs below dir to show when the test fails
	// before is what comes before setpriv and alptrace, as root.
	before []string
}

// newScene makes a scene for the unprivileged user, with alptrace on no
// network, after checking that the programs are there. The test runs in
// parallel with others.
func newScene(t *testing.T, programs ...string) *scene {
	t.Helper()
	t.Parallel()
	for _, p := range programs {
		program(t, p)
	}
	dir, err := os.MkdirTemp("", "alptrace-apps-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the scene's directory: %v", err)
		}
	})
	s := &scene{t: t, dir: dir, net: []string{"--net", "none"}, uid: os.Getuid(), gid: os.Getgid()}
	if s.uid == 0 {
		s.ns = newNetns(t)
		s.as(nobody, nobody)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// as makes the scene's user uid:gid. When the tests are not root it must be
// the tests' own user.
func (s *scene) as(uid, gid int) {
	s.t.Helper()
	if os.Getuid() != 0 {
		if uid != os.Getuid() {
			s.t.Skip("needs root")
		}
		return
	}
	s.uid, s.gid = uid, gid
	if err := os.Chown(s.dir, uid, gid); err != nil {
		s.t.Fatal(err)
	}
}

// at is the scene seen from another namespace and with other flags of
// alptrace.
func (s *scene) at(ns *netns, net ...string) *scene {
	c := *s
	c.ns, c.net = ns, net
	return &c
}

// kernel is the scene as the host's root has it: natively run, no set user.
func (s *scene) kernel() *scene {
	c := *s
	c.before = nil
	if os.Getuid() == 0 {
		c.uid, c.gid = 0, 0
	}
	return &c
}

// asRoot makes the scene's user root, or skips the test.
func (s *scene) asRoot() {
	s.t.Helper()
	s.as(0, 0)
}

// file writes a file of the scene's user and returns its path.
func (s *scene) file(name, content string) string {
	return s.fileMode(name, []byte(content), 0o644)
}

func (s *scene) fileMode(name string, content []byte, mode os.FileMode) string {
	s.t.Helper()
	p := filepath.Join(s.dir, name)
	s.mkdir(filepath.Dir(name))
	if err := os.WriteFile(p, content, mode); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chown(p, s.uid, s.gid); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// mkdir makes a directory of the scene's user, parents included.
func (s *scene) mkdir(name string) {
	s.t.Helper()
	at := s.dir
	for _, part := range strings.Split(filepath.Clean(name), "/") {
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			s.t.Fatal(err)
		}
		if err := os.Chown(at, s.uid, s.gid); err != nil {
			s.t.Fatal(err)
		}
	}
}

// data writes a file of n random bytes (the same in every run).
func (s *scene) data(name string, n int) string {
	seed := [32]byte{'a', 'p', 'p', 's'}
	copy(seed[8:], name)
	b := make([]byte, n)
	if _, err := rand.NewChaCha8(seed).Read(b); err != nil {
		s.t.Fatal(err)
	}
	return s.fileMode(name, b, 0o644)
}

// read returns the content of a file of the scene.
func (s *scene) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// prefix is what comes before a program: setpriv, then alptrace with its
// flags when traced.
func (s *scene) prefix(traced bool) []string {
	var p []string
	if os.Getuid() == 0 && s.uid != 0 {
		p = append(p, program(s.t, "setpriv"), fmt.Sprintf("--reuid=%d", s.uid), fmt.Sprintf("--regid=%d", s.gid), "--clear-groups")
	}
	if traced && !runner.native {
		p = append(p, runner.path)
		p = append(p, s.net...)
		p = append(p, runner.flags...)
		p = append(p, "--")
	}
	return p
}

// environ is the environment of the scene's programs.
func (s *scene) environ() []string {
	return append([]string{
		"PATH=" + systemPath, "HOME=" + s.dir, "TMPDIR=" + s.dir, "D=" + s.dir,
		"LANG=C.UTF-8", "TERM=xterm", "SHELL=/bin/bash", "USER=scene",
	}, s.env...)
}

// command makes a command of the scene, not started. Bounded by limit.
func (s *scene) command(traced bool, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	s.t.Cleanup(cancel)
	args = append(append(append([]string{}, s.before...), s.prefix(traced)...), args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = s.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// result is what became of a command.
type result struct {
	out, err string
	state    *os.ProcessState
	took     time.Duration
}

// code is the exit status, 128 + n for death by signal n.
func (r result) code() int {
	ws := r.state.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// proc is a started command.
type proc struct {
	*exec.Cmd
	s        *scene
	out, err *output
	began    time.Time
	once     sync.Once
	res      result
}

// output collects what a command writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts a command under the runner (traced) or on the host's kernel.
func (s *scene) start(traced bool, args ...string) *proc {
	s.t.Helper()
	return s.startCmd(s.command(traced, args...))
}

func (s *scene) startCmd(cmd *exec.Cmd) *proc {
	s.t.Helper()
	p := &proc{Cmd: cmd, s: s, out: &output{}, err: &output{}, began: time.Now()}
	if cmd.Stdout == nil {
		cmd.Stdout = p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.err
	}
	if err := s.ns.start(cmd); err != nil {
		s.t.Fatalf("start %v: %v", cmd.Args, err)
	}
	s.t.Cleanup(func() {
		if p.res.state == nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			p.wait()
		}
	})
	return p
}

// wait waits for the command's end.
func (p *proc) wait() result {
	p.once.Do(func() {
		err := p.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.s.t.Errorf("wait for %v: %v", p.Args, err)
		}
		p.res = result{p.out.String(), p.err.String(), p.ProcessState, time.Since(p.began)}
	})
	return p.res
}

// run runs a command under the runner and waits for it.
func (s *scene) run(args ...string) result {
	s.t.Helper()
	return s.start(true, args...).wait()
}

// script is the command line of a bash script with the library of lib.sh.
func (s *scene) script(text string) []string {
	return []string{"/bin/bash", "-c", library + text}
}

// bash runs a script with the library under one runner, fails the test if the
// script fails, and returns what it printed.
func (s *scene) bash(text string) string {
	s.t.Helper()
	return s.bashOn(true, text)
}

// bashOn is bash under the runner (traced) or on the host's kernel.
func (s *scene) bashOn(traced bool, text string) string {
	s.t.Helper()
	r := s.start(traced, s.script(text)...).wait()
	s.want(r, 0)
	return r.out
}

// want fails the test, with all that the command said, unless its status is code.
func (s *scene) want(r result, code int) {
	s.t.Helper()
	if r.code() == code {
		return
	}
	var b strings.Builder
	for _, glob := range append(s.logs, "*.log") {
		names, _ := filepath.Glob(filepath.Join(s.dir, glob))
		for _, n := range names {
			text, _ := os.ReadFile(n)
			fmt.Fprintf(&b, "\n%s:\n%s", filepath.Base(n), tail(string(text)))
		}
	}
	s.t.Fatalf("status %d after %v, want %d\nstdout:\n%s\nstderr:\n%s%s", r.code(), r.took.Round(time.Millisecond), code, tail(r.out), tail(r.err), b.String())
}

// tail is the end of a text, for messages.
func tail(s string) string {
	const most = 3000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// onlyAlptrace skips a test of what a native run does not have.
func onlyAlptrace(t *testing.T) {
	t.Helper()
	if runner.native {
		t.Skip("about alptrace itself")
	}
}

// eventually waits until cond holds, and fails the test if it does not within d.
func eventually(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// testdata copies a file of testdata into the scene.
func (s *scene) testdata(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.fileMode(filepath.Base(name), b, 0o644)
}
