package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// slowChecksum is the sum as RFC 1071 words it.
func slowChecksum(b []byte, initial uint16) uint16 {
	s := uint32(initial)
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
		s = s>>16 + s&0xffff
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	return uint16(s>>16 + s&0xffff)
}

// sameSum compares sums, of which 0 and 0xffff are equal (zero in ones' complement).
func sameSum(a, b uint16) bool { return a == b || (a == 0 || a == 0xffff) && (b == 0 || b == 0xffff) }

func TestChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 70000)
	for _, fill := range []int{-1, 0, 0xff} {
		for i := range buf {
			buf[i] = byte(fill)
			if fill < 0 {
				buf[i] = byte(r.Uint32())
			}
		}
		for n := 0; n < 300; n++ {
			for off := 0; off < 9; off++ {
				b, init := buf[off:off+n], uint16(r.Uint32())
				if got, want := Checksum(b, init), slowChecksum(b, init); !sameSum(got, want) {
					t.Fatalf("fill %d, %d bytes at %d: %#x, want %#x", fill, n, off, got, want)
				}
			}
		}
		if got, want := Checksum(buf, 7), slowChecksum(buf, 7); !sameSum(got, want) {
			t.Fatalf("fill %d, all: %#x, want %#x", fill, got, want)
		}
	}
}

// tcpPacket is a TCP packet with a partial checksum, and its offload.
func tcpPacket(t testing.TB, m Medium, v6 bool, vlan bool, flags uint8, payload []byte, mss int) ([]byte, Offload) {
	t.Helper()
	var ls []gopacket.SerializableLayer
	typ := layers.EthernetTypeIPv4
	if v6 {
		typ = layers.EthernetTypeIPv6
	}
	if m == Ethernet {
		e := &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: typ}
		ls = append(ls, e)
		if vlan {
			e.EthernetType = layers.EthernetTypeDot1Q
			ls = append(ls, &layers.Dot1Q{VLANIdentifier: 5, Type: typ})
		}
	}
	var nl gopacket.NetworkLayer
	if v6 {
		ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolTCP, HopLimit: 64,
			SrcIP: bytes.Repeat([]byte{0xfd}, 16), DstIP: bytes.Repeat([]byte{0xfe}, 16)}
		nl, ls = ip, append(ls, ip)
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: 0xfffe, Protocol: layers.IPProtocolTCP,
			SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
		nl, ls = ip, append(ls, ip)
	}
	tcp := &layers.TCP{SrcPort: 80, DstPort: 4000, Seq: 0xfffffff0, Ack: 77, Window: 500,
		FIN: flags&flagFIN != 0, PSH: flags&flagPSH != 0, CWR: flags&flagCWR != 0, ACK: true,
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}}
	if err := tcp.SetNetworkLayerForChecksum(nl); err != nil {
		t.Fatal(err)
	}
	ls = append(ls, tcp, gopacket.Payload(payload))
	sb := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(sb, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	pkt := sb.Bytes()
	ip, err := ipOffset(pkt, m)
	if err != nil {
		t.Fatal(err)
	}
	o := Offload{NeedsCsum: true, CsumOffset: 16, CsumStart: uint16(ip + 20), GSO: GSOTCP4}
	if v6 {
		o.CsumStart, o.GSO = uint16(ip+40), GSOTCP6
	}
	th := pkt[o.CsumStart:]
	binary.BigEndian.PutUint16(th[16:], pseudoSum(pkt[ip:], len(th)))
	o.HdrLen, o.GSOSize = o.CsumStart+32, uint16(mss)
	if len(payload) <= mss {
		o.GSO, o.GSOSize = GSONone, 0
	}
	return pkt, o
}

// checkTCP fails unless every length and checksum of the packet is right, and
// returns its TCP header.
func checkTCP(t testing.TB, pkt []byte, m Medium) (*layers.TCP, *layers.IPv4) {
	t.Helper()
	ip, err := ipOffset(pkt, m)
	if err != nil {
		t.Fatalf("segment: %v", err)
	}
	b := pkt[ip:]
	hl, first := 40, gopacket.Decoder(layers.LayerTypeIPv6)
	var v4 layers.IPv4
	if b[0]>>4 == 4 {
		hl, first = int(b[0]&15)*4, layers.LayerTypeIPv4
		if s := slowChecksum(b[:hl], 0); s != 0xffff {
			t.Fatalf("IPv4 header sums to %#x", s)
		}
		if n := int(binary.BigEndian.Uint16(b[2:])); n != len(b) {
			t.Fatalf("IPv4 total length %d of %d", n, len(b))
		}
		if err := v4.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			t.Fatal(err)
		}
	} else if n := int(binary.BigEndian.Uint16(b[4:])); n != len(b)-40 {
		t.Fatalf("IPv6 payload length %d of %d", n, len(b)-40)
	}
	if s := slowChecksum(b[hl:], slowPseudo(b, len(b)-hl)); s != 0xffff {
		t.Fatalf("TCP segment sums to %#x", s)
	}
	p := gopacket.NewPacket(b, first, gopacket.Default)
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok {
		t.Fatalf("no TCP in segment: %v", p)
	}
	return tcp, &v4
}

func slowPseudo(ip []byte, n int) uint16 {
	b := append([]byte{}, ip[12:20]...)
	if ip[0]>>4 == 6 {
		b = append(b[:0], ip[8:40]...)
	}
	return slowChecksum(append(b, 0, protoTCP, byte(n>>8), byte(n)), 0)
}

func TestSegment(t *testing.T) {
	for _, tc := range []struct {
		name     string
		m        Medium
		v6, vlan bool
		n, mss   int
		mtu      int
		want     int // segments
	}{
		{"v4 exact", IP, false, false, 4000, 1000, 0, 4},
		{"v4 odd", IP, false, false, 4001, 999, 0, 5},
		{"v6", IP, true, false, 60000, 1428, 0, 43},
		{"ethernet v4 whole", Ethernet, false, false, 65535 - 52, 1448, 0, 46},
		{"ethernet vlan v6", Ethernet, true, true, 5000, 1400, 0, 4},
		{"mtu below mss", IP, false, false, 4000, 1448, 1052, 4},
		{"one byte", IP, false, false, 3, 1, 0, 3},
		{"not gso", Ethernet, false, false, 100, 1448, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			payload := make([]byte, tc.n)
			for i := range payload {
				payload[i] = byte(i * 7)
			}
			pkt, o := tcpPacket(t, tc.m, tc.v6, tc.vlan, flagFIN|flagPSH|flagCWR, payload, tc.mss)
			var got []byte
			var segs int
			_, err := Segment(nil, pkt, o, tc.m, tc.mtu, func(seg []byte) {
				tcp, ip := checkTCP(t, seg, tc.m)
				if want := uint32(0xfffffff0) + uint32(len(got)); tcp.Seq != want {
					t.Errorf("segment %d: seq %d, want %d", segs, tcp.Seq, want)
				}
				if want := uint16(0xfffe) + uint16(segs); !tc.v6 && ip.Id != want {
					t.Errorf("segment %d: id %d, want %d", segs, ip.Id, want)
				}
				got = append(got, tcp.Payload...)
				first, last := segs == 0, len(got) == tc.n
				if tcp.CWR != first || tcp.FIN != last || tcp.PSH != last || !tcp.ACK {
					t.Errorf("segment %d of first %v, last %v: CWR %v FIN %v PSH %v", segs, first, last, tcp.CWR, tcp.FIN, tcp.PSH)
				}
				if tc.mtu > 0 && len(seg) > tc.mtu {
					t.Errorf("segment of %d bytes over MTU %d", len(seg), tc.mtu)
				}
				segs++
			})
			if err != nil {
				t.Fatal(err)
			}
			if segs != tc.want || !bytes.Equal(got, payload) {
				t.Errorf("%d segments (want %d), payload equal: %v", segs, tc.want, bytes.Equal(got, payload))
			}
		})
	}
}

func TestSegmentRefuses(t *testing.T) {
	pkt, o := tcpPacket(t, IP, false, false, 0, make([]byte, 3000), 1000)
	for name, spoil := range map[string]func(p *[]byte, o *Offload){
		"short":         func(p *[]byte, _ *Offload) { *p = (*p)[:30] },
		"empty":         func(p *[]byte, _ *Offload) { *p = nil },
		"no csum":       func(_ *[]byte, o *Offload) { o.NeedsCsum = false },
		"size 0":        func(_ *[]byte, o *Offload) { o.GSOSize = 0 },
		"wrong version": func(_ *[]byte, o *Offload) { o.GSO = GSOTCP6 },
		"unknown type":  func(_ *[]byte, o *Offload) { o.GSO = 3 },
		"udp":           func(p *[]byte, _ *Offload) { (*p)[9] = protoUDP },
		"csum start":    func(_ *[]byte, o *Offload) { o.CsumStart = 24 },
		"doff":          func(p *[]byte, _ *Offload) { (*p)[32] = 0x40 },
		"huge":          func(p *[]byte, _ *Offload) { *p = append(*p, make([]byte, 65535)...) },
	} {
		p, po := append([]byte{}, pkt...), o
		spoil(&p, &po)
		if _, err := Segment(nil, p, po, IP, 0, func([]byte) { t.Errorf("%s: emitted", name) }); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestComplete(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		pkt, o := tcpPacket(t, Ethernet, v6, false, flagPSH, []byte("odd"), 1000)
		if err := Complete(pkt, &o, Ethernet); err != nil || o.NeedsCsum || !o.CsumValid {
			t.Fatalf("complete: %v, %+v", err, o)
		}
		checkTCP(t, pkt, Ethernet)
	}
	pkt, gso := tcpPacket(t, IP, false, false, 0, make([]byte, 5000), 1000)
	pkt[36], pkt[37] = 1, 2 // a partial sum of another length
	if err := Complete(pkt, &gso, IP); err != nil {
		t.Fatal(err)
	}
	checkTCP(t, pkt, IP)
	o := Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 16}
	if err := Complete(make([]byte, 37), &o, IP); !errors.Is(err, ErrVnetCsum) {
		t.Errorf("checksum past the end: %v", err)
	}
}

func TestVnetRoundTrip(t *testing.T) {
	big, gso := tcpPacket(t, Ethernet, true, false, 0, make([]byte, 9000), 1400)
	for _, o := range []Offload{{}, {CsumValid: true}, gso,
		{NeedsCsum: true, CsumStart: 54, CsumOffset: 6}} {
		var h [VnetLen]byte
		EncodeVnet(h[:], &o)
		got, err := DecodeVnet(h[:], big, Ethernet)
		o.CsumValid = o.CsumValid || o.NeedsCsum
		if err != nil || got != o {
			t.Errorf("%+v came back as %+v, %v", o, got, err)
		}
	}
	if _, err := DecodeVnet(make([]byte, 9), big, Ethernet); !errors.Is(err, ErrShort) {
		t.Errorf("short header: %v", err)
	}
}

// FuzzVnet: whatever the header and the packet say, nothing is read or written
// outside the packet, and segments add up to the payload.
func FuzzVnet(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		for _, m := range []Medium{IP, Ethernet} {
			pkt, o := tcpPacket(f, m, v6, m == Ethernet, flagFIN, make([]byte, 300), 100)
			h := make([]byte, VnetLen)
			EncodeVnet(h, &o)
			f.Add(append(h, pkt...), m == Ethernet, uint16(200))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, eth bool, mtu uint16) {
		m := IP
		if eth {
			m = Ethernet
		}
		if len(b) < VnetLen {
			return
		}
		pkt := b[VnetLen:]
		o, err := DecodeVnet(b[:VnetLen], pkt, m)
		if err != nil {
			return
		}
		if o.GSO != GSONone && (int(o.HdrLen) >= len(pkt) || o.GSOSize == 0) {
			t.Fatalf("%+v of %d bytes", o, len(pkt))
		}
		total := 0
		_, err = Segment(nil, pkt, o, m, int(mtu), func(seg []byte) { total += len(seg) - int(o.HdrLen) })
		if err == nil && total != len(pkt)-int(o.HdrLen) {
			t.Fatalf("%d bytes in segments of %d", total, len(pkt)-int(o.HdrLen))
		}
	})
}

func BenchmarkChecksum(b *testing.B) {
	buf := make([]byte, 65535)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		Checksum(buf, 0)
	}
}

func BenchmarkSegment(b *testing.B) {
	pkt, o := tcpPacket(b, Ethernet, false, false, 0, make([]byte, 65000), 1448)
	b.SetBytes(int64(len(pkt)))
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = Segment(buf, pkt, o, Ethernet, 0, func([]byte) {})
	}
}
