package lab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
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

// protocolBench has members of one wire whose alptrace has the protocol of
// examples/rdp built in.
type protocolBench struct {
	t        *testing.T
	dir, bin string
}

var buildRDP = sync.OnceValues(func() (string, error) {
	dir, err := binaries()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "rdptrace")
	if out, err := exec.Command("go", "build", "-o", path, "../../examples/rdptrace").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

func newProtocolBench(t *testing.T, tools ...string) *protocolBench {
	t.Helper()
	need(t, tools...)
	bin, err := buildRDP()
	if err != nil {
		t.Fatal(err)
	}
	b := &protocolBench{t, tempDir(t), bin}
	if err := os.Mkdir(filepath.Join(b.dir, "wire"), 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(b.dir, "wire"), unprivileged, unprivileged); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// path is a file of the bench.
func (b *protocolBench) path(name string) string { return filepath.Join(b.dir, name) }

// member is a program at the address 10.7.0.N and fd07::N, unprivileged, for a minute.
func (b *protocolBench) member(n int, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	b.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, b.bin, append([]string{"--net", "wire:" + b.path("wire"),
		"--addr", fmt.Sprintf("10.7.0.%d/24", n), "--addr", fmt.Sprintf("fd07::%d/64", n)}, args...)...)
	c.Dir = b.dir
	c.Env = append(os.Environ(), "HOME="+b.dir, "TMPDIR="+b.dir)
	c.Stderr = new(bytes.Buffer)
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
	}
	return c
}

// serve starts a server and gives it a moment; the function ends it.
func (b *protocolBench) serve(c *exec.Cmd) (stop func() error) {
	b.t.Helper()
	if err := c.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Process.Kill() })
	time.Sleep(time.Second)
	return c.Wait
}

// together runs f for 1 to n at once.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i + 1) })
	}
	wg.Wait()
}

// noise is n bytes, always the same.
func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(p)
	return p
}

// TestProtocolByNumber: a static C program that calls socket(2) with the number of
// a protocol gets it: four clients at once, a server that forks for each, loss,
// both directions.
func TestProtocolByNumber(t *testing.T) {
	b := newProtocolBench(t, "cc", "go")
	prog := b.path("proto253")
	if out, err := exec.Command("cc", "-static", "-O1", "-o", prog, "../../examples/rdp/echo/proto253.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data := noise(1_000_000)
	numbers := []string{"253", "254"}
	for i, family := range []string{"-4", "-6"} {
		t.Run("IPv"+family[1:], func(t *testing.T) {
			addr, number := []string{"10.7.0.1", "fd07::1"}[i], numbers[i]
			server := b.member(1, prog, family, "-p", number, "serve", addr, "7", "4")
			wait := b.serve(server)
			together(4, func(i int) {
				c := b.member(1+i, "--impair", "loss=2%", prog, family, "-p", number, "echo", addr, "7")
				c.Stdin = bytes.NewReader(data)
				out, err := c.Output()
				if err != nil || sha256.Sum256(out) != sha256.Sum256(data) {
					t.Errorf("client %d: %d bytes came back, %v: %s", i, len(out), err, c.Stderr)
				}
			})
			if err := wait(); err != nil {
				t.Errorf("server: %v: %s", err, server.Stderr)
			}
		})
	}
	// Nobody listens; and without the protocol there is no such socket.
	c := b.member(2, prog, "echo", "10.7.0.2", "9")
	if err := c.Run(); err == nil || !strings.Contains(fmt.Sprint(c.Stderr), "Connection refused") {
		t.Errorf("a port where nobody listens: %v: %s", err, c.Stderr)
	}
	c = b.member(2, prog, "-p", "252", "echo", "10.7.0.2", "9")
	if err := c.Run(); err == nil || !strings.Contains(fmt.Sprint(c.Stderr), "Protocol not supported") {
		t.Errorf("protocol 252: %v: %s", err, c.Stderr)
	}
}

// TestProtocolMapped: curl and Python's web server, which know TCP only, on another
// protocol, over a lossy wire.
func TestProtocolMapped(t *testing.T) {
	b := newProtocolBench(t, "curl", "python3", "tshark", "go")
	data := noise(2_000_000)
	if err := os.WriteFile(b.path("f"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	server := b.member(1, "--map", "tcp=rdp", "--pcap", b.path("s.pcapng"), "python3", "-m", "http.server", "80")
	wait := b.serve(server)
	together(3, func(i int) {
		c := b.member(1+i, "--map", "tcp=rdp", "--impair", "delay=1ms loss=2%", "curl", "-sS", "-m", "50", "--retry", "3", "--retry-connrefused", "http://10.7.0.1/f")
		out, err := c.Output()
		if err != nil || sha256.Sum256(out) != sha256.Sum256(data) {
			t.Errorf("client %d: %d bytes, %v: %s", i, len(out), err, c.Stderr)
		}
	})
	c := b.member(9, "--map", "tcp=rdp", "curl", "-sS", "http://10.7.0.1:81/")
	if err := c.Run(); c.ProcessState.ExitCode() != 7 {
		t.Errorf("a port where nobody listens: %v: %s", err, c.Stderr)
	}
	_ = server.Process.Signal(syscall.SIGTERM)
	_ = wait()
	out, err := exec.Command("tshark", "-r", b.path("s.pcapng"), "-Y", "ip.proto==253", "-T", "fields", "-e", "ip.proto").Output()
	if n := bytes.Count(out, []byte("253\n")); err != nil || n < 1000 {
		t.Errorf("tshark shows %d packets of protocol 253, %v", n, err)
	}
	out, err = exec.Command("tshark", "-r", b.path("s.pcapng"), "-Y", "tcp && !icmp").Output()
	if err != nil || len(out) > 0 {
		t.Errorf("there is TCP on the wire: %v\n%s", err, out)
	}
}

// TestProtocolFlags: what --map cannot do it refuses.
func TestProtocolFlags(t *testing.T) {
	b := newProtocolBench(t, "go")
	for flags, want := range map[string]string{
		"--map tcp=nix":               "want one of rdp, rdp6",
		"--map udp=rdp":               "want tcp=NAME",
		"--net relay --map tcp=rdp":   "the peers speak TCP",
		"--engine host --map tcp=rdp": "does not apply",
		"--net none --map tcp=rdp":    "",
		"--net none --map=tcp=rdp":    "",
	} {
		out, err := exec.Command(b.bin, append(strings.Fields(flags), "true")...).CombinedOutput()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(string(out), want)) {
			t.Errorf("%s: %v: %s", flags, err, out)
		}
	}
}
