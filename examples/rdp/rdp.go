// Package rdp is a small reliable stream protocol, to read and to begin with: copy
// the folder, change it, and run a real program on it (docs/tutorial-protocol.md).
//
// It is go-back-N (Kurose and Ross, "Computer Networking", 3.4.3) with a handshake,
// a window that the receiver advertises, a retransmission timer by RFC 6298, fast
// retransmission at the third duplicate acknowledgment, and a window of its own
// against congestion. A header follows the ports:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|     flags     |    version    |           checksum            |
//	+---------------+---------------+-------------------------------+
//	|                       sequence number                         |
//	+---------------------------------------------------------------+
//	|                    acknowledgment number                      |
//	+---------------------------------------------------------------+
//	|                       window (bytes)                          |
//	+---------------------------------------------------------------+
//
// Bytes are numbered, SYN and FIN take a number each, as in TCP: nothing that is
// acknowledged lacks a number.
package rdp

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/transport"
)

// The numbers are for experiments (RFC 3692); 253 is for IPv4 only.
func init() {
	register("rdp", 253)
	register("rdp6", 254)
}

func register(name string, number uint8) {
	transport.Register(transport.Protocol{
		Name: name, Number: number, HeaderLen: headerLen, Checksum: transport.PortsLen + 2,
		Stream: func(s *transport.Socket) transport.Conn { return &conn{s: s, cwnd: firstWindow} },
		Opens:  func(pkt []byte) bool { return pkt[0]&(syn|ack) == syn && pkt[1] == version },
	})
}

// The header.
const (
	headerLen = 16
	version   = 1

	syn, ack, fin, rst byte = 1, 2, 4, 8
	gap                byte = 16 // with ack: something later has come
)

// What else is fixed.
const (
	firstWindow = 10 // packets
	minRTO      = 200 * time.Millisecond
	maxRTO      = 10 * time.Second
	maxTries    = 8               // without an answer
	lastTries   = 4               // where only the answer to the FIN is missing
	linger      = 2 * time.Second // after the end, to acknowledge the peer's FIN again
	dupAcks     = 3
)

// conn is one end of a connection.
type conn struct {
	s    *transport.Socket
	buf  []byte
	open bool // the handshake is over

	// Of what is sent. una and nxt count from 0, which is the SYN; the first
	// byte is 1. On the wire they begin at a random number.
	first    uint32        // that number
	una, nxt uint32        // the oldest not acknowledged, and the next to send
	top      uint32        // the highest that was ever sent, and 1
	window   uint32        // that the peer advertises
	cwnd     float64       // that the network is thought to take, packets
	ssthresh float64       // where cwnd stops to double; 0: nowhere yet
	dups     int           // acknowledgments of una
	recover  uint32        // losses below it are one
	timing   uint32        // the byte that a round trip is measured with; 0: none
	sentAt   time.Duration // when it was sent
	srtt     time.Duration
	rttvar   time.Duration
	rto      time.Duration
	tries    int  // timeouts since the last news of the peer
	armed    bool // the timer runs
	ending   bool // only the linger is left

	// Of what is received.
	peerFirst  uint32 // the number of the peer's SYN
	rcv        uint32 // the next number expected, counted as above
	advertised uint32 // the end of the window that the peer knows
	peerDone   bool   // the peer's FIN has come
}

// Connect begins a connection.
func (c *conn) Connect() {
	c.first, c.rto = uint32(c.s.Rand()), time.Second
	c.transmit()
}

// Receive has a packet.
func (c *conn) Receive(pkt []byte) {
	flags, seq, ackNo, wnd := pkt[0], be(pkt[4:]), be(pkt[8:]), be(pkt[12:])
	switch {
	case pkt[1] != version:
		return
	case flags&rst != 0:
		c.reset(flags, seq, ackNo)
		return
	case flags&syn != 0 && c.rcv == 0: // the peer's first packet
		if c.top == 0 { // and ours is still to come
			c.first, c.rto = uint32(c.s.Rand()), time.Second
		}
		c.peerFirst, c.rcv = seq, 1
		c.window = wnd
		if flags&ack == 0 {
			c.nxt = 0
			c.transmit() // a SYN that acknowledges theirs
			return
		}
	case c.rcv == 0:
		return // no data before a SYN
	}
	if flags&ack == 0 || !c.acknowledged(ackNo-c.first, wnd, flags&gap != 0) {
		return
	}
	if flags&syn != 0 {
		c.sendAck() // also when it was sent again: our answer is lost
		c.transmit()
		return
	}
	c.data(seq-c.peerFirst, pkt[headerLen:], flags&fin != 0)
	c.transmit()
}

// reset ends the connection, if the packet is not a stranger's.
func (c *conn) reset(flags byte, seq, ackNo uint32) {
	switch {
	case c.rcv == 0 && flags&ack != 0 && ackNo == c.first+c.nxt:
		c.s.Close(unix.ECONNREFUSED)
	case c.rcv != 0 && seq-c.peerFirst-c.rcv <= uint32(c.s.Room()):
		c.s.Close(unix.ECONNRESET)
	}
}

// acknowledged takes an acknowledgment of what comes before una; false if it is
// of what was never sent. With hole the peer lacks una and has later packets.
func (c *conn) acknowledged(una, wnd uint32, hole bool) bool {
	if una > c.top || una == 0 {
		return false
	}
	c.tries = 0
	switch {
	case una > c.una:
		c.progress(una)
	case una == c.una && hole && c.una < c.top:
		if c.dups++; c.dups == dupAcks && c.una >= c.recover {
			c.lost()
			c.cwnd = c.ssthresh
		}
	}
	if una == c.una {
		if c.window <= 1 && wnd > 1 { // what asked for the window was refused
			c.nxt = c.una
		}
		c.window = wnd
	}
	return true
}

// progress is an acknowledgment of something new.
func (c *conn) progress(una uint32) {
	n := int(una - c.una)
	if c.una == 0 { // the SYN
		n--
		c.open = true
		c.s.Established()
	}
	if c.finSent() && una == c.top && c.top == c.end()+1 { // the FIN
		n--
		c.s.Acked(n)
		c.s.EndAcked()
	} else {
		c.s.Acked(n)
	}
	if c.timing != 0 && una > c.timing {
		c.measured(c.s.Now() - c.sentAt)
		c.timing = 0
	}
	if c.ssthresh == 0 || c.cwnd < c.ssthresh {
		c.cwnd += float64(n) / float64(c.segment())
	} else {
		c.cwnd += float64(n) / float64(c.segment()) / c.cwnd
	}
	c.una, c.dups = una, 0
	c.nxt = max(c.nxt, una)
	c.armed = false
	c.arm()
}

// measured takes the time of a round trip (RFC 6298 2).
func (c *conn) measured(r time.Duration) {
	if c.srtt == 0 {
		c.srtt, c.rttvar = r, r/2
	} else {
		c.rttvar += ((c.srtt - r).Abs() - c.rttvar) / 4
		c.srtt += (r - c.srtt) / 8
	}
	c.rto = min(max(c.srtt+4*c.rttvar, minRTO), maxRTO)
}

// lost goes back to the first packet that is not acknowledged.
func (c *conn) lost() {
	flight := float64(c.nxt-c.una) / float64(c.segment())
	c.ssthresh = max(flight/2, 2)
	c.recover, c.nxt, c.dups, c.timing = c.top, c.una, 0, 0
}

// Timer is called when there was no answer for the time of the timer.
func (c *conn) Timer() {
	if c.ending {
		c.s.Close(0)
		return
	}
	c.armed = false
	if c.tries++; c.tries > maxTries || c.tries > lastTries && c.peerDone && c.s.Ended() {
		c.s.Close(unix.ETIMEDOUT)
		return
	}
	c.lost()
	c.cwnd = 1
	c.rto = min(2*c.rto, maxRTO)
	c.window = max(c.window, 1) // one byte asks for a window that was closed
	c.transmit()
}

// data takes what a packet carries: only what comes next is of use.
func (c *conn) data(seq uint32, p []byte, last bool) {
	if len(p) == 0 && !last {
		return
	}
	if late := c.rcv - seq; int32(late) > 0 && late <= uint32(len(p)) { // the beginning is known
		p, seq = p[late:], c.rcv
	}
	if seq == c.rcv && !c.peerDone {
		n := min(len(p), c.s.Room())
		c.s.Deliver(p[:n])
		c.rcv += uint32(n)
		if last && n == len(p) {
			c.rcv++
			c.peerDone = true
			c.s.PeerEnded()
		}
	}
	if int32(seq-c.rcv) > 0 {
		c.packet(ack|gap, c.nxt, nil)
	} else {
		c.sendAck()
	}
}

// Written is called when there is more to send, or the end.
func (c *conn) Written() { c.transmit() }

// Consumed is called when the program has read: a window that was small is
// advertised anew.
func (c *conn) Consumed() {
	if end := c.rcv + uint32(c.s.Room()); int(end-c.advertised) >= c.s.Room()/2 {
		c.sendAck()
	}
}

// Error is an ICMP error. That a port is unreachable also says that the peer has
// forgotten the connection.
func (c *conn) Error(err unix.Errno) {
	switch {
	case err == unix.EMSGSIZE: // what is sent again is shorter
	case !c.open:
		c.s.Close(err)
	case err == unix.ECONNREFUSED && c.peerDone && c.s.Ended():
		c.s.Close(0)
	case err == unix.ECONNREFUSED:
		c.s.Close(unix.ECONNRESET)
	}
}

// Abort ends the connection at once.
func (c *conn) Abort() { c.packet(rst|ack, c.nxt, nil) }

// end is the number after the last byte that the program wrote.
func (c *conn) end() uint32 { return max(c.una, 1) + uint32(c.s.Pending()) }

// finSent says whether the end was sent.
func (c *conn) finSent() bool { return c.s.Ended() && c.una > 0 && c.top > c.una && c.top == c.end()+1 }

// segment is how many bytes a packet carries.
func (c *conn) segment() int { return max(c.s.MaxPacket()-headerLen, 1) }

// transmit sends what the windows allow.
func (c *conn) transmit() {
	if c.nxt == 0 {
		flags := syn
		if c.rcv > 0 {
			flags |= ack
		}
		c.send(flags, 1, nil)
	}
	if c.una == 0 {
		return
	}
	limit := c.una + min(c.window, uint32(c.cwnd*float64(c.segment())))
	if c.buf == nil {
		c.buf = make([]byte, c.segment())
	}
	for c.nxt < c.end() && c.nxt < limit {
		n := c.s.Peek(int(c.nxt-c.una), c.buf[:min(c.segment(), len(c.buf), int(limit-c.nxt))])
		c.send(ack, uint32(n), c.buf[:n])
	}
	if c.s.Ended() && c.nxt == c.end() && !c.done() {
		c.send(ack|fin, 1, nil)
	}
	c.arm()
}

// done says whether the peer has everything, the end included.
func (c *conn) done() bool {
	_, acked, _ := c.s.Ends()
	return acked
}

// send sends the packet at nxt, which takes n numbers.
func (c *conn) send(flags byte, n uint32, p []byte) {
	if c.timing == 0 && c.nxt == c.top && c.nxt > 0 { // never one that was sent before (Karn)
		c.timing, c.sentAt = c.nxt, c.s.Now()
	}
	c.packet(flags, c.nxt, p)
	c.nxt += n
	c.top = max(c.top, c.nxt)
	c.arm()
}

// sendAck acknowledges.
func (c *conn) sendAck() { c.packet(ack, c.nxt, nil) }

// packet puts a packet together.
func (c *conn) packet(flags byte, seq uint32, p []byte) {
	b := make([]byte, headerLen+len(p))
	b[0], b[1] = flags, version
	put(b[4:], c.first+seq)
	put(b[8:], c.peerFirst+c.rcv)
	put(b[12:], uint32(c.s.Room()))
	copy(b[headerLen:], p)
	c.advertised = c.rcv + uint32(c.s.Room())
	c.s.Send(b)
}

// arm sets the timer: for what is not acknowledged, for a window that is closed,
// or for the end.
func (c *conn) arm() {
	switch {
	case c.done() && c.peerDone:
		if !c.ending {
			c.ending = true
			c.s.SetTimer(linger)
		}
	case c.una < c.top, c.una > 0 && c.nxt < c.end():
		if !c.armed {
			c.armed = true
			c.s.SetTimer(c.rto)
		}
	default:
		c.armed = false
		c.s.StopTimer()
	}
}

func be(b []byte) uint32     { return binary.BigEndian.Uint32(b) }
func put(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }
