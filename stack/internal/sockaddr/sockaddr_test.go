package sockaddr

import (
	"net/netip"
	"testing"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func TestSockaddr(t *testing.T) {
	ip := netip.MustParseAddr
	tests := []struct {
		name   string
		addr   stack.Addr
		family int // of the socket
		len    uint32
		want   stack.Addr
	}{
		{"zero, IPv4", stack.Addr{}, unix.AF_INET, 16, stack.Addr{}},
		{"zero, IPv6", stack.Addr{}, unix.AF_INET6, 28, stack.Addr{}},
		{"all zero", stack.Addr{IP: ip("::"), Port: 7}, unix.AF_INET6, 28, stack.Addr{Port: 7}},
		{"IPv4", stack.Addr{IP: ip("192.0.2.1"), Port: 0x1234}, unix.AF_INET, 16, stack.Addr{IP: ip("192.0.2.1"), Port: 0x1234}},
		{"IPv4 on IPv6", stack.Addr{IP: ip("192.0.2.1")}, unix.AF_INET6, 16, stack.Addr{IP: ip("192.0.2.1")}},
		{"mapped", stack.Addr{IP: ip("::ffff:192.0.2.1")}, unix.AF_INET6, 28, stack.Addr{IP: ip("::ffff:192.0.2.1")}},
		{"IPv6", stack.Addr{IP: ip("fe80::1"), Port: 80, Scope: 3, Flow: 0x12345}, unix.AF_INET6, 28,
			stack.Addr{IP: ip("fe80::1"), Port: 80, Scope: 3, Flow: 0x12345}},
	}
	for _, tt := range tests {
		sa := Encode(tt.addr, tt.family)
		if sa.Len != tt.len {
			t.Errorf("%s: %d bytes, want %d", tt.name, sa.Len, tt.len)
		}
		if got, ok := Decode(sa); !ok || got != tt.want {
			t.Errorf("%s: back comes %v, want %v", tt.name, got, tt.want)
		}
	}
	if _, ok := Decode(Unspec()); ok {
		t.Error("AF_UNSPEC is an address")
	}
}

// FuzzSockaddr: what Decode takes for an address, Encode writes again.
func FuzzSockaddr(f *testing.F) {
	for _, a := range []stack.Addr{{}, {IP: netip.MustParseAddr("192.0.2.1"), Port: 1}, {IP: netip.MustParseAddr("fe80::1"), Scope: 9}} {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			sa := Encode(a, family)
			f.Add(sa.Raw[:sa.Len])
		}
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var sa Sockaddr
		sa.Len = uint32(copy(sa.Raw[:], b))
		a, ok := Decode(&sa)
		if !ok {
			return
		}
		if back, ok := Decode(Encode(a, int(sa.Raw[0])|int(sa.Raw[1])<<8)); !ok || back != a {
			t.Errorf("%v comes back as %v", a, back)
		}
	})
}
