package netstack

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

// routed is two hosts and a router between them, made by change.
func routed(t *testing.T, change func(router *Config)) (a, router, b *Engine) {
	t.Helper()
	la, ra := newPipe(link.IP, false)
	lb, rb := newPipe(link.IP, false)
	prefixes := func(s ...string) (l []netip.Prefix) {
		for _, p := range s {
			l = append(l, netip.MustParsePrefix(p))
		}
		return l
	}
	host := func(l link.Link, addr, addr6 string, near, near6 string) *Engine {
		return made(t, Config{
			Interfaces: []Interface{{l, prefixes(addr, addr6)}},
			Routes: []Route{
				{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParseAddr(near), 0},
				{netip.MustParsePrefix("fd00::/16"), netip.MustParseAddr(near6), 0},
			},
		})
	}
	a = host(la, "10.1.0.2/24", "fd00:1::2/64", "10.1.0.1", "fd00:1::1")
	b = host(lb, "10.2.0.2/24", "fd00:2::2/64", "10.2.0.1", "fd00:2::1")
	cfg := Config{
		Links: []link.Link{ra}, Addrs: prefixes("10.1.0.1/24", "fd00:1::1/64"),
		Interfaces: []Interface{{rb, prefixes("10.2.0.1/24", "fd00:2::1/64")}},
		Forwarding: true, Rand: rand.NewChaCha8([32]byte{}),
	}
	change(&cfg)
	return a, made(t, cfg), b
}

// TestRouter: connections through an engine that forwards, and what the server
// sees of the client's address with and without masquerading.
func TestRouter(t *testing.T) {
	for _, c := range []struct {
		to, seen   string
		masquerade []int
	}{
		{"10.2.0.2:0", "10.1.0.2", nil},
		{"[fd00:2::2]:0", "fd00:1::2", nil},
		{"10.2.0.2:0", "10.2.0.1", []int{1}},
		{"[fd00:2::2]:0", "fd00:2::1", []int{1}},
		{"10.2.0.2:0", "10.1.0.2", []int{0}},
	} {
		a, r, b := routed(t, func(cfg *Config) { cfg.Masquerade = c.masquerade })
		client, server := connection(t, a, b, c.to)
		peer, err := server.PeerAddr()
		if err != 0 || peer.IP.String() != c.seen {
			t.Errorf("%s, masquerade %v: the client is %v, want %s (%v)", c.to, c.masquerade, peer, c.seen, err)
		}
		client.writeAll([]byte("hello"))
		client.Shutdown(unix.SHUT_WR)
		if got := server.readFull(10); string(got) != "hello" {
			t.Errorf("%s: got %q", c.to, got)
		}
		if n := len(r.Interfaces()); n != 3 {
			t.Errorf("%d interfaces", n)
		}
	}
}

// TestNoRouter: without forwarding nothing goes through.
func TestNoRouter(t *testing.T) {
	a, _, _ := routed(t, func(cfg *Config) { cfg.Forwarding = false })
	ep := socket(t, a, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if _, err := ep.Send(&stack.Message{Data: []byte("x"), Addr: addr("10.2.0.2:9"), HasAddr: true}); err != 0 {
		t.Fatal(err)
	}
	if a.Stats().PacketsIn != 0 {
		t.Error("an answer came")
	}
}

// TestBadInterfaces: what cannot be is refused.
func TestBadInterfaces(t *testing.T) {
	for _, cfg := range []Config{
		{Routes: []Route{{Dst: netip.MustParsePrefix("10.0.0.0/8")}}},
		{Masquerade: []int{0}},
	} {
		if e, err := New(cfg); err == nil {
			e.Close()
			t.Errorf("%+v is taken", cfg)
		}
	}
	l, _ := newPipe(link.IP, false)
	for _, r := range []Route{
		{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: 1},
		{Dst: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr("fd00::1")},
		{},
	} {
		if e, err := New(Config{Links: []link.Link{l}, Routes: []Route{r}}); err == nil {
			e.Close()
			t.Errorf("route %+v is taken", r)
		}
	}
}
