// Package tcp is the project's own TCP: one connection as a state machine that
// has no goroutine, no lock, no clock and no random source of its own.
//
// Into a [Conn] go segments ([Conn.Input]), the calls of its user ([Conn.Write],
// [Conn.Read], [Conn.Shutdown], [Conn.Close], [Conn.Abort]) and the expiry of its
// one timer ([Conn.Timer]). Out of it, through its [Env], come segments to send,
// wake-ups and the time of the next expiry. Whoever owns a Conn serializes what
// goes in. The same code so runs live under a stack (package alptcp, beside
// this one), in a simulation, and in the virtual time of package tcptest, whose
// scripts are how a rule is tested.
//
// # The map
//
// Each file is one concept, its sections name the rules that they are.
//
//	seq.go         sequence numbers                            RFC 9293 3.4
//	segment.go     segments; memory that they refer to
//	header.go      the header on the wire                      RFC 9293 3.1
//	options.go     options on the wire                         RFC 9293 3.2, 7323, 2018, 7413
//	conn.go        the connection and what it needs from outside
//	config.go      what connections of a stack have in common
//	open.go        active and passive open, negotiation        RFC 9293 3.5, 7323 2-3, 3168 6.1.1
//	input.go       SEGMENT ARRIVES                             RFC 9293 3.10.7
//	inputack.go    the ACK field; the send window              RFC 9293 3.10.7.4, 5681
//	inputdata.go   segment text, FIN                           RFC 9293 3.10.7.4, 3.6
//	challenge.go   blind attacks, challenge ACKs               RFC 5961
//	timestamps.go  timestamps and PAWS                         RFC 7323
//	reassembly.go  out of order data, SACK and D-SACK made     RFC 2018, 2883
//	window.go      the receive window, silly windows, tuning   RFC 9293 3.8.6.2.2
//	recvbuf.go     what waits to be read
//	sendbuf.go     what was written and is not acknowledged
//	output.go      what may be sent now; Nagle, silly windows  RFC 9293 3.7.4, 3.8.6.2.1
//	transmit.go    making segments of it
//	urgent.go      urgent data                                 RFC 9293 3.8.5, 6093
//	fastopen.go    data in the SYN                             RFC 7413
//	chrono.go      what the sender is limited by, for Info
//	close.go       close, shutdown, abort, TIME-WAIT           RFC 9293 3.6, 1122 4.2.2.13
//	timers.go      the timers; retransmission timeout          RFC 9293 3.8.1, 6298 5
//	probe.go       zero windows and keep-alives                RFC 9293 3.8.6.1, 3.8.4
//	pmtu.go        path MTU, black holes                       RFC 1191, 8201, 8899
//	isn.go         initial sequence numbers                    RFC 6528
//	ecn.go         explicit congestion notification            RFC 3168
//	info.go        what TCP_INFO shows
//
//	scoreboard.go  what is in flight, SACK taken               RFC 6675
//	recovery.go    interface of loss detection; the states of recovery
//	rack.go        RACK                                        RFC 8985 6
//	tlp.go         tail loss probes                            RFC 8985 7
//	newreno.go     duplicate ACKs, for peers without SACK      RFC 5681 3.2, 6582
//	prr.go         proportional rate reduction                 RFC 6937
//	undo.go        spurious retransmissions: F-RTO, Eifel      RFC 5682, 3522, 4015, 3708
//	rto.go         interface of RTO estimators; RFC 6298's     RFC 6298
//	rto793.go      RFC 793's
//	cc.go          interface of congestion controls
//	reno.go        Reno                                        RFC 5681, 3465
//	cubic.go       CUBIC                                       RFC 9438
//	hystart.go     HyStart++                                   RFC 9406
//	bbr.go         BBR: states, rate and window                draft-ietf-ccwg-bbr
//	bbrmodel.go    BBR: the model of the network
//	bbrprobe.go    BBR: the cycle of probing
//	dctcp.go       DCTCP                                       RFC 8257
//	reno1999.go    Reno that counts acknowledgments            RFC 2581
//	abc.go         Reno that counts bytes                      RFC 3465
//	ack.go         interface of ACK policies; delayed ACKs     RFC 9293 3.8.6.3, 5681 4.2
//	acksplit.go, ackdup.go, ackoptimistic.go   ACK policies that misbehave
//	ackcheck.go    interface of ACK checkers; skipped segments
//	rate.go        delivery rate samples
//	pacing.go      interface of pacers; sending by rate
//
//	listener.go    SYN and accept queue, backlog               RFC 9293 3.10.7.2, 4987
//	cookie.go      SYN cookies                                 RFC 4987 3.6
//
// Package conformance has what the RFCs ask for, section by section, as scripts of
// segments in virtual time; the fuzz targets are fuzz*_test.go.
//
// # What can be replaced
//
// Congestion control, ACK policy, loss detection, RTO estimator, pacer and ACK
// checker are interfaces of a few methods. An implementation is one file that registers
// itself under a name (RegisterCongestionControl and its like); it is then
// chosen with --tcp alp,cc=NAME or, a congestion control, by TCP_CONGESTION.
package tcp
