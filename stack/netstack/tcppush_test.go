package netstack

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

// TestTCPPush: what TCP_CORK and Nagle's algorithm hold back goes at once with
// a FIN, and on TCP_NODELAY. No time passes for the sender and no
// acknowledgment comes back, so nothing else can send it.
func TestTCPPush(t *testing.T) {
	cork := func(s *testSock) stack.Errno { s.setInt(unix.SOL_TCP, unix.TCP_CORK, 1); return 0 }
	nodelay := func(s *testSock) stack.Errno { s.setInt(unix.SOL_TCP, unix.TCP_NODELAY, 1); return 0 }
	shutdown := func(s *testSock) stack.Errno { return s.Shutdown(unix.SHUT_WR) }
	closed := func(s *testSock) stack.Errno { s.Close(); return 0 }
	for _, c := range []struct {
		name  string
		setup func(*testSock) stack.Errno
		push  func(*testSock) stack.Errno
		fin   bool
	}{
		{"cork, close", cork, closed, true},
		{"cork, shutdown", cork, shutdown, true},
		{"cork, nodelay", cork, nodelay, false},
		{"nagle, close", nil, closed, true},
		{"nagle, shutdown", nil, shutdown, true},
		{"nagle, nodelay", nil, nodelay, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			la, lb := newPipe(link.IP, false)
			var mute atomic.Bool
			lb.drop = func([]byte) bool { return mute.Load() }
			b := newEngine(t, lb, "10.0.0.2/24")
			a, err := New(Config{Links: []link.Link{la}, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, Clock: faketime.NewManualClock()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { a.Close() })
			client, server := connection(t, a, b, "10.0.0.2:0")
			mute.Store(true)
			if c.setup != nil {
				must(t, "setsockopt", c.setup(client), 0)
			}
			client.writeAll([]byte("one "))
			client.writeAll([]byte("two"))
			must(t, "push", c.push(client), 0)
			if got := server.readFull(len("one two")); string(got) != "one two" {
				t.Fatalf("got %q", got)
			}
			if c.fin {
				if got := server.readFull(1); len(got) != 0 {
					t.Fatalf("got %q, want the end", got)
				}
			}
		})
	}
}

// TestTCPUrgent: MSG_OOB sends nothing.
func TestTCPUrgent(t *testing.T) {
	e := newEngine(t, nil)
	client, server := connection(t, e, e, "127.0.0.1:0")
	_, err := client.Send(&stack.Message{Data: []byte("!"), Flags: unix.MSG_OOB})
	must(t, "send urgent", err, unix.EOPNOTSUPP)
	_, err = client.Send(&stack.Message{Data: []byte("in line")})
	must(t, "send", err, 0)
	if got := server.readFull(7); string(got) != "in line" {
		t.Errorf("got %q", got)
	}
}
