package netstack

import "net/netip"

// membership is a multicast group that a socket has joined.
type membership struct {
	group netip.Addr
	nic   int32
}

// rejoin joins the socket's groups again on a fresh netstack endpoint.
func (d *dgramSock) rejoin() {}
