package netstack

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSharedDrain: an engine that shares a host's addresses waits for its
// peers' FINs, but not for ever.
func TestSharedDrain(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for name, c := range map[string]struct {
		closes      time.Duration // when the peer closes
		least, most time.Duration
	}{
		"the peer closes":        {finWait / 4, finWait / 4, finWait},
		"the peer never does":    {0, finWait, finWait + 2*time.Second},
		"the peer closed before": {-1, 0, finWait},
	} {
		t.Run(name, func(t *testing.T) {
			e, _, _, peer := newShared(t)
			l := listen(t, peer, unix.AF_INET, addr("0.0.0.0:7000"), 16)
			client := socket(t, e, unix.AF_INET, unix.SOCK_STREAM, 0)
			must(t, "connect", client.dial(addr("10.0.0.2:7000")), 0)
			server := l.accept()
			if c.closes < 0 {
				server.Close()
				client.readFull(1)
			}
			client.Close()
			if c.closes > 0 {
				defer time.AfterFunc(c.closes, func() { server.Close() }).Stop()
			}
			began := time.Now()
			e.Drain(ctx)
			if d := time.Since(began); d < c.least || d > c.most {
				t.Errorf("it took %v, want %v to %v", d, c.least, c.most)
			}
		})
	}
}
