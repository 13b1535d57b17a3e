package apps

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExitStatus: the status, or the deadly signal, of PROG is alptrace's.
func TestExitStatus(t *testing.T) {
	s := newScene(t)
	for _, code := range []int{0, 1, 3, 127, 255} {
		if r := s.run("sh", "-c", fmt.Sprintf("exit %d", code)); r.code() != code || r.state.Sys().(syscall.WaitStatus).Signaled() {
			t.Errorf("exit %d gave %v: %s", code, r.state, r.err)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGSEGV, syscall.SIGABRT} {
		r := s.run("sh", "-c", fmt.Sprintf("ulimit -c 0; kill -%d $$; sleep 5", sig))
		if ws := r.state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
			t.Errorf("death by %v gave %v: %s", sig, r.state, r.err)
		}
	}
}

// TestCannotRun: 127 for a program that is not found, 126 for one that cannot
// be executed, with a message on stderr and nothing on stdout.
func TestCannotRun(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t)
	s.file("plain", "not a program\n")
	s.fileMode("nointerpreter", []byte("#!/no/such/interpreter\n"), 0o755)
	for _, c := range []struct {
		prog string
		code int
	}{
		{"no-such-program", 127},
		{"/no/such/program", 127},
		{"./plain", 126},
		{s.dir, 126},
		{"./nointerpreter", 127},
	} {
		r := s.run(c.prog)
		if r.code() != c.code || r.out != "" || !strings.Contains(r.err, filepath.Base(c.prog)) {
			t.Errorf("%s: status %d, want %d; stdout %q, stderr %q", c.prog, r.code(), c.code, r.out, r.err)
		}
	}
}

// TestNoInterpreterLine: a script without #! runs in sh, as execvp(3) has it.
func TestNoInterpreterLine(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t)
	s.fileMode("script", []byte("echo script $1\n"), 0o755)
	if r := s.run("./script", "arg"); r.out != "script arg\n" || r.code() != 0 {
		t.Errorf("status %d, stdout %q, stderr %q", r.code(), r.out, r.err)
	}
}

// TestFlags: flags end where PROG begins; --help and --version are for stdout,
// misuse for stderr.
func TestFlags(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t)
	for _, args := range [][]string{{"echo", "--version", "-x"}, {"--", "echo", "--version", "-x"}} {
		cmd := s.command(true)
		cmd.Args = append(cmd.Args[:len(cmd.Args)-1], args...) // in place of "--"
		if r := s.startCmd(cmd).wait(); r.out != "--version -x\n" || r.code() != 0 {
			t.Errorf("%q: status %d, stdout %q, stderr %q", args, r.code(), r.out, r.err)
		}
	}
	for _, c := range []struct {
		args []string
		ok   bool
		says string
	}{
		{[]string{"--help"}, true, "--publish"},
		{[]string{"--version"}, true, "alptrace"},
		{nil, false, ""},
		{[]string{"--no-such-flag", "true"}, false, "no-such-flag"},
		{[]string{"--net", "nonsense", "true"}, false, "nonsense"},
		{[]string{"--addr", "10.0.0.300/24", "true"}, false, "10.0.0.300"},
		{[]string{"--engine", "nonsense", "true"}, false, "nonsense"},
		{[]string{"--net", "relay", "--publish", "x:y", "true"}, false, "x:y"},
		{[]string{"--net", "tun:none9", "--addr", "10.1.1.1/24", "true"}, false, "none9"},
	} {
		r := s.start(false, append([]string{runner.path}, c.args...)...).wait()
		if ok := r.code() == 0; ok != c.ok {
			t.Errorf("%q: status %d", c.args, r.code())
		}
		text, other := r.err, r.out
		if c.ok {
			text, other = r.out, r.err
		}
		if !strings.Contains(text, c.says) || other != "" || text == "" {
			t.Errorf("%q: stdout %q, stderr %q, want %q in one of them", c.args, r.out, r.err, c.says)
		}
		if strings.Contains(r.err, "goroutine ") {
			t.Errorf("%q: a panic: %s", c.args, r.err)
		}
	}
}

// TestStreams: stdin, stdout, stderr and an inherited descriptor are PROG's.
func TestStreams(t *testing.T) {
	s := newScene(t)
	data, err := os.ReadFile(s.data("data", 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.command(true, "sh", "-c", "cat; echo on stderr >&2; cat <&3")
	cmd.Stdin = bytes.NewReader(data)
	extra, err := os.Open(s.file("extra", "from descriptor 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	cmd.ExtraFiles = []*os.File{extra}
	r := s.startCmd(cmd).wait()
	s.want(r, 0)
	if want := string(data) + "from descriptor 3\n"; r.out != want || r.err != "on stderr\n" {
		t.Errorf("stdout %d bytes, want %d; stderr %q", len(r.out), len(want), r.err)
	}
	// A reader that leaves: PROG gets SIGPIPE, nothing hangs.
	pipe := s.command(true, "yes")
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe.Stdout = wr
	p := s.startCmd(pipe)
	wr.Close()
	if _, err := rd.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	rd.Close()
	if ws := p.wait().state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGPIPE {
		t.Errorf("writer without reader: %v", p.res.state)
	}
}

// probe prints what a process inherits.
const probe = `
printf '<%s>' "$0" "$@"; echo
pwd; umask; nice
env | sort
ulimit -S -a; ulimit -H -a
grep -E '^(Sig|Shd|Uid|Gid|Groups|Umask|Cap)' /proc/self/status | grep -v SigQ
echo descriptors: $(ls /proc/self/fd)
cat /proc/self/oom_score_adj /proc/self/cgroup
readlink /proc/self/root /proc/self/ns/mnt /proc/self/ns/user /proc/self/ns/net /proc/self/ns/pid
cut -d' ' -f19 /proc/self/stat
`

// TestInheritance: arguments, environment, directory, umask, limits, signal
// masks and dispositions, ids, namespaces, and no descriptor more, all as
// without alptrace.
func TestInheritance(t *testing.T) {
	s := newScene(t)
	s.env = []string{"EMPTY=", "LINES=one\ntwo", "odd name=x", "NET=none"}
	args := []string{"bash", "-c", "umask 027; ulimit -S -n 777; ulimit -c 0; cd /usr; nice -n 3 true; exec \"$@\"", "sh"}
	inner := []string{"bash", "-c", probe, "zero", "", "a b", "--", "--net", "new\nline", "\xff"}
	want := s.start(false, append(args, inner...)...).wait()
	s.want(want, 0)
	// The wrapper runs natively; what it executes is the runner.
	prefix := s.prefix(true)
	if os.Getuid() == 0 && s.uid != 0 {
		prefix = prefix[4:] // setpriv is in front already
	}
	got := s.start(false, append(append(append([]string{}, args...), prefix...), inner...)...).wait()
	s.want(got, 0)
	if got.out != want.out {
		w, g := strings.Split(want.out, "\n"), strings.Split(got.out, "\n")
		for i := range max(len(w), len(g)) {
			var a, b string
			if i < len(w) {
				a = w[i]
			}
			if i < len(g) {
				b = g[i]
			}
			if a != b && !sameButInternal(a, b) {
				t.Errorf("line %d: %q, without alptrace %q", i+1, b, a)
			}
		}
	}
}

// sameButInternal compares masks of ignored signals but for those that the C
// library keeps to itself (signal(7): 32 to 34), which Go's runtime takes over.
func sameButInternal(a, b string) bool {
	var x, y uint64
	const line = "SigIgn:\t%x"
	if n, _ := fmt.Sscanf(a, line, &x); n != 1 {
		return false
	}
	if n, _ := fmt.Sscanf(b, line, &y); n != 1 {
		return false
	}
	const internal = 7 << 31
	return x&^internal == y&^internal
}

// TestGroup: PROG is in the process group and session of alptrace, so that a
// shell's job is the whole.
func TestGroup(t *testing.T) {
	s := newScene(t)
	p := s.start(true, "cut", "-d", " ", "-f5", "/proc/self/stat")
	r := p.wait()
	s.want(r, 0)
	if want := fmt.Sprintln(p.Process.Pid); r.out != want {
		t.Errorf("process group %q, want %q", r.out, want)
	}
}

// TestSignalToAlptrace: a signal that a user sends to alptrace ends PROG too,
// and PROG may catch it.
func TestSignalToAlptrace(t *testing.T) {
	s := newScene(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		p := s.start(true, "sh", "-c", "ulimit -c 0; echo up; exec sleep 50")
		eventually(t, 5*time.Second, "PROG runs", func() bool { return p.out.String() == "up\n" })
		_ = syscall.Kill(p.Process.Pid, sig)
		if ws := p.wait().state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
			t.Errorf("%v: %v, stderr %s", sig, p.res.state, tail(p.res.err))
		}
	}
	p := s.start(true, "bash", "-c", "trap 'echo caught; exit 9' TERM USR1; echo up; while :; do sleep 0.05; done")
	eventually(t, 5*time.Second, "PROG runs", func() bool { return p.out.String() == "up\n" })
	_ = syscall.Kill(p.Process.Pid, syscall.SIGTERM)
	if r := p.wait(); r.code() != 9 || r.out != "up\ncaught\n" {
		t.Errorf("caught SIGTERM: %v, stdout %q", r.state, r.out)
	}
}

// TestDaemon: a server that makes itself a daemon outlives PROG, is served on,
// and alptrace ends after it, with PROG's status.
func TestDaemon(t *testing.T) {
	s := newScene(t, "nginx", "curl")
	s.data("www/big", 3<<20)
	s.file("nginx.conf", strings.Replace(nginxConfig(s.dir, "127.0.0.1:8080"), "daemon off", "daemon on", 1))
	cmd := s.command(true, s.script(`
nginx -e "$D/nginx.err.log" -c "$D/nginx.conf" </dev/null >/dev/null 2>&1 || fail "nginx"
setsid bash -c '
	sleep 0.7
	curl -sS --fail -o "$D/big" http://127.0.0.1:8080/big
	nginx -e "$D/nginx.err.log" -c "$D/nginx.conf" -s quit
	while kill -0 "$(cat "$D/nginx.pid" 2>/dev/null)" 2>/dev/null; do sleep 0.05; done
' </dev/null >"$D/after.log" 2>&1 &
echo prog ends
exit 7
`)...)
	r := s.startCmd(cmd).wait()
	s.want(r, 7)
	if r.out != "prog ends\n" {
		t.Errorf("stdout %q", r.out)
	}
	if runner.native { // natively nothing waits for the daemon
		eventually(t, 10*time.Second, "the daemon ends", func() bool { return s.ns == nil || len(s.ns.processes()) == 0 })
	} else if r.took < 700*time.Millisecond {
		t.Errorf("alptrace ended after %v, before the daemon", r.took)
	}
	if s.read("big") != s.read("www/big") {
		t.Error("what the daemon served differs")
	}
}

// TestKill: kill -9 of alptrace leaves none of its processes: not a daemon,
// not one that blocks in a socket call, not one that ignores signals.
func TestKill(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t, "nginx", "nc.openbsd", "python3", "socat")
	if s.ns == nil {
		t.Skip("needs root: processes are found by their namespace")
	}
	s.file("www/small", "x")
	s.file("nginx.conf", strings.Replace(nginxConfig(s.dir, "127.0.0.1:8080"), "daemon off", "daemon on", 1))
	p := s.start(true, s.script(`
nginx -e "$D/nginx.err.log" -c "$D/nginx.conf" </dev/null >/dev/null 2>&1 || fail "nginx"
start nc setsid nc.openbsd -lk 127.0.0.1 9000
listening 9000
start blocked nc.openbsd 127.0.0.1 8080
start stubborn setsid bash -c 'trap "" TERM HUP INT PIPE; while :; do sleep 1; done'
start accepting /usr/bin/python3 -c 'import socket; l = socket.create_server(("127.0.0.1", 9001)); l.accept()'
start stopped sleep 100
kill -STOP $!
listening 8080
echo up
wait
`)...)
	eventually(t, 20*time.Second, "all run", func() bool { return strings.Contains(p.out.String(), "up") || p.ProcessState != nil })
	if n := len(s.ns.processes()); n < 8 {
		t.Fatalf("only %d processes: %v", n, s.ns.processes())
	}
	_ = p.Process.Kill()
	if left := s.ns.emptied(2 * time.Second); len(left) > 0 {
		t.Errorf("2 s after SIGKILL: %v", left)
	}
	p.wait()
}

// TestDelivery: what PROG wrote before it ended is delivered, to a reader that
// is slow to read.
func TestDelivery(t *testing.T) {
	s := newScene(t, "socat")
	s.net = []string{"--net", "relay"}
	four, _ := relayHost()
	sent := s.data("sent", 6<<20)
	host := s.start(false, s.script(`socat -u TCP-LISTEN:7005,bind=127.0.0.1,reuseaddr SYSTEM:'sleep 1; cat >got'`)...)
	var r result
	eventually(t, 10*time.Second, "the reader listens", func() bool {
		r = s.run("socat", "-u", "FILE:"+sent, "TCP:"+four+":7005")
		return r.code() == 0
	})
	s.want(host.wait(), 0)
	if s.read("got") != s.read("sent") {
		t.Errorf("%d bytes arrived of %d", len(s.read("got")), len(s.read("sent")))
	}
}

// TestEngineHost: --engine host serves the sockets from the host's kernel.
func TestEngineHost(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t, "busybox", "curl")
	s.net = []string{"--engine", "host"}
	s.data("www/big", 8<<20)
	s.data("www/small", 100)
	stop := startHostServers(s)
	s.bash(`
start own busybox httpd -f -p 127.0.0.1:8088 -h "$D/www"; own=$!
listening 8088
for p in 8080 8088; do
	curl -sS --fail -o big$p http://127.0.0.1:$p/big || fail "curl $p"
	same big big$p www/big
done
stop $own
`)
	stop()
}
