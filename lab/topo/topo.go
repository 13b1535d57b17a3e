// Package topo reads lab files: hosts, routers, switches and links, with the
// programs or the traffic of the hosts, in TOML. docs/lab.md describes them.
//
// What it returns is complete: every interface has its addresses, every host and
// router its routes. Whoever runs a lab, with real programs or in virtual time,
// builds what is written there and decides nothing more.
package topo

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/sim/sweep/grid"
)

// Pos is a place in a lab file; lines and columns (in bytes) are from 1. The
// zero Pos is no place.
type Pos struct {
	File      string
	Line, Col int
}

// String is as compilers say it: file:line:column.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Lab is what a lab file describes. All slices are in the order of the file.
type Lab struct {
	Name     string
	File     string        // as it was given to Load
	Text     []byte        // the file itself
	Seed     uint64        // of all randomness
	Duration time.Duration // 0: until the programs are done
	Hosts    []*Node
	Routers  []*Node
	Switches []*Node
	Links    []*Link
	Sweep    grid.Grid // parameters, with the values that a sweep gives them
}

// Kind is what a node is.
type Kind int

// The kinds of nodes.
const (
	Host Kind = iota
	Router
	Switch
)

var kinds = []string{"host", "router", "switch"}

func (k Kind) String() string { return kinds[k] }

// Node is a host, a router or a switch.
type Node struct {
	Name   string
	Kind   Kind
	Pos    Pos
	Ifaces []*Iface
	Routes []Route // of hosts and routers, connected subnets left out
	NAT    int     // router: index of the interface whose address the others' connections get; -1: none

	Run     []Program // host
	Traffic []Traffic // host
	TCP     string    // host: which TCP, as the flag --tcp says it; "" is the default
	TCPPos  Pos       // of that
}

// Addrs are the node's addresses, by interface.
func (n *Node) Addrs() []netip.Addr {
	var l []netip.Addr
	for _, i := range n.Ifaces {
		for _, p := range i.Addrs {
			l = append(l, p.Addr())
		}
	}
	return l
}

// Iface is a node's end of a link.
type Iface struct {
	Node  *Node
	Link  *Link
	Index int            // among the node's interfaces, from 0
	End   int            // 0 is the link's a, 1 its b
	Addrs []netip.Prefix // a switch has none; IPv4 before IPv6
}

// Name is as the node's programs see it: "eth0".
func (i *Iface) Name() string { return fmt.Sprintf("eth%d", i.Index) }

// Peer is the interface at the other end of the link.
func (i *Iface) Peer() *Iface { return i.Link.Ends[1-i.End] }

// Route leads to a subnet.
type Route struct {
	Dst   netip.Prefix
	Via   netip.Addr
	Iface int // index among the node's interfaces
}

// Link joins two nodes.
type Link struct {
	Name string
	Pos  Pos
	Ends [2]*Iface // a and b: the order of "between"
	MTU  int       // bytes, of the network layer
	// What happens to packets from a to b, and from b to a. Where the file
	// gives no seed, it follows from that of the lab and the link's place.
	AB, BA impair.Spec
}

// Impaired reports whether the link does anything to packets.
func (l *Link) Impaired() bool { return !l.AB.IsZero() || !l.BA.IsZero() }

// Switched reports whether an end is a switch, so that the link is Ethernet.
func (l *Link) Switched() bool {
	return l.Ends[0].Node.Kind == Switch || l.Ends[1].Node.Kind == Switch
}

// Program is a real program that a host runs.
type Program struct {
	Pos        Pos
	Name       string // in messages and of its log; unique on its host
	Argv       []string
	Dir        string        // working directory; "" is that of the lab file
	Env        []string      // NAME=VALUE, beside what is inherited
	Start      time.Duration // after the lab is up
	After      *Wait         // nil: not
	TCP        string        // the TCP that its host must have; "" is any
	Background bool          // serves: it is ended when the others are done
}

// Wait is for a port to listen.
type Wait struct {
	Host *Node
	Port uint16
}

// TrafficKinds are the kinds of built-in traffic.
var TrafficKinds = []string{"bulk", "reqresp", "onoff", "echo", "trace"}

// Traffic is a program built into the simulator. What is not said is zero.
type Traffic struct {
	Pos      Pos
	Kind     string // one of TrafficKinds
	To       *Node
	Start    time.Duration
	Stop     time.Duration // 0: at the end of the run
	Bytes    int64         // to send in all; 0: until Stop
	Port     uint16        // of the other side
	Count    int           // flows, at least 1
	CC       string        // congestion control; "" is the default
	IP       int           // version of IP: 4 or 6; 0 is 4 where there is a choice
	Request  int64         // bytes of a request (reqresp), of a message (echo)
	Response int64         // bytes of a response (reqresp)
	Interval time.Duration // between requests, or messages
	On, Off  time.Duration // mean lengths of bursts and pauses (onoff)
	Rate     int64         // bits per second while on (onoff)
	File     string        // of sizes and times (trace), beside the lab file
	Text     []byte        // what is in it
}

// Nodes are hosts, then routers, then switches.
func (l *Lab) Nodes() []*Node {
	return slices.Concat(l.Hosts, l.Routers, l.Switches)
}

// Node is the node of a name, or nil.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.Nodes() {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Link is the link of a name, or nil.
func (l *Lab) Link(name string) *Link {
	for _, k := range l.Links {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// Lookup gives the addresses of a host or router by its name: those that from
// can reach, those of its own subnets first. from may be nil.
func (l *Lab) Lookup(from *Node, name string) []netip.Addr {
	n := l.Node(name)
	if n == nil {
		return nil
	}
	addrs := n.Addrs()
	if from == nil || from == n {
		return addrs
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return from.distance(a) == unreachable })
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int {
		return cmp.Compare(from.distance(a), from.distance(b))
	})
	return addrs
}

const near, far, unreachable = 0, 1, 2

// distance tells an address of the node's subnets from others.
func (n *Node) distance(a netip.Addr) int {
	for _, i := range n.Ifaces {
		for _, p := range i.Addrs {
			if p.Contains(a) {
				return near
			}
		}
	}
	for _, r := range n.Routes {
		if r.Dst.Contains(a) {
			return far
		}
	}
	return unreachable
}
