package link

import (
	"bytes"
	"slices"
	"testing"
)

// coalesce adds copies of packets, and returns what comes out, joined again.
func coalesce(c *Coalescer, pkts [][]byte, m Medium) []Packet {
	c.Reset()
	for _, p := range pkts {
		c.Add(bytes.Clone(p), m)
	}
	return c.Packets()
}

// TestCoalesceReversesSegment: what was cut is joined, and cut again is the same.
func TestCoalesceReversesSegment(t *testing.T) {
	var c Coalescer
	for _, v6 := range []bool{false, true} {
		for _, m := range []Medium{IP, Ethernet} {
			for _, n := range []int{3, 1000, 1001, 20000, 60000} {
				pkt, o := tcpPacket(t, m, v6, m == Ethernet, flagPSH, make([]byte, n), 1000)
				for i := range n {
					pkt[int(o.HdrLen)+i] = byte(i * 7)
				}
				cut := func(p []byte, o Offload) (segs [][]byte) {
					if _, err := Segment(nil, p, o, m, 0, func(s []byte) { segs = append(segs, bytes.Clone(s)) }); err != nil {
						t.Fatal(err)
					}
					return segs
				}
				segs := cut(pkt, o)
				got := coalesce(&c, segs, m)
				if want := (len(segs) + groPieces - 1) / groPieces; len(got) != want {
					t.Errorf("v6 %v, medium %v, %d segments: %d packets", v6, m, len(segs), len(got))
				}
				var again [][]byte
				for i := range got {
					if !got[i].CsumValid {
						t.Error("a good checksum is not known to be good")
					}
					again = append(again, cut(got[i].AppendTo(nil), got[i].Offload)...)
				}
				if len(again) != len(segs) {
					t.Fatalf("%d segments, were %d", len(again), len(segs))
				}
				for i := range segs {
					if !bytes.Equal(again[i], segs[i]) {
						t.Errorf("segment %d differs", i)
					}
				}
			}
		}
	}
}

// TestCoalesceKeepsApart: what does not follow, or is not alike, stays as it is.
func TestCoalesceKeepsApart(t *testing.T) {
	pkt, o := tcpPacket(t, IP, false, false, flagPSH, make([]byte, 3000), 1000)
	var segs [][]byte
	if _, err := Segment(nil, pkt, o, IP, 0, func(s []byte) { segs = append(segs, bytes.Clone(s)) }); err != nil {
		t.Fatal(err)
	}
	fix := func(b []byte) { // checksums anew
		b[10], b[11] = 0, 0
		putChecksum(b[10:], Checksum(b[:20], 0))
		b[36], b[37] = 0, 0
		putChecksum(b[36:], Checksum(b[20:], pseudoSum(b, len(b)-20)))
	}
	var c Coalescer
	for name, spoil := range map[string]func(s [][]byte){
		"lost":      func(s [][]byte) { s[1] = s[0] },
		"reordered": func(s [][]byte) { slices.Reverse(s) },
		"garbled":   func(s [][]byte) { s[1][60]++ },
		"ttl":       func(s [][]byte) { s[1][8]++; fix(s[1]) },
		"tos":       func(s [][]byte) { s[1][1]++; fix(s[1]) },
		"window":    func(s [][]byte) { s[1][34]++; fix(s[1]) },
		"ack":       func(s [][]byte) { s[1][31]++; fix(s[1]) },
		"flow":      func(s [][]byte) { s[1][21]++; fix(s[1]) },
		"fin":       func(s [][]byte) { s[1][33] |= flagFIN; fix(s[1]) },
		"push":      func(s [][]byte) { s[0][33] |= flagPSH; s[1][33] |= flagPSH; fix(s[0]); fix(s[1]) },
		"fragment":  func(s [][]byte) { s[1][6] |= 0x20; fix(s[1]) },
		"padded":    func(s [][]byte) { s[1] = append(s[1], 0) },
	} {
		s := [][]byte{bytes.Clone(segs[0]), bytes.Clone(segs[1]), bytes.Clone(segs[2])}
		spoil(s)
		got := coalesce(&c, s, IP)
		if name == "flow" { // the others do not follow each other either
			name = "another flow"
		}
		if len(got) != 3 {
			t.Errorf("%s: %d packets of 3", name, len(got))
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i].AppendTo(nil), s[i]) || got[i].GSO != GSONone {
				t.Errorf("%s: packet %d was changed", name, i)
			}
			if name == "garbled" && got[i].CsumValid != (i != 1) {
				t.Errorf("packet %d: checksum said to be good: %v", i, got[i].CsumValid)
			}
		}
	}
}

// TestCoalesceFlows: flows that alternate are joined each.
func TestCoalesceFlows(t *testing.T) {
	var mixed [][]byte
	for f := range 4 {
		pkt, o := tcpPacket(t, Ethernet, f%2 == 1, false, flagPSH, make([]byte, 8000), 1000)
		pkt[int(o.CsumStart)+1] += byte(f) // source port
		if _, err := Segment(nil, pkt, o, Ethernet, 0, func(s []byte) { mixed = append(mixed, bytes.Clone(s)) }); err != nil {
			t.Fatal(err)
		}
	}
	var woven [][]byte // each flow stays in order
	for i := range 8 {
		for f := range 4 {
			woven = append(woven, mixed[f*8+i])
		}
	}
	var c Coalescer
	for range 2 {
		if got := coalesce(&c, woven, Ethernet); len(got) != 4 {
			t.Errorf("%d packets of 4 flows", len(got))
		}
	}
}

// FuzzCoalesce: whatever two packets are, no byte of payload is lost.
func FuzzCoalesce(f *testing.F) {
	pkt, o := tcpPacket(f, Ethernet, false, false, 0, make([]byte, 200), 100)
	var segs [][]byte
	if _, err := Segment(nil, pkt, o, Ethernet, 0, func(s []byte) { segs = append(segs, bytes.Clone(s)) }); err != nil {
		f.Fatal(err)
	}
	f.Add(segs[0], segs[1], true)
	f.Add([]byte{0x45}, []byte{0x60}, false)
	f.Fuzz(func(t *testing.T, a, b []byte, eth bool) {
		m := IP
		if eth {
			m = Ethernet
		}
		var c Coalescer
		got := coalesce(&c, [][]byte{a, b}, m)
		n := 0
		for i := range got {
			n += got[i].Len()
			if got[i].GSO != GSONone {
				n += int(got[i].HdrLen) // of the second
				if _, err := Segment(nil, got[i].AppendTo(nil), got[i].Offload, m, 0, func([]byte) {}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n != len(a)+len(b) {
			t.Fatalf("%d bytes of %d and %d", n, len(a), len(b))
		}
	})
}

func BenchmarkCoalesce(b *testing.B) {
	pkt, o := tcpPacket(b, Ethernet, false, false, 0, make([]byte, 60000), 1348)
	var segs [][]byte
	if _, err := Segment(nil, pkt, o, Ethernet, 0, func(s []byte) { segs = append(segs, bytes.Clone(s)) }); err != nil {
		b.Fatal(err)
	}
	var c Coalescer
	head := bytes.Clone(segs[0][:66]) // is changed
	b.SetBytes(60000)
	b.ReportAllocs()
	for b.Loop() {
		c.Reset()
		copy(segs[0], head)
		for _, s := range segs {
			c.Add(s, Ethernet)
		}
		c.Packets()
	}
}
