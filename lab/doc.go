// Package lab runs the network of a lab file on one machine, without privilege,
// with real programs on its hosts.
//
// All of the network is in one process: a stack for each host and router, a
// switch for each switch, and for each link a pair of ends, one of them in an
// impairment that can be changed at any time. A program is started by a process
// of its own, the front, under the seccomp filter of tracer/filter; the front
// gives the lab the filter's listener, and the lab answers the program's socket
// calls from the stack of its host. So any number of programs share a host.
//
//	alplab up --+-- front --- guard --- program
//	            +-- front --- guard --- program
//
//	alplab exec ------------- guard --- program (the lab has its listener)
//
// When the lab ends, kill -9 included, its fronts and the exec commands see their
// connection end and end themselves; their guards kill what is left of the
// programs.
//
// Programs find the other hosts by name, because every host has a name service
// in its own stack, to which the tracer leads what is sent to port 53 of the
// machine's name servers.
//
// Importing this package is what makes a re-exec of the binary a front, as with
// tracer/launch; nothing has to be called first in main.
package lab
