package sim

import (
	"fmt"
	"net"

	"github.com/alptrace/alptrace/lab/toobig"
	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/stack/netstack"
	"github.com/alptrace/alptrace/stack/tcp/alptcp"
)

// Load builds a lab. The caller closes what it returns. Errors are those of
// traffic that cannot be, with its place in the file.
func Load(lab *topo.Lab, o Options) (*Sim, error) {
	s := newSim(lab.Seed, o)
	s.lab = lab
	if err := s.build(lab); err != nil {
		_ = s.Close() // err says more
		return nil, err
	}
	return s, nil
}

func (s *Sim) build(lab *topo.Lab) error {
	ends := make(map[*topo.Iface]*End)
	for i, l := range lab.Links {
		cfg := WireConfig{Name: l.Name, MTU: l.MTU, Impair: [2]impair.Spec{l.AB, l.BA}}
		if l.Switched() {
			cfg.Medium = link.Ethernet
			cfg.Addr = [2]net.HardwareAddr{hardwareAddr(i, 0), hardwareAddr(i, 1)}
		}
		w, err := s.Wire(cfg)
		if err != nil {
			return fmt.Errorf("%s: %w", l.Pos, err)
		}
		ends[l.Ends[0]], ends[l.Ends[1]] = w.End(0), w.End(1)
	}
	for _, n := range lab.Nodes() {
		if err := s.addNode(n, ends); err != nil {
			return fmt.Errorf("%s: %w", n.Pos, err)
		}
	}
	for _, n := range lab.Hosts {
		if len(n.Run) > 0 && len(n.Traffic) == 0 {
			return fmt.Errorf("%s: host %s runs real programs, which need real time: see alplab up", n.Pos, n.Name)
		}
		for i := range n.Traffic {
			if err := s.addTraffic(n, &n.Traffic[i]); err != nil {
				return fmt.Errorf("%s: %w", n.Traffic[i].Pos, err)
			}
		}
	}
	s.sample()
	return nil
}

// addNode makes a host, router or switch.
func (s *Sim) addNode(n *topo.Node, ends map[*topo.Iface]*End) error {
	var links []link.Link
	plain := n.NAT < 0 // a router of our own will do
	for _, i := range n.Ifaces {
		var l link.Link = ends[i]
		if s.opts.Wrap != nil {
			var err error
			if l, err = s.opts.Wrap(ends[i], n); err != nil {
				return err
			}
		}
		links = append(links, l)
		plain = plain && l.Medium() == link.IP
	}
	switch {
	case n.Kind == topo.Switch:
		return s.addSwitch(links)
	case n.Kind == topo.Router && plain:
		return s.addRouter(n, links)
	}
	cfg := netstack.Config{Forwarding: n.Kind == topo.Router}
	for i, l := range links {
		if n.Kind == topo.Router {
			l = toobig.Wrap(l, n)
		}
		cfg.Interfaces = append(cfg.Interfaces, netstack.Interface{Link: l, Addrs: n.Ifaces[i].Addrs})
	}
	for _, r := range n.Routes {
		cfg.Routes = append(cfg.Routes, netstack.Route{Dst: r.Dst, Via: r.Via, Link: r.Iface})
	}
	if n.TCP != "" {
		var err error
		if cfg.TCP, err = alptcp.Parse(n.TCP); err != nil {
			return fmt.Errorf("%s: tcp: %w", n.TCPPos, err)
		}
	}
	if n.Kind == topo.Router && n.NAT >= 0 {
		cfg.Masquerade = []int{n.NAT}
	}
	_, err := s.Host(n.Name, cfg)
	return err
}
