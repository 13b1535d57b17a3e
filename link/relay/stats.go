package relay

import "sync/atomic"

// counter counts the flows of one kind.
type counter struct{ open, total atomic.Int64 }

func (c *counter) begin() { c.open.Add(1); c.total.Add(1) }
func (c *counter) end()   { c.open.Add(-1) }

func (c *counter) read() Flows { return Flows{Open: c.open.Load(), Total: c.total.Load()} }

type counters struct {
	tcpOut, tcpIn, udpOut, udpIn, dns, ping counter

	dialing, tcpFailed, tcpReset, icmpErrors atomic.Int64
	packetsIn, packetsOut, dropped           atomic.Uint64
}

// Flows counts flows of one kind.
type Flows struct{ Open, Total int64 }

// Stats counts what the relay has done so far.
type Stats struct {
	TCP          Flows // of the near stack to the host
	TCPPublished Flows // of the host to the near stack
	UDP          Flows
	UDPPublished Flows // one for each peer
	DNS          Flows // queries over UDP
	Ping         Flows

	TCPDialing int64 // SYNs for which the host is connecting now
	TCPFailed  int64 // connections that did not come about
	TCPReset   int64 // connections that ended by RST, from either side
	ICMPErrors int64 // sent to the near stack

	PacketsIn  uint64 // from the near stack
	PacketsOut uint64 // to the near stack
	Dropped    uint64 // packets that could go nowhere
}

// Stats reads the counters.
func (r *Relay) Stats() Stats {
	s := &r.stats
	return Stats{
		TCP: s.tcpOut.read(), TCPPublished: s.tcpIn.read(),
		UDP: s.udpOut.read(), UDPPublished: s.udpIn.read(),
		DNS: s.dns.read(), Ping: s.ping.read(),
		TCPDialing: s.dialing.Load(), TCPFailed: s.tcpFailed.Load(), TCPReset: s.tcpReset.Load(),
		ICMPErrors: s.icmpErrors.Load(),
		PacketsIn:  s.packetsIn.Load(), PacketsOut: s.packetsOut.Load(), Dropped: s.dropped.Load(),
	}
}
