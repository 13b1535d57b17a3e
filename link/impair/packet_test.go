package impair

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
)

// gso is a TCP packet with n bytes of payload to be cut into 1400.
func gso(eth, v6 bool, n int) *link.Packet {
	ip, typ := 20, uint16(0x0800)
	if v6 {
		ip, typ = 40, 0x86dd
	}
	b := make([]byte, ip+20+n)
	p := &link.Packet{Offload: link.Offload{NeedsCsum: true, CsumOffset: 16, GSOSize: 1400, HdrLen: uint16(ip + 20)}}
	var sum uint16
	if v6 {
		p.GSO = link.GSOTCP6
		b[0], b[1], b[6], b[7] = 0x60, 0x20, protoTCP, 64 // ECN-capable
		binary.BigEndian.PutUint16(b[4:], uint16(20+n))
		b[23], b[39] = 1, 2
		sum = link.Checksum(b[8:40], protoTCP)
	} else {
		p.GSO = link.GSOTCP4
		b[0], b[1], b[8], b[9] = 0x45, 2, 64, protoTCP
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		binary.BigEndian.PutUint16(b[10:], ^link.Checksum(b[:20], 0))
		sum = link.Checksum(b[12:20], protoTCP)
	}
	tcp := b[ip:]
	binary.BigEndian.PutUint32(tcp[4:], 1<<32-5000)
	tcp[12], tcp[13] = 0x50, 0x19 // FIN, PSH, ACK
	for i := range n {
		tcp[20+i] = byte(i * 7)
	}
	binary.BigEndian.PutUint16(tcp[16:], link.Checksum([]byte{byte((20 + n) >> 8), byte(20 + n)}, sum))
	if eth {
		e := make([]byte, 14, 14+len(b))
		binary.BigEndian.PutUint16(e[12:], typ)
		b = append(e, b...)
		ip += 14
		p.HdrLen += 14
	}
	p.CsumStart = uint16(ip)
	p.Bufs = [][]byte{b[:9], b[9:]}
	return p
}

// TestCoalesce: what was cut and suffered nothing is the same again; what lost
// a segment is not joined across the gap.
func TestCoalesce(t *testing.T) {
	for _, m := range []link.Medium{link.IP, link.Ethernet} {
		for _, v6 := range []bool{false, true} {
			in := gso(m == link.Ethernet, v6, 64_000)
			whole := in.AppendTo(nil)
			s := mustParse(t, "delay=1ms loss=0.000001%")
			c, err := NewCore(s, m, 1500, 0)
			if err != nil {
				t.Fatal(err)
			}
			c.Push(0, in)
			w := &way{core: c}
			if !w.fill(time.Millisecond) || len(w.run) != 46 || len(w.pkts) != 1 {
				t.Fatalf("%d segments, %d packets", len(w.run), len(w.pkts))
			}
			out := w.pkts[0]
			if got := out.AppendTo(nil); !bytes.Equal(got, whole) {
				t.Errorf("medium %d, v6 %v: the packet differs", m, v6)
			}
			if out.Offload != in.Offload {
				t.Errorf("%+v, want %+v", out.Offload, in.Offload)
			}
			// Now with every other way of not being a neighbour.
			c.Push(0, in)
			var all []*Packet
			for p := c.Pop(never - 1); p != nil; p = c.Pop(never - 1) {
				all = append(all, p)
			}
			if !mergeable(all[3], all[4]) || mergeable(all[3], all[5]) || mergeable(all[4], all[3]) {
				t.Error("neighbours are not known")
			}
			all[4].At++
			if mergeable(all[3], all[4]) {
				t.Error("different times are joined")
			}
			c.damage(all[8])
			if !c.mark(all[20]) || mergeable(all[7], all[8]) || mergeable(all[19], all[20]) {
				t.Error("what was changed is joined")
			}
		}
	}
}

// TestSegments: what is cut is valid, and each segment has its own fate.
func TestSegments(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		c := newCore(t, "loss=20% seed=5")
		for range 100 {
			c.Push(0, gso(false, v6, 64_000))
		}
		n := 0
		finish(c, func(p *Packet) {
			n++
			ip, addrs := 20, p.Data[12:20]
			if v6 {
				ip, addrs = 40, p.Data[8:40]
			}
			l := len(p.Data) - ip
			sum := link.Checksum([]byte{byte(l >> 8), byte(l)}, link.Checksum(addrs, protoTCP))
			if link.Checksum(p.Data[ip:], sum) != 0xffff || p.NeedsCsum || !p.CsumValid || len(p.Data) > 1500 {
				t.Fatalf("segment %d of %d bytes: %+v", n, len(p.Data), p.Offload)
			}
		})
		binomial(t, "segments lost", int(c.stats.DropsLoss), 4600, 0.2)
	}
	// Where nothing can happen to a segment alone, nothing is cut.
	c := newCore(t, "delay=1ms down=1s@10s")
	c.Push(0, gso(false, false, 64_000))
	if c.stats.In != 1 {
		t.Errorf("cut in %d", c.stats.In)
	}
	c = newCore(t, "loss=1%")
	p := gso(false, false, 3000)
	p.CsumStart = 7
	if c.Push(0, p); c.stats.DropsMalformed != 1 {
		t.Errorf("%+v", c.stats)
	}
}

// TestMarkCE: the checksum stays right, and only ECN-capable packets change.
func TestMarkCE(t *testing.T) {
	for ecn := range byte(4) {
		for id := range 70_000 {
			b := udp4(64, 1, 0)
			b[1] = 0xb8 | ecn
			binary.BigEndian.PutUint16(b[4:], uint16(id))
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^link.Checksum(b[:20], 0))
			if markCE(b, link.IP) != (ecn != 0) {
				t.Fatalf("ECN %d", ecn)
			}
			if link.Checksum(b[:20], 0) != 0xffff {
				t.Fatalf("ECN %d, identification %d: wrong checksum", ecn, id)
			}
			if want := 0xb8 | ecn | map[bool]byte{true: 3}[ecn != 0]; b[1] != want {
				t.Fatalf("TOS %#x, want %#x", b[1], want)
			}
		}
		eth := append(make([]byte, 12), 0x81, 0, 0, 1, 0x86, 0xdd)
		ip := make([]byte, 40)
		ip[0], ip[1] = 0x6f, 0x8f|ecn<<4
		b := append(eth, ip...)
		if markCE(b, link.Ethernet) != (ecn != 0) {
			t.Errorf("IPv6, ECN %d", ecn)
		}
		if want := byte(0x8f) | ecn<<4 | map[bool]byte{true: 0x30}[ecn != 0]; b[19] != want || b[18] != 0x6f {
			t.Errorf("IPv6: %#x %#x", b[18], b[19])
		}
	}
}

func TestFlowHash(t *testing.T) {
	h := func(b []byte) uint64 { return flowHash(b, link.IP, 1) }
	a, b := udp4(100, 1, 5), udp4(1000, 1, 6)
	if h(a) != h(b) || h(a) == h(udp4(100, 2, 5)) || h(a) == flowHash(a, link.IP, 2) {
		t.Error("ports do not make the flow")
	}
	frag := func(off uint16, port uint16) []byte {
		b := udp4(100, port, 0)
		binary.BigEndian.PutUint16(b[6:], off)
		return b
	}
	if h(frag(0x2000, 1)) != h(frag(0x0010, 77)) {
		t.Error("fragments of a packet are in two flows")
	}
	v6 := func(ext bool, port byte) []byte {
		b := make([]byte, 40)
		b[0], b[6] = 0x60, protoTCP
		if ext {
			b[6] = 60
			b = append(b, protoTCP, 0, 1, 4, 0, 0, 0, 0)
		}
		return append(b, 0, port, 0, 9)
	}
	if h(v6(false, 1)) != h(v6(true, 1)) || h(v6(true, 1)) == h(v6(true, 2)) {
		t.Error("IPv6 with options")
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(udp4(64, 1, 1), uint8(0), uint16(0), uint16(0), uint16(0))
	f.Add(gso(false, true, 3000).AppendTo(nil), uint8(0x84), uint16(40), uint16(16), uint16(1400))
	f.Add(gso(true, false, 3000).AppendTo(nil), uint8(0x83), uint16(34), uint16(16), uint16(1000))
	f.Add([]byte{0x45}, uint8(3), uint16(0), uint16(0), uint16(1))
	var specs []Spec
	for _, s := range []string{
		"delay=1ms corrupt=50% dup=10% loss=1%", "rate=10mbit queue=fq_codel ecn", "rate=10mbit queue=red:limit=10p ecn",
		"delay=1ms jitter=1ms:pareto reorder=jitter rate=1mbit queue=codel ecn corrupt=50%",
	} {
		specs = append(specs, mustParse(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, start, off, size uint16) {
		if len(b) > 65600 {
			return
		}
		o := link.Offload{NeedsCsum: kind&0x80 != 0, CsumStart: start, CsumOffset: off, GSO: link.GSO(kind & 6), GSOSize: size}
		for i, s := range specs {
			for m := range link.Medium(2) {
				c, err := NewCore(s, m, 1500, 0)
				if err != nil {
					t.Fatal(err)
				}
				for range 4 {
					c.Push(0, &link.Packet{Bufs: [][]byte{bytes.Clone(b)}, Offload: o})
				}
				w := &way{core: c}
				for w.fill(never - 1) {
					for k := range w.pkts {
						if n := w.pkts[k].Len(); n > max(len(b), 1514) {
							t.Fatalf("spec %d: %d bytes of %d", i, n, len(b))
						}
					}
					for _, p := range w.run {
						c.Free(p)
					}
				}
				if c.mark(&Packet{Data: bytes.Clone(b)}) && len(b) < 20 {
					t.Fatal("marked what is no packet")
				}
				balanced(t, c)
			}
		}
	})
}
