// Package ui serves a page that shows a run while it runs: processes, sockets,
// throughput, round-trip times, windows, queues, the latest calls and packets;
// and that can pause and step its links and change their impairments.
//
// A [Server] shows hosts and links. alptrace has one host with at most one
// link; a laboratory adds as many as it has.
//
// # How it keeps out of the way
//
// What the data path pays does not depend on who looks. Calls and packets are
// taken while there is room in the present tick's budget, which costs an atomic
// load when there is none, and counted beyond it. Ten times a second the
// server's goroutine looks at at most a fixed number of sockets, adds to the
// series of fixed length, and sends every page the same bytes: what has changed.
// A page that does not keep up is cut off; it comes back and gets the whole
// state. All memory is bounded.
//
// # Who may look
//
// The server listens on loopback only ([ParseAddr]). The first element of every
// path is a token of 128 random bits that is part of the printed URL; anything
// else is refused, as is a Host that is not loopback's (DNS rebinding) and a
// change that another site's page asks for. Nothing is fetched from elsewhere.
package ui
