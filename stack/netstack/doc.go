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
//     socket at any time ([sock.reopen]), which is how a socket is connected
//     again after a failed connect, or disconnected.
//   - Shutdown of the receiving side stays here: netstack would answer later
//     data with RST, Linux takes it.
//   - No goroutine and no timer belongs to an endpoint. Everything runs in the
//     caller's goroutine or in netstack's.
//
// Options are table driven: sockopt.go has the machinery, options_*.go one
// table for each level.
package netstack
