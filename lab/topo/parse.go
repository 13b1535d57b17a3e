package topo

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/sim/sweep/grid"
)

// reader reads one lab file.
type reader struct {
	decoder
	lab   *Lab
	later []func()          // what needs all nodes and links
	nat   map[*Node]*value  // the link that nat names
	addrs map[*Iface]*value // what "addrs" has
}

func parse(name string, text []byte, params map[string]string) (*Lab, error) {
	root, err := tree(name, text)
	if err != nil {
		return nil, err
	}
	r := &reader{
		lab: &Lab{Name: baseName(name), File: name, Text: text, Seed: 1},
		nat: map[*Node]*value{}, addrs: map[*Iface]*value{},
	}
	r.sweep(root)
	if len(r.errs) > 0 {
		return nil, r.errs
	}
	r.substitute(root, params)
	r.file(root)
	for _, f := range r.later {
		f()
	}
	r.finish()
	if len(r.errs) > 0 {
		slices.SortStableFunc(r.errs, func(a, b *Error) int {
			return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
		})
		return nil, r.errs
	}
	return r.lab, nil
}

// substitute puts the parameters in. One that nothing uses is an error, but for
// "seed", which is the lab's whether the file says so or not.
func (r *reader) substitute(root *value, given map[string]string) {
	params := grid.Map(r.lab.Sweep.Row(0))
	maps.Copy(params, given)
	used := map[string]bool{"seed": true}
	param := func(name string) (string, bool) {
		used[name] = true
		v, ok := params[name]
		return v, ok
	}
	for _, f := range root.table {
		if f.name != "sweep" {
			f.val.substitute(param, func(p Pos, msg string) { r.fail(p, "%s", msg) })
		}
	}
	for _, n := range slices.Sorted(maps.Keys(params)) {
		if !used[n] {
			r.fail(Pos(r.lab.Sweep.Pos(n, r.lab.File)), "parameter %s: no string of the file has ${%s}", n, n)
		}
	}
	if v, ok := params["seed"]; ok {
		seed := &value{kind: unstable.String, text: v, pos: Pos(r.lab.Sweep.Pos("seed", r.lab.File))}
		root.set("seed", seed)
	}
}

// sweep reads the parameters.
func (r *reader) sweep(root *value) {
	if root.field("sweep") == nil {
		return
	}
	g, err := grid.Parse(r.lab.File, r.lab.Text)
	var errs grid.Errors
	if errors.As(err, &errs) {
		for _, e := range errs {
			r.fail(Pos(e.Pos), "%s", e.Msg)
		}
		return
	}
	r.lab.Sweep = *g
}

// file reads the top of the file.
func (r *reader) file(root *value) {
	r.fields(root, "a lab file", map[string]func(*value){
		"name":     r.str(&r.lab.Name),
		"seed":     integer(&r.decoder, &r.lab.Seed, 1, math.MaxUint64),
		"duration": r.duration(&r.lab.Duration),
		"host":     func(v *value) { r.nodes(v, Host, &r.lab.Hosts) },
		"router":   func(v *value) { r.nodes(v, Router, &r.lab.Routers) },
		"switch":   func(v *value) { r.nodes(v, Switch, &r.lab.Switches) },
		"link":     func(v *value) { r.list(v, "[[link]] tables", r.link) },
		"sweep":    func(*value) {},
	})
	if !validName(r.lab.Name) {
		r.fail(Pos{File: r.lab.File, Line: 1, Col: 1}, "name %q: want letters, digits, '-', '_' and '.'", r.lab.Name)
	}
}

func validName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[0] == '.' {
		return false
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c)) {
			return false
		}
	}
	return true
}

// nodes reads the nodes of a kind.
func (r *reader) nodes(v *value, kind Kind, to *[]*Node) {
	if v.kind != unstable.InlineTable {
		r.want(v, "a table, as [host.NAME]")
		return
	}
	for _, f := range v.table {
		if !validName(f.name) {
			r.fail(f.pos, "name %q: want letters, digits, '-', '_' and '.'", f.name)
		}
		if n := r.lab.Node(f.name); n != nil {
			r.fail(f.pos, "%q is also a %s, at %s", f.name, n.Kind, n.Pos)
			continue
		}
		n := &Node{Name: f.name, Kind: kind, Pos: f.pos, NAT: -1}
		*to = append(*to, n)
		known := map[string]func(*value){}
		switch kind {
		case Host:
			known["run"] = func(v *value) { r.list(v, "a list of programs", func(v *value) { r.program(n, v) }) }
			known["traffic"] = func(v *value) { r.list(v, "a list of tables", func(v *value) { r.traffic(n, v) }) }
			known["tcp"] = func(v *value) {
				n.TCPPos = v.pos
				r.str(&n.TCP)(v)
			}
		case Router:
			known["nat"] = func(v *value) { r.nat[n] = v }
		}
		r.fields(f.val, "a "+kind.String(), known)
	}
}

// link reads one [[link]].
func (r *reader) link(v *value) {
	l := &Link{Pos: v.pos, MTU: 1500}
	var between []*value
	var addrs *value
	texts := map[string]*value{}
	keep := func(name string) func(*value) { return func(v *value) { texts[name] = v } }
	r.fields(v, "a link", map[string]func(*value){
		"name":      r.str(&l.Name),
		"between":   func(v *value) { r.list(v, "the names of two nodes", func(v *value) { between = append(between, v) }) },
		"addrs":     func(v *value) { addrs = v },
		"mtu":       integer(&r.decoder, &l.MTU, 576, 9216),
		"impair":    keep("impair"),
		"impair-ab": keep("impair-ab"),
		"impair-ba": keep("impair-ba"),
	})
	r.impair(l, texts)
	if len(between) != 2 {
		r.fail(v.pos, "between: want the names of two nodes")
		return
	}
	i := len(r.lab.Links)
	r.lab.Links = append(r.lab.Links, l)
	r.later = append(r.later, func() { r.join(l, i, between, addrs) })
}

// impair reads the specifications of both directions.
func (r *reader) impair(l *Link, texts map[string]*value) {
	for _, k := range []struct {
		name string
		to   []*impair.Spec
	}{
		{"impair", []*impair.Spec{&l.AB, &l.BA}},
		{"impair-ab", []*impair.Spec{&l.AB}},
		{"impair-ba", []*impair.Spec{&l.BA}},
	} {
		v := texts[k.name]
		if v == nil {
			continue
		}
		if v.kind != unstable.String {
			r.want(v, `words as "delay=10ms rate=10mbit"`)
			continue
		}
		s, err := impair.Parse(v.text)
		if err != nil {
			r.fail(v.pos, "%s: %v", k.name, err)
			continue
		}
		if s.MTU != 0 {
			l.MTU = min(l.MTU, s.MTU)
			s.MTU = 0
		}
		for _, to := range k.to {
			*to = s
		}
	}
}

// join makes the interfaces of a link, the lab's i-th.
func (r *reader) join(l *Link, i int, between []*value, addrs *value) {
	for end, v := range between {
		n := r.lab.Node(v.text)
		if n == nil || v.kind != unstable.String {
			r.want(v, "the name of a host, router or switch")
			r.lab.Links = slices.DeleteFunc(r.lab.Links, func(k *Link) bool { return k == l })
			return
		}
		l.Ends[end] = &Iface{Node: n, Link: l, End: end}
	}
	a, b := l.Ends[0].Node, l.Ends[1].Node
	if a == b {
		r.fail(l.Pos, "between: a link of %s with itself", a.Name)
		r.lab.Links = slices.DeleteFunc(r.lab.Links, func(k *Link) bool { return k == l })
		return
	}
	for _, e := range l.Ends {
		e.Index = len(e.Node.Ifaces)
		e.Node.Ifaces = append(e.Node.Ifaces, e)
	}
	l.Name = cmp.Or(l.Name, a.Name+"-"+b.Name)
	if l.AB.Seed == 0 {
		l.AB.Seed = mix(r.lab.Seed, uint64(2*i))
	}
	if l.BA.Seed == 0 {
		l.BA.Seed = mix(r.lab.Seed, uint64(2*i+1))
	}
	if addrs == nil {
		return
	}
	if addrs.kind != unstable.Array || len(addrs.list) != 2 {
		r.want(addrs, `two addresses with prefix lengths, as ["10.1.0.1/24", "10.1.0.2/24"]`)
		return
	}
	for end, v := range addrs.list {
		r.addrs[l.Ends[end]] = v
	}
}

// mix derives a seed, never 0, by SplitMix64 (Steele et al. 2014).
func mix(seed, i uint64) uint64 {
	z := seed + (i+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return max(z^z>>31, 1)
}
