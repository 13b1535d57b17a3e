package tracer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func TestBuckets(t *testing.T) {
	for d := time.Duration(8); d < time.Minute; d += 1 + d/50 {
		b := bucket(d)
		if up := upper(b); up < d || float64(up-d) > 0.13*float64(d) {
			t.Fatalf("%v is in bucket %d, which ends at %v", d, b, up)
		}
		if b > 0 && d > 9 && upper(b-1) >= d {
			t.Fatalf("%v fits bucket %d before its own, %d", d, b-1, b)
		}
	}
	for _, d := range []time.Duration{-1, 0, 1 << 62} {
		if b := bucket(d); b < 0 || b >= 8*40 {
			t.Errorf("%d is in bucket %d", d, b)
		}
	}
}

func TestQuantile(t *testing.T) {
	s := NewStats()
	for i := range 100 {
		d := 10 * time.Microsecond
		if i >= 98 {
			d = time.Second
		}
		s.count(&call{notification: notification{nr: unix.SYS_BIND}}, d)
	}
	s.count(&call{notification: notification{nr: -1}}, 1)
	s.count(&call{notification: notification{nr: 1 << 20}}, 1)
	kinds := s.Kinds()
	if len(kinds) != 1 || kinds[0].Name != "bind" || kinds[0].Count != 100 {
		t.Fatalf("got %+v", kinds)
	}
	near := func(got, want time.Duration) bool { return got >= want && float64(got) < 1.13*float64(want) }
	if k := kinds[0]; !near(k.Median, 10*time.Microsecond) || !near(k.P99, time.Second) {
		t.Errorf("median %v, 99 %% %v", k.Median, k.P99)
	}
}

func TestAppendFlags(t *testing.T) {
	for _, c := range []struct {
		v    int
		want string
	}{
		{0, "0"},
		{unix.MSG_PEEK, "MSG_PEEK"},
		{unix.MSG_PEEK | unix.MSG_DONTWAIT, "MSG_PEEK|MSG_DONTWAIT"},
		{unix.MSG_PEEK | 1<<28, "MSG_PEEK|0x10000000"},
	} {
		if got := string(appendFlags(nil, messageFlags, c.v)); got != c.want {
			t.Errorf("%#x: got %s, want %s", c.v, got, c.want)
		}
	}
}

func TestAppendAddr(t *testing.T) {
	for _, c := range []struct {
		family int
		addr   stack.Addr
		want   string
	}{
		{
			unix.AF_INET, stack.Addr{IP: netip.MustParseAddr("127.0.0.1"), Port: 80},
			`{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}`,
		},
	} {
		sa := parseSockaddr(appendSockaddr(nil, c.family, c.addr))
		if got := string(appendAddr(nil, sa)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
