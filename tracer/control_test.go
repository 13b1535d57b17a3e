package tracer

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// cmsg is a control message of the program's layout.
func cmsg(w word, level, typ int, data []byte) []byte {
	n := w.sizeofCmsghdr() + len(data)
	b := make([]byte, w.align(n))
	w.put(b, uint64(n))
	binary.NativeEndian.PutUint32(b[w:], uint32(level))
	binary.NativeEndian.PutUint32(b[w+4:], uint32(typ))
	copy(b[w.sizeofCmsghdr():], data)
	return b
}

func ints(v ...uint32) (b []byte) {
	for _, n := range v {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b
}

func longs(v ...uint64) (b []byte) {
	for _, n := range v {
		b = binary.NativeEndian.AppendUint64(b, n)
	}
	return b
}

func TestPutControlTruncates(t *testing.T) {
	two := append(cmsg(word64, unix.SOL_IP, unix.IP_TTL, ints(64)), cmsg(word64, unix.SOL_IP, unix.IP_PKTINFO, longs(1))...)
	for _, c := range []struct {
		w           word
		space, left int
		cut         bool
		second      uint64 // what the second message says its length is
	}{
		// 20 bytes in 24, and 24 in 24.
		{word64, 0, 0, true, 0}, {word64, 15, 0, true, 0}, {word64, 16, 16, true, 0}, {word64, 19, 19, true, 0},
		{word64, 20, 20, true, 0}, {word64, 24, 24, true, 0}, {word64, 30, 24, true, 0}, {word64, 40, 40, true, 16},
		{word64, 47, 47, true, 23}, {word64, 48, 48, false, 24}, {word64, 100, 48, false, 24},
		// 16 bytes, and 20.
		{word32, 11, 0, true, 0}, {word32, 12, 12, true, 0}, {word32, 16, 16, true, 0}, {word32, 27, 16, true, 0},
		{word32, 28, 28, true, 12}, {word32, 35, 35, true, 19}, {word32, 36, 36, false, 20}, {word32, 99, 36, false, 20},
	} {
		b, cut := c.w.putControl(bytes.Clone(two), uint64(c.space))
		if len(b) != c.left || cut != c.cut {
			t.Errorf("word %d, space %d: %d bytes left, cut %v, want %d, %v", c.w, c.space, len(b), cut, c.left, c.cut)
		}
		if c.second == 0 || len(b) != c.left {
			continue
		}
		first := c.w.align(c.w.sizeofCmsghdr() + 4)
		if n := c.w.uint(b[first:]); n != c.second {
			t.Errorf("word %d, space %d: the second message says %d bytes, want %d", c.w, c.space, n, c.second)
		}
	}
	// A message of exactly the space, without its padding, is whole.
	if b, cut := word64.putControl(cmsg(word64, unix.SOL_IP, unix.IP_TTL, ints(64)), 20); len(b) != 20 || cut {
		t.Errorf("CMSG_LEN: %d bytes, cut %v", len(b), cut)
	}
}

func TestPutControlLayouts(t *testing.T) {
	all := bytes.Join([][]byte{
		cmsg(word64, unix.SOL_SOCKET, unix.SO_TIMESTAMP_OLD, longs(7, 9)),
		cmsg(word64, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, longs(7, 9)),
		cmsg(word64, unix.SOL_IP, unix.IP_TOS, []byte{0x10}),
		cmsg(word64, unix.SOL_IP, unix.IP_PKTINFO, ints(1, 2, 3)),
	}, nil)
	want := bytes.Join([][]byte{
		cmsg(word32, unix.SOL_SOCKET, unix.SO_TIMESTAMP_OLD, ints(7, 9)),
		cmsg(word32, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, longs(7, 9)),
		cmsg(word32, unix.SOL_IP, unix.IP_TOS, []byte{0x10}),
		cmsg(word32, unix.SOL_IP, unix.IP_PKTINFO, ints(1, 2, 3)),
	}, nil)
	if got, cut := word32.putControl(all, 1000); cut || !bytes.Equal(got, want) {
		t.Errorf("32 bits: cut %v\n% x, want\n% x", cut, got, want)
	}
	if got, cut := word64.putControl(all, 1000); cut || !bytes.Equal(got, all) {
		t.Errorf("64 bits: cut %v\n% x, want\n% x", cut, got, all)
	}
}

func TestWidenControl(t *testing.T) {
	narrow := append(cmsg(word32, unix.SOL_IP, unix.IP_TTL, ints(64)), cmsg(word32, unix.SOL_IP, unix.IP_TOS, []byte{8})...)
	wide := append(cmsg(word64, unix.SOL_IP, unix.IP_TTL, ints(64)), cmsg(word64, unix.SOL_IP, unix.IP_TOS, []byte{8})...)
	if got, e := widenControl(narrow); e != 0 || !bytes.Equal(got, wide) {
		t.Errorf("%v: % x, want % x", e, got, wide)
	}
	if got, e := widenControl(narrow[:len(narrow)-3]); e != 0 || !bytes.Equal(got, wide) { // the padding
		t.Errorf("%v: % x, want % x", e, got, wide)
	}
	for _, c := range []struct {
		what string
		b    []byte
	}{
		{"less than a header", make([]byte, 11)},
		{"length 0", make([]byte, 12)},
		{"length 11", append(ints(11, 0, 0), 0)},
		{"longer than all", ints(17, 0, 0, 0)},
		{"a second that is cut", narrow[:20]},
		{"enormous", ints(1<<31, 0, 0)},
	} {
		if got, e := widenControl(c.b); e != unix.EINVAL {
			t.Errorf("%s: % x, %v", c.what, got, e)
		}
	}
}

func FuzzWidenControl(f *testing.F) {
	f.Add(cmsg(word32, unix.SOL_IP, unix.IP_TTL, ints(64)))
	f.Add(append(cmsg(word32, 0, 8, make([]byte, 12)), cmsg(word32, 1, 2, []byte{1})...))
	f.Add(ints(0xffffffff, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		wide, e := widenControl(b)
		if e != 0 {
			return
		}
		if len(wide)%8 != 0 || len(wide) > 3*len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(wide))
		}
		// As nothing but time stamps changes, it must come back the same.
		back, cut := word32.putControl(wide, uint64(len(b)))
		if cut {
			t.Fatalf("% x does not fit where it came from", b)
		}
		if again, e := widenControl(back); e != 0 || len(again) > len(wide) {
			t.Fatalf("% x came back as % x", b, back)
		}
	})
}

func FuzzPutControl(f *testing.F) {
	f.Add(append(cmsg(word64, 0, 2, ints(1)), cmsg(word64, 0, 8, longs(1))...), 30)
	f.Add(make([]byte, 32), 20)
	f.Fuzz(func(t *testing.T, control []byte, space int) {
		if space < 0 {
			return
		}
		for _, w := range []word{word32, word64} {
			if b, _ := w.putControl(control, uint64(space)); len(b) > space {
				t.Fatalf("%d bytes in a space of %d", len(b), space)
			}
		}
	})
}
