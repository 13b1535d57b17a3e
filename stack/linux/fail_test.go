package linux

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// TestBootErrors: what cannot be booted is told in plain words.
func TestBootErrors(t *testing.T) {
	kernel := kernelUnderTest(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no such file", Config{Kernel: filepath.Join(dir, "nothing")}, "no such file"},
		{"no kernel", Config{Kernel: script}, "ARCH=um"},
		{"a sysctl that is not one", Config{Kernel: kernel, Sysctls: []string{"net.ipv4.nothing=1"}}, "net.ipv4.nothing"},
		{"a sysctl without a value", Config{Kernel: kernel, Sysctls: []string{"net.ipv4.nothing"}}, "NAME=VALUE"},
		{"no root", Config{Kernel: kernel, Arguments: []string{"rootfstype=ext9"}}, "CONFIG_HOSTFS"},
		{"a hang", Config{Kernel: kernel, Arguments: []string{"init=/bin/cat"}, BootLimit: 3 * time.Second}, "has not booted within"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := New(c.cfg)
			if err == nil {
				e.Close()
				t.Fatal("it has booted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %q", err, c.want)
			}
		})
	}
}

// TestKernelGone: a kernel that dies fails its endpoints, and the calls that
// follow.
func TestKernelGone(t *testing.T) {
	failed := make(chan error, 1)
	e := newEngine(t, Config{Failed: func(err error) { failed <- err }})
	ep, errno := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	if err := unix.Kill(e.Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Log(err)
	case <-time.After(5 * time.Second):
		t.Fatal("nobody was told")
	}
	if ep.Readiness()&unix.POLLERR == 0 {
		t.Errorf("readiness is %#x", ep.Readiness())
	}
	if errno := ep.Bind(stack.Addr{}); errno != unix.ENETDOWN {
		t.Errorf("bind: %v", errno)
	}
	if _, errno := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); errno == 0 {
		t.Error("a socket of a dead kernel")
	}
}

// TestSysctl: what the configuration says is so in the guest.
func TestSysctl(t *testing.T) {
	e := newEngine(t, Config{Sysctls: []string{"net.ipv4.tcp_congestion_control=reno"}})
	if got := strings.TrimSpace(e.readFile("/proc/sys/net/ipv4/tcp_congestion_control")); got != "reno" {
		t.Errorf("it is %q", got)
	}
	ep, errno := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer ep.Close()
	var b [16]byte
	if n, errno := ep.GetOption(unix.IPPROTO_TCP, unix.TCP_CONGESTION, b[:]); errno != 0 || !strings.HasPrefix(string(b[:n]), "reno") {
		t.Errorf("TCP_CONGESTION is %q, %v", b[:n], errno)
	}
}
