package netstack

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack/transport"
	"github.com/alptrace/alptrace/stack/transport/onip"
)

// streamEndpoint is an endpoint of package onip, whose states are in the numbers of
// gVisor's TCP.
type streamEndpoint interface {
	gstack.TransportEndpoint
	State() uint32
	Unacked() int
}

// ownProtocols makes the factories of Config.Transports.
func ownProtocols(list []transport.Protocol) []gstack.TransportProtocolFactory {
	f := make([]gstack.TransportProtocolFactory, len(list))
	for i, p := range list {
		f[i] = onip.Factory(p)
	}
	return f
}

// mapTCP is the number of the protocol that sockets of TCP get.
func (c *Config) mapTCP() (uint8, error) {
	if c.MapTCP == "" {
		return unix.IPPROTO_TCP, nil
	}
	i := slices.IndexFunc(c.Transports, func(p transport.Protocol) bool { return p.Name == c.MapTCP })
	if i < 0 {
		return 0, fmt.Errorf("no transport protocol %q", c.MapTCP)
	}
	return c.Transports[i].Number, nil
}

// hasStream says whether one of Config.Transports has the number. rootd does not
// share a host's address for them.
func (e *Engine) hasStream(number int) bool {
	return number <= 255 && e.shared == nil && onip.Has(e.st, uint8(number))
}

// number is the number of the protocol under the socket.
func (t *tcpSock) number() tcpip.TransportProtocolNumber {
	if t.proto == unix.IPPROTO_TCP {
		return tcpip.TransportProtocolNumber(t.engine.tcpNumber)
	}
	return tcpip.TransportProtocolNumber(t.proto)
}
