package topo

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// program reads an entry of "run": a command line, or a table.
func (r *reader) program(n *Node, v *value) {
	p := Program{Pos: v.pos}
	cmdline, after := v, (*value)(nil)
	if v.kind == unstable.InlineTable {
		cmdline = nil
		r.fields(v, "a program", map[string]func(*value){
			"cmd":        func(v *value) { cmdline = v },
			"name":       r.str(&p.Name),
			"dir":        r.str(&p.Dir),
			"env":        func(v *value) { r.env(&p, v) },
			"start":      r.duration(&p.Start),
			"after":      func(v *value) { after = v },
			"tcp":        r.str(&p.TCP),
			"background": r.boolean(&p.Background),
		})
	}
	if cmdline == nil || cmdline.kind != unstable.String {
		r.fail(v.pos, `want a command, as "curl http://server/" or {cmd = "..."}`)
		return
	}
	argv, err := words(cmdline.text)
	if err != nil || len(argv) == 0 {
		r.fail(cmdline.pos, "command %q: %v", cmdline.text, cmp.Or(err, fmt.Errorf("it is empty")))
		return
	}
	p.Argv = argv
	if p.Name != "" && !validName(p.Name) {
		r.fail(v.pos, "name %q: want letters, digits, '-', '_' and '.'", p.Name)
	}
	p.Name = r.programName(n, &p, v.pos)
	n.Run = append(n.Run, p)
	if after != nil {
		i := len(n.Run) - 1
		r.later = append(r.later, func() { n.Run[i].After = r.wait(after) })
	}
}

// programName is the given name, or that of the file with a number if it is
// taken.
func (r *reader) programName(n *Node, p *Program, pos Pos) string {
	taken := func(s string) bool {
		return slices.ContainsFunc(n.Run, func(q Program) bool { return q.Name == s })
	}
	if p.Name != "" {
		if taken(p.Name) {
			r.fail(pos, "%s has another program named %q", n.Name, p.Name)
		}
		return p.Name
	}
	base := strings.Map(func(c rune) rune {
		if validName("x" + string(c)) {
			return c
		}
		return '_'
	}, filepath.Base(p.Argv[0]))
	name := base
	for k := 2; taken(name); k++ {
		name = base + "." + strconv.Itoa(k)
	}
	return name
}

// env reads a table of variables.
func (r *reader) env(p *Program, v *value) {
	if v.kind != unstable.InlineTable {
		r.want(v, `a table, as {HOME = "."}`)
		return
	}
	for _, f := range v.table {
		var s string
		r.str(&s)(f.val)
		if f.name == "" || strings.ContainsAny(f.name, "=\x00") {
			r.fail(f.pos, "%q cannot be the name of a variable", f.name)
		}
		p.Env = append(p.Env, f.name+"="+s)
	}
}

// wait reads HOST:PORT.
func (r *reader) wait(v *value) *Wait {
	host, port, ok := strings.Cut(v.text, ":")
	num, err := strconv.ParseUint(port, 10, 16)
	n := r.lab.Node(host)
	if !ok || err != nil || num == 0 || n == nil || n.Kind != Host {
		r.want(v, `a host of the lab and a port, as "server:80"`)
		return nil
	}
	return &Wait{Host: n, Port: uint16(num)}
}

// traffic reads an entry of "traffic".
func (r *reader) traffic(n *Node, v *value) {
	t := Traffic{Pos: v.pos, Count: 1}
	var to, kind *value
	d := &r.decoder
	before := len(d.errs)
	r.fields(v, "traffic", map[string]func(*value){
		"kind":     func(v *value) { kind = v; r.str(&t.Kind)(v) },
		"to":       func(v *value) { to = v },
		"start":    r.duration(&t.Start),
		"stop":     r.duration(&t.Stop),
		"bytes":    r.size(&t.Bytes),
		"port":     integer(d, &t.Port, 1, math.MaxUint16),
		"count":    integer(d, &t.Count, 1, 1e6),
		"cc":       r.str(&t.CC),
		"ip":       integer(d, &t.IP, 4, 6),
		"request":  r.size(&t.Request),
		"response": r.size(&t.Response),
		"interval": r.duration(&t.Interval),
		"on":       r.duration(&t.On),
		"off":      r.duration(&t.Off),
		"rate":     r.rate(&t.Rate),
		"file":     r.str(&t.File),
	})
	switch {
	case len(d.errs) > before:
	case to == nil || kind == nil:
		r.fail(v.pos, "traffic: want kind and to")
	case !slices.Contains(TrafficKinds, t.Kind):
		r.want(kind, strings.Join(TrafficKinds, ", "))
	case t.IP == 5:
		r.fail(v.pos, "traffic: ip is 4 or 6")
	case t.Stop != 0 && t.Stop <= t.Start:
		r.fail(v.pos, "traffic: want stop after start")
	case (t.Kind == "trace") != (t.File != ""):
		r.fail(v.pos, "traffic: kind trace goes with file")
	}
	if t.File != "" {
		text, err := os.ReadFile(r.beside(t.File))
		if err != nil {
			r.fail(v.pos, "traffic: %v", err)
		}
		t.Text = text
	}
	n.Traffic = append(n.Traffic, t)
	if to == nil {
		return
	}
	i := len(n.Traffic) - 1
	r.later = append(r.later, func() {
		peer := r.lab.Node(to.text)
		if peer == nil || peer.Kind != Host {
			r.want(to, "the name of a host")
			return
		}
		n.Traffic[i].To = peer
	})
}

// beside is the path of a file that the lab file names.
func (r *reader) beside(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(r.lab.File), name)
}
