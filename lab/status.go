package lab

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link/impair"
)

// Status is a lab as it is now, as alplab status has it in JSON.
type Status struct {
	Name    string        `json:"name"`
	File    string        `json:"file"`
	Dir     string        `json:"dir"`
	Pid     int           `json:"pid"`
	Uptime  time.Duration `json:"uptime"` // nanoseconds
	Nodes   []NodeStatus  `json:"nodes"`
	Links   []LinkStatus  `json:"links"`
	Message string        `json:"error,omitempty"`
}

// NodeStatus is a host or a router.
type NodeStatus struct {
	Name       string            `json:"name"`
	Kind       string            `json:"kind"`
	Interfaces []InterfaceStatus `json:"interfaces"`
	PacketsIn  uint64            `json:"packets_in"`
	PacketsOut uint64            `json:"packets_out"`
	BytesIn    uint64            `json:"bytes_in"`
	BytesOut   uint64            `json:"bytes_out"`
	Retrans    uint64            `json:"retransmissions"` // TCP segments
	Programs   []ProgramStatus   `json:"programs,omitempty"`
}

// InterfaceStatus is an end of a link.
type InterfaceStatus struct {
	Name  string   `json:"name"`
	Link  string   `json:"link"`
	Addrs []string `json:"addrs"`
}

// ProgramStatus is a program, started or not.
type ProgramStatus struct {
	Name  string   `json:"name"`
	Argv  []string `json:"argv"`
	Pid   int      `json:"pid,omitempty"`
	State State    `json:"state"`
	Exit  string   `json:"exit,omitempty"` // "0", "7", "SIGTERM" or an error
	Exec  bool     `json:"exec,omitempty"` // by alplab exec
}

// LinkStatus is a link with its impairment.
type LinkStatus struct {
	Name string    `json:"name"`
	A    string    `json:"a"`
	B    string    `json:"b"`
	MTU  int       `json:"mtu"`
	AB   WayStatus `json:"ab"` // from a to b
	BA   WayStatus `json:"ba"`
}

// WayStatus is a direction of a link.
type WayStatus struct {
	Impair string `json:"impair,omitempty"`
	impair.Stats
}

// Status is the lab now.
func (l *Lab) Status() Status {
	s := Status{Name: l.Topo.Name, File: l.Topo.File, Dir: l.Dir, Pid: os.Getpid(), Uptime: time.Since(l.started)}
	programs := l.Programs()
	for _, list := range [][]*Host{l.Hosts, l.Routers} {
		for _, h := range list {
			st := h.Engine.Stats()
			n := NodeStatus{
				Name: h.Node.Name, Kind: h.Node.Kind.String(),
				PacketsIn: st.PacketsIn, PacketsOut: st.PacketsOut, BytesIn: st.BytesIn, BytesOut: st.BytesOut,
				Retrans: st.Retransmissions,
			}
			for _, i := range h.Node.Ifaces {
				is := InterfaceStatus{Name: i.Name(), Link: i.Link.Name}
				for _, a := range i.Addrs {
					is.Addrs = append(is.Addrs, a.String())
				}
				n.Interfaces = append(n.Interfaces, is)
			}
			for _, p := range programs {
				if p.Host == h {
					n.Programs = append(n.Programs, p.statusNow())
				}
			}
			s.Nodes = append(s.Nodes, n)
		}
	}
	for _, k := range l.Links {
		s.Links = append(s.Links, k.status())
	}
	return s
}

func (p *Program) statusNow() ProgramStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := ProgramStatus{Name: p.Spec.Name, Argv: p.Spec.Argv, Pid: p.pid, State: p.state, Exec: p.Exec}
	switch {
	case p.err != nil:
		s.Exit = p.err.Error()
	case !p.ended:
	case p.status.Signaled():
		s.Exit = unix.SignalName(p.status.Signal())
	default:
		s.Exit = strconv.Itoa(p.status.ExitStatus())
	}
	return s
}

func (k *Link) status() LinkStatus {
	t := k.Topo
	s := LinkStatus{Name: t.Name, A: t.Ends[0].Node.Name, B: t.Ends[1].Node.Name, MTU: t.MTU}
	s.AB.Stats, s.BA.Stats = k.Impair.Stats(impair.Out), k.Impair.Stats(impair.In)
	out, in := k.Impair.Spec(impair.Out), k.Impair.Spec(impair.In)
	out.Seed, in.Seed = 0, 0 // most are derived, and long
	if !out.IsZero() {
		s.AB.Impair = out.String()
	}
	if !in.IsZero() {
		s.BA.Impair = in.String()
	}
	return s
}
