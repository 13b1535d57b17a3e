package mycc

import (
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// TestQueue: mycc fills a link and keeps its queue short. This is virtual time:
// 20 seconds of it take a moment, and are the same in every run.
func TestQueue(t *testing.T) {
	cfg := tcp.NewConfig()
	cfg.CongestionControl = "mycc"
	p := tcptest.NewPair(1, cfg, tcp.NewConfig())
	p.AB.Rate, p.AB.Queue = 2_500_000, 100 // 20 Mbit/s
	f := tcptest.StartFlow(p)
	p.Run(5 * time.Second)
	f.Mark()
	most := 0
	for range 15_000 {
		p.Run(time.Millisecond)
		most = max(most, p.AB.Queued())
	}
	t.Logf("%v; at most %d packets in the queue", f, most)
	if f.Goodput() < 0.9*2_500_000 || most > 3*high {
		t.Error("the link is not full, or its queue is long")
	}
}
