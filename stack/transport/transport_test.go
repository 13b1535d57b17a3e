package transport

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestChecksum has a UDP packet whose checksum the kernel filled in.
func TestChecksum(t *testing.T) {
	src, dst := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")
	pkt := []byte{0x30, 0x39, 0xd4, 0x31, 0x00, 0x0b, 0, 0, 'a', 'b', 'c'}
	c := Checksum(src, dst, 17, pkt)
	pkt[6], pkt[7] = byte(c>>8), byte(c)
	if got := Checksum(src, dst, 17, pkt); got != 0 {
		t.Errorf("over the packet with %#x it is %#x", c, got)
	}
	for i := range pkt {
		b := slices.Clone(pkt)
		b[i] ^= 0x10
		if Checksum(src, dst, 17, b) == 0 {
			t.Errorf("byte %d may be changed", i)
		}
	}
	// RFC 1071 section 3: the words 0001 f203 f4f5 f6f7 have the sum ddf2.
	if got := Checksum(netip.Addr{}, netip.Addr{}, 0, []byte{0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2+8) {
		t.Errorf("%#x", got)
	}
}

func TestCheck(t *testing.T) {
	stream := func(*Socket) Conn { return nil }
	opens := func([]byte) bool { return true }
	for want, p := range map[string]Protocol{
		"":          {Name: "x", Number: 253, Stream: stream, Opens: opens, HeaderLen: 4, Checksum: 6},
		"no name":   {Number: 253, Stream: stream, Opens: opens},
		"not free":  {Name: "x", Number: 6, Stream: stream, Opens: opens},
		"no Stream": {Name: "x", Number: 253, Opens: opens},
		"no Opens":  {Name: "x", Number: 253, Stream: stream},
		"checksum":  {Name: "x", Number: 253, Stream: stream, Opens: opens, HeaderLen: 4, Checksum: 7},
	} {
		err := p.check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestFIFO: the queue gives what was put in, at any offset.
func TestFIFO(t *testing.T) {
	var f fifo
	var next, first byte
	for i := range 2000 {
		n := i * 7 % 100
		b := make([]byte, n)
		for j := range b {
			b[j] = next
			next++
		}
		f.write(b)
		d := min(i*13%110, f.len())
		f.drop(d)
		first += byte(d)
		got := make([]byte, 50)
		k := f.peek(3, got)
		if k != max(min(f.len()-3, 50), 0) {
			t.Fatalf("peek gave %d of %d bytes", k, f.len())
		}
		for j, c := range got[:k] {
			if c != first+3+byte(j) {
				t.Fatalf("byte %d is %d, want %d", j, c, first+3+byte(j))
			}
		}
	}
}
