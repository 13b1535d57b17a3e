package tcp_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// oldSender is a sender of 1999.
func oldSender(cc string) *tcp.Config {
	c := wide(cc)
	c.InitialWindow = 1
	c.SACK, c.Timestamps, c.TLP, c.FRTO = false, false, false, false
	return c
}

func receiver(ack string) *tcp.Config {
	c := wide("cubic")
	c.AckPolicy = ack
	return c
}

// download is how long a transfer over 50 ms each way takes.
func download(t *testing.T, sender, recv *tcp.Config, change func(*tcptest.Pair)) (time.Duration, *tcptest.Stream) {
	t.Helper()
	p := tcptest.NewPair(1, sender, recv)
	p.AB.Delay, p.BA.Delay = 50*time.Millisecond, 50*time.Millisecond
	p.AB.Rate = 12_500_000
	if change != nil {
		change(p)
	}
	s := &tcptest.Stream{From: p.A, To: p.B, Size: 2_000_000}
	s.Start()
	p.Open()
	start := p.Now()
	p.RunUntil(time.Minute, func() bool { return s.Done || p.A.State() == tcp.Closed })
	p.RunUntil(200*time.Millisecond, func() bool { return s.Done })
	took := p.Now() - start
	t.Logf("%s: %.2f s, %d bytes read, %v, %d lost of %d, %d sent again", recv.AckPolicy, took.Seconds(), s.Read, s.Err, p.AB.Lost, p.AB.Sent, p.A.Info().TotalRetrans)
	return took, s
}

// TestMisbehavingReceivers: what Savage et al. found in 1999.
func TestMisbehavingReceivers(t *testing.T) {
	for _, c := range []struct {
		name                   string
		sender                 func() *tcp.Config
		split, dup, optimistic bool // faster than the normal receiver
	}{
		{"1999", func() *tcp.Config { return oldSender("reno1999") }, true, true, true},
		{"bytes", func() *tcp.Config { return oldSender("abc") }, false, false, true},
		{"now", func() *tcp.Config { return wide("cubic") }, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			normal, _ := download(t, c.sender(), receiver("delayed"), nil)
			for _, r := range []struct {
				ack    string
				faster bool
			}{{"split", c.split}, {"dup", c.dup}, {"optimistic", c.optimistic}} {
				took, s := download(t, c.sender(), receiver(r.ack), nil)
				if !s.Done || s.Err != nil {
					t.Errorf("%s: not all of it arrived: %v", r.ack, s.Err)
				}
				if r.faster && took > normal*85/100 || !r.faster && took < normal*95/100 {
					t.Errorf("%s: %v, the normal receiver %v; want faster: %v", r.ack, took, normal, r.faster)
				}
			}
		})
	}
}

// TestOptimisticLoss: what is lost after it was acknowledged is lost for good.
func TestOptimisticLoss(t *testing.T) {
	lose := func(p *tcptest.Pair) { p.AB.Filter = every(400) }
	if _, s := download(t, wide("cubic"), receiver("optimistic"), lose); !s.Done || s.Err == nil {
		t.Errorf("done %v, %v: want a corrupt stream", s.Done, s.Err)
	}
	if _, s := download(t, wide("cubic"), receiver("delayed"), lose); !s.Done || s.Err != nil {
		t.Errorf("done %v, %v", s.Done, s.Err)
	}
}

// TestAckCheck: a sender that withholds segments finds the receiver out that
// acknowledges them, and does the honest ones no harm.
func TestAckCheck(t *testing.T) {
	for _, sender := range []func() *tcp.Config{
		func() *tcp.Config { return wide("cubic") },
		func() *tcp.Config { return wide("bbr") },
		func() *tcp.Config { return oldSender("reno1999") },
	} {
		plain, checking := sender(), sender()
		checking.AckChecker = "skip"
		t.Run(plain.CongestionControl, func(t *testing.T) {
			_, s := download(t, checking, receiver("optimistic"), nil)
			if s.Done || s.From.Err() != unix.ECONNABORTED || s.To.Err() != unix.ECONNRESET {
				t.Errorf("done %v, %v and %v: want a reset", s.Done, s.From.Err(), s.To.Err())
			}
			without, _ := download(t, plain, receiver("delayed"), nil)
			with, s := download(t, checking, receiver("delayed"), nil)
			i := s.From.Info()
			most := without + 200*time.Millisecond
			if !plain.SACK { // the gap stops the window for a round trip
				most = 2 * without
			}
			if !s.Done || s.Err != nil || with > most {
				t.Errorf("%v, without the check %v; %v", with, without, s.Err)
			}
			if i.TotalRetrans > 2 || i.Timeouts > 0 {
				t.Errorf("%d retransmitted, %d timeouts: the gap was taken for a loss", i.TotalRetrans, i.Timeouts)
			}
			lossy := func(p *tcptest.Pair) { p.AB.Loss, p.BA.Loss = 0.03, 0.03 }
			if _, s := download(t, checking, receiver("delayed"), lossy); !s.Done || s.Err != nil {
				t.Errorf("with loss: done %v, %v", s.Done, s.Err)
			}
		})
	}
}
