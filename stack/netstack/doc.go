// Package netstack is the default engine: gVisor's netstack, unmodified, behind
// the interface of package stack.
//
// netstack carries the protocols. What a Linux program sees of them (the state
// machine of connect(2), poll masks, options with their defaults, ranges and
// rounding, error queues, ancillary data) is made here, since netstack's own
// answers follow its sentry. Three rules keep the two apart:
//
//   - An endpoint is the source of truth for every option's value. netstack is
//     told what it can act on, and a fresh netstack endpoint can be put under a
//     socket at any time (reopen), which is how a socket is connected
//     again after a failed connect, or disconnected.
//   - Shutdown of the receiving side stays here: netstack would answer later
//     data with RST, Linux takes it.
//   - No goroutine and no timer belongs to an endpoint. Everything runs in the
//     caller's goroutine or in netstack's.
//
// Options are table driven: sockopt.go has the machinery, options_*.go one
// table for each level.
//
// # Differences from Linux
//
// The test that compares options with the kernel's lists its differences in
// knownDifferences. Beside those:
//
//   - There is no urgent data: MSG_OOB is EOPNOTSUPP on a TCP socket, what a peer
//     sends as urgent is read in line, POLLPRI is never ready.
//   - Congestion control is cubic or reno. ECN, TCP Fast Open, pacing, TCP-MD5
//     and TCP-AO, upper layer protocols and MPTCP are missing; what only tunes
//     them is kept and read back. TCP_WINDOW_CLAMP, TCP_SYNCNT, TCP_QUICKACK,
//     TCP_NOTSENT_LOWAT and SO_MAX_PACING_RATE are such values too.
//   - IP_FREEBIND and IP_TRANSPARENT do not let a socket be bound to a foreign
//     address. IP_LOCAL_PORT_RANGE, IP_MINTTL and IP_MULTICAST_ALL are kept and
//     do nothing.
//   - IP options and IPv6 extension headers are not sent. Multicast has no
//     source filters. SO_ATTACH_FILTER and BPF are ENOPROTOOPT, as are
//     UDP_SEGMENT and UDP_GRO. SO_TIMESTAMPING gives no time stamps.
//   - IP_RECVERR has no effect on streams. An unreachable neighbour is no error
//     for a datagram socket.
//   - A raw socket's packet larger than the MTU is EMSGSIZE even without
//     IP_HDRINCL; AF_INET6 sockets of IPPROTO_RAW cannot send; raw sockets of
//     protocols that [Config].RawProtocols and the common ones leave out are
//     EPROTONOSUPPORT.
//   - A backlog made smaller by a second listen takes effect when the queue is
//     as short. A receive buffer of datagrams counts their bytes, not the
//     kernel's memory for them.
//   - Datagrams that wait for a neighbour's hardware address may be overtaken
//     by later ones.
//   - On a host's own addresses ([Config].Host): SO_BINDTODEVICE and interface
//     indices are kept and do nothing, raw sockets are EPERM, link-local IPv6
//     addresses are not the stack's. Bind asks the host's port keeper, and so
//     waits for its answer.
//   - AF_UNSPEC on a datagram socket without a port of its own, and bind of a
//     raw socket, drop what was received and not read.
package netstack
