package netstack

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// TestMemoryAlp: the heap that 10,000 idle connections of the project's own TCP
// take, and gVisor's beside it.
func TestMemoryAlp(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 connections")
	}
	alp := idleMemory(t, newAlp)
	gvisor := idleMemory(t, newEngine)
	t.Logf("%d bytes for each end of an idle connection; gVisor's %d", alp, gvisor)
	if alp > 6<<10 {
		t.Errorf("%d bytes, more than 6 KiB", alp)
	}
}

// idleMemory is the heap that an end of an idle connection takes, bytes.
func idleMemory(t *testing.T, make func(testing.TB, link.Link, ...string) *Engine) uint64 {
	const n = 5000 // with two ends each
	la, lb := newPipe(link.IP, true)
	a, b := make(t, la, "10.0.0.1/16"), make(t, lb, "10.0.0.2/16")
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	l := socket(t, b, unix.AF_INET, unix.SOCK_STREAM, 0)
	at := stack.Addr{IP: netip.MustParseAddr("10.0.0.2"), Port: 80}
	if e := l.Bind(at); e != 0 {
		t.Fatal(e)
	}
	if e := l.Listen(4096); e != 0 {
		t.Fatal(e)
	}
	var keep []stack.Endpoint
	before := heap()
	for range n {
		c := socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
		if e := c.Connect(at); e != unix.EINPROGRESS {
			t.Fatal(e)
		}
		for c.Readiness()&unix.POLLOUT == 0 {
			<-c.c
		}
		var s stack.Endpoint
		for s == nil {
			if got, e := l.Accept(); e == 0 {
				s = got
			} else {
				<-l.c
			}
		}
		keep = append(keep, c.Endpoint, s)
	}
	each := (heap() - before) / (2 * n)
	for _, e := range keep {
		e.Abort()
	}
	return each
}
