package explore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Scenario is a network with traffic, in a form that can be cut smaller.
type Scenario struct {
	Seed    uint64
	Seconds int // until the network recovers
	// Routers is how many there are, in a tree: router i > 0 hangs on Parent[i].
	Parent []int
	Hosts  []int  // the router that each host is on, an index of Parent
	Links  []Link // of routers 1, 2, ... to their parents, then of the hosts
	Flows  []Flow
}

// Link has the words of its impairment, and an MTU; 0 is 1500.
type Link struct {
	Words []string
	MTU   int
}

// Flow is one entry of traffic.
type Flow struct {
	From, To int // hosts
	Kind     string
	Bytes    int
	Start    int // milliseconds
	Count    int
}

// Random makes a scenario: small, so that thousands can be tried, and nasty.
func Random(seed uint64) *Scenario {
	r := rand.New(rand.NewPCG(seed, 0x5ca1ab1e))
	s := &Scenario{Seed: seed, Seconds: 5 + r.IntN(20)}
	for i := range 1 + r.IntN(4) {
		parent := 0
		if i > 0 {
			parent = r.IntN(i)
		}
		s.Parent = append(s.Parent, parent)
	}
	for range 2 + r.IntN(4) {
		s.Hosts = append(s.Hosts, r.IntN(len(s.Parent)))
	}
	for range len(s.Parent) - 1 + len(s.Hosts) {
		s.Links = append(s.Links, randomLink(r))
	}
	s.damageOnce()
	for range 1 + r.IntN(4) {
		f := Flow{
			From: r.IntN(len(s.Hosts)), Kind: []string{"bulk", "bulk", "reqresp", "echo", "onoff"}[r.IntN(5)],
			Bytes: 1 << (6 + r.IntN(14)), Start: r.IntN(5000), Count: 1,
		}
		f.Bytes += r.IntN(f.Bytes)
		if f.To = r.IntN(len(s.Hosts) - 1); f.To >= f.From {
			f.To++
		}
		if r.IntN(4) == 0 {
			f.Count = 2 + r.IntN(5)
		}
		if f.Kind == "echo" {
			f.Bytes = 64 * (1 + r.IntN(20))
		}
		s.Flows = append(s.Flows, f)
	}
	return s
}

// damageOnce leaves one link that corrupts packets, at most: one inverted bit is
// noticed by the Internet checksum for certain, a second one elsewhere on the way
// may make up for it.
func (s *Scenario) damageOnce() {
	had := false
	for i := range s.Links {
		l := &s.Links[i]
		l.Words = slices.DeleteFunc(l.Words, func(w string) bool {
			second := had && strings.HasPrefix(w, "corrupt")
			had = had || strings.HasPrefix(w, "corrupt")
			return second
		})
	}
}

// randomLink picks some words.
func randomLink(r *rand.Rand) Link {
	var l Link
	some := func(n int) bool { return r.IntN(n) == 0 }
	late := some(2)
	if late {
		l.Words = append(l.Words, fmt.Sprintf("delay=%dms", 1+r.IntN(100)))
		if some(3) {
			l.Words = append(l.Words, fmt.Sprintf("jitter=%dms", 1+r.IntN(10)))
		}
	}
	if some(2) {
		l.Words = append(l.Words, fmt.Sprintf("rate=%dkbit", 300<<r.IntN(9)))
		if some(2) {
			l.Words = append(l.Words, []string{"queue=3p", "queue=20p", "queue=red", "queue=codel", "queue=fq_codel"}[r.IntN(5)])
		}
	}
	for _, w := range []string{"loss", "dup", "reorder", "corrupt"} {
		if some(5) && (late || w != "reorder") { // what overtakes must have something to overtake
			l.Words = append(l.Words, fmt.Sprintf("%s=%d%%", w, 1+r.IntN(10)))
		}
	}
	if some(8) {
		l.Words = append(l.Words, fmt.Sprintf("down=%dms@%ds", 100+r.IntN(1500), 2+r.IntN(3)))
	}
	if some(6) {
		l.MTU = 1280 + r.IntN(200)
	}
	return l
}

// Lab is the scenario as a lab file.
func (s *Scenario) Lab() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed = %d\nduration = \"%ds\"\n", s.Seed, s.Seconds)
	for i := range s.Hosts {
		fmt.Fprintf(&b, "[host.h%d]\n", i)
		var list []string
		for _, f := range s.Flows {
			if f.From == i {
				list = append(list, f.entry())
			}
		}
		if len(list) > 0 {
			fmt.Fprintf(&b, "traffic = [\n%s]\n", strings.Join(list, ""))
		}
	}
	if s.direct() {
		s.link(&b, "h0", "h1", s.Links[0])
		return b.String()
	}
	for i := range s.Parent {
		fmt.Fprintf(&b, "[router.r%d]\n", i)
	}
	for i, l := range s.Links {
		if k := i + 1; k < len(s.Parent) {
			s.link(&b, fmt.Sprintf("r%d", k), fmt.Sprintf("r%d", s.Parent[k]), l)
		} else {
			h := k - len(s.Parent)
			s.link(&b, fmt.Sprintf("h%d", h), fmt.Sprintf("r%d", s.Hosts[h]), l)
		}
	}
	return b.String()
}

// direct reports whether two hosts are joined without a router.
func (s *Scenario) direct() bool { return len(s.Parent) == 0 }

func (f *Flow) entry() string {
	more := ""
	switch f.Kind {
	case "reqresp":
		more = ", request = 300, response = 3000"
	case "echo":
		more = `, interval = "100ms"`
	case "onoff":
		more = `, rate = "500kbit", on = "200ms", off = "200ms"`
	}
	if f.Start > 0 {
		more += fmt.Sprintf(`, start = "%dms"`, f.Start)
	}
	if f.Count > 1 {
		more += fmt.Sprintf(", count = %d", f.Count)
	}
	return fmt.Sprintf("    {kind = %q, to = \"h%d\", bytes = \"%dB\"%s},\n", f.Kind, f.To, f.Bytes, more)
}

func (s *Scenario) link(b *strings.Builder, x, y string, l Link) {
	fmt.Fprintf(b, "[[link]]\nbetween = [%q, %q]\n", x, y)
	if l.MTU != 0 {
		fmt.Fprintf(b, "mtu = %d\n", l.MTU)
	}
	if len(l.Words) > 0 {
		fmt.Fprintf(b, "impair = %q\n", strings.Join(l.Words, " "))
	}
}

func (s *Scenario) clone() *Scenario {
	c := *s
	c.Parent, c.Hosts, c.Flows = slices.Clone(s.Parent), slices.Clone(s.Hosts), slices.Clone(s.Flows)
	c.Links = slices.Clone(s.Links)
	for i := range c.Links {
		c.Links[i].Words = slices.Clone(s.Links[i].Words)
	}
	return &c
}
