package tcp_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// tape gives decisions out of a fuzzer's bytes.
type tape struct{ b []byte }

func (t *tape) next() int {
	if len(t.b) == 0 {
		return 0
	}
	x := t.b[0]
	t.b = t.b[1:]
	return int(x)
}

// FuzzConn: random segments, calls and timers. Nothing panics, what is read is
// what the peer's sequence space has, memory is bounded, and a timer is set
// while there is something to be done.
func FuzzConn(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { fuzzConn(t, b) })
}

func fuzzConn(t *testing.T, b []byte) {
	in := &tape{b}
	cfg := tcp.NewConfig()
	cfg.Timestamps = in.next()&1 != 0
	cfg.SACK = in.next()&3 != 0
	cfg.CongestionControl = []string{"cubic", "reno"}[in.next()&1]
	cfg.Pacer = []string{"auto", "on"}[in.next()&1]
	clock := tcptest.NewClock()
	var last tcp.Segment
	h := tcptest.NewHost(clock, cfg, func(s *tcp.Segment) { last = *s })
	const peer tcp.Seq = 0xffffff00
	h.Connect(1, 2, 0xfffffff0, tcptest.Path)
	s := &tcptest.Stream{}
	for len(in.b) > 0 {
		switch op := in.next(); {
		case op < 150:
			h.Input(randomSegment(in, h, &last, peer))
		case op < 170:
			h.Write(tcptest.Bytes(make([]byte, in.next()*in.next())))
		case op < 190:
			h.Conn.Read(s)
		case op < 194:
			h.Shutdown()
		case op < 195:
			h.Close()
		case op < 196:
			h.Abort()
		case op < 200:
			h.SetNoDelay(op&1 != 0)
		case op < 204:
			h.SetCork(op&1 != 0)
		case op < 208:
			h.SetKeepAlive(op&1 != 0)
		case op < 212:
			h.PacketTooBig(in.next()*8, last.Seq)
		default:
			clock.Run(time.Duration(in.next()*in.next()) * 100 * time.Microsecond)
		}
		if err := h.Check(); err != nil {
			t.Fatalf("%v in state %v: %+v", err, h.State(), h.Info())
		}
		if s.Err != nil {
			t.Fatal(s.Err)
		}
	}
	// Whatever it was, it ends.
	clock.Run(time.Hour)
	h.Close()
	clock.Run(time.Hour)
	if h.State() != tcp.Closed {
		t.Fatalf("stuck in %v: %+v", h.State(), h.Info())
	}
}

// randomSegment is a segment that is more or less acceptable. Its payload is
// what the peer's stream has at its place.
func randomSegment(in *tape, h *tcptest.Host, last *tcp.Segment, peer tcp.Seq) *tcp.Segment {
	i := h.Info()
	s := &tcp.Segment{SrcPort: 2, DstPort: 1, Flags: tcp.ACK, Window: uint16(in.next() << 8), Seq: i.RcvNxt, Ack: i.Nxt}
	if h.State() == tcp.SynSent {
		s.Seq, s.Flags = peer, tcp.SYN|tcp.ACK
		s.Options = tcp.Options{Has: tcp.HasMSS | tcp.HasSACKPermitted | tcp.HasWScale | tcp.HasTimestamps, MSS: uint16(in.next() * 8), WScale: uint8(in.next() & 15), TSVal: 1}
		if in.next() < 20 {
			s.Flags = tcp.Flags(in.next())
		}
		return tcptest.Copy(s)
	}
	if k := in.next(); k < 60 {
		s.Seq = s.Seq.Add((in.next() - 100) * (1 + in.next()&15))
	}
	if k := in.next(); k < 120 {
		s.Ack = i.Una.Add(in.next() * (1 + in.next()&31))
	} else if k < 130 {
		s.Ack = s.Ack.Add((in.next() - 128) * in.next())
	}
	if k := in.next(); k < 20 {
		s.Flags = tcp.Flags(in.next())
	} else if k < 25 {
		s.Flags |= tcp.FIN
	} else if k < 40 {
		s.Flags |= tcp.PSH
	} else if k < 50 {
		s.Flags |= tcp.ECE
	}
	if i.Timestamps && in.next() > 5 {
		s.Options.Has |= tcp.HasTimestamps
		s.Options.TSVal, s.Options.TSEcr = uint32(1+h.Clock.Now()/time.Millisecond), h.Timestamp()-uint32(in.next())
		if in.next() < 5 {
			s.Options.TSVal = uint32(in.next())
		}
	}
	if in.next() < 100 && i.Nxt != i.Una {
		n := in.next() & 3
		for k := range n {
			at := i.Una.Add(in.next() * (1 + in.next()&31))
			s.Options.SACK[k] = tcp.Range{Start: at, End: at.Add(in.next() * 8)}
			s.Options.NSACK++
		}
	}
	if k := in.next(); k < 128 {
		tcptest.Fill(s, peer, in.next()*(1+in.next()&7))
	}
	return tcptest.Copy(s)
}

// TestRandom is FuzzConn with many tapes.
func TestRandom(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	}
	for seed := range uint64(n) {
		rng := rand.New(rand.NewPCG(seed, 3))
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		fuzzConn(t, b)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// FuzzHeader: what is read from a header is written again as it was.
func FuzzHeader(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0x80, 0x12, 255, 255, 0, 0, 0, 0, 2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again tcp.Segment
		if _, ok := tcp.ParseHeader(b, &s); !ok {
			return
		}
		if s.HeaderLen() > tcp.MaxHeaderLen { // options given twice
			return
		}
		w := make([]byte, s.HeaderLen())
		s.PutHeader(w)
		if _, ok := tcp.ParseHeader(w, &again); !ok {
			t.Fatalf("% x cannot be read", w)
		}
		again.Options.FastOpen, s.Options.FastOpen = nil, nil
		if again.Options.Has != s.Options.Has || again.Options.SACK != s.Options.SACK || again.Seq != s.Seq || again.Flags != s.Flags {
			t.Fatalf("%+v became %+v", s, again)
		}
	})
}
