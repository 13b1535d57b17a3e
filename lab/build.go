package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/alptrace/alptrace/lab/lan"
	"github.com/alptrace/alptrace/lab/toobig"
	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/pair"
	"github.com/alptrace/alptrace/observe/owner"
	"github.com/alptrace/alptrace/stack/netstack"
	"github.com/alptrace/alptrace/stack/tcp/alptcp"
)

// build makes links, then stacks and switches on their ends.
func (l *Lab) build() error {
	ends := make(map[*topo.Iface]link.Link)
	defer func() {
		for _, e := range ends { // what an error has left over
			_ = e.Close()
		}
	}()
	for i, t := range l.Topo.Links {
		a, b := pair.New(pairOptions(t, i))
		w, err := impair.Wrap(a, impair.Config{Out: t.AB, In: t.BA, Live: true})
		if err != nil {
			_, _ = a.Close(), b.Close()
			return fmt.Errorf("link %s: %w", t.Name, err)
		}
		worse, ok := w.(*impair.Link)
		if !ok {
			_, _ = w.Close(), b.Close()
			return fmt.Errorf("link %s: the impairment cannot be changed", t.Name)
		}
		l.Links = append(l.Links, &Link{Topo: t, Impair: worse})
		if w, err = l.logQueue(t, w, worse); err != nil {
			_, _ = worse.Close(), b.Close()
			return err
		}
		ends[t.Ends[0]], ends[t.Ends[1]] = l.showLink(t, w, worse), b
	}
	for _, n := range l.Topo.Nodes() {
		if err := l.buildNode(n, ends); err != nil {
			return fmt.Errorf("%s %s: %w", n.Kind, n.Name, err)
		}
	}
	return nil
}

// pairOptions of the i-th link. Where only hosts meet, large packets stay whole and
// checksums are left out; a router is sent what a real wire carries.
func pairOptions(t *topo.Link, i int) pair.Options {
	o := pair.Options{MTU: t.MTU, Queue: pairQueue}
	if !meetsRouter(t, map[*topo.Link]bool{}) {
		o.Features = link.Features{Csum: true, TSO: true, GSOMax: link.MaxPacket}
	}
	if t.Switched() {
		o.Medium = link.Ethernet
		for end := range o.HardwareAddrs {
			n := 2*i + end + 1
			o.HardwareAddrs[end] = net.HardwareAddr{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
		}
	}
	return o
}

// meetsRouter reports whether a link leads to a router, by switches at most.
func meetsRouter(t *topo.Link, seen map[*topo.Link]bool) bool {
	seen[t] = true
	for _, e := range t.Ends {
		switch e.Node.Kind {
		case topo.Router:
			return true
		case topo.Switch:
			for _, i := range e.Node.Ifaces {
				if !seen[i.Link] && meetsRouter(i.Link, seen) {
					return true
				}
			}
		}
	}
	return false
}

// pairQueue is how many packets wait for whoever receives them: as many as
// Linux's net.core.netdev_max_backlog by far, since a link's own queue is its
// impairment's.
const pairQueue = 16384

// buildNode makes the node on the ends of its links, which it takes.
func (l *Lab) buildNode(n *topo.Node, ends map[*topo.Iface]link.Link) error {
	if n.Kind == topo.Switch {
		var ports []link.Link
		for _, i := range n.Ifaces {
			ports = append(ports, ends[i])
		}
		s, err := lan.New(ports, nil)
		if err != nil {
			return err
		}
		l.switches = append(l.switches, s)
		for _, i := range n.Ifaces {
			delete(ends, i)
		}
		return nil
	}
	h := &Host{Node: n}
	if n.Kind == topo.Host {
		h.owners = owner.New()
	}
	log, err := l.logHost(h)
	if err != nil {
		return err
	}
	cfg := netstack.Config{Probe: log != nil, Forwarding: n.Kind == topo.Router, Logger: l.log}
	for _, i := range n.Ifaces {
		bare := ends[i]
		if n.Kind == topo.Router {
			bare = toobig.Wrap(bare, n)
		}
		t := newTap(bare, h.owners, l.log)
		h.Taps = append(h.Taps, t)
		var seen link.Link = t
		if log != nil {
			seen = log.Wrap(t)
		}
		cfg.Interfaces = append(cfg.Interfaces, netstack.Interface{Link: seen, Addrs: i.Addrs})
		if err := l.capture(i, t); err != nil {
			return err
		}
	}
	for _, r := range n.Routes {
		cfg.Routes = append(cfg.Routes, netstack.Route{Dst: r.Dst, Via: r.Via, Link: r.Iface})
	}
	if n.NAT >= 0 {
		cfg.Masquerade = []int{n.NAT}
	}
	if n.TCP != "" {
		if cfg.TCP, err = alptcp.Parse(n.TCP); err != nil {
			return err
		}
	}
	e, err := netstack.New(cfg)
	if err != nil {
		return err
	}
	h.Engine = e
	if log != nil {
		e.Probe(log.Sample)
	}
	for _, i := range n.Ifaces {
		delete(ends, i)
	}
	if n.Kind == topo.Router {
		l.Routers = append(l.Routers, h)
		return nil
	}
	l.Hosts = append(l.Hosts, h)
	l.showHost(h)
	h.names, err = newNames(l.Topo, n, h.Engine)
	return err
}

// capture begins the capture of an interface.
func (l *Lab) capture(i *topo.Iface, t *tap) error {
	if l.opts.NoCapture {
		return nil
	}
	f, err := os.Create(filepath.Join(l.Dir, i.Node.Name+"-"+i.Name()+".pcapng"))
	if err != nil {
		return err
	}
	l.files = append(l.files, f)
	detach, err := t.attach(f, "lab "+l.Topo.Name, describe(i))
	if err != nil {
		return err
	}
	l.detach = append(l.detach, detach)
	return nil
}

// describe says in a capture where it was made.
func describe(i *topo.Iface) string {
	return fmt.Sprintf("%s %s, link %s", i.Node.Name, i.Name(), i.Link.Name)
}
