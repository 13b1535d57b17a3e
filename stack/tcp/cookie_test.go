package tcp_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// TestCookie: a connection by way of a cookie works as any other, and what is
// no cookie opens none.
func TestCookie(t *testing.T) {
	client, server := netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:80")
	for _, ts := range []bool{true, false} {
		cfg, peer := tcp.NewConfig(), tcp.NewConfig()
		cfg.Secret = [2]uint64{1, 2}
		peer.Timestamps = ts
		p := tcptest.NewPair(1, peer, cfg)
		s := &tcptest.Stream{From: p.A, To: p.B, Size: 300_000}
		s.Start()
		var forged tcp.Segment
		p.Accept = func(h *tcptest.Host, g *tcp.Segment) {
			if g.Flags&tcp.SYN != 0 {
				var r tcp.Segment
				tcp.MakeCookie(cfg, g, server, client, tcptest.Path, p.Now(), &r)
				h.Out(tcptest.Copy(&r))
				return
			}
			forged = *tcptest.Copy(g)
			if !h.OpenCookie(g, server, client, tcptest.Path) {
				t.Fatal("the cookie is not good")
			}
			h.Input(g)
		}
		p.Open()
		if !p.RunUntil(time.Minute, func() bool { return s.Done }) || s.Err != nil {
			t.Fatalf("%d bytes: %v", s.Read, s.Err)
		}
		i := p.B.Info()
		if i.Timestamps != ts || i.SACK != ts || i.SndScale != map[bool]uint8{true: 7}[ts] {
			t.Errorf("options are lost: %+v", i)
		}
		if !tcp.CookieValid(cfg, &forged, server, client, time.Second) {
			t.Error("the cookie is not valid")
		}
		forged.Ack++
		if tcp.CookieValid(cfg, &forged, server, client, time.Second) {
			t.Error("a forged cookie is valid")
		}
		forged.Ack--
		if tcp.CookieValid(cfg, &forged, server, client, 5*time.Minute) {
			t.Error("an old cookie is valid")
		}
	}
}
