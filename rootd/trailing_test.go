package rootd_test

import (
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"github.com/alptrace/alptrace/rootd"
)

// slowGuard is a guard whose transactions wait for the test.
type slowGuard struct {
	gate chan struct{}

	mu    sync.Mutex
	have  map[rootd.Grant]bool
	calls int
}

func (g *slowGuard) set(gs []rootd.Grant, have bool) error {
	<-g.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	for _, x := range gs {
		g.have[x] = have
	}
	return nil
}

func (g *slowGuard) Add(gs []rootd.Grant) error    { return g.set(gs, true) }
func (g *slowGuard) Remove(gs []rootd.Grant) error { return g.set(gs, false) }
func (g *slowGuard) Grants() []rootd.Grant         { return nil }

// TestTrailing: nobody waits, the last word counts, and many changes are few
// transactions.
func TestTrailing(t *testing.T) {
	to := &slowGuard{gate: make(chan struct{}), have: make(map[rootd.Grant]bool)}
	tr := rootd.NewTrailing(to, slog.New(slog.DiscardHandler))
	at := func(port uint16) rootd.Grant { return rootd.Grant{Proto: 6, Addr: netip.IPv4Unspecified(), Port: port} }
	for i := range uint16(1000) { // while the guard cannot do anything
		_ = tr.Add([]rootd.Grant{at(i)})
		if i%2 == 0 {
			_ = tr.Remove([]rootd.Grant{at(i)})
		}
	}
	close(to.gate)
	tr.Close()
	for i := range uint16(1000) {
		if have, want := to.have[at(i)], i%2 == 1; have != want {
			t.Fatalf("port %d: %v, want %v", i, have, want)
		}
	}
	if to.calls > 6 {
		t.Errorf("%d transactions", to.calls)
	}
}
