package tcplog

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/pair"
	"github.com/alptrace/alptrace/stack"
)

// seg is an IPv4 TCP packet from 10.0.0.1:1000 to 10.0.0.2:2000, or back.
func seg(back bool, seq, ack uint32, flags byte, wnd uint16, opts []byte, n int) link.Packet {
	for len(opts)%4 != 0 {
		opts = append(opts, 1)
	}
	be := binary.BigEndian
	b := make([]byte, 40, 40+len(opts)+n)
	b = append(b, opts...)
	b = append(b, make([]byte, n)...)
	b[0], b[1], b[9] = 0x45, 3, 6
	be.PutUint16(b[2:], uint16(len(b)))
	from, to := []byte{10, 0, 0, 1, 3, 232}, []byte{10, 0, 0, 2, 7, 208}
	if back {
		from, to = to, from
	}
	copy(b[12:], from[:4])
	copy(b[16:], to[:4])
	copy(b[20:], from[4:])
	copy(b[22:], to[4:])
	be.PutUint32(b[24:], seq)
	be.PutUint32(b[28:], ack)
	b[32], b[33] = byte(5+len(opts)/4)<<4, flags
	be.PutUint16(b[34:], wnd)
	// In pieces, as a stack sends it.
	return link.Packet{Bufs: [][]byte{b[:20], b[20 : 40+len(opts)], b[40+len(opts):]}}
}

// logged gives the records of what f does with a log and a link of it.
func logged(t *testing.T, f func(l *Log, k *Link)) []Record {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, Header{Clock: Virtual})
	l := New(w, Options{Now: func() time.Duration { return time.Second }})
	a, p := pair.New(pair.Options{})
	defer p.Close()
	k := l.Wrap(a)
	f(l, k)
	k.Close()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, _, err := NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	var recs []Record
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return recs
		}
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, *rec)
	}
}

func TestSegments(t *testing.T) {
	ws := func(n byte) []byte { return []byte{3, 3, n} }
	ts := []byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	sack := []byte{5, 18, 0, 0, 0, 10, 0, 0, 0, 20, 0, 0, 0, 30, 0, 0, 0, 40}
	gso := seg(false, 101, 501, ack, 100, nil, 4000)
	gso.GSO, gso.GSOSize = link.GSOTCP4, 1448
	recs := logged(t, func(l *Log, k *Link) {
		for _, p := range []link.Packet{
			seg(false, 100, 0, syn, 1000, ws(7), 0),
			seg(true, 500, 101, syn|ack, 1000, ws(3), 0),
			gso,
			seg(true, 501, 101, ack, 100, append(ts, sack...), 0),
			seg(false, 101, 501, ack|psh, 100, nil, 1448),
		} {
			dir := out
			if p.Bufs[0][15] == 2 {
				dir = in
			}
			k.pass([]link.Packet{p}, dir)
		}
		k.pass([]link.Packet{{Bufs: [][]byte{{0x45}}}, {}, {Bufs: [][]byte{make([]byte, 60)}}}, in)
		k.pass([]link.Packet{seg(true, 501, 0, rst, 0, nil, 0)}, in)
	})
	type want struct {
		dir, flags string
		wnd        uint32
		len, segs  int
		retx       bool
	}
	for i, w := range []want{
		{"out", "S", 1000, 0, 0, false},
		{"in", "SA", 1000, 0, 0, false},
		{"out", "A", 12800, 4000, 3, false},
		{"in", "A", 800, 0, 0, false},
		{"out", "PA", 12800, 1448, 0, true},
		{"in", "R", 0, 0, 0, false},
	} {
		r := recs[i]
		if got := (want{r.Dir, r.Flags, r.Wnd, r.Len, r.Segs, r.Retx}); got != w || r.Conn != 1 || r.ECN != "ce" || r.Local.String() != "10.0.0.1:1000" {
			t.Errorf("%d: %+v, want %+v", i, r, w)
		}
	}
	if r := recs[3]; r.TS != [2]uint32{1, 2} || !reflect.DeepEqual(r.SACK, [][2]uint32{{10, 20}, {30, 40}}) {
		t.Errorf("options: %+v", r)
	}
	if r := recs[6]; r.Ev != EvReset || r.Dir != DirIn || len(recs) != 7 {
		t.Errorf("%+v", recs[6:])
	}
}

// TestSaw: what was seen before, with holes, and around the end of the numbers.
func TestSaw(t *testing.T) {
	top := ^uint32(0) - 49
	var h half
	for i, c := range []struct {
		seq, n uint32
		again  bool
	}{
		{top, 100, false}, {top, 100, true}, {top + 100, 0, false},
		{top + 200, 100, false}, {top + 400, 100, false}, // two holes
		{top + 100, 50, false}, {top + 100, 100, true}, {top + 350, 50, false},
		{top + 300, 50, false}, {top + 300, 200, true}, {top + 450, 100, true}, {top + 500, 100, true}, {top + 600, 10, false},
	} {
		if again := h.saw(c.seq, c.n); again != c.again {
			t.Errorf("%d: %v", i, again)
		}
	}
	if len(h.gaps) != 0 {
		t.Errorf("gaps %v", h.gaps)
	}
	for i := range uint32(1000) { // every other one
		h.saw(top+1000+2*i, 1)
	}
	if len(h.gaps) > maxGaps {
		t.Errorf("%d gaps", len(h.gaps))
	}
}

func TestSamples(t *testing.T) {
	recs := logged(t, func(l *Log, k *Link) {
		s := stack.TCPSample{Local: here, Remote: there, State: 2}
		l.Sample(s)
		s.State, s.SndMSS, s.SndCwnd = 1, 1000, 10000
		l.Sample(s)
		l.Sample(s) // nothing new
		s.Timeouts, s.CAState, s.SndCwnd = 1, caLoss, 1000
		l.Sample(s)
		s.CAState = 0
		l.Sample(s)
		l.Sample(stack.TCPSample{Local: here, Remote: there, State: 7})
		l.Sample(stack.TCPSample{Local: here, Remote: there, State: 2}) // another, from the same port
		l.Sample(stack.TCPSample{State: 99})
	})
	var got []string
	for _, r := range recs {
		if r.Ev == EvState {
			got = append(got, r.From+">"+r.State)
		} else {
			got = append(got, r.Ev)
		}
	}
	want := []string{">SYN_SENT", "SYN_SENT>ESTABLISHED", "cc", "rto", "cc", "recovered", "cc", "ESTABLISHED>CLOSE", ">SYN_SENT"}
	if !reflect.DeepEqual(got, want) || recs[len(recs)-1].Conn != 2 {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestQueues(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, Header{Clock: Virtual})
	var looks []func()
	l := New(w, Options{After: func(_ time.Duration, f func()) { looks = append(looks, f) }})
	a, p := pair.New(pair.Options{})
	defer p.Close()
	spec, err := impair.Parse("rate=1kbit queue=2p")
	if err != nil {
		t.Fatal(err)
	}
	q, err := impair.Wrap(a, impair.Config{Out: spec})
	if err != nil {
		t.Fatal(err)
	}
	k := l.Wrap(q)
	defer k.Close()
	l.Queues(k, q.(*impair.Link))
	for range 5 {
		_, _ = k.Send([]link.Packet{seg(false, 1, 0, ack, 1, nil, 100)})
	}
	n := 0
	for ; len(looks) > 0; n++ { // until it looks no more
		f := looks[0]
		looks = looks[1:]
		f()
	}
	if n > queueIdle+2 {
		t.Errorf("looked %d times", n)
	}
	w.Close()
	r, _, _ := NewReader(&b)
	var last *Record
	for {
		rec, err := r.Read()
		if err != nil {
			break
		}
		if rec.Ev == EvQueue {
			last = rec
		}
	}
	if last == nil || last.Pkts != 2 || last.Dropped != 2 || last.Dir != DirOut || last.Link != "pair0" {
		t.Errorf("%+v", last)
	}
}

func BenchmarkSegment(b *testing.B) {
	l := New(NewWriter(io.Discard, Header{}), Options{})
	a, p := pair.New(pair.Options{Queue: 1})
	defer p.Close()
	k := l.Wrap(a)
	pkts := []link.Packet{seg(false, 1, 0, ack, 1, nil, 1000)}
	b.ReportAllocs()
	for b.Loop() {
		k.pass(pkts, out)
	}
}
