package tcp

import (
	"time"

	"golang.org/x/sys/unix"
)

// State is a state of a connection (RFC 9293 3.3.2), with the numbers of
// Linux's tcp_info.
type State uint8

// The states.
const (
	Established State = iota + 1
	SynSent
	SynReceived
	FinWait1
	FinWait2
	TimeWait
	Closed
	CloseWait
	LastAck
	Listen
	Closing
)

var stateNames = [...]string{
	Established: "ESTABLISHED", SynSent: "SYN_SENT", SynReceived: "SYN_RECV", FinWait1: "FIN_WAIT1", FinWait2: "FIN_WAIT2",
	TimeWait: "TIME_WAIT", Closed: "CLOSE", CloseWait: "CLOSE_WAIT", LastAck: "LAST_ACK", Listen: "LISTEN", Closing: "CLOSING",
}

// String is the state's name as Linux writes it.
func (s State) String() string { return stateNames[s] }

// Never is the time at which a timer that is not set expires.
const Never = time.Duration(1<<63 - 1)

// Env is what a connection needs from outside. Its methods are called from
// within those of Conn; they must not call the Conn.
type Env interface {
	// Now is the time since some fixed moment; it does not go back.
	Now() time.Duration
	// Send sends a segment, which is valid during the call only. Memory of its
	// payload that is needed longer is kept by the Owner's own means.
	Send(*Segment)
	// SetTimer asks for a call of Timer at a time; it replaces what was asked
	// for before. Never asks for none.
	SetTimer(at time.Duration)
	// Alloc gives n bytes of memory for payload to be sent.
	Alloc(n int) Chunk
	// Wake says that something of Ready, State or Err may have changed.
	Wake()
	// Admit says whether a connection that was opened passively may become
	// established now; if not, the segment is as if it had been lost.
	Admit() bool
}

// Path is what is known of the way to the peer.
type Path struct {
	MTU      int // the largest IP packet, bytes
	IPHeader int // of it the header, bytes
	GSOMax   int // the largest segment that Send takes, payload bytes; 0: one MSS
}

// Conn is one connection. Its methods must not be called concurrently.
type Conn struct {
	env Env
	cfg *Config

	LocalPort, RemotePort uint16

	state    State
	ca       CAState
	err      unix.Errno // why the connection ended; taken by Err
	softErr  unix.Errno // an ICMP error that may explain a timeout
	passive  bool
	orphan   bool // the user has closed
	finRcvd  bool
	wantOut  bool // the user waits for room in the send buffer
	opt      userOptions
	path     Path
	peerMSS  uint16
	agreed   OptionSet
	ecn      ecnState
	segs     segCounts
	timers   [numTimers]time.Duration
	armed    time.Duration
	ts       timestamps
	snd      sendState
	rcv      recvState
	sb       scoreboard
	recovery recoveryState
	win      Window
	rate     rateState
	pace     pacing
	probe    probeState
	mtu      mtuState

	cc       CongestionControl
	ackp     AckPolicy
	detector LossDetector
	rto      RTOEstimator
	pacer    Pacer
	checker  AckChecker
	held     withheld
	chrono   chrono
	fast     fastOpen

	seg   Segment // scratch for sending
	ack   Ack     // scratch for an acknowledgment
	views struct {
		acker Acker
		sent  Sent
	}
}

// sendState has the send sequence variables (RFC 9293 3.3.1) and what is to be
// sent.
type sendState struct {
	una, nxt, up  Seq
	iss, wl1, wl2 Seq
	wnd, maxWnd   int // bytes
	scale         uint8
	finQueued     bool // the user writes no more
	finSent       bool
	urgent        bool // up is meaningful
	buf           sendBuffer
	bufSize       int // SO_SNDBUF
	mss           int // payload bytes of a full segment
	// lastPartial is the end of the last segment sent that was not full.
	lastPartial Seq
	lastData    time.Duration // when data was sent last
}

// recvState has the receive sequence variables and what waits to be read.
type recvState struct {
	nxt, irs  Seq
	wup       Seq // nxt as of the last acknowledgment sent (Last.ACK.sent)
	wnd       int // offered with it, bytes
	scale     uint8
	up        Seq
	urgent    bool
	oob       oobState
	fin       Seq // the FIN's sequence number, if finKnown
	finKnown  bool
	advMSS    int
	mss       int // estimate of the peer's segments' payload
	buf       recvBuffer
	bufSize   int // SO_RCVBUF: half of it is window
	ooo       reassembly
	ackNow    bool
	ackDue    bool // an acknowledgment is delayed
	tune      tuning
	lastData  time.Duration
	prevData  time.Duration // before the last
	lastProbe time.Duration // when an unacceptable segment was answered last
}

type segCounts struct {
	in, out, retrans, dataIn, dataOut uint32
	bytesIn, bytesSent, bytesRetrans  uint64
	bytesAcked                        uint64
	dsackDups, reordSeen, timeouts    uint32
	rtoRecoveries, outOfOrder         uint32
	delivered, deliveredCE            uint32 // packets
	rtoSince, rtoTime                 time.Duration
	fack                              Seq // the highest that was delivered
}

// userOptions are what the user set.
type userOptions struct {
	noDelay, cork, keepAlive, quickAck  bool
	fastOpenConnect                     bool
	fastOpenQueue                       int
	sndLocked, rcvLocked                bool
	maxSeg, windowClamp, notSentLowat   int
	synRetries, keepCount               int
	keepIdle, keepInterval, userTimeout time.Duration
	finTimeout                          time.Duration // TCP_LINGER2; negative: no FIN-WAIT-2
	deferAccept                         time.Duration
	cc                                  string
	maxPacing                           uint64        // bytes a second
	minRTO, maxRTO, maxDelack           time.Duration // 0: the Config's
}

// New makes a connection in state CLOSED.
func New(cfg *Config, env Env) *Conn {
	c := &Conn{env: env, cfg: cfg, state: Closed, armed: Never}
	for i := range c.timers {
		c.timers[i] = Never
	}
	c.snd.bufSize, c.rcv.bufSize = cfg.SendBuffer, cfg.RecvBuffer
	c.opt.keepIdle, c.opt.keepInterval, c.opt.keepCount = cfg.KeepIdle, cfg.KeepInterval, cfg.KeepCount
	c.opt.synRetries, c.opt.finTimeout = cfg.SYNRetries, cfg.FINTimeout
	c.opt.cc = cfg.CongestionControl
	return c
}

// State is the connection's state.
func (c *Conn) State() State { return c.state }

// Err is why the connection ended: ECONNRESET, ECONNREFUSED, ETIMEDOUT and the
// like; 0 if it did not end or ended well.
func (c *Conn) Err() unix.Errno { return c.err }

// PeerClosed says whether the peer's FIN has been received in order.
func (c *Conn) PeerClosed() bool { return c.finRcvd }

// UserClosed says whether the user has closed the connection.
func (c *Conn) UserClosed() bool { return c.orphan }

// now is the time.
func (c *Conn) now() time.Duration { return c.env.Now() }

// setState changes the state.
func (c *Conn) setState(s State) {
	if c.state == s {
		return
	}
	c.state = s
	c.env.Wake()
}

// finish ends every entry point: it sends what can be sent, then
// acknowledgments that are due, then sets the timer.
func (c *Conn) finish() {
	c.output()
	c.probe.flushCork, c.probe.override = false, false
	c.flushAck()
	c.chrono.follow(c)
	c.rearm()
}

// Path is what is known of the way to the peer.
func (c *Conn) Path() Path { return c.path }
