package explore

import (
	"flag"
	"strings"
	"testing"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/sim"
)

var (
	seeds = flag.Int("seeds", 40, "how many random scenarios to try")
	first = flag.Uint64("first", 1, "the seed of the first")
)

// TestRandom tries random scenarios on the default engine.
func TestRandom(t *testing.T) {
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		s := Random(seed)
		err := Check(s.Lab(), Options{Twice: seed%8 == 0})
		if violation(err) == nil {
			if err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, s.Lab())
			}
			continue
		}
		s, why := Shrink(s, func(lab string) error { return Check(lab, Options{}) })
		t.Errorf("seed %d: %v\n%s", seed, err, s.Test(why))
	}
}

// known are scenarios, found by TestRandom, that did not end while netstack used
// gVisor's RACK: when the pipe that its SACK accounting counts is empty, because
// what is outstanding is a lone FIN or was marked as lost, and the tail loss probe
// is lost or of no help, it sets no retransmission timer.
var known = map[string]string{
	"a FIN lost twice": `
seed = 1280
duration = "6s"
[host.h0]
[host.h1]
traffic = [
    {kind = "bulk", to = "h0", bytes = "52769B", count = 3},
]
[router.r0]
[router.r1]
[router.r2]
[router.r3]
[[link]]
between = ["r1", "r0"]
[[link]]
between = ["r2", "r0"]
[[link]]
between = ["r3", "r2"]
[[link]]
between = ["h0", "r1"]
[[link]]
between = ["h1", "r1"]
impair = "delay=78ms jitter=8ms loss=10% reorder=2%"
`,
	"the last segment, marked as lost": `
seed = 1409
duration = "1s"
[host.h0]
traffic = [
    {kind = "bulk", to = "h1", bytes = "234882B"},
]
[host.h1]
[router.r0]
[[link]]
between = ["h0", "r0"]
impair = "rate=19200kbit queue=3p"
[[link]]
between = ["h1", "r0"]
mtu = 1442
impair = "rate=76800kbit"
`,
}

// TestKnown: they end now.
func TestKnown(t *testing.T) {
	for name, lab := range known {
		if err := Check(lab, Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// faulty is a link with a fault.
type faulty struct {
	link.Link
	pass func(b []byte) bool
}

func (f *faulty) Start(recv func([]link.Packet)) error {
	return f.Link.Start(func(pkts []link.Packet) {
		for i := range pkts {
			b := pkts[i].AppendTo(nil)
			o := pkts[i].Offload
			_ = link.Complete(b, &o, link.IP) // a malformed packet stays so
			if f.pass(b) {
				recv([]link.Packet{{Bufs: [][]byte{b}}})
			}
		}
	})
}

// plant has hosts' links fail.
func plant(pass func() func(b []byte) bool) Options {
	return Options{Sim: sim.Options{Wrap: func(end *sim.End, n *topo.Node) (link.Link, error) {
		if n.Kind != topo.Host {
			return end, nil
		}
		return &faulty{Link: end, pass: pass()}, nil
	}}}
}

// tcpPayload is where the payload of an IPv4 packet of TCP begins; 0 for others,
// and for those without.
func tcpPayload(b []byte) int {
	if len(b) < 40 || b[0] != 0x45 || b[9] != 6 {
		return 0
	}
	if at := 20 + int(b[32]>>4)*4; at < len(b) {
		return at
	}
	return 0
}

// The planted faults, each with what must be left of a scenario that meets it.
var faults = []struct {
	name  string
	plant Options
	want  Invariant
	keep  string // a word that the smallest scenario must have, "": no impairment at all
}{
	{"changes a byte, and corrects the checksum", plant(func() func([]byte) bool {
		return func(b []byte) bool {
			if at := tcpPayload(b); at > 0 && len(b)-at > 1000 {
				b[at+501], b[at+503] = b[at+503], b[at+501] // the sum stays
			}
			return true
		}
	}), Intact, ""},
	{"hangs after a damaged packet", plant(func() func([]byte) bool {
		dead := false
		return func(b []byte) bool {
			dead = dead || damaged(b)
			return !dead
		}
	}), Ends, "corrupt="},
}

// damaged reports whether a checksum of an IPv4 packet of TCP is wrong.
func damaged(b []byte) bool {
	if tcpPayload(b) == 0 {
		return false
	}
	length := uint16(len(b) - 20)
	sum := link.Checksum([]byte{byte(length >> 8), byte(length)}, link.Checksum(b[12:20], 6))
	return link.Checksum(b[:20], 0) != 0xffff || link.Checksum(b[20:], sum) != 0xffff
}

// TestPlanted: faults that were put in are found, and what is found is small.
func TestPlanted(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			fails := func(lab string) error { return Check(lab, f.plant) }
			for seed := uint64(1); seed < 200; seed++ {
				s := Random(seed)
				if v := violation(fails(s.Lab())); v == nil || v.Invariant != f.want {
					continue
				}
				small, why := Shrink(s, fails)
				t.Logf("seed %d:\n%s", seed, small.Test(why))
				checkSmall(t, small, f.keep)
				return
			}
			t.Fatal("not found")
		})
	}
}

func checkSmall(t *testing.T, s *Scenario, keep string) {
	t.Helper()
	if len(s.Hosts) != 2 || !s.direct() || len(s.Flows) != 1 || s.Flows[0].Count != 1 {
		t.Errorf("%d hosts, %d routers, %d flows: not the smallest", len(s.Hosts), len(s.Parent), len(s.Flows))
	}
	words := strings.Join(s.Links[0].Words, " ")
	switch {
	case keep == "" && words != "":
		t.Errorf("impairments are left: %s", words)
	case keep != "" && (!strings.HasPrefix(words, keep) || len(s.Links[0].Words) > 1):
		t.Errorf("the link has %q, want only %s", words, keep)
	}
	if strings.Count(s.Test(nil), "\n") > 25 {
		t.Error("the test is long")
	}
}
