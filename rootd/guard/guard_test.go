package guard

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/alptrace/alptrace/rootd/datapath"
)

const inNamespace = "GUARD_TEST_NAMESPACE"

// TestNamespace runs the tests named TestNS as root in a network namespace of
// their own.
func TestNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNS", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" {
		for _, args := range []string{"link set lo up", "addr add 10.9.0.1/32 dev lo", "addr add fd09::1/128 dev lo"} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				os.Stderr.WriteString(args + ": " + string(out))
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

var testConfig = Config{Table: "dpguard"}

func open(t *testing.T) *Guard {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("run by TestNamespace")
	}
	g, err := Open(testConfig)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOENT) {
		t.Skip("no nftables: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		c, _ := nftables.New()
		if ts, err := c.ListTables(); err != nil || len(ts) > 0 {
			t.Errorf("tables are left: %v, %v", ts, err)
		}
	})
	return g
}

func grant(proto uint8, a string, port uint16) datapath.Grant {
	return datapath.Grant{Proto: proto, Addr: netip.MustParseAddr(a), Port: port}
}

// silent says whether the kernel is silent on a port where nobody listens.
func silent(t *testing.T, network, address string) bool {
	t.Helper()
	c, err := net.DialTimeout(network, address, 60*time.Millisecond)
	if strings.HasPrefix(network, "udp") && err == nil {
		_ = c.SetDeadline(time.Now().Add(60 * time.Millisecond))
		_, _ = c.Write([]byte("x"))
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	switch {
	case err == nil:
		t.Errorf("%s %s: connected", network, address)
	case errors.Is(err, syscall.ECONNREFUSED):
		return false
	case !os.IsTimeout(err):
		t.Errorf("%s %s: %v", network, address, err)
	}
	return true
}

func TestNSSilence(t *testing.T) {
	g := open(t)
	gs := []datapath.Grant{
		grant(6, "0.0.0.0", 1000), grant(17, "::", 1001), grant(6, "10.9.0.1", 1002), grant(17, "10.9.0.1", 1002),
		grant(6, "fd09::1", 1003), grant(6, "127.0.0.1", 1004), grant(1, "10.9.0.1", 5), grant(58, "::", 5),
	}
	// Twice is no error, within one call nor in two.
	for range 2 {
		if err := g.Add(append(gs, gs...)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(on bool) {
		t.Helper()
		for _, tc := range []struct {
			network, address string
			guarded          bool
		}{
			{"tcp", "10.9.0.1:1000", true}, {"tcp", "127.0.0.1:1000", true}, {"tcp", "[::1]:1000", false}, {"udp", "10.9.0.1:1000", false},
			{"udp", "[fd09::1]:1001", true}, {"udp", "[::1]:1001", true}, {"udp", "127.0.0.1:1001", false}, {"tcp", "[::1]:1001", false},
			{"tcp", "10.9.0.1:1002", true}, {"udp", "10.9.0.1:1002", true}, {"tcp", "127.0.0.1:1002", false},
			{"tcp", "[fd09::1]:1003", true}, {"tcp", "[::1]:1003", false}, {"udp", "[fd09::1]:1003", false},
			{"tcp", "127.0.0.1:1004", true}, {"tcp", "10.9.0.1:1004", false}, {"tcp", "10.9.0.1:5", false},
		} {
			if got := silent(t, tc.network, tc.address); got != (tc.guarded && on) {
				t.Errorf("%s %s: silent %v", tc.network, tc.address, got)
			}
		}
	}
	check(true)
	// A process after this one finds all.
	h, err := Open(testConfig)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.have) != 6 {
		t.Errorf("adopted %v", h.have)
	}
	check(true)
	g = h
	if err := g.Remove(append(gs, grant(6, "10.9.0.1", 9999))); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(gs); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
	check(false)
	// Changed behind its back.
	if err := g.Add(gs); err != nil {
		t.Fatal(err)
	}
	other, err := Open(testConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Remove(gs[:1]); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(gs); err != nil {
		t.Errorf("removing what another removed: %v", err)
	}
	check(false)
	if err := g.Add(gs); err != nil {
		t.Fatal(err)
	}
	if err := g.Flush(); err != nil {
		t.Fatal(err)
	}
	check(false)
}

func TestNSMany(t *testing.T) {
	g := open(t)
	var gs []datapath.Grant
	for i := range uint16(10000) {
		gs = append(gs, grant(6, "0.0.0.0", 20000+i), grant(17, "fd09::1", 20000+i))
	}
	start := time.Now()
	if err := g.Add(gs); err != nil {
		t.Fatal(err)
	}
	added := time.Since(start)
	if !silent(t, "tcp4", "127.0.0.1:29999") || !silent(t, "udp6", "[fd09::1]:20000") {
		t.Error("not guarded")
	}
	start = time.Now()
	if g, err := Open(testConfig); err != nil || len(g.have) != len(gs) {
		t.Errorf("adopted %d, %v", len(g.have), err)
	}
	adopted := time.Since(start)
	start = time.Now()
	if err := g.Remove(gs); err != nil {
		t.Fatal(err)
	}
	t.Logf("20,000 ports: added in %v, adopted in %v, removed in %v", added, adopted, time.Since(start))
	if silent(t, "tcp4", "127.0.0.1:29999") {
		t.Error("still guarded")
	}
}

func TestKey(t *testing.T) {
	for _, g := range []datapath.Grant{
		grant(6, "0.0.0.0", 80), grant(17, "::", 65535), grant(6, "192.0.2.1", 1), grant(17, "2001:db8::1", 443),
	} {
		k := kindOf(g)
		got, ok := k.grant(k.key(g))
		if !ok || got != g {
			t.Errorf("%v: %v, %v", g, got, ok)
		}
		if _, ok := k.grant(k.key(g)[1:]); ok {
			t.Errorf("%v: a short key is a grant", g)
		}
	}
}
