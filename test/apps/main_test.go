package apps

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runner is what the tests put before the program: nothing (native), or
// alptrace with flags.
var runner struct {
	native bool
	path   string
	flags  []string
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	r := os.Getenv("ALPTRACE_RUNNER")
	runner.flags = strings.Fields(os.Getenv("ALPTRACE_FLAGS"))
	switch {
	case r == "native":
		runner.native = true
	case r != "":
		abs, err := filepath.Abs(r)
		if err != nil {
			fmt.Fprintln(os.Stderr, "apps:", err)
			return 1
		}
		runner.path = abs
	default:
		dir, err := os.MkdirTemp("", "alptrace-apps-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "apps:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "apps:", err)
			return 1
		}
		runner.path = filepath.Join(dir, "alptrace")
		build := exec.Command("go", "build", "-buildvcs=false", "-o", runner.path, "github.com/alptrace/alptrace/cmd/alptrace")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "apps: build alptrace: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// packageOf is the Debian package of each program that the tests run.
var packageOf = map[string]string{
	"apache2":         "apache2-bin",
	"busybox":         "busybox-static",
	"curl":            "curl",
	"dig":             "bind9-dnsutils",
	"dnsmasq":         "dnsmasq-base",
	"git":             "git",
	"haproxy":         "haproxy",
	"initdb":          "postgresql",
	"ip":              "iproute2",
	"iperf3":          "iperf3",
	"java":            "openjdk-17-jdk-headless",
	"javac":           "openjdk-17-jdk-headless",
	"memcached":       "memcached",
	"nc.openbsd":      "netcat-openbsd",
	"nc.traditional":  "netcat-traditional",
	"ncat":            "ncat",
	"nginx":           "nginx",
	"node":            "nodejs",
	"pgbench":         "postgresql",
	"ping":            "iputils-ping",
	"postgres":        "postgresql",
	"psql":            "postgresql",
	"python3":         "python3",
	"redis-benchmark": "redis-tools",
	"redis-cli":       "redis-tools",
	"redis-server":    "redis-server",
	"rsync":           "rsync",
	"rustc":           "rustc",
	"scp":             "openssh-client",
	"setpriv":         "util-linux",
	"socat":           "socat",
	"ssh":             "openssh-client",
	"ssh-keygen":      "openssh-client",
	"sshd":            "openssh-server",
	"tmux":            "tmux",
	"tshark":          "tshark",
	"unshare":         "util-linux",
	"wget":            "wget",
	"wrk":             "wrk",
}

// systemPath is the PATH of every scene.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// program is the path of a program that a test needs. It fails the test, with
// the name of the Debian package, if the program is not installed.
func program(t *testing.T, name string) string {
	t.Helper()
	pkg, ok := packageOf[name]
	if !ok {
		t.Fatalf("program %s is not in packageOf", name)
	}
	dirs := strings.Split(systemPath, ":")
	pg, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	dirs = append(dirs, pg...)
	if name == "rustc" { // a compiler runs as the tests' user: any will do
		dirs = append(filepath.SplitList(os.Getenv("PATH")), dirs...)
	}
	for _, d := range dirs {
		p := filepath.Join(d, name)
		if st, err := os.Stat(p); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return p
		}
	}
	t.Fatalf("%s is not installed: it is in the Debian package %s", name, pkg)
	return ""
}

// TestPackages checks that packages.txt is sorted and has every package that
// the tests name.
func TestPackages(t *testing.T) {
	f, err := os.Open("packages.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	listed := map[string]bool{}
	last := ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if sc.Text() <= last {
			t.Errorf("packages.txt: %q after %q", sc.Text(), last)
		}
		last = sc.Text()
		listed[last] = true
	}
	used := map[string]bool{}
	for prog, pkg := range packageOf {
		used[pkg] = true
		if !listed[pkg] {
			t.Errorf("packages.txt lacks %s (for %s)", pkg, prog)
		}
	}
	for pkg := range listed {
		if !used[pkg] {
			t.Errorf("packages.txt lists %s, which no test names", pkg)
		}
	}
}
