package netstack

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// forward makes the engine a router on all links.
func (e *Engine) forward() error {
	for i := range e.nics {
		for _, proto := range []tcpip.NetworkProtocolNumber{ipv4Number, ipv6Number} {
			if _, err := e.st.SetNICForwarding(nicOf(i), proto, true); err != nil {
				return fmt.Errorf("forward packets of %s: %s", linkName(i), err)
			}
		}
	}
	return nil
}

// masquerade gives what leaves by the links the links' addresses.
func (e *Engine) masquerade(links []int) error {
	for _, i := range links {
		if i < 0 || i >= len(e.nics) {
			return fmt.Errorf("masquerade on link %d of %d", i, len(e.nics))
		}
	}
	if len(links) == 0 {
		return nil
	}
	for _, v6 := range []bool{false, true} {
		e.st.IPTables().ReplaceTable(gstack.NATID, natTable(links, v6), v6)
	}
	return nil
}

// natTable accepts everything, and masquerades what leaves by the links.
func natTable(links []int, v6 bool) gstack.Table {
	proto, filter := header.IPv4ProtocolNumber, gstack.EmptyFilter4()
	if v6 {
		proto, filter = header.IPv6ProtocolNumber, gstack.EmptyFilter6()
	}
	accept := gstack.Rule{Filter: filter, Target: &gstack.AcceptTarget{NetworkProtocol: proto}}
	rules := []gstack.Rule{accept, accept, accept} // prerouting, input, output
	const postrouting = 3
	for _, i := range links {
		f := filter
		f.OutputInterface, f.OutputInterfaceMask = linkName(i), linkName(i)
		rules = append(rules, gstack.Rule{Filter: f, Target: &gstack.MasqueradeTarget{NetworkProtocol: proto}})
	}
	last := len(rules)
	rules = append(rules, accept, gstack.Rule{Filter: filter, Target: &gstack.ErrorTarget{NetworkProtocol: proto}})
	t := gstack.Table{Rules: rules}
	for h := range gstack.NumHooks {
		t.BuiltinChains[h], t.Underflows[h] = gstack.HookUnset, gstack.HookUnset
	}
	for n, h := range []gstack.Hook{gstack.Prerouting, gstack.Input, gstack.Output} {
		t.BuiltinChains[h], t.Underflows[h] = n, n
	}
	t.BuiltinChains[gstack.Postrouting], t.Underflows[gstack.Postrouting] = postrouting, last
	return t
}
