// Package observe has what can be seen of a run: the sockets and calls of its
// programs. Who watches a run (observe/ui) and who is watched (tracer) meet in
// these types and know nothing else of each other.
package observe

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is a socket of the program as it is at one moment.
type Socket struct {
	ID       uint64 // one for each socket of a run, counted from 1
	Family   int    // AF_*
	Type     int    // SOCK_*
	Protocol int    // IPPROTO_*, as the program gave it
	// State is Linux's name: of TCP as in RFC 9293 ("ESTABLISHED", "SYN_SENT",
	// "CLOSE", ...); of the others ESTABLISHED with a peer, UNCONN without.
	State       string
	Local, Peer netip.AddrPort // invalid: unspecified
	TID, FD     int            // where a call was last made on it
	In, Out     uint64         // bytes that the program received and sent
	Backlog     int            // connections to be accepted
	Closed      bool           // by the program: this is the last of it
	TCP         TCP
}

// TCP is what struct tcp_info says of a connection (linux/tcp.h); zero for
// other sockets and where the engine cannot tell.
type TCP struct {
	CAState        string // "Open", "Disorder", "CWR", "Recovery" or "Loss"
	RTT, RTTVar    time.Duration
	RTO            time.Duration
	MSS            int // of what is sent, bytes
	Cwnd, Ssthresh int // bytes; Ssthresh is 0 while it is infinite
	InFlight       int // bytes, estimated as segments times MSS
	SndWnd         int // the peer's window, bytes
	Retrans        int // segments sent again so far
}

// Call is one call on a socket, after it returned.
type Call struct {
	Start  time.Time
	Took   time.Duration // from the trap to the answer; waiting included
	TID    int
	Name   string
	Args   string // as strace(1) writes them
	Result string
	Err    unix.Errno
}
