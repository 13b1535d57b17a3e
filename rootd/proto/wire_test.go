package proto

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func messages() []Message {
	items := []Item{
		{Proto: TCP, Addr: netip.MustParseAddr("0.0.0.0"), Port: 80, Flags: ReuseAddr | Listening},
		{Proto: UDP, Addr: netip.MustParseAddr("fe80::1"), Port: 65535, Flags: V6Only},
		{Proto: ICMP, Addr: netip.MustParseAddr("192.0.2.1")},
		{Proto: TCP, Addr: netip.IPv6Unspecified(), Flags: Hold | ReusePort},
	}
	return []Message{
		Hello{Program: "curl"}, Hello{},
		Resume{Lease: 1 << 31, Token: [TokenLen]byte{1, 15: 2}},
		Grant{items}, Release{items[:1]}, Revoked{items},
		Ephemeral{Proto: TCP, Families: Both, N: MaxBatch},
		Status{},
		Welcome{Lease: 7, Token: [TokenLen]byte{9}, Device: "alp7", Index: 12, MTU: 65535, Limits: Limits{1, 2},
			PortFirst: 32768, PortLast: 60999, Unprivileged: 1024, Grace: 5 * time.Second},
		Results{[]Result{{Port: 8080}, {Errno: syscall.EADDRINUSE}}},
		StatusReply{Size: 1 << 20},
		Failure{Errno: syscall.EACCES, Text: "policy: no"},
	}
}

func TestRoundTrip(t *testing.T) {
	for i, m := range messages() {
		b, err := Append([]byte("x"), uint32(i), m)
		if err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		seq, got, err := Decode(b[1:])
		if err != nil || seq != uint32(i) || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: sent %+v, got %d %+v, %v", m, m, seq, got, err)
		}
		for n := range len(b) - 1 {
			if _, _, err := Decode(b[1 : n+1]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%T cut to %d bytes: %v", m, n, err)
			}
		}
		if _, _, err := Decode(append(b[1:], 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T with a byte too many: %v", m, err)
		}
	}
}

func TestLargestFit(t *testing.T) {
	items := make([]Item, MaxBatch)
	for i := range items {
		items[i].Addr = netip.IPv6LinkLocalAllNodes()
	}
	if b, err := Append(nil, 1, Grant{items}); err != nil || len(b) > MaxMessage {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestBounds(t *testing.T) {
	addr := netip.IPv4Unspecified()
	bad := []Message{
		Hello{strings.Repeat("x", MaxName+1)},
		Grant{}, Grant{make([]Item, MaxBatch+1)}, Grant{[]Item{{}}},
		Grant{[]Item{{Addr: netip.MustParseAddr("::ffff:192.0.2.1")}}},
		Grant{[]Item{{Addr: netip.MustParseAddr("fe80::1%lo")}}},
		Grant{[]Item{{Addr: addr, Flags: 1 << 7}}},
		Results{}, Results{[]Result{{Errno: maxErrno + 1}}},
		Ephemeral{Families: Both}, Ephemeral{N: 1}, Ephemeral{N: 1, Families: 4}, Ephemeral{N: MaxBatch + 1, Families: IPv4},
		Welcome{Device: "a-name-too-long-for-linux"},
	}
	for _, m := range bad {
		if _, err := Append(nil, 1, m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"curl": "curl", "a\x1b[31mb": "a?[31mb", "\xff": "?", strings.Repeat("é", 40): strings.Repeat("é", 32),
	} {
		if got := Name(in); got != want {
			t.Errorf("Name(%q) is %q, want %q", in, got, want)
		}
		if _, err := Append(nil, 1, Hello{Name(in)}); err != nil {
			t.Error(err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for i, m := range messages() {
		b, err := Append(nil, uint32(i), m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, m, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || m != nil {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		again, err := Append(nil, seq, m)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("two encodings:\n%x\n%x", b, again)
		}
	})
}
