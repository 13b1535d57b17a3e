package tracer

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func TestSockaddr(t *testing.T) {
	for _, c := range []struct {
		family int
		addr   stack.Addr
		size   int
	}{
		{unix.AF_INET, stack.Addr{IP: netip.MustParseAddr("192.0.2.7"), Port: 80}, sizeofSockaddrIn},
		{unix.AF_INET6, stack.Addr{IP: netip.MustParseAddr("fe80::1"), Port: 65535, Scope: 3, Flow: 9}, sizeofSockaddrIn6},
		{unix.AF_INET6, stack.Addr{IP: netip.MustParseAddr("::ffff:192.0.2.7"), Port: 1}, sizeofSockaddrIn6},
	} {
		b := appendSockaddr(nil, c.family, c.addr)
		if len(b) != c.size {
			t.Errorf("%v: %d bytes, want %d", c.addr, len(b), c.size)
		}
		if sa := parseSockaddr(b); sa.family != c.family || sa.len != c.size || sa.addr != c.addr {
			t.Errorf("%v became %+v", c.addr, sa)
		}
	}
	// RFC 2133's sockaddr_in6 has no scope; 23 bytes are none at all.
	b := appendSockaddr(nil, unix.AF_INET6, stack.Addr{IP: netip.MustParseAddr("::1"), Port: 5, Scope: 7})
	if sa := parseSockaddr(b[:minSockaddrIn6]); sa.addr.Port != 5 || sa.addr.Scope != 0 || sa.need(unix.AF_INET6) != 0 {
		t.Errorf("24 bytes: %+v", sa)
	}
	if sa := parseSockaddr(b[:23]); sa.addr.IP.IsValid() || sa.need(unix.AF_INET6) != unix.EINVAL {
		t.Errorf("23 bytes: %+v", sa)
	}
}

func FuzzParseSockaddr(f *testing.F) {
	f.Add(appendSockaddr(nil, unix.AF_INET, stack.Addr{Port: 80}))
	f.Add(appendSockaddr(nil, unix.AF_INET6, stack.Addr{Port: 80, Scope: 1}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		sa := parseSockaddr(b)
		if sa.len != len(b) {
			t.Fatalf("length %d of %d bytes", sa.len, len(b))
		}
		if sa.need(sa.family) != 0 || sa.family != unix.AF_INET && sa.family != unix.AF_INET6 {
			return
		}
		again := parseSockaddr(appendSockaddr(nil, sa.family, sa.addr))
		if again.addr != sa.addr || again.family != sa.family {
			t.Fatalf("%+v, encoded and decoded, is %+v", sa, again)
		}
	})
}

func FuzzParseMsghdr(f *testing.F) {
	f.Add(make([]byte, word64.sizeofMsghdr()))
	f.Add(bytes.Repeat([]byte{0xff}, word64.sizeofMsghdr()))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, w := range []word{word32, word64} {
			raw := make([]byte, w.sizeofMsghdr())
			copy(raw, b)
			m, e := parseMsghdr(w, raw)
			if e != 0 {
				if int32(binary.NativeEndian.Uint32(raw[w:])) >= 0 {
					t.Fatalf("refused with %v", e)
				}
				continue
			}
			if m.nameLen > maxSockaddr || m.name == 0 && m.nameLen != 0 {
				t.Fatalf("name of %d bytes at %#x", m.nameLen, m.name)
			}
		}
	})
}
