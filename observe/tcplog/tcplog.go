// Package tcplog writes and reads the log of --tcp-log: what the TCP
// connections of a run did, as JSON lines. docs/tcp-log.md is the schema.
//
// The first line is the [Header], every other a [Record]. A [Log] follows the
// connections of a stack and writes their records.
package tcplog

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Schema is the version of the format that this package writes.
const Schema = "alptrace-tcp-log/1"

// The clocks of a log.
const (
	Wall    = "wall"    // the real one
	Virtual = "virtual" // a simulation's
)

// Header is the first line of a log.
type Header struct {
	Schema string    `json:"schema"` // [Schema]; NewWriter fills it in
	Start  time.Time `json:"start"`  // the instant that Record.T counts from
	Clock  string    `json:"clock"`  // Wall or Virtual
	Engine string    `json:"engine,omitempty"`
	Host   string    `json:"host,omitempty"` // of the laboratory, or of the machine
}

// Seconds is a time or a duration, exact to the nanosecond; in JSON it is a
// number of seconds.
type Seconds time.Duration

// Seconds is s as a floating point number.
func (s Seconds) Seconds() float64 { return time.Duration(s).Seconds() }

// Duration is s as a [time.Duration].
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// MarshalJSON is s as a decimal number of seconds.
func (s Seconds) MarshalJSON() ([]byte, error) { return appendSeconds(nil, s), nil }

// UnmarshalJSON reads what MarshalJSON writes, and any other decimal number of
// seconds, to the nanosecond below.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	text := string(b)
	if strings.ContainsAny(text, "eE") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f < -maxSeconds || f > maxSeconds {
			return fmt.Errorf("seconds %.40s: not a number of seconds", text)
		}
		*s = Seconds(f * 1e9)
		return nil
	}
	number, negative := strings.CutPrefix(text, "-")
	whole, frac, _ := strings.Cut(number, ".")
	frac = (frac + "000000000")[:9]
	w, err1 := strconv.ParseUint(whole, 10, 63)
	f, err2 := strconv.ParseUint(frac, 10, 63)
	if err1 != nil || err2 != nil || w > maxSeconds {
		return fmt.Errorf("seconds %.40s: not a number of seconds", text)
	}
	*s = Seconds(w*1e9 + f)
	if negative {
		*s = -*s
	}
	return nil
}

// maxSeconds is about 285 years, what a time.Duration holds.
const maxSeconds = 9e9

// The kinds of a Record.
const (
	EvState     = "state"     // the connection's state changed: State, From
	EvCC        = "cc"        // congestion control: State to CA, whenever one changed
	EvSegment   = "seg"       // a segment on the wire: Dir to ECN
	EvQueue     = "queue"     // an impaired link: Link to Sent
	EvRTO       = "rto"       // the retransmission timer expired: as EvCC
	EvFastRetx  = "fast_retx" // loss recovery without the timer began: as EvCC
	EvRecovered = "recovered" // loss recovery ended: as EvCC
	EvReset     = "reset"     // an RST: Dir
	EvDropped   = "dropped"   // Pkts records are missing: the log was not taken in time
)

// The values of Record.Dir.
const (
	DirIn  = "in"  // to this stack
	DirOut = "out" // from it
)

// The values of Record.CA, as tcp_ca_state of Linux.
const (
	CAOpen     = "Open"     // nothing unusual
	CADisorder = "Disorder" // duplicate acknowledgments or SACKs
	CARecovery = "Recovery" // fast recovery
	CALoss     = "Loss"     // after a timeout
)

// Record is one line. An absent field is zero. Which fields a record has
// depends on Ev; T and Ev are always there, and Conn, Local and Remote except
// in EvQueue and EvDropped.
type Record struct {
	T  Seconds `json:"t"` // since Header.Start
	Ev string  `json:"ev"`

	Host   string         `json:"host,omitempty"` // where it is not the Header's
	Conn   uint64         `json:"conn,omitempty"` // counts from 1 within a host
	Local  netip.AddrPort `json:"local,omitzero"`
	Remote netip.AddrPort `json:"remote,omitzero"`
	PID    int            `json:"pid,omitempty"` // who has the socket; 0 is unknown
	Prog   string         `json:"prog,omitempty"`

	State string `json:"state,omitempty"` // as ss(8) and tcp(7): ESTABLISHED, SYN_SENT, ...
	From  string `json:"from,omitempty"`

	Cwnd     uint64  `json:"cwnd,omitempty"`      // bytes
	Ssthresh uint64  `json:"ssthresh,omitempty"`  // bytes; 0 is not yet known
	InFlight uint64  `json:"in_flight,omitempty"` // bytes sent and neither acknowledged nor taken for lost
	SndWnd   uint64  `json:"snd_wnd,omitempty"`   // the peer's window, bytes
	MSS      uint64  `json:"mss,omitempty"`       // of what is sent, bytes
	SRTT     Seconds `json:"srtt,omitempty"`      // RFC 6298
	RTTVar   Seconds `json:"rttvar,omitempty"`
	RTO      Seconds `json:"rto,omitempty"`
	Retrans  uint64  `json:"retrans,omitempty"` // segments retransmitted so far
	CA       string  `json:"ca,omitempty"`      // CAOpen, ...

	Dir   string      `json:"dir,omitempty"` // DirIn or DirOut
	Seq   uint32      `json:"seq,omitempty"` // raw, as Ack and SACK
	Ack   uint32      `json:"ack,omitempty"`
	Len   int         `json:"len,omitempty"`   // bytes of payload
	Segs  int         `json:"segs,omitempty"`  // how many segments were one packet (GSO); 0 is 1
	Wnd   uint32      `json:"wnd,omitempty"`   // bytes: scaled where the scale is known
	Flags string      `json:"flags,omitempty"` // some of SFRPAUEC: SYN FIN RST PSH ACK URG ECE CWR
	SACK  [][2]uint32 `json:"sack,omitempty"`  // [left, right)
	TS    [2]uint32   `json:"ts,omitzero"`     // timestamps: value, echo reply
	Retx  bool        `json:"retx,omitempty"`  // bytes that were seen in this direction before
	ECN   string      `json:"ecn,omitempty"`   // ect0, ect1 or ce

	Link    string `json:"link,omitempty"`
	Pkts    uint64 `json:"pkts,omitempty"`    // waiting in the queue now
	Bytes   uint64 `json:"bytes,omitempty"`   // waiting in the queue now
	Dropped uint64 `json:"dropped,omitempty"` // by the queue, so far
	Marked  uint64 `json:"marked,omitempty"`  // with ECN, so far
	Lost    uint64 `json:"lost,omitempty"`    // by chance or while down, so far
	Sent    uint64 `json:"sent,omitempty"`    // packets delivered, so far
}
