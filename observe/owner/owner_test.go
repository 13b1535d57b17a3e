package owner

import (
	"net/netip"
	"testing"

	"github.com/alptrace/alptrace/internal/flow"
)

func ap(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(s)
}

func TestLookup(t *testing.T) {
	r := New()
	web, worker, dns := Owner{1, "nginx", 6, false}, Owner{2, "nginx", 9, false}, Owner{3, "dig\x1b\xff", 4, false}
	r.Set(Socket(flow.TCP, ap("[::]:80"), ap("")), web)
	r.Set(Socket(flow.TCP, ap("[::ffff:10.0.0.1]:80"), ap("[::ffff:10.0.0.2]:5000")), worker)
	r.Set(Socket(flow.UDP, ap("10.0.0.1:53"), ap("")), dns)
	dns.Prog = "dig??"
	curl := Owner{4, "curl", 5, false}
	for _, c := range []struct {
		proto         uint8
		local, remote string
		want          Owner
	}{
		{flow.TCP, "10.0.0.1:80", "10.0.0.2:5000", worker},
		{flow.TCP, "10.0.0.1:80", "10.0.0.2:5001", web},
		{flow.TCP, "[fd00::1]:80", "[fd00::2]:1", web},
		{flow.TCP, "10.0.0.1:81", "10.0.0.2:5000", Owner{}},
		{flow.UDP, "10.0.0.1:53", "10.0.0.2:5000", dns},
		{flow.UDP, "10.0.0.9:53", "10.0.0.2:5000", Owner{}},
		{flow.UDP, "10.0.0.1:80", "10.0.0.2:5000", Owner{}},
	} {
		f := flow.Flow{Proto: c.proto, Src: ap(c.local), Dst: ap(c.remote)}
		if got, ok := r.Lookup(f); got != c.want || ok != (c.want != Owner{}) {
			t.Errorf("%v: %v, %v", f, got, ok)
		}
	}

	// The first packet of a connection leaves before its port is known.
	f := flow.Flow{Proto: flow.TCP, Src: ap("10.0.0.1:40000"), Dst: ap("10.0.0.3:443")}
	r.Begin(flow.TCP, f.Dst, curl)
	if got, _ := r.Lookup(f); got != curl {
		t.Errorf("begun: %v", got)
	}
	r.Set(f, curl)
	r.End()
	r.Close(f, worker) // not its
	if got, _ := r.Lookup(f); got != curl {
		t.Errorf("set: %v", got)
	}
	r.Close(f, curl)
	if got, _ := r.Lookup(f); !got.Closed || got.PID != 4 {
		t.Errorf("closed: %v", got)
	}
	r.Begin(flow.TCP, f.Dst, web) // the same port again
	if got, _ := r.Lookup(f); got != web {
		t.Errorf("begun again: %v", got)
	}
	r.End()
}

func TestAppend(t *testing.T) {
	f := flow.Flow{Proto: flow.TCP, Src: ap("10.0.2.15:40000"), Dst: ap("93.184.216.34:80")}
	o := Owner{PID: 1234, Prog: "curl", FD: 5}
	if got := string(o.Append(nil, f, true)); got != "curl[1234] tcp 10.0.2.15:40000 > 93.184.216.34:80 fd 5" {
		t.Error(got)
	}
	o.Closed = true
	if got := string(o.Append(nil, f, false)); got != "curl[1234] tcp 10.0.2.15:40000 < 93.184.216.34:80 closed" {
		t.Error(got)
	}
}

func TestForgets(t *testing.T) {
	r := New()
	key := func(i int) flow.Flow {
		return Socket(flow.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 24), byte(i >> 16), byte(i >> 8)}), uint16(i&255)), ap("1.2.3.4:5"))
	}
	for i := range most + 10 {
		r.Set(key(i), Owner{PID: i + 1})
		r.Set(key(i), Owner{PID: i + 1})
	}
	if len(r.of) != most || len(r.order) != most {
		t.Errorf("%d remembered", len(r.of))
	}
	if _, ok := r.Lookup(key(9)); ok {
		t.Error("the oldest is remembered")
	}
	if o, ok := r.Lookup(key(most + 9)); !ok || o.PID != most+10 {
		t.Error("the youngest is forgotten")
	}
}

func TestNil(t *testing.T) {
	var r *Registry
	r.Set(flow.Flow{}, Owner{})
	r.Begin(flow.TCP, ap("1.2.3.4:5"), Owner{})
	r.End()
	r.Close(flow.Flow{}, Owner{})
	if _, ok := r.Lookup(flow.Flow{}); ok {
		t.Error("knows something")
	}
}

func BenchmarkLookup(b *testing.B) {
	r := New()
	r.Set(Socket(flow.TCP, ap("[::]:80"), ap("")), Owner{PID: 1})
	f := flow.Flow{Proto: flow.TCP, Src: ap("10.0.0.1:80"), Dst: ap("10.0.0.2:5000")}
	for b.Loop() {
		r.Lookup(f)
	}
}
