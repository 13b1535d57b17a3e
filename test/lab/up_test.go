package lab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alptrace/alptrace/lab"
)

// bench is a folder from which labs are run, by an unprivileged user.
type bench struct {
	t   *testing.T
	bin string
	dir string
}

func newBench(t *testing.T, tools ...string) *bench {
	t.Helper()
	need(t, tools...)
	bin := alplab(t)
	dir := tempDir(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, unprivileged, unprivileged); err != nil {
			t.Fatal(err)
		}
	}
	examples, err := filepath.Glob("../../examples/lab/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range examples { // where the user can read them
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &bench{t: t, bin: bin, dir: dir}
}

// command is alplab with arguments.
func (b *bench) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	b.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, b.bin, args...)
	c.Dir = b.dir
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + b.dir, "TMPDIR=" + b.dir}
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
	}
	return c
}

// run runs alplab to its end.
func (b *bench) run(args ...string) (stdout, stderr string, code int) {
	b.t.Helper()
	c := b.command(args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	_ = c.Run()
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// up runs a lab that is to succeed.
func (b *bench) up(file string, args ...string) (stdout string, s lab.Status) {
	b.t.Helper()
	out, errs, code := b.run(append([]string{"up", "-o", "run", file}, args...)...)
	if code != 0 {
		b.t.Fatalf("up %s: status %d\n%s%s", file, code, out, errs)
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "run", "summary.json"))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return out, s
}

func (b *bench) file(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// background starts a lab and waits until it can be asked.
func (b *bench) background(file string) *exec.Cmd {
	b.t.Helper()
	c := b.command("up", "-q", file)
	var errs bytes.Buffer
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	for range 500 {
		if out, _, code := b.run("status"); code == 0 && !strings.Contains(out, "waiting") {
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("%s does not come up: %s", file, errs.String())
	return nil
}

func link(t *testing.T, s lab.Status, name string) lab.LinkStatus {
	t.Helper()
	for _, l := range s.Links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no link %s", name)
	return lab.LinkStatus{}
}

func TestDumbbell(t *testing.T) {
	b := newBench(t, "curl", "python3")
	out, s := b.up("dumbbell.toml")
	if n := strings.Count(out, "| 4000000 bytes"); n != 4 {
		t.Errorf("%d of 4 transfers:\n%s", n, out)
	}
	capture, err := os.ReadFile(filepath.Join(b.dir, "run", "client1-eth0.pcapng"))
	if err != nil || !bytes.Contains(capture, []byte("curl")) {
		t.Errorf("the capture does not name curl (%v)", err)
	}
	// 16 MB and headers over 20 Mbit/s.
	if l := link(t, s, "bottleneck"); l.BA.DeliveredBytes < 16e6 || s.Uptime < 6600*time.Millisecond {
		t.Errorf("%d bytes in %v", l.BA.DeliveredBytes, s.Uptime)
	}
	for _, f := range []string{"client1-curl.log", "client1-eth0.pcapng", "left-eth4.pcapng", "lab.toml", "summary.txt", "server1.tcp", "links.tcp"} {
		if st, err := os.Stat(filepath.Join(b.dir, "run", f)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", f, err)
		}
	}
	picture, err := os.ReadFile(filepath.Join(b.dir, "run", "dumbbell.svg"))
	for _, want := range []string{"server1", "server4", "Round-trip time", "bottleneck", "Queue (packets)"} {
		if err != nil || !bytes.Contains(picture, []byte(want)) {
			t.Errorf("the picture does not show %q (%v)", want, err)
		}
	}
}

// TestPathMTU: both protocols find the smallest MTU of the path.
func TestPathMTU(t *testing.T) {
	b := newBench(t, "curl", "python3", "tshark")
	out, _ := b.up("mtu.toml")
	for _, want := range []string{"IPv4: 1000000 bytes", "IPv6: 1000000 bytes"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q:\n%s", want, out)
		}
	}
	for filter, what := range map[string]string{
		"icmp.type==3 && icmp.mtu==1300":     "fragmentation needed",
		"icmpv6.type==2 && icmpv6.mtu==1300": "packet too big",
	} {
		got, err := exec.Command("tshark", "-r", filepath.Join(b.dir, "run", "server-eth0.pcapng"), "-Y", filter).Output()
		if err != nil || len(got) == 0 {
			t.Errorf("the server was not told %s: %v", what, err)
		}
	}
}

func TestNAT(t *testing.T) {
	b := newBench(t, "curl", "python3")
	out, _ := b.up("nat.toml")
	if n := strings.Count(out, "you are 203.0.113.1\n"); n != 2 {
		t.Errorf("the server saw\n%s", out)
	}
}

func TestFlap(t *testing.T) {
	b := newBench(t, "curl", "python3")
	out, s := b.up("flap.toml")
	if !strings.Contains(out, "1000000 bytes") {
		t.Error(out)
	}
	if l := s.Links[0]; l.BA.DropsDown == 0 {
		t.Error("the link was never down")
	}
}

// TestTwentyHosts: ten of nginx, ten of curl, around a router.
func TestTwentyHosts(t *testing.T) {
	b := newBench(t, "curl", "nginx")
	var f strings.Builder
	f.WriteString("[router.r]\n")
	for i := range 10 {
		conf := fmt.Sprintf("n%d.conf", i)
		b.file(conf, fmt.Sprintf(`daemon off; pid n%[1]d.pid; error_log n%[1]d.err;
events {}
http { access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
server { listen 80; listen [::]:80; location / { return 200 "server %[1]d for $remote_addr\n"; } } }
`, i))
		fmt.Fprintf(&f, `[host.s%[1]d]
run = [{cmd = "nginx -p . -e stderr -c %[2]s", background = true}]
[host.c%[1]d]
run = [{cmd = "curl -4sS http://s%[1]d/", after = "s%[1]d:80"}]
[[link]]
between = ["s%[1]d", "r"]
[[link]]
between = ["c%[1]d", "r"]
`, i, conf)
	}
	b.file("twenty.toml", f.String())
	out, s := b.up("twenty.toml")
	for i := range 10 {
		if want := fmt.Sprintf("c%d | server %d for 10.0.%d.1\n", i, i, 2*i+2); !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	t.Logf("all done after %v", s.Uptime)
}

const serving = `
[host.a]
[host.b]
run = [{cmd = "python3 serve.py", background = true}]
[switch.s]
[[link]]
name = "ab"
between = ["a", "s"]
impair = "delay=3ms"
[[link]]
between = ["b", "s"]
`

// TestExec: terminal, status and names of a program that joins.
func TestExec(t *testing.T) {
	b := newBench(t, "curl", "python3", "getent", "ping")
	b.file("l.toml", serving)
	up := b.background("l.toml")
	for range 500 { // until it is served
		if _, _, code := b.run("exec", "a", "curl", "-so", "/dev/null", "http://b:8000/0"); code == 0 {
			break
		}
	}
	for _, tt := range []struct {
		args []string
		out  string // a regular expression
		code int
	}{
		{[]string{"exec", "a", "curl", "-4sS", "http://b:8000/peer"}, `^you are 10\.0\.1\.1\n$`, 0},
		{[]string{"exec", "b", "getent", "ahostsv4", "A"}, `^10\.0\.1\.1 `, 0},
		{[]string{"exec", "a", "getent", "hosts", "nosuch"}, `^$`, 2},
		{[]string{"exec", "a", "sh", "-c", "echo $0 $PWD; exit 7"}, `^sh ` + regexp.QuoteMeta(b.dir) + `\n$`, 7},
		{[]string{"exec", "a", "sh", "-c", "kill -9 $$"}, `^$`, -1},
		{[]string{"exec", "a", "nosuchprogram"}, `^$`, 127},
		{[]string{"exec", "z", "true"}, `^$`, 125},
		{[]string{"status"}, `(?s)a +eth0 .*b/python3 .*running.*delay=3ms`, 0},
	} {
		ways := [][]string{tt.args}
		if tt.args[0] == "exec" {
			ways = append(ways, append([]string{"exec", "--by-lab"}, tt.args[1:]...))
		}
		for _, args := range ways {
			out, errs, code := b.run(args...)
			if code != tt.code || !regexp.MustCompile(tt.out).MatchString(out) {
				t.Errorf("%q: status %d, %q, %q", args, code, out, errs)
			}
		}
	}
	b.signals()
	live := b.command("pcap", "ab", "-w", "live.pcapng")
	if err := live.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	b.run("exec", "a", "curl", "-4sS", "http://b:8000/10")
	_ = live.Process.Signal(syscall.SIGINT)
	if err := live.Wait(); err != nil {
		t.Error(err)
	}
	got, _ := os.ReadFile(filepath.Join(b.dir, "live.pcapng"))
	if !bytes.Contains(got, []byte("GET /10 HTTP/1.1")) {
		t.Errorf("the live capture of %d bytes does not have the request", len(got))
	}
	_ = up.Process.Signal(syscall.SIGINT)
	_ = up.Wait()
	if code := up.ProcessState.ExitCode(); code != 130 {
		t.Errorf("after ^C status %d, want 130", code)
	}
	if out, _, code := b.run("status"); code == 0 {
		t.Errorf("it is still there:\n%s", out)
	}
}

// signals: a program of exec gets the caller's, and ends with its caller.
func (b *bench) signals() {
	b.t.Helper()
	for _, flag := range []string{"--by-lab=false", "--by-lab"} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			c := b.command("exec", flag, "a", "sh", "-c", "trap 'kill $!; exit 9' TERM; sleep 987 & echo ready; wait")
			out, err := c.StdoutPipe()
			if err == nil {
				err = c.Start()
			}
			if err != nil {
				b.t.Fatal(err)
			}
			if n, err := out.Read(make([]byte, 10)); n != 6 {
				b.t.Errorf("%s: %d bytes, %v", flag, n, err)
			}
			_ = c.Process.Signal(sig)
			_ = c.Wait()
			if code := c.ProcessState.ExitCode(); sig == syscall.SIGTERM && code != 9 {
				b.t.Errorf("%s: status %d, want 9", flag, code)
			}
			for range 200 {
				if sleepers(b.t) == 0 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if n := sleepers(b.t); n != 0 {
				b.t.Errorf("%s, %v: %d programs go on", flag, sig, n)
			}
		}
	}
}

// TestKilled: nothing outlives a lab that is killed, and its name is free.
func TestKilled(t *testing.T) {
	b := newBench(t, "python3", "sleep")
	b.file("l.toml", strings.ReplaceAll(serving, "[host.a]", "[host.a]\nrun = [{cmd = \"sh -c 'sleep 987 & setsid sleep 987; true'\"}]"))
	up := b.background("l.toml")
	joined := b.command("exec", "a", "sleep", "987")
	if err := joined.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if n := sleepers(t); n != 3 {
		t.Fatalf("%d programs, want 3", n)
	}
	_ = up.Process.Kill()
	_ = joined.Wait()
	for range 200 {
		if sleepers(t) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := sleepers(t); n != 0 {
		t.Errorf("%d programs have outlived the lab", n)
	}
	_ = b.background("l.toml")
}

// sleepers counts the processes "sleep 987".
func sleepers(t *testing.T) (n int) {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && string(b) == "sleep\x00987\x00" {
			n++
		}
	}
	return n
}

// TestFailures: what ends badly, or cannot begin, is said.
func TestFailures(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		text, want string
		code       int
	}{
		{`[host.a]
run = ["sh -c 'exit 3'", "true"]
`, "alplab: a: sh: exit status 3\n", 1},
		{`[host.a]
run = ["sh -c 'kill -SEGV $$'"]
`, "alplab: a: sh: killed by SIGSEGV\n", 1},
		{"[host.a]\nrun = [\n  'nosuchprogram',\n  {cmd = './x', dir = '/'},\n]\n", "l.toml:3:3: \"nosuchprogram\": executable file not found in $PATH\nl.toml:4:3: ", 2},
		{"duration = '300ms'\n[host.a]\nrun = ['sleep 100']\n", "", 0},
		{"[host.a]\n[[link]]\nbetween = ['a', 'b']\n", `l.toml:3:17: "b": want the name of a host`, 2},
	} {
		b.file("l.toml", tt.text)
		out, errs, code := b.run("up", "l.toml")
		if code != tt.code || !strings.Contains(errs, tt.want) {
			t.Errorf("%s\ngave status %d:\n%s%s", tt.text, code, out, errs)
		}
	}
}
