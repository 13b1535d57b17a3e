package lab

import (
	"strings"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/step"
	"github.com/alptrace/alptrace/observe"
	"github.com/alptrace/alptrace/observe/ui"
	"github.com/alptrace/alptrace/tracer"
)

// showLink puts the page's pause around a link, and shows the link.
func (l *Lab) showLink(t *topo.Link, w link.Link, q *impair.Link) link.Link {
	if l.opts.Page == nil {
		return w
	}
	shown := l.opts.Page.NewLink(ui.LinkConfig{Name: t.Name, Ends: [2]string{t.Ends[0].Node.Name, t.Ends[1].Node.Name}})
	s := step.Wrap(w, step.Options{Passed: shown.Passed})
	cfg := impair.Config{Out: t.AB, In: t.BA, Live: true}
	cfg.Out.Seed, cfg.In.Seed = 0, 0 // the lab's seed is theirs; nobody wants to read it
	shown.Attach(s, q, cfg)
	l.steps = append(l.steps, s)
	return s
}

// resume lets paused links go on where nobody is left who could.
func (l *Lab) resume() {
	if l.opts.Page != nil && !l.opts.Page.Watched() {
		for _, s := range l.steps {
			s.Resume()
		}
	}
}

// showHost shows a host.
func (l *Lab) showHost(h *Host) {
	if l.opts.Page == nil {
		return
	}
	var runs []string
	for _, p := range h.Node.Run {
		runs = append(runs, strings.Join(p.Argv, " "))
	}
	h.page = l.opts.Page.NewHost(ui.HostConfig{Name: h.Node.Name, Program: strings.Join(runs, "; "), Stack: h.Engine.Name()})
	v := &hostView{lab: l, host: h}
	h.page.Attach(v, v.roots)
}

// hostView is the sockets and processes of all programs of a host, as the page
// wants them.
type hostView struct {
	lab  *Lab
	host *Host
}

// programs calls f with every program of the host that runs or has run, and a
// number of its own.
func (v *hostView) programs(f func(n int, p *Program, t *tracer.Tracer)) {
	for i, p := range v.lab.Programs() {
		if t := p.Tracer(); t != nil && p.Host == v.host {
			f(i, p, t)
		}
	}
}

// Sockets is part of ui.Source.
func (v *hostView) Sockets(list []observe.Socket, most int) (all []observe.Socket, total int) {
	v.programs(func(n int, _ *Program, t *tracer.Tracer) {
		before := len(list)
		var of int
		list, of = t.Sockets(list, most)
		for i := before; i < len(list); i++ {
			list[i].ID = socketID(n, list[i].ID)
		}
		most -= len(list) - before
		total += of
	})
	return list, total
}

// Bytes is part of ui.Source.
func (v *hostView) Bytes() (in, out uint64) {
	v.programs(func(_ int, _ *Program, t *tracer.Tracer) {
		i, o := t.Bytes()
		in, out = in+i, out+o
	})
	return in, out
}

// roots are the programs that run.
func (v *hostView) roots() (pids []int) {
	v.programs(func(_ int, p *Program, _ *tracer.Tracer) {
		if state, pid, _, _ := p.Snapshot(); state == Running {
			pids = append(pids, pid)
		}
	})
	return pids
}

// socketID makes the number of a socket of the lab's n-th program unique.
func socketID(n int, id uint64) uint64 { return uint64(n)<<40 | id }

// observer tells the page of a program; nil without a page.
func (l *Lab) observer(p *Program) tracer.Observer {
	if p.Host.page == nil {
		return nil
	}
	for i, q := range l.Programs() {
		if p == q {
			return &observer{p.Host.page, i}
		}
	}
	return nil
}

type observer struct {
	*ui.Host
	program int
}

// Closed is part of tracer.Observer.
func (o *observer) Closed(s observe.Socket) {
	s.ID = socketID(o.program, s.ID)
	o.Host.Closed(s)
}
