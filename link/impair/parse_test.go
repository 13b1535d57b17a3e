package impair

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "lte.trace")
	if err := os.WriteFile(trace, []byte("1\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct{ spec, want string }{
		{"", ""},
		{" \t", ""},
		{"delay=50ms jitter=5ms loss=1% dup=0.1% reorder=1% corrupt=0.01% rate=10mbit queue=100p seed=7",
			"delay=50ms jitter=5ms loss=1% dup=0.1% corrupt=0.01% reorder=1% rate=10mbit queue=100p seed=7"},
		{"jitter=1.5ms:pareto reorder=jitter", "jitter=1.5ms:pareto reorder=jitter"},
		{"jitter=1ms:uniform", "jitter=1ms"},
		{"loss=ge:1%,25%", "loss=ge:1%,25%,100%,0%"},
		{"loss=ge:1%,25%,50%,0.1%", "loss=ge:1%,25%,50%,0.1%"},
		{"rate=1.5Mbit queue=64kb", "rate=1500kbit queue=64000b"},
		{"rate=9600bit overhead=24 queue=1MiB", "rate=9600bit overhead=24 queue=1048576b"},
		{"rate=1gbit queue=red:limit=100kb,min=10kb,max=30kb,p=2%,weight=0.2% ecn",
			"rate=1gbit queue=red:limit=100000b,min=10000b,max=30000b,p=2%,weight=0.2% ecn"},
		{"rate=1mbit queue=red", "rate=1mbit queue=red"},
		{"rate=1mbit queue=codel:target=10ms,interval=200ms,limit=500p", "rate=1mbit queue=codel:limit=500p,target=10ms,interval=200ms"},
		{"rate=1mbit queue=fq_codel:flows=64,quantum=300b ecn", "rate=1mbit queue=fq_codel:flows=64,quantum=300b ecn"},
		{"down=3s@10s", "down=3s@10s"},
		{"mtu=1280 loss=1%", "loss=1% mtu=1280"},
		{"rate=trace:" + trace, "rate=trace:" + trace},
	} {
		s, err := Parse(k.spec)
		if err != nil {
			t.Errorf("%q: %v", k.spec, err)
			continue
		}
		if got := s.String(); got != k.want {
			t.Errorf("%q: %q, want %q", k.spec, got, k.want)
		}
		if s.IsZero() != (strings.TrimSpace(k.spec) == "") {
			t.Errorf("%q: IsZero is %v", k.spec, s.IsZero())
		}
	}
	s := mustParse(t, "delay=50ms jitter=5ms:normal loss=1% rate=10mbit queue=100p seed=7")
	if (s != Spec{Delay: 50 * time.Millisecond, Jitter: 5 * time.Millisecond, Dist: Normal, Loss: 0.01, Rate: 10e6, Queue: Queue{Packets: 100}, Seed: 7}) {
		t.Errorf("%+v", s)
	}
	for _, z := range []string{"seed=9", "loss=0%", "delay=0s", "loss=ge:0%,5%"} {
		if !mustParse(t, z).IsZero() {
			t.Errorf("%q is not zero", z)
		}
	}
}

// TestParseErrors: an error names the word and what is allowed.
func TestParseErrors(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("5\nfour\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct{ spec, word, want string }{
		{"dealy=5ms", "dealy=5ms", "delay, jitter, loss"},
		{"delay=1ms delay=2ms", "delay=2ms", "twice"},
		{"delay", "delay", "50ms"},
		{"delay=5", "delay=5", "50ms"},
		{"delay=-5ms", "delay=-5ms", "50ms"},
		{"delay=2h", "delay", "1h"},
		{"jitter=5ms:gauss", "gauss", "normal"},
		{"loss=1", "loss=1", "1%"},
		{"loss=101%", "loss=101%", "percentage"},
		{"loss=NaN%", "loss=NaN%", "percentage"},
		{"loss=ge:1%", "loss=ge:1%", "P,R"},
		{"loss=ge:1%,2%,3%,4%,5%", "loss=ge", "P,R"},
		{"dup=x%", "dup=x%", "0.1%"},
		{"reorder=1%", "reorder", "delay"},
		{"delay=1ms reorder=jitter", "reorder=jitter", "jitter="},
		{"rate=10", "rate=10", "mbit"},
		{"rate=0mbit", "rate=0mbit", "mbit"},
		{"rate=101gbit", "rate=101gbit", "gbit"},
		{"rate=trace:", "rate=trace:", "FILE"},
		{"rate=trace:" + dir, "rate=trace:", "regular file"},
		{"rate=trace:" + dir + "/none", "rate=trace:", "no such file"},
		{"rate=trace:" + bad, "rate=trace:", "line 2"},
		{"queue=100p", "queue", "rate="},
		{"rate=1mbit queue=100", "queue=100", "100p"},
		{"rate=1mbit queue=pie", "queue=pie", "fq_codel"},
		{"rate=1mbit queue=100p:limit=3p", "queue=100p", "100p"},
		{"rate=1mbit queue=red:limt=3p", "limt=3p", "limit, min"},
		{"rate=1mbit queue=red:min=3p,max=3kb", "queue=red", "packets or all in bytes"},
		{"rate=1mbit queue=red:min=3p,max=2p", "queue", "min below max"},
		{"rate=1mbit queue=codel:target=1s", "queue", "target"},
		{"rate=1mbit queue=codel:flows=3", "flows=3", "target"},
		{"rate=1mbit queue=fq_codel:limit=3kb", "limit=3kb", "100p"},
		{"rate=1mbit queue=fq_codel:flows=0", "flows=0", "1024"},
		{"rate=1mbit queue=codel:limit=3p,limit=4p", "limit", "twice"},
		{"rate=1mbit queue=100p ecn", "ecn", "codel"},
		{"ecn", "ecn", "queue="},
		{"ecn=1", "ecn=1", "alone"},
		{"overhead=24", "overhead", "rate="},
		{"rate=1mbit overhead=x", "overhead=x", "24"},
		{"down=3s", "down=3s", "3s@10s"},
		{"mtu=500", "mtu=500", "576"},
		{"mtu=70000", "mtu=70000", "65535"},
		{"down=10s@10s", "down=10s@10s", "3s@10s"},
		{"seed=0", "seed=0", "7"},
		{"seed=x", "seed=x", "7"},
	} {
		_, err := Parse(k.spec)
		if err == nil {
			t.Errorf("%q is accepted", k.spec)
		} else if !strings.Contains(err.Error(), k.word) || !strings.Contains(err.Error(), k.want) {
			t.Errorf("%q: %v", k.spec, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("delay=50ms jitter=5ms:normal loss=ge:1%,2% dup=0.1% reorder=1% corrupt=0.01% rate=10mbit queue=100p seed=7")
	f.Add("rate=1gbit queue=red:limit=100kb,min=10kb,max=30kb,p=2%,weight=0.2% ecn overhead=9")
	f.Add("rate=1gbit queue=fq_codel:flows=3,quantum=300b,target=1us,interval=1ns ecn down=1s@2s")
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := Parse(spec)
		if err != nil || s.Trace != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q is %q is %q: %v", spec, s, again, err)
		}
		if s.Queue.Flows > 1000 {
			return
		}
		c, err := NewCore(s, 0, 1500, 0)
		if err != nil {
			t.Fatalf("%q: %v", spec, err)
		}
		for i := range 50 {
			c.Push(time.Duration(i), packet(udp4(1000, uint16(i%3), 0)))
		}
		for range 1000 {
			at, ok := c.Next()
			if !ok {
				balanced(t, c)
				return
			}
			if p := c.Pop(at); p != nil {
				c.Free(p)
			}
		}
		t.Fatalf("%q: no end", s)
	})
}
