package step

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/pair"
)

// far collects what arrives at the other end.
type far struct {
	mu  sync.Mutex
	got [][]byte
}

func (f *far) receive(pkts []link.Packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range pkts {
		f.got = append(f.got, pkts[i].AppendTo(nil))
	}
}

// numbers are the first bytes of what has arrived, once n packets have.
func (f *far) numbers(t *testing.T, n int) (all []byte) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		if len(f.got) >= n || time.Now().After(end) {
			break
		}
		f.mu.Unlock()
	}
	defer f.mu.Unlock()
	for _, b := range f.got {
		all = append(all, b[0])
	}
	if len(all) != n {
		t.Fatalf("%d packets arrived, want %d", len(all), n)
	}
	return all
}

// bench is a stepped link: near is what the stack gets, far what the peer does.
type bench struct {
	*Link
	peer      *pair.Link
	near, far far
	passed    [2]int
	mu        sync.Mutex
}

func newBench(t *testing.T, limit int) *bench {
	t.Helper()
	a, z := pair.New(pair.Options{Features: link.Features{Csum: true, TSO: true}})
	b := &bench{peer: z}
	b.Link = Wrap(a, Options{Limit: limit, Passed: func(d Direction, pkts []link.Packet) {
		b.mu.Lock()
		b.passed[d] += len(pkts)
		b.mu.Unlock()
	}})
	if err := z.Start(b.far.receive); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(b.near.receive); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); z.Close() })
	return b
}

func send(t *testing.T, l link.Link, numbers ...byte) {
	t.Helper()
	for _, n := range numbers {
		if _, err := l.Send([]link.Packet{{Bufs: [][]byte{{n, 0}}}}); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bench) await(t *testing.T, d Direction, n int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); b.State().Waiting[d] != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting %v, want %d", b.State().Waiting, n)
		}
	}
}

func TestStep(t *testing.T) {
	b := newBench(t, 4)
	send(t, b, 1)
	b.far.numbers(t, 1)
	b.Pause()
	send(t, b, 2, 3, 4, 5, 6, 7) // two too many
	send(t, b.peer, 101, 102)
	b.await(t, In, 2)
	if s := b.State(); s.Waiting[Out] != 4 || s.Dropped[Out] != 2 || !s.Paused {
		t.Errorf("state %+v", s)
	}
	b.Next(Out, func(p []byte) {
		if p[0] != 2 {
			t.Errorf("next is %d", p[0])
		}
	})
	if !b.Step(Out) || !slices.Equal(b.far.numbers(t, 2), []byte{1, 2}) {
		t.Error("one step out")
	}
	if !b.Step(In) || !slices.Equal(b.near.numbers(t, 1), []byte{101}) {
		t.Error("one step in")
	}
	if !b.Drop(Out) {
		t.Error("nothing dropped")
	}
	b.Resume()
	send(t, b, 8)
	if got := b.far.numbers(t, 5); !slices.Equal(got, []byte{1, 2, 4, 5, 8}) {
		t.Errorf("arrived %v", got)
	}
	b.near.numbers(t, 2)
	if b.Step(In) || b.Step(Out) || b.Drop(In) || b.Next(In, nil) {
		t.Error("a step of nothing")
	}
	if b.passed != [2]int{In: 2, Out: 5} {
		t.Errorf("passed %v", b.passed)
	}
	if err := b.Start(nil); err == nil {
		t.Error("started twice")
	}
}

// TestSegments: a packet still to be cut waits as segments.
func TestSegments(t *testing.T) {
	b := newBench(t, 0)
	p := make([]byte, 40+3000)
	p[0], p[8], p[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[20+12] = 5 << 4
	b.Pause()
	_, err := b.Send([]link.Packet{{Bufs: [][]byte{p}, Offload: link.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 16, GSO: link.GSOTCP4, GSOSize: 1000, HdrLen: 40}}})
	if err != nil {
		t.Fatal(err)
	}
	if n := b.State().Waiting[Out]; n != 3 {
		t.Fatalf("%d packets wait, want 3", n)
	}
	b.Step(Out)
	b.far.numbers(t, 1)
	if got := b.far.got[0]; len(got) != 1040 || binary.BigEndian.Uint16(got[2:]) != 1040 || bytes.Equal(got[36:38], []byte{0, 0}) {
		t.Errorf("the segment: % x", got[:40])
	}
}

// TestOrder: resuming and pausing under load loses and reorders nothing.
func TestOrder(t *testing.T) {
	b := newBench(t, 1<<20)
	const n = 5000
	go func() {
		for i := range n {
			send(t, b, byte(i))
			if i%32 == 0 {
				time.Sleep(100 * time.Microsecond) // not more than the pair's queue
			}
		}
	}()
	for range 50 {
		b.Pause()
		time.Sleep(200 * time.Microsecond)
		b.Step(Out)
		b.Resume()
	}
	for i, got := range b.far.numbers(t, n) {
		if got != byte(i) {
			t.Fatalf("packet %d is %d", i, got)
		}
	}
}

func TestClose(t *testing.T) {
	b := newBench(t, 0)
	b.Pause()
	send(t, b, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := b.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain of a paused link: %v", err)
	}
	b.Step(Out)
	if err := b.Drain(context.Background()); err != nil {
		t.Errorf("drain: %v", err)
	}
	send(t, b, 2)
	b.Close()
	if _, err := b.Send([]link.Packet{{Bufs: [][]byte{{1}}}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
	b.Resume()
	if b.Step(Out) {
		t.Error("a step after close")
	}
}

// BenchmarkSend is what the wrapper costs a packet while nothing is paused.
func BenchmarkSend(b *testing.B) {
	a, z := pair.New(pair.Options{})
	defer a.Close()
	defer z.Close()
	l := Wrap(sink{a}, Options{})
	pkts := []link.Packet{{Bufs: [][]byte{make([]byte, 1500)}}}
	for b.Loop() {
		l.Send(pkts)
	}
}

// sink takes everything.
type sink struct{ link.Link }

func (sink) Send(pkts []link.Packet) (int, error) { return len(pkts), nil }
