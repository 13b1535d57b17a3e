package netstack

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/enginetest"
	alp "github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/alptcp"
)

// newAlp makes an engine with the project's own TCP.
func newAlp(t testing.TB, l link.Link, addrs ...string) *Engine {
	t.Helper()
	cfg := config(l, addrs...)
	cfg.TCP = alptcp.Factory(alp.NewConfig())
	return made(t, cfg)
}

// TestContractAlp is TestContract with the project's own TCP on one side, on
// the other, or on both.
func TestContractAlp(t *testing.T) {
	type maker func(testing.TB, link.Link, ...string) *Engine
	for _, c := range []struct {
		name   string
		medium link.Medium
		tso    bool
		a, b   maker
	}{
		{"IP", link.IP, true, newAlp, newAlp},
		{"Ethernet", link.Ethernet, false, newAlp, newAlp},
		{"client", link.IP, true, newAlp, newEngine},
		{"server", link.IP, true, newEngine, newAlp},
	} {
		t.Run(c.name, func(t *testing.T) {
			enginetest.Run(t, func(t *testing.T) enginetest.Net {
				la, lb := newPipe(c.medium, c.tso)
				n := enginetest.Net{
					A: c.a(t, la, "10.0.0.1/24", "fd00::1/64"), B: c.b(t, lb, "10.0.0.2/24", "fd00::2/64"),
					A4: netip.MustParseAddr("10.0.0.1"), B4: netip.MustParseAddr("10.0.0.2"),
					A6: netip.MustParseAddr("fd00::1"), B6: netip.MustParseAddr("fd00::2"),
				}
				if c.medium == link.IP {
					n.Hole = netip.MustParseAddr("10.0.0.77")
				}
				return n
			}, map[string]string{"Datagram/Overflow": "tested with the default TCP"})
		})
	}
	t.Run("Loopback", func(t *testing.T) {
		enginetest.Run(t, func(t *testing.T) enginetest.Net {
			e := newAlp(t, nil)
			lo4, lo6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
			return enginetest.Net{A: e, B: e, A4: lo4, B4: lo4, A6: lo6, B6: lo6}
		}, nil)
	})
}

// TestFastOpenAlp: the first connection gets a cookie, the SYN of the second
// has data (RFC 7413).
func TestFastOpenAlp(t *testing.T) {
	la, lb := newPipe(link.IP, false)
	a, b := newAlp(t, la, "10.0.0.1/24"), newAlp(t, lb, "10.0.0.2/24")
	var on [4]byte
	binary.NativeEndian.PutUint32(on[:], 1)
	l := listen(t, b, unix.AF_INET, addr("10.0.0.2:8080"), 5)
	must(t, "TCP_FASTOPEN", l.SetOption(unix.SOL_TCP, unix.TCP_FASTOPEN, on[:]), 0)
	for i, want := range []stack.Errno{unix.EINPROGRESS, 0} {
		c := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
		must(t, "TCP_FASTOPEN_CONNECT", c.SetOption(unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT, on[:]), 0)
		must(t, "connect", c.Connect(addr("10.0.0.2:8080")), want)
		c.wait(unix.POLLOUT)
		c.writeAll([]byte("question"))
		s := l.accept()
		if got := string(s.readFull(8)); got != "question" {
			t.Fatalf("connection %d: the server read %q", i, got)
		}
		s.writeAll([]byte("answer"))
		if got := string(c.readFull(6)); got != "answer" {
			t.Fatalf("connection %d: the client read %q", i, got)
		}
	}
}
