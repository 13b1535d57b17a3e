package ring

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// shared makes both sides of the same memory, the host's in pages.
func shared(t *testing.T, pages int) (guest, host *Side) {
	t.Helper()
	mem := make([]byte, (pages+1)*PageSize)
	var m Memory
	for b := mem; len(b) > 0; b = b[PageSize:] {
		m = append(m, b[:PageSize:PageSize])
	}
	guest, err := Guest(Memory{mem})
	if err != nil {
		t.Fatal(err)
	}
	if host, err = Host(m); err != nil {
		t.Fatal(err)
	}
	return guest, host
}

// TestFrames: frames of all sizes arrive whole and in order, both ways, while
// the queues wrap many times.
func TestFrames(t *testing.T) {
	guest, host := shared(t, 8)
	for _, way := range []struct {
		name string
		out  *Producer
		in   *Consumer
	}{{"down", &host.Out, &guest.In}, {"up", &guest.Out, &host.In}} {
		t.Run(way.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			type sent struct {
				f Frame
				b []byte
			}
			var queue []sent
			took := 0
			for i := range 5000 {
				b := make([]byte, rnd.IntN(6000))
				for j := range b {
					b[j] = byte(rnd.Uint32())
				}
				f := Frame{Op: uint16(i), Flags: uint16(i >> 3), ID: rnd.Uint32(), Seq: uint32(i)}
				ok := false
				if i%3 == 0 { // in place
					if s := way.out.Space(len(b)); s != nil || len(b) == 0 {
						b = b[:copy(s, b)]
						f.Size = uint32(len(b))
						way.out.Commit(f)
						ok = true
					}
				} else {
					k := len(b) / 3
					ok = way.out.Put(f, b[:k], b[k:])
				}
				if ok {
					f.Size = uint32(len(b))
					queue = append(queue, sent{f, b})
				}
				for len(queue) > 0 && (!ok || rnd.IntN(3) > 0) {
					f, have, err := way.in.Next()
					if err != nil || !have {
						t.Fatalf("frame %d: %v, %v", took, have, err)
					}
					if f != queue[0].f {
						t.Fatalf("frame %d is %+v, want %+v", took, f, queue[0].f)
					}
					if got := way.in.Append(nil, f); !bytes.Equal(got, queue[0].b) {
						t.Fatalf("frame %d: other bytes", took)
					}
					way.in.Done(f)
					queue = queue[1:]
					took++
				}
			}
			if took < 2000 {
				t.Errorf("only %d frames", took)
			}
		})
	}
}

// TestFull: what does not fit is refused, and fits when there is room again.
func TestFull(t *testing.T) {
	guest, host := shared(t, 2)
	n := 0
	for host.Out.Put(Frame{Op: 1}, make([]byte, 100)) {
		n++
	}
	if want := PageSize / (HeaderLen + 112); n != want && n != want-1 {
		t.Errorf("%d frames fit, want %d", n, want)
	}
	f, ok, err := guest.In.Next()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	guest.In.Done(f)
	if !host.Out.Put(Frame{Op: 2}, make([]byte, 100)) {
		t.Error("no room after a frame was taken")
	}
}

// TestBell: whoever sleeps is rung for, once.
func TestBell(t *testing.T) {
	guest, host := shared(t, 4)
	if host.MustRing() {
		t.Error("a bell for a side that is awake")
	}
	if !guest.Sleep() {
		t.Error("may not sleep though nothing has come")
	}
	host.Out.Put(Frame{})
	if !host.MustRing() || host.MustRing() {
		t.Error("want one bell")
	}
	if guest.Sleep() {
		t.Error("sleeps though something has come")
	}
	if host.MustRing() {
		t.Error("a bell for a side that did not sleep")
	}
}

// TestHostile: words and frames that make no sense are errors.
func TestHostile(t *testing.T) {
	for name, do := range map[string]func(guest *Side){
		"more than the queue": func(g *Side) { g.Out.made.Store(g.Out.size + HeaderLen) },
		"backwards":           func(g *Side) { g.Out.made.Store(^uint32(0) - 15) },
		"half a header":       func(g *Side) { g.Out.made.Store(8) },
		"a frame without end": func(g *Side) { g.Out.Commit(Frame{Size: 64}); g.Out.made.Store(HeaderLen) },
		"an endless frame":    func(g *Side) { g.Out.Commit(Frame{Size: ^uint32(0)}); g.Out.made.Store(HeaderLen) },
	} {
		t.Run(name, func(t *testing.T) {
			guest, host := shared(t, 4)
			do(guest)
			if _, ok, err := host.In.Next(); ok || !errors.Is(err, ErrBroken) {
				t.Errorf("Next: %v, %v", ok, err)
			}
		})
	}
	guest, host := shared(t, 4)
	guest.In.taken.Store(12345) // the consumer of down: more taken than made
	if n := host.Out.Room(); n > int(host.Out.size) {
		t.Errorf("room for %d bytes in a queue of %d", n, host.Out.size)
	}
	if _, err := Host(nil); !errors.Is(err, ErrBroken) {
		t.Error("no memory:", err)
	}
}
