package launch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleRun as the first argument makes the test binary a small alptrace.
const roleRun = "launch-test-run"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == roleRun {
		runMain(os.Args[2:])
	}
	os.Exit(m.Run())
}

// self is the test binary.
func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// script runs a shell script, natively or under launch, within setup, a shell
// fragment in which "$@" is the program to run.
func script(t *testing.T, under bool, setup, body string) (out string, code int) {
	t.Helper()
	argv := []string{"-c", setup, "sh"}
	if under {
		argv = append(argv, self(t), roleRun)
	}
	argv = append(argv, "/bin/sh", "-c", body)
	cmd := exec.Command("/bin/sh", argv...)
	cmd.WaitDelay = 10 * time.Second
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return b.String(), -int(ws.Signal())
	}
	return b.String(), ws.ExitStatus()
}

// number is what differs between two runs: of a pipe, of a process in a path.
var number = regexp.MustCompile(`\[\d+\]|/proc/\d+`)

// ignored is the mask of ignored signals in /proc/self/status.
var ignored = regexp.MustCompile(`SigIgn:\t[0-9a-f]{16}`)

// withoutInternal clears from it the signals that the C library keeps to itself
// (signal(7): 32 to 34); Go's runtime takes them over.
func withoutInternal(s string) string {
	return ignored.ReplaceAllStringFunc(s, func(m string) string {
		var mask uint64
		_, _ = fmt.Sscanf(m, "SigIgn:\t%x", &mask)
		return fmt.Sprintf("SigIgn:\t%016x", mask&^(7<<31))
	})
}

func TestSameAsExec(t *testing.T) {
	const given = `grep -E '^(SigBlk|SigIgn|Umask|NSpid)' /proc/self/status | grep -v NSpid; ulimit -Sn; ulimit -Hn; ` +
		`pwd; umask; env | grep -v '^_=' | sort`
	tests := []struct{ name, setup, body string }{
		{"plain", `exec "$@"`, given},
		{"umask and folder", `umask 027; cd /usr; exec "$@"`, given},
		{"limits", `ulimit -Sn 77; exec "$@"`, given},
		{"hard limits", `ulimit -n 99; exec "$@"`, given},
		{"environment", `exec env -i A=1 B= PATH=/bin:/usr/bin "$@"`, given},
		{"nohup", `trap '' HUP; exec "$@"`, given},
		{"ignored", `trap '' HUP INT TSTP TTIN TTOU; exec "$@"`, given},
		{"descriptors", `exec 5</etc/passwd 9>&1; exec "$@"`, `find /proc/self/fd -type l -printf '%f %l\n'; head -c 9 <&5; echo to9 >&9`},
		{"standard input", `echo hello | "$@"`, `cat`},
		{"exit 0", `exec "$@"`, `exit 0`},
		{"exit 3", `exec "$@"`, `exit 3`},
		{"exit 255", `exec "$@"`, `exit 255`},
		{"killed", `exec "$@"`, `kill -KILL $$`},
		{"terminated", `exec "$@"`, `kill -TERM $$`},
		{"hung up", `exec "$@"`, `kill -HUP $$`},
		{"same group", `exec "$@"`, `test $(ps -o pgid= -p $$) = $(ps -o pgid= -p $PPID); echo $?`},
		{"no guard in the environment", `exec "$@"`, `env | grep -c ALPTRACE_GUARD`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want, wantCode := script(t, false, tt.setup, tt.body)
			got, gotCode := script(t, true, tt.setup, tt.body)
			if tt.name == "same group" {
				want = got[:0] + "0\n"
			}
			same := withoutInternal
			if tt.name == "descriptors" { // pipes and sockets have other numbers
				same = func(s string) string { return number.ReplaceAllString(s, "N") }
			}
			if same(got) != same(want) || gotCode != wantCode {
				t.Errorf("under launch:\n%s(status %d)\nnatively:\n%s(status %d)", got, gotCode, want, wantCode)
			}
		})
	}
}

func TestNotRun(t *testing.T) {
	dir := t.TempDir()
	noshebang := filepath.Join(dir, "noshebang")
	if err := os.WriteFile(noshebang, []byte("echo by sh $1\nexit 4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		argv []string
		code int
		out  string
	}{
		{[]string{"no-such-program"}, 127, "alptrace: no-such-program: No such file or directory\n"},
		{[]string{dir + "/nosuch"}, 127, "alptrace: " + dir + "/nosuch: No such file or directory\n"},
		{[]string{plain}, 126, "alptrace: " + plain + ": Permission denied\n"},
		{[]string{dir}, 126, "alptrace: " + dir + ": Permission denied\n"},
		{[]string{noshebang, "x"}, 4, "by sh x\n"}, // execvp(3)
	}
	for _, tt := range tests {
		cmd := exec.Command(self(t), append([]string{roleRun}, tt.argv...)...)
		cmd.Env = []string{"PATH=/bin:/usr/bin"}
		out, err := cmd.CombinedOutput()
		code := 0
		if ee, ok := err.(*exec.ExitError); ok {
			code = ee.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != tt.code || string(out) != tt.out {
			t.Errorf("%v: status %d, %q; want %d, %q", tt.argv, code, out, tt.code, tt.out)
		}
	}
}

// startTree runs, under launch, a shell with daemons that have left its session,
// and returns the command and the pids of all.
func startTree(t *testing.T) (cmd *exec.Cmd, pids []int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pids")
	cmd = exec.Command(self(t), roleRun, "/bin/sh", "-c",
		`(setsid sh -c 'echo $$ >>"$0"; sleep 60 & echo $! >>"$0"; wait' "$0" &) ; `+
			`(trap "" HUP TERM INT; setsid sleep 61 & echo $! >>"$0") ; echo $$ >>"$0"; sleep 62`, file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 200 {
		b, _ := os.ReadFile(file)
		if f := strings.Fields(string(b)); len(f) == 4 {
			for _, s := range f {
				n, err := strconv.Atoi(s)
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, n)
			}
			return cmd, pids
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the tree did not start")
	return nil, nil
}

func anyAlive(pids []int) bool {
	for _, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err == nil && !bytes.Contains(b, []byte(") Z ")) {
			return true
		}
	}
	return false
}

func waitGone(t *testing.T, pids []int, limit time.Duration) {
	t.Helper()
	start := time.Now()
	for anyAlive(pids) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("still alive: %v", pids)
		}
		time.Sleep(2 * time.Millisecond)
	}
	took := time.Since(start)
	t.Logf("all gone after %v", took)
	if took > limit {
		t.Errorf("gone after %v, more than %v", took, limit)
	}
}

func TestKilledWithAlptrace(t *testing.T) {
	cmd, pids := startTree(t)
	_ = cmd.Process.Kill()
	waitGone(t, pids, 2*time.Second) // 200 ms on an idle machine
}

func TestKilledWithGuard(t *testing.T) {
	cmd, pids := startTree(t)
	var children []byte
	for _, task := range glob(t, "/proc/"+strconv.Itoa(cmd.Process.Pid)+"/task/*/children") {
		more, _ := os.ReadFile(task)
		children = append(children, more...)
	}
	f := strings.Fields(string(children))
	if len(f) == 0 {
		t.Fatal("no guard")
	}
	guardPID, err := strconv.Atoi(f[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Kill(guardPID, unix.SIGKILL)
	waitGone(t, pids, 2*time.Second)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestForward checks that a signal to alptrace alone reaches the program once,
// and one to the group reaches it once, too.
func TestForward(t *testing.T) {
	for _, group := range []bool{false, true} {
		ready := filepath.Join(t.TempDir(), "ready")
		cmd := exec.Command(self(t), roleRun, "/bin/sh", "-c",
			`trap 'n=$((n+1))' USR1; trap 'echo $n; exit 5' TERM; : >"$0"; while :; do sleep 0.02; done`, ready)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 500 {
			if _, err := os.Stat(ready); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		pid := cmd.Process.Pid
		if group {
			// sleep(1) dies of it; the shell counts it.
			_ = unix.Kill(-pid, unix.SIGUSR1)
		} else {
			_ = unix.Kill(pid, unix.SIGUSR1)
		}
		time.Sleep(400 * time.Millisecond)
		_ = unix.Kill(pid, unix.SIGTERM)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 5 || strings.TrimSpace(out.String()) != "1" {
			t.Errorf("group %v: status %d, signals %q; want 5, 1", group, code, out.String())
		}
	}
}
