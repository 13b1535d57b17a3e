package linux

import (
	"sync/atomic"

	"github.com/alptrace/alptrace/link"
)

// counter is a link whose packets are counted, without their link headers.
type counter struct {
	link.Link
	packetsIn, packetsOut, bytesIn, bytesOut atomic.Uint64
}

func (c *counter) header() int {
	if c.Medium() == link.Ethernet {
		return 14
	}
	return 0
}

// Send counts what is sent.
func (c *counter) Send(pkts []link.Packet) (int, error) {
	h := c.header()
	n, err := c.Link.Send(pkts)
	for i := range min(n, len(pkts)) {
		c.bytesOut.Add(uint64(max(0, pkts[i].Len()-h)))
	}
	c.packetsOut.Add(uint64(n))
	return n, err
}

// Start counts what is received.
func (c *counter) Start(recv func([]link.Packet)) error {
	h := c.header()
	return c.Link.Start(func(pkts []link.Packet) {
		for i := range pkts {
			c.bytesIn.Add(uint64(max(0, pkts[i].Len()-h)))
		}
		c.packetsIn.Add(uint64(len(pkts)))
		recv(pkts)
	})
}
