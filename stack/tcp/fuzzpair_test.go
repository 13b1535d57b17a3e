package tcp_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// The network of the pairs is bad for so long, then it is good.
const badTime = 20 * time.Second

// FuzzPair: two connections over a network that loses, corrupts (which the
// checksum turns into loss), reorders, duplicates, and brings old segments
// again. What is read is what was written, all of it, and both ends are closed
// once the network is good.
func FuzzPair(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(randomTape(seed, 40))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := fuzzPair(b); err != nil {
			t.Fatal(err)
		}
	})
}

// randomTape is a tape of n bytes.
func randomTape(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 5))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// of gives one of a list.
func of[T any](in *tape, list ...T) T { return list[in.next()%len(list)] }

// randomConfig is the configuration of one end.
func randomConfig(in *tape) *tcp.Config {
	cfg := tcp.NewConfig()
	cfg.CongestionControl = of(in, "cubic", "reno", "bbr", "dctcp")
	cfg.Recovery = of(in, "rack", "rack", "newreno")
	cfg.RTO = of(in, "rfc6298", "rfc6298", "rfc793")
	cfg.Pacer = of(in, "auto", "on")
	cfg.AckPolicy = of(in, "delayed", "delayed", "every")
	cfg.Timestamps, cfg.SACK, cfg.WindowScaling = in.next()&3 != 0, in.next()&3 != 0, in.next()&3 != 0
	cfg.TLP, cfg.FRTO, cfg.MTUProbing = in.next()&1 != 0, in.next()&1 != 0, in.next()&1 != 0
	cfg.ECN = of(in, tcp.ECNPassive, tcp.ECNOn, tcp.ECNOff)
	cfg.RecvBuffer = of(in, 131072, 4096, 20000)
	cfg.InitialWindow = of(in, 10, 1, 4)
	return cfg
}

// randomWire is one direction.
func randomWire(in *tape, w *tcptest.Wire) {
	w.Delay = time.Duration(in.next()) * time.Millisecond / 2
	w.Jitter = time.Duration(of(in, 0, 0, 1, 10, 80)) * time.Millisecond
	w.Rate = of(in, 0, 0, 10_000_000, 1_000_000, 50_000)
	w.Queue = of(in, 0, 100, 10, 3)
	w.Mark = of(in, 0, 0, 5)
	w.Loss = float64(of(in, 0, 0, 1, 5, 20, 40)) / 100
	w.Dup = float64(of(in, 0, 0, 2, 30)) / 100
}

func fuzzPair(b []byte) error {
	in := &tape{b}
	p := tcptest.NewPair(uint64(in.next())<<8|uint64(in.next()), randomConfig(in), randomConfig(in))
	randomWire(in, p.AB)
	randomWire(in, p.BA)
	replay := of(in, 0.0, 0.0, 0.01, 0.1)
	p.Tap = func(from string, s *tcp.Segment) {
		if p.Now() > badTime || p.Rand.Float64() >= replay {
			return
		}
		to, old := p.A, tcptest.Copy(s)
		if from == "A" {
			to = p.B
		}
		p.After(time.Duration(p.Rand.Int64N(int64(5*time.Second))), func() {
			if to.State() != tcp.Closed {
				to.Input(tcptest.Copy(old))
			}
		})
	}
	size := of(in, 0, 1, 3000, 100_000, 1_000_000)
	ab := &tcptest.Stream{From: p.A, To: p.B, Size: size, Chunk: of(in, 0, 1000, 70_000), ReadLimit: of(in, 0, 700)}
	ba := &tcptest.Stream{From: p.B, To: p.A, Size: of(in, 0, 1, 3000, 100_000), Chunk: of(in, 0, 500), Hold: in.next() < 50}
	p.A.SetNoDelay(in.next() < 128)
	p.B.SetNoDelay(in.next() < 128)
	p.A.SetKeepAlive(in.next() < 50)
	ab.Start()
	ba.Start()
	p.Open()
	if in.next() < 30 { // simultaneous open
		p.B.Connect(80, 1000, 900, tcptest.Path)
	}
	p.After(badTime, func() {
		*p.AB = tcptest.Wire{Delay: p.AB.Delay}
		*p.BA = tcptest.Wire{Delay: p.BA.Delay}
		ba.Resume()
	})
	done := func() bool { return ab.Done && ba.Done || p.A.Err() != 0 || p.B.Err() != 0 }
	if err := drive(p, 30*time.Minute, done); err != nil {
		return err
	}
	switch {
	case ab.Err != nil || ba.Err != nil:
		return fmt.Errorf("%v, %v", ab.Err, ba.Err)
	case !done():
		return fmt.Errorf("stuck: A read %d of %d, B %d of %d\nA %+v\nB %+v", ba.Read, ba.Size, ab.Read, ab.Size, p.A.Info(), p.B.Info())
	case p.A.Err() != 0 || p.B.Err() != 0:
		return fmt.Errorf("ended with %v, %v after %v\nA %+v\nB %+v", p.A.Err(), p.B.Err(), p.Now(), p.A.Info(), p.B.Info())
	case ab.Read != ab.Size || ba.Read != ba.Size:
		return fmt.Errorf("A read %d of %d, B %d of %d", ba.Read, ba.Size, ab.Read, ab.Size)
	}
	p.A.Close()
	p.B.Close()
	over := func() bool { return p.A.State() == tcp.Closed && p.B.State() == tcp.Closed }
	if err := drive(p, 10*time.Minute, over); err != nil {
		return err
	}
	if !over() {
		return fmt.Errorf("not closed: %v, %v", p.A.State(), p.B.State())
	}
	return nil
}

// drive serves events until done, and checks both ends after each.
func drive(p *tcptest.Pair, limit time.Duration, done func() bool) error {
	end := p.Now() + limit
	for !done() {
		if !p.Step(end) {
			return nil
		}
		for _, h := range []*tcptest.Host{p.A, p.B} {
			if err := h.Check(); err != nil {
				return fmt.Errorf("%v in state %v: %+v", err, h.State(), h.Info())
			}
		}
	}
	return nil
}

// FuzzListener: random segments from many peers for a listener with a short
// backlog. The queues stay within their limits, and in the end they are empty.
func FuzzListener(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(randomTape(seed, 500))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := fuzzListener(b); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRandomPairs and the listener's are the fuzz targets with many tapes.
func TestRandomPairs(t *testing.T) {
	n := uint64(150)
	if testing.Short() {
		n = 20
	}
	for seed := range n {
		if err := fuzzPair(randomTape(seed, 100)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestRandomListeners(t *testing.T) {
	for seed := range uint64(300) {
		if err := fuzzListener(randomTape(seed, 600)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestLong runs all of them for ALPTCP_FUZZ_TIME (a time as 30m), with other
// seeds each time if ALPTCP_FUZZ_SEED is another.
func TestLong(t *testing.T) {
	limit, err := time.ParseDuration(os.Getenv("ALPTCP_FUZZ_TIME"))
	if err != nil {
		t.Skip("ALPTCP_FUZZ_TIME says how long; it is not set")
	}
	seed := uint64(1 << 32)
	if _, err := fmt.Sscan(os.Getenv("ALPTCP_FUZZ_SEED"), &seed); err == nil {
		seed <<= 32
	}
	end := time.Now().Add(limit)
	var pairs, conns, listeners int
	for ; time.Now().Before(end); seed++ {
		if err := fuzzPair(randomTape(seed, 100)); err != nil {
			t.Errorf("pair, seed %d: %v", seed, err)
		}
		pairs++
		for k := range uint64(20) {
			fuzzConn(t, randomTape(seed<<8|k, 600))
			conns++
		}
		for k := range uint64(5) {
			if err := fuzzListener(randomTape(seed<<8|k, 600)); err != nil {
				t.Errorf("listener, seed %d: %v", seed<<8|k, err)
			}
			listeners++
		}
		if pairs%1000 == 0 {
			t.Logf("seed %d: %d pairs, %d connections, %d listeners", seed, pairs, conns, listeners)
		}
	}
	t.Logf("%d pairs, %d connections, %d listeners", pairs, conns, listeners)
}
