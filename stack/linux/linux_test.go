package linux

import (
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/pair"
	"github.com/alptrace/alptrace/stack/enginetest"
)

// kernelUnderTest is the kernel that the tests run: $ALPTRACE_LINUX, for example
// linux.uml, which Debian's package user-mode-linux has. Without it they do not run:
// the engine is young, and not yet always right.
func kernelUnderTest(t testing.TB) string {
	t.Helper()
	name := os.Getenv("ALPTRACE_LINUX")
	if name == "" {
		t.Skip("ALPTRACE_LINUX names no kernel for ARCH=um")
	}
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("ALPTRACE_LINUX: %v", err)
	}
	return name
}

// newEngine boots a kernel for one test.
func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	cfg.Kernel = kernelUnderTest(t)
	// The suite draws more errors than a kernel sends within a second.
	cfg.Sysctls = append(cfg.Sysctls, "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000", "net.ipv4.icmp_msgs_burst=10000")
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func prefixes(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

// newPair boots two kernels with a cable between them.
func newPair(t testing.TB, medium link.Medium) (a, b *Engine) {
	t.Helper()
	la, lb := pair.New(pair.Options{Medium: medium, Features: link.Features{Csum: true, TSO: true}})
	var wg sync.WaitGroup
	wg.Go(func() { a = newEngine(t, Config{Link: la, Addrs: prefixes("10.0.0.1/24", "fd00::1/64")}) })
	wg.Go(func() { b = newEngine(t, Config{Link: lb, Addrs: prefixes("10.0.0.2/24", "fd00::2/64")}) })
	wg.Wait()
	if a == nil || b == nil {
		t.FailNow()
	}
	return a, b
}

// TestContract runs the suite of package stack's contract.
func TestContract(t *testing.T) {
	kernelUnderTest(t)
	t.Run("IP", func(t *testing.T) {
		a, b := newPair(t, link.IP)
		ip := netip.MustParseAddr
		enginetest.Run(t, func(*testing.T) enginetest.Net {
			return enginetest.Net{
				A: a, B: b, A4: ip("10.0.0.1"), B4: ip("10.0.0.2"), A6: ip("fd00::1"), B6: ip("fd00::2"),
				Broadcast: ip("10.0.0.255"), Hole: ip("10.0.0.77"),
			}
		}, nil)
	})
	t.Run("Loopback", func(t *testing.T) {
		e := newEngine(t, Config{})
		lo4, lo6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
		enginetest.Run(t, func(*testing.T) enginetest.Net {
			return enginetest.Net{A: e, B: e, A4: lo4, B4: lo4, A6: lo6, B6: lo6, Broadcast: netip.MustParseAddr("127.255.255.255")}
		}, nil)
	})
}
