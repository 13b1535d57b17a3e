package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// sendFrom sends a datagram from the source that IP_PKTINFO names.
func (d *dgramSock) sendFrom(data []byte, to *tcpip.FullAddress, c *sendControl) stack.Errno {
	c.source = c.source.WithZone("")
	cc := *c
	cc.source = netip.Addr{}
	return d.send(data, to, &cc)
}
