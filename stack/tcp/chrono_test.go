package tcp_test

import (
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// TestTimersOfUser: TCP_RTO_MIN_US, TCP_RTO_MAX_MS, TCP_DELACK_MAX_US.
func TestTimersOfUser(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"least RTO", `
			0 established
			0 set rtomin 0.03
			0 set rtomax 1
			0 write 1
			0 > P. 1:2(1) ack 1
			0.06 > P. 1:2(1) ack 1
			0.06 ca Loss
			0.07 < . 1:1(0) ack 2`},
		{"largest RTO", `
			0 established
			0 set rtomax 1
			0 write 1
			0 > P. 1:2(1)
			0.22 > P. 1:2(1)
			0.66 > P. 1:2(1)
			1.54 > P. 1:2(1)
			2.54 > P. 1:2(1)
			3.54 > P. 1:2(1)`},
		{"longest delayed acknowledgment", `
			0 established
			0 write 1
			0 > P. 1:2(1)
			0.02 < P. 1:101(100) ack 2
			0.06 > . 2:2(0) ack 101
			0.1 set delackmax 0.01
			0.1 write 1
			0.1 > P. 2:3(1)
			0.12 < P. 101:201(100) ack 3
			0.13 > . 3:3(0) ack 201`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := tcp.NewConfig()
			cfg.Timestamps, cfg.TLP = false, false
			tcptest.Run(t, cfg, c.script)
		})
	}
}

// TestLimits: what Info says of the time that the sender was busy.
func TestLimits(t *testing.T) {
	h := tcptest.Run(t, nil, `
		0 established win=3000
		0 write 4000
		0 > . 1:1461(1460)
		0 > . 1461:2921(1460)
		0.02 < . 1:1(0) ack 2921 win 0
		0.12 < . 1:1(0) ack 2921 win 3000
		0.12 > P. 2921:4001(1080)
		0.14 < . 1:1(0) ack 4001 win 3000`)
	i := h.Info()
	near := func(what string, have, want time.Duration) {
		if d := have - want; d < -2*time.Millisecond || d > 2*time.Millisecond {
			t.Errorf("%s %v, want %v", what, have, want)
		}
	}
	near("busy", i.Busy, 140*time.Millisecond)
	near("limited by the window", i.WindowLimited, 120*time.Millisecond)
	near("limited by the buffer", i.BufferLimited, 0)
	if i.DeliveredSegs != 3 || i.ReordSeen != 0 {
		t.Errorf("%d delivered, %d reordered, want 3 and 0", i.DeliveredSegs, i.ReordSeen)
	}
}

// TestReorderingSeen: a hole that closes without a retransmission.
func TestReorderingSeen(t *testing.T) {
	h := tcptest.Run(t, nil, `
		0 established
		0 write 2920
		0 > . 1:1461(1460)
		0 > P. 1461:2921(1460)
		0.02 < . 1:1(0) ack 1 <sack 1461:2921>
		0.021 < . 1:1(0) ack 2921`)
	if n := h.Info().ReordSeen; n != 1 {
		t.Errorf("%d reorderings seen, want 1", n)
	}
}
