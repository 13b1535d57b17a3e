// Package order is what a test tells the hostile client to do, and what that
// saw: one JSON value a line, each answered by one.
package order

import (
	"syscall"

	"github.com/alptrace/alptrace/rootd/proto"
)

// What can be ordered.
const (
	Lease    = "lease"    // connect to the rootd at Path and begin a lease
	Grant    = "grant"    // ask for Items
	Release  = "release"  // give Items back
	Send     = "send"     // write Packets, with their virtio-net headers
	Received = "received" // what came since the last time
	Keep     = "keep"     // do all that could make the device last
	End      = "end"      // close the connection, and nothing else
	Give     = "give"     // offer the device at the socket Path
	Take     = "take"     // take the device that is offered at Path
	Say      = "say"      // connect to Path and send Packets as messages
	Flood    = "flood"    // N connections send Packets[0] for Millis, never reading
	Slow     = "slow"     // N connections to Path that say nothing, for Millis
	Touch    = "touch"    // get at what is root's: Path is a pin or a file
	Bind     = "bind"     // a socket of the kernel at Addr ("tcp" or "udp" in Path)
	Steal    = "steal"    // attach to the device named Path, listen on all devices
)

// Order is one.
type Order struct {
	Op      string
	Lease   int // which of those that were had before
	Path    string
	Addr    string
	N       int
	Millis  int
	Items   []proto.Item
	Packets [][]byte
}

// Answer says how it went.
type Answer struct {
	Errno   syscall.Errno // of the whole
	Text    string        // of the error
	Lease   int
	Device  string
	Results []proto.Result
	Packets [][]byte                 // received, without virtio-net headers
	Errnos  []syscall.Errno          // of each packet sent
	Tried   map[string]syscall.Errno // how each way went
	Closed  bool                     // rootd closed the connection
	Count   int                      // messages sent
}
