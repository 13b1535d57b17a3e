package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/stack"
)

// Where a host's name service is: on the stack's own loopback, at a port that no
// program is given by chance (it is above the ephemeral ones).
const namesPort, dnsPort = 65353, 53

var namesAddrs = []netip.AddrPort{
	netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), namesPort),
	netip.AddrPortFrom(netip.IPv6Loopback(), namesPort),
}

// nameTTL is short: a lab does not last.
const nameTTL = 10

// names is the name service of a host (RFC 1035): it knows the hosts and routers
// of the lab and nothing else.
type names struct {
	lab  *topo.Lab
	node *topo.Node
	eps  []stack.Endpoint
	done chan struct{}
}

// newNames starts the service on the host's engine.
func newNames(lab *topo.Lab, node *topo.Node, e stack.Engine) (*names, error) {
	n := &names{lab: lab, node: node, done: make(chan struct{})}
	for _, at := range namesAddrs {
		family := unix.AF_INET
		if at.Addr().Is6() {
			family = unix.AF_INET6
		}
		ep, errno := e.Socket(family, unix.SOCK_DGRAM, 0)
		if errno == 0 {
			errno = ep.Bind(stack.Addr{IP: at.Addr(), Port: at.Port()})
		}
		if errno != 0 {
			n.close()
			return nil, fmt.Errorf("%s: name service at %s: %w", node.Name, at, errno)
		}
		wake := make(chan struct{}, 1)
		ep.Notify(func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		n.eps = append(n.eps, ep)
		go n.serve(ep, wake)
	}
	return n, nil
}

func (n *names) close() {
	close(n.done)
	for _, ep := range n.eps {
		ep.Close()
	}
}

func (n *names) serve(ep stack.Endpoint, wake <-chan struct{}) {
	var m stack.Message
	for {
		for ep.Recv(&m) == 0 {
			if b := n.answer(m.Data); b != nil {
				_, _ = ep.Send(&stack.Message{Data: b, Addr: m.Addr, HasAddr: true}) // as datagrams may be lost
			}
		}
		select {
		case <-wake:
		case <-n.done:
			return
		}
	}
}

// redirect leads what is for a name server outside of the lab to the service.
func (n *names) redirect(dst netip.AddrPort) (netip.AddrPort, bool) {
	if dst.Port() != dnsPort || n.inLab(dst.Addr()) {
		return netip.AddrPort{}, false
	}
	if dst.Addr().Is4() {
		return namesAddrs[0], true
	}
	return namesAddrs[1], true
}

func (n *names) inLab(a netip.Addr) bool {
	for _, l := range n.lab.Links {
		for _, e := range l.Ends {
			for _, p := range e.Addrs {
				if p.Contains(a) {
					return true
				}
			}
		}
	}
	return false
}

// answer answers a query; nil to what is none.
func (n *names) answer(b []byte) []byte {
	var q dns.Msg
	if err := q.Unpack(b); err != nil || q.Response || len(q.Question) != 1 {
		return nil
	}
	r := new(dns.Msg).SetReply(&q)
	r.Authoritative, r.RecursionAvailable = true, true
	r.Answer, r.Rcode = n.resolve(q.Question[0])
	out, err := r.Pack()
	if err != nil {
		return nil
	}
	return out
}

func (n *names) resolve(q dns.Question) ([]dns.RR, int) {
	name := strings.TrimSuffix(q.Name, ".")
	if q.Qclass != dns.ClassINET {
		return nil, dns.RcodeRefused
	}
	if q.Qtype == dns.TypePTR {
		for _, node := range n.lab.Nodes() {
			for _, a := range node.Addrs() {
				if rev, err := dns.ReverseAddr(a.String()); err == nil && strings.EqualFold(rev, q.Name) {
					return []dns.RR{&dns.PTR{Hdr: header(q), Ptr: node.Name + "."}}, dns.RcodeSuccess
				}
			}
		}
		return nil, dns.RcodeNameError
	}
	node := n.find(name)
	if node == nil {
		return nil, dns.RcodeNameError
	}
	var rrs []dns.RR
	for _, a := range n.lab.Lookup(n.node, node.Name) {
		switch {
		case a.Is4() && q.Qtype == dns.TypeA:
			rrs = append(rrs, &dns.A{Hdr: header(q), A: a.AsSlice()})
		case a.Is6() && q.Qtype == dns.TypeAAAA:
			rrs = append(rrs, &dns.AAAA{Hdr: header(q), AAAA: a.AsSlice()})
		}
	}
	return rrs, dns.RcodeSuccess
}

// find is the host or router of a name; upper and lower case are the same.
func (n *names) find(name string) *topo.Node {
	for _, l := range [][]*topo.Node{n.lab.Hosts, n.lab.Routers} {
		for _, node := range l {
			if strings.EqualFold(node.Name, name) {
				return node
			}
		}
	}
	return nil
}

func header(q dns.Question) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: nameTTL}
}
