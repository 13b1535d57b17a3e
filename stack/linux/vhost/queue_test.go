package vhost

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
)

// guest is the driver's half of a queue, in memory of the test's own.
type guest struct {
	mem []byte
	q   *Queue
}

const (
	descAt, availAt, usedAt, dataAt = 0, 0x1000, 0x2000, 0x3000
	ringSize                        = 8
)

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := &guest{mem: make([]byte, 1<<16)}
	d := &Device{cfg: Config{Name: "test"}, mem: memory{{addr: 0x100000, mem: g.mem}}, conn: new(net.UnixConn)}
	g.q = &Queue{dev: d, kick: -1, call: -1}
	if err := g.q.setNum(ringSize); err != nil {
		t.Fatal(err)
	}
	m := &message{payload: make([]byte, 40)}
	for i, at := range []uint64{descAt, usedAt, availAt} {
		binary.NativeEndian.PutUint64(m.payload[8+8*i:], 0x100000+at)
	}
	if err := g.q.setAddr(m); err != nil {
		t.Fatal(err)
	}
	if err := g.q.enable(true); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *guest) desc(i int, addr uint64, size uint32, flags, next uint16) {
	d := g.mem[descAt+i*descLen:]
	binary.NativeEndian.PutUint64(d, addr)
	binary.NativeEndian.PutUint32(d[8:], size)
	binary.NativeEndian.PutUint16(d[12:], flags)
	binary.NativeEndian.PutUint16(d[14:], next)
}

// offer makes heads available.
func (g *guest) offer(heads ...uint16) {
	idx := binary.NativeEndian.Uint16(g.mem[availAt+2:])
	for _, h := range heads {
		binary.NativeEndian.PutUint16(g.mem[availAt+4+2*int(idx%ringSize):], h)
		idx++
	}
	binary.NativeEndian.PutUint16(g.mem[availAt+2:], idx)
}

func TestQueue(t *testing.T) {
	g := newGuest(t)
	copy(g.mem[dataAt:], "hello, ")
	copy(g.mem[dataAt+0x100:], "device")
	for round := range 5 * ringSize { // the rings wrap
		g.desc(0, 0x100000+dataAt, 7, descNext, 3)
		g.desc(3, 0x100000+dataAt+0x100, 6, descNext, 5)
		g.desc(5, 0x100000+dataAt+0x200, 64, descWrite, 0)
		g.offer(0)
		if n := g.q.Waiting(); n != 1 {
			t.Fatalf("round %d: %d wait, want 1", round, n)
		}
		c, err := g.q.Pop()
		if err != nil || c == nil {
			t.Fatalf("round %d: Pop: %v, %v", round, c, err)
		}
		if got := string(c.Out[0]) + string(c.Out[1]); got != "hello, device" {
			t.Errorf("read %q", got)
		}
		if c.OutLen() != 13 || c.InLen() != 64 {
			t.Errorf("lengths %d, %d, want 13, 64", c.OutLen(), c.InLen())
		}
		copy(c.In[0], "answer")
		g.q.Push(c, 6)
		g.q.Flush()
		i := int(uint16(round) % ringSize)
		if n := binary.NativeEndian.Uint32(g.mem[usedAt+4+8*i+4:]); n != 6 {
			t.Errorf("used length %d, want 6", n)
		}
		if idx := binary.NativeEndian.Uint16(g.mem[usedAt+2:]); idx != uint16(round+1) {
			t.Errorf("used index %d, want %d", idx, round+1)
		}
		if c, err := g.q.Pop(); c != nil || err != nil {
			t.Fatalf("Pop of an empty queue: %v, %v", c, err)
		}
	}
	if string(g.mem[dataAt+0x200:dataAt+0x206]) != "answer" {
		t.Error("the guest's buffer is not filled")
	}
}

func TestQueueIndirect(t *testing.T) {
	g := newGuest(t)
	copy(g.mem[dataAt:], "xyz")
	table := g.mem[dataAt+0x800:]
	for i, d := range []struct {
		addr  uint64
		size  uint32
		flags uint16
	}{{dataAt, 3, descNext}, {dataAt + 0x10, 32, descWrite}} {
		binary.NativeEndian.PutUint64(table[i*descLen:], 0x100000+d.addr)
		binary.NativeEndian.PutUint32(table[i*descLen+8:], d.size)
		binary.NativeEndian.PutUint16(table[i*descLen+12:], d.flags)
		binary.NativeEndian.PutUint16(table[i*descLen+14:], uint16(i+1))
	}
	g.desc(2, 0x100000+dataAt+0x800, 2*descLen, descIndirect, 0)
	g.offer(2)
	c, err := g.q.Pop()
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	if string(c.Out[0]) != "xyz" || c.InLen() != 32 {
		t.Errorf("got %q and %d bytes", c.Out[0], c.InLen())
	}
}

// TestQueueHostile: whatever the driver writes into its rings, the device ends
// with an error and touches nothing else.
func TestQueueHostile(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(g *guest)
		want error
	}{
		{"head out of the table", func(g *guest) { g.offer(ringSize) }, errRing},
		{"next out of the table", func(g *guest) { g.desc(0, 0x100000+dataAt, 1, descNext, ringSize); g.offer(0) }, errRing},
		{"a loop", func(g *guest) { g.desc(0, 0x100000+dataAt, 1, descNext, 0); g.offer(0) }, errRing},
		{"below the memory", func(g *guest) { g.desc(0, 0xfffff, 1, 0, 0); g.offer(0) }, errAddress},
		{"across its end", func(g *guest) { g.desc(0, 0x100000+1<<16-1, 2, 0, 0); g.offer(0) }, errAddress},
		{"around the address space", func(g *guest) { g.desc(0, 0x100010, 0xffffffff, 0, 0); g.offer(0) }, errAddress},
		{"an empty table", func(g *guest) { g.desc(0, 0x100000+dataAt, 0, descIndirect, 0); g.offer(0) }, errRing},
		{"a table in a table", func(g *guest) {
			g.desc(0, 0x100000+dataAt, descLen, descIndirect, 0)
			binary.NativeEndian.PutUint64(g.mem[dataAt:], 0x100000+dataAt)
			binary.NativeEndian.PutUint32(g.mem[dataAt+8:], descLen)
			binary.NativeEndian.PutUint16(g.mem[dataAt+12:], descIndirect)
			g.offer(0)
		}, errRing},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t)
			c.do(g)
			ch, err := g.q.Pop()
			if ch != nil || !errors.Is(err, c.want) {
				t.Errorf("Pop: %v, %v, want %v", ch, err, c.want)
			}
			if g.q.Running() {
				t.Error("the queue goes on")
			}
		})
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 0, 0x10, 0, 0, 0, 0, 0}, uint16(1))
	f.Fuzz(func(t *testing.T, rings []byte, idx uint16) {
		g := newGuest(t)
		copy(g.mem, rings)
		binary.NativeEndian.PutUint16(g.mem[availAt+2:], idx%ringSize)
		for range ringSize {
			c, err := g.q.Pop()
			if err != nil || c == nil {
				return
			}
			for _, b := range c.In {
				clear(b[:min(len(b), 1)])
			}
			g.q.Push(c, 0)
			g.q.Flush()
		}
	})
}
