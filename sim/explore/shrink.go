package explore

import (
	"errors"
	"slices"
)

// Shrink makes a scenario that violates an invariant as small as it can: it drops
// flows, hosts, routers and impairments, and makes numbers smaller, as long as
// what is left still violates the same. fails checks a lab file, as [Check] does.
func Shrink(s *Scenario, fails func(lab string) error) (*Scenario, error) {
	why := violation(fails(s.Lab()))
	if why == nil {
		return s, nil
	}
	for {
		smaller := false
		for _, c := range s.smaller() {
			if f := violation(fails(c.Lab())); f != nil && f.Invariant == why.Invariant {
				s, why, smaller = c, f, true
				break
			}
		}
		if !smaller {
			return s, why
		}
	}
}

func violation(err error) *Failure {
	var f *Failure
	errors.As(err, &f)
	return f
}

// smaller are the scenarios one step below, the largest steps first.
func (s *Scenario) smaller() []*Scenario {
	var l []*Scenario
	add := func(change func(c *Scenario)) {
		c := s.clone()
		change(c)
		l = append(l, c)
	}
	if len(s.Flows) > 1 {
		for i := range s.Flows {
			add(func(c *Scenario) { c.Flows = []Flow{c.Flows[i]} })
		}
		for i := range s.Flows {
			add(func(c *Scenario) { c.Flows = slices.Delete(c.Flows, i, i+1) })
		}
	}
	for h := range s.Hosts {
		if !s.used(h) && len(s.Hosts) > 2 {
			add(func(c *Scenario) { c.dropHost(h) })
		}
	}
	if len(s.Hosts) == 2 && !s.direct() {
		for i := range s.Links {
			add(func(c *Scenario) { c.Links, c.Parent = []Link{c.Links[i]}, nil })
		}
	}
	for i := 1; i < len(s.Parent); i++ {
		add(func(c *Scenario) { c.dropRouter(i) })
	}
	for i, k := range s.Links {
		if len(k.Words) > 0 {
			add(func(c *Scenario) { c.Links[i].Words = nil })
		}
		if k.MTU != 0 {
			add(func(c *Scenario) { c.Links[i].MTU = 0 })
		}
		for w := range k.Words {
			add(func(c *Scenario) { c.Links[i].Words = slices.Delete(c.Links[i].Words, w, w+1) })
		}
	}
	for i, f := range s.Flows {
		if f.Count > 1 {
			add(func(c *Scenario) { c.Flows[i].Count = 1 })
		}
		if f.Kind != "bulk" {
			add(func(c *Scenario) { c.Flows[i].Kind = "bulk" })
		}
		if f.Start > 0 {
			add(func(c *Scenario) { c.Flows[i].Start = 0 })
		}
		if f.Bytes > 1 {
			add(func(c *Scenario) { c.Flows[i].Bytes /= 2 })
			add(func(c *Scenario) { c.Flows[i].Bytes -= max(f.Bytes/8, 1) })
		}
	}
	if s.Seconds > 1 {
		add(func(c *Scenario) { c.Seconds /= 2 })
	}
	return l
}

// used reports whether a flow needs a host.
func (s *Scenario) used(h int) bool {
	return slices.ContainsFunc(s.Flows, func(f Flow) bool { return f.From == h || f.To == h })
}

// dropHost takes a host out, which no flow needs.
func (s *Scenario) dropHost(h int) {
	k := len(s.Parent) - 1 + h
	s.Links = slices.Delete(s.Links, k, k+1)
	s.Hosts = slices.Delete(s.Hosts, h, h+1)
	for i := range s.Flows {
		f := &s.Flows[i]
		if f.From > h {
			f.From--
		}
		if f.To > h {
			f.To--
		}
	}
}

// dropRouter takes a router out; what hung on it hangs on its parent.
func (s *Scenario) dropRouter(k int) {
	move := func(r int) int {
		if r == k {
			r = s.Parent[k]
		}
		if r > k {
			r--
		}
		return r
	}
	for h := range s.Hosts {
		s.Hosts[h] = move(s.Hosts[h])
	}
	for i := range s.Parent {
		if i != k {
			s.Parent[i] = move(s.Parent[i])
		}
	}
	s.Parent = slices.Delete(s.Parent, k, k+1)
	s.Links = slices.Delete(s.Links, k-1, k)
}
