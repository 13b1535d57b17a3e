// Package sim runs networks in virtual time: hosts, routers, switches and links
// in one process, with traffic that is built in. A lab file (package topo)
// describes the network, [Load] builds it, [Sim.Run] runs it:
//
//	lab, err := topo.Load("dumbbell.toml", nil)
//	s, err := sim.Load(lab, sim.Options{})
//	res, err := s.Run(0) // 0: as long as the file says
//
// # Time
//
// There is one queue of timers. The earliest fires, inline, on the goroutine
// that called Run; of two at the same time the one set first. What a timer sets
// off (a packet that arrives, the acknowledgment that follows, the program that
// reads) is over before the next one fires, and takes no virtual time. So a run
// costs what its packets cost, however long it lasts, and an idle second costs
// nothing.
//
// # The same run twice
//
// All randomness comes from the seed: each host has its own stream, by its name,
// for sequence numbers, ports, time stamps and the seeds of hashes, and each
// direction of a link one for its impairments. The engine's goroutines, where it
// has any, are waited for at each step (netstack.Config.Lockstep). The same seed
// gives the same packets at the same times, bit for bit, on every machine and for
// every GOMAXPROCS and GOGC; [Result].Hash is a digest of them all. The number of
// processors matters to the speed alone: with GOMAXPROCS=1 netstack's goroutines
// need not be woken on another processor.
//
// # Hosts and engines
//
// A host is a stack.Engine, used through that interface only; the built-in
// traffic makes sockets as a program would. [Options].Engine chooses another
// engine, or another TCP on netstack's IP layer ([Netstack]), by host.
//
// # Routers
//
// A router is a forwarder of this package: longest prefix, TTL, fragmentation,
// and the ICMP errors that RFC 1812 and RFC 4443 ask for. It costs less
// than netstack's forwarding: of a run through two of them, 3% of the time. Where a router does more, address
// translation or ARP on a switch, it is netstack.
package sim
