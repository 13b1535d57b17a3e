package ui

import (
	"net"
	"slices"
	"time"
)

// frame is what the pages are sent at a tick: what has changed.
type frame struct {
	Tick  int         `json:"n"`
	At    float64     `json:"t"` // seconds since the start
	End   string      `json:"end,omitempty"`
	Hosts []hostFrame `json:"hosts"`
	Links []linkFrame `json:"links"`
}

type hostFrame struct {
	ID        int          `json:"id"`
	In        uint64       `json:"in"` // bytes the programs have received and sent
	Out       uint64       `json:"out"`
	InRate    float64      `json:"inr"`
	OutRate   float64      `json:"outr"`
	Total     int          `json:"total"` // sockets
	Sockets   []socketRow  `json:"sockets,omitempty"`
	Forgotten []uint64     `json:"forgotten,omitempty"`
	Processes []processRow `json:"procs,omitempty"` // all of them, where one changed
	Calls     []callRow    `json:"calls,omitempty"`
	More      bool         `json:"more,omitempty"` // there were more calls than these
}

type linkFrame struct {
	linkRow
	New []packetRow `json:"new,omitempty"`
}

// hello is what a new page is sent: everything.
type hello struct {
	Title string      `json:"title"`
	Tick  int         `json:"n"` // the next
	At    float64     `json:"t"`
	Rate  int         `json:"hz"`   // ticks a second
	Keep  int         `json:"keep"` // ticks remembered
	End   string      `json:"end,omitempty"`
	Hosts []hostHello `json:"hosts"`
	Links []linkHello `json:"links"`
}

type hostHello struct {
	hostFrame
	Name    string               `json:"name"`
	Program string               `json:"program"`
	Stack   string               `json:"stack"`
	Series  map[string][]float32 `json:"series"`
	History []socketHistory      `json:"history"`
}

type linkHello struct {
	linkFrame
	Name      string               `json:"name"`
	Ends      [2]string            `json:"ends"`
	MTU       int                  `json:"mtu"`
	Impair    bool                 `json:"impair"` // can be changed
	HoldLimit int                  `json:"limit"`
	Series    map[string][]float32 `json:"series"`
}

// update takes in the host as it is at tick n and time at; ended says that the
// run is over.
func (h *Host) update(n int, at time.Duration, ended bool) hostFrame {
	f := hostFrame{ID: h.id}
	h.mu.Lock()
	f.Calls, h.calls = h.calls, nil
	closed := h.closed
	h.closed = nil
	h.mu.Unlock()
	f.More = h.room.Swap(callsPerTick) <= 0

	procs := h.updateProcesses(n, ended)
	h.sockets, h.total = h.source.Sockets(h.sockets[:0], maxSockets)
	for i := range h.sockets {
		if st := h.rows[h.sockets[i].ID]; st == nil || !st.row.Closed {
			h.observe(&h.sockets[i], n, at)
		}
	}
	for i := range closed {
		f.Forgotten = append(f.Forgotten, h.close(&closed[i], n, at)...)
	}
	f.Forgotten = append(f.Forgotten, h.forget(n)...)
	in, out := h.source.Bytes()
	if dt := (at - h.at).Seconds(); dt > 0 {
		h.rates = [2]float64{rate(in, h.in, dt), rate(out, h.out, dt)}
	}
	h.in, h.out, h.at = in, out, at
	h.series.add("in", h.rates[0])
	h.series.add("out", h.rates[1])

	for i := range f.Calls {
		f.Calls[i].PID = h.process(f.Calls[i].PID)
	}
	h.recent = keep(h.recent, f.Calls, maxCalls)
	f.Sockets = h.changed()
	f.In, f.Out, f.InRate, f.OutRate, f.Total = h.in, h.out, h.rates[0], h.rates[1], h.total
	if procs {
		f.Processes = h.procs.all()
	}
	return f
}

// updateProcesses looks at the processes once a second, and more often in the
// first, and reports whether any changed.
func (h *Host) updateProcesses(n int, ended bool) bool {
	if h.procs == nil {
		return false
	}
	if ended {
		h.procs.end()
		return true
	}
	if n%ticksPerSecond != 0 && n > ticksPerSecond {
		return false
	}
	return h.procs.update(h.roots())
}

// name says to which socket of the hosts each packet belongs.
func (l *Link) name(rows []packetRow, hosts []*Host) {
	if len(rows) == 0 {
		return
	}
	i := slices.IndexFunc(hosts, func(h *Host) bool { return h.cfg.Name == l.cfg.Ends[0] })
	if i < 0 {
		return
	}
	type flow struct{ proto, local, peer string }
	ids := map[flow]uint64{}
	for id, st := range hosts[i].rows {
		ids[flow{st.row.Proto[:3], st.row.Local, st.row.Peer}] = id
	}
	for i := range rows {
		r := &rows[i]
		local, peer := r.Src, r.Dst
		if r.Dir == "in" {
			local, peer = peer, local
		}
		_, port, _ := net.SplitHostPort(local)
		for _, f := range []flow{{r.Proto, local, peer}, {r.Proto, local, ""}, {r.Proto, "0.0.0.0:" + port, ""}, {r.Proto, "[::]:" + port, ""}} {
			if r.Socket = ids[f]; r.Socket != 0 {
				break
			}
		}
	}
}

// hello is the whole state, after the present tick.
func (s *Server) hello(hosts []*Host, links []*Link) *hello {
	m := &hello{
		Title: s.cfg.Title, Tick: s.tick, At: time.Since(s.start).Seconds(),
		Rate: ticksPerSecond, Keep: historyTicks, End: s.end, Hosts: []hostHello{}, Links: []linkHello{},
	}
	for _, h := range hosts {
		hh := hostHello{
			hostFrame: hostFrame{ID: h.id, In: h.in, Out: h.out, InRate: h.rates[0], OutRate: h.rates[1], Total: h.total, Calls: h.recent},
			Name:      h.cfg.Name, Program: h.cfg.Program, Stack: h.cfg.Stack,
			Series: h.series.all(), History: h.histories(),
		}
		for _, st := range h.rows {
			hh.Sockets = append(hh.Sockets, st.row)
		}
		if h.procs != nil {
			hh.Processes = h.procs.all()
		}
		m.Hosts = append(m.Hosts, hh)
	}
	for _, l := range links {
		lh := linkHello{
			linkFrame: linkFrame{linkRow: l.row, New: l.recent}, Name: l.cfg.Name, Ends: l.cfg.Ends,
			Impair: l.impair != nil, MTU: l.step.MTU(), HoldLimit: l.row.limit, Series: l.series.all(),
		}
		m.Links = append(m.Links, lh)
	}
	return m
}
