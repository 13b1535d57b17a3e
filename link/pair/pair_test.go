package pair

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
)

func TestBothWays(t *testing.T) {
	a, b := New(Options{Medium: link.Ethernet, Features: link.Features{Csum: true, TSO: true}})
	defer a.Close()
	defer b.Close()
	type got struct {
		b []byte
		o link.Offload
	}
	ch := make(chan got, 10)
	_ = a.Start(func(pkts []link.Packet) {
		for i := range pkts {
			ch <- got{pkts[i].AppendTo(nil), pkts[i].Offload}
		}
	})
	_ = b.Start(func(pkts []link.Packet) { _, _ = b.Send(pkts) })
	if b.Start(nil) == nil {
		t.Error("started twice")
	}
	o := link.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16, GSO: link.GSOTCP4, GSOSize: 1000, HdrLen: 54}
	p := link.Packet{Bufs: [][]byte{{1, 2, 3}, make([]byte, 60000)}, Offload: o}
	for range 5 {
		if n, err := a.Send([]link.Packet{p, p}); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	for range 10 {
		select {
		case g := <-ch:
			o.CsumValid = true
			if !bytes.Equal(g.b, p.AppendTo(nil)) || g.o != o {
				t.Fatalf("%d bytes, %+v", len(g.b), g.o)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing comes back")
		}
	}
	if f := a.Features(); f.GSOMax != 65535 || a.MTU() != 1500 || a.HardwareAddr().String() == b.HardwareAddr().String() {
		t.Errorf("%+v", f)
	}
}

func TestRefuses(t *testing.T) {
	a, b := New(Options{MTU: 100, Queue: 3})
	mk := func(n int, o link.Offload) []link.Packet {
		return []link.Packet{{Bufs: [][]byte{make([]byte, n)}, Offload: o}}
	}
	for _, tc := range []struct {
		p    []link.Packet
		want error
	}{
		{mk(101, link.Offload{}), unix.EMSGSIZE},
		{mk(50, link.Offload{NeedsCsum: true}), unix.EINVAL},
		{mk(50, link.Offload{GSO: link.GSOTCP6}), unix.EINVAL},
	} {
		if n, err := a.Send(tc.p); n != 0 || !errors.Is(err, tc.want) {
			t.Errorf("%d, %v, want %v", n, err, tc.want)
		}
	}
	for i := range 5 {
		if n, err := a.Send(mk(100, link.Offload{})); err != nil || n != 1 && i < 3 || n != 0 && i >= 3 {
			t.Errorf("packet %d into a queue of 3: %d, %v", i, n, err)
		}
	}
	_ = b.Close()
	if n, err := a.Send(mk(1, link.Offload{})); n != 0 || err != nil {
		t.Errorf("to a closed end: %d, %v", n, err)
	}
	if _, err := b.Send(nil); !errors.Is(err, net.ErrClosed) || !errors.Is(b.Start(nil), net.ErrClosed) {
		t.Errorf("from a closed end: %v", err)
	}
}
