package conformance

import (
	"net/netip"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
)

// TestInitialSeq is RFC 6528 3: ISN = M + F(local, remote, secret key), M a
// clock of 4 us.
func TestInitialSeq(t *testing.T) {
	cfg, other := tcp.NewConfig(), tcp.NewConfig()
	other.Secret = [2]uint64{1, 2}
	local, remote := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:4000")
	isn := tcp.InitialSeq(cfg, local, remote, time.Second)
	if d := tcp.InitialSeq(cfg, local, remote, time.Second+4*time.Millisecond).Sub(isn); d != 1000 {
		t.Errorf("after 4 ms it is %d higher", d)
	}
	for name, q := range map[string]tcp.Seq{
		"remote port":  tcp.InitialSeq(cfg, local, netip.MustParseAddrPort("10.0.0.2:4001"), time.Second),
		"local port":   tcp.InitialSeq(cfg, netip.MustParseAddrPort("10.0.0.1:81"), remote, time.Second),
		"remote":       tcp.InitialSeq(cfg, local, netip.MustParseAddrPort("10.0.0.3:4000"), time.Second),
		"secret":       tcp.InitialSeq(other, local, remote, time.Second),
		"the two ends": tcp.InitialSeq(cfg, remote, local, time.Second),
	} {
		if q == isn {
			t.Errorf("it does not depend on %s", name)
		}
	}
}

// TestBacklog is listen(2) as Linux counts it: backlog and one more wait to be
// accepted; a flood of SYNs is answered with cookies (RFC 4987 3.6), or not.
func TestBacklog(t *testing.T) {
	cookies, none := tcp.NewConfig(), tcp.NewConfig()
	none.SYNCookies = false
	for _, c := range []struct {
		backlog tcp.Backlog
		cfg     *tcp.Config
		want    tcp.Verdict
	}{
		{tcp.Backlog{Limit: 2}, cookies, tcp.TakeSYN},
		{tcp.Backlog{Limit: 2, Ready: 2}, cookies, tcp.TakeSYN},
		{tcp.Backlog{Limit: 2, Ready: 3}, cookies, tcp.DropSYN},
		{tcp.Backlog{Limit: 0}, cookies, tcp.TakeSYN},
		{tcp.Backlog{Limit: 0, Ready: 1}, cookies, tcp.DropSYN},
		{tcp.Backlog{Limit: 2, Half: 1}, cookies, tcp.TakeSYN},
		{tcp.Backlog{Limit: 2, Half: 2}, cookies, tcp.CookieSYN},
		{tcp.Backlog{Limit: 2, Half: 2}, none, tcp.DropSYN},
	} {
		if got := c.backlog.OnSYN(c.cfg); got != c.want {
			t.Errorf("%+v: %v, want %v", c.backlog, got, c.want)
		}
	}
}
