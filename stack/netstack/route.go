package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// routeMTU is the MTU of the way to dst in bytes, 0 if there is no way.
func (e *Engine) routeMTU(dst netip.Addr) int {
	ip := unmap(dst)
	if e.shared != nil {
		return e.shared.ways.mtu(ip)
	}
	n := ipv6Number
	if ip.Is4() {
		n = ipv4Number
	}
	r, err := e.st.FindRoute(0, tcpip.Address{}, fromIP(ip), n, false)
	if err != nil {
		return 0
	}
	defer r.Release()
	// Route.MTU leaves out the network header.
	info, ok := e.st.SingleNICInfo(r.OutgoingNIC())
	if !ok {
		return 0
	}
	return int(info.MTU)
}
