package tcp

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// ECNMode is what a stack does about ECN, as Linux's net.ipv4.tcp_ecn.
type ECNMode int

// The modes.
const (
	ECNOff     ECNMode = iota // refuse
	ECNOn                     // ask, and agree when asked
	ECNPassive                // agree when asked
)

// Config is what the connections of a stack have in common. Use NewConfig; its
// values are Linux's defaults.
type Config struct {
	// Names of the policies that a connection starts with.
	CongestionControl, AckPolicy, Recovery, RTO, Pacer, AckChecker string

	// Buffers in bytes, as net.ipv4.tcp_wmem and tcp_rmem: the default and what
	// they may grow to. Of a receive buffer half is offered as window.
	SendBuffer, MaxSendBuffer int
	RecvBuffer, MaxRecvBuffer int

	InitialWindow    int // segments (RFC 6928)
	MinRTO, MaxRTO   time.Duration
	InitialRTO       time.Duration
	DelayedAckMin    time.Duration
	DelayedAckMax    time.Duration
	SYNRetries       int // retransmissions of a SYN
	SYNAckRetries    int
	Retries          int // retransmissions of data (RFC 9293 3.8.3, R2)
	TimeWait         time.Duration
	FINTimeout       time.Duration // FIN-WAIT-2 of a closed connection
	KeepIdle         time.Duration
	KeepInterval     time.Duration
	KeepCount        int
	ECN              ECNMode
	SACK, Timestamps bool
	WindowScaling    bool
	TLP, FRTO        bool
	MTUProbing       bool // after a black hole (RFC 8899)
	SYNCookies       bool
	// ChallengeAcks is how many challenge ACKs all connections together may
	// send in a second (RFC 5961 7).
	ChallengeAcks int
	// Secret keys initial sequence numbers and cookies.
	Secret [2]uint64

	fastOpen fastOpenCache

	challenge struct{ second, sent atomic.Int64 }
	// Counters count what the connections did.
	Counters Counters
}

// Counters are counts of all connections of a stack.
type Counters struct {
	Retransmits, Timeouts, FastRetransmits, ChallengeAcks, CookiesSent, ListenDrops atomic.Uint64
}

// NewConfig gives Linux's defaults.
func NewConfig() *Config {
	return &Config{
		CongestionControl: "cubic", AckPolicy: "delayed", Recovery: "rack", RTO: "rfc6298", Pacer: "auto", AckChecker: "none",
		SendBuffer: 16384, MaxSendBuffer: 4194304, RecvBuffer: 131072, MaxRecvBuffer: 6291456,
		InitialWindow: 10, MinRTO: 200 * time.Millisecond, MaxRTO: 120 * time.Second, InitialRTO: time.Second,
		DelayedAckMin: 40 * time.Millisecond, DelayedAckMax: 200 * time.Millisecond,
		SYNRetries: 6, SYNAckRetries: 5, Retries: 15,
		TimeWait: 60 * time.Second, FINTimeout: 60 * time.Second,
		KeepIdle: 2 * time.Hour, KeepInterval: 75 * time.Second, KeepCount: 9,
		ECN: ECNPassive, SACK: true, Timestamps: true, WindowScaling: true, TLP: true, FRTO: true,
		MTUProbing: true, SYNCookies: true, ChallengeAcks: 1000,
	}
}

// setting is one that Config.Set knows.
type setting struct {
	help string
	set  func(c *Config, v string) error
}

func policy[T any](help string, field func(*Config) *string, r *registry[T]) setting {
	return setting{help, func(c *Config, v string) error {
		if _, ok := r.find(v); !ok {
			return fmt.Errorf("%q is none of %v", v, r.names())
		}
		*field(c) = v
		return nil
	}}
}

func number(help string, least int, field func(*Config) *int) setting {
	return setting{help, func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least {
			return fmt.Errorf("want a number of at least %d", least)
		}
		*field(c) = n
		return nil
	}}
}

func span(help string, field func(*Config) *time.Duration) setting {
	return setting{help, func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("want a time as 200ms")
		}
		*field(c) = d
		return nil
	}}
}

func toggle(help string, field func(*Config) *bool) setting {
	return setting{help, func(c *Config, v string) error {
		switch v {
		case "on", "1", "true":
			*field(c) = true
		case "off", "0", "false":
			*field(c) = false
		default:
			return fmt.Errorf("want on or off")
		}
		return nil
	}}
}

var settings = map[string]setting{
	"cc":         policy("congestion control", func(c *Config) *string { return &c.CongestionControl }, &congestionControls),
	"ack":        policy("ACK policy of the receiver", func(c *Config) *string { return &c.AckPolicy }, &ackPolicies),
	"recovery":   policy("loss detection", func(c *Config) *string { return &c.Recovery }, &lossDetectors),
	"rto":        policy("RTO estimator", func(c *Config) *string { return &c.RTO }, &rtoEstimators),
	"pace":       policy("pacer", func(c *Config) *string { return &c.Pacer }, &pacers),
	"check":      policy("what the sender believes of acknowledgments", func(c *Config) *string { return &c.AckChecker }, &ackCheckers),
	"iw":         number("initial window, segments", 1, func(c *Config) *int { return &c.InitialWindow }),
	"rcvbuf":     number("receive buffer, bytes", 2304, func(c *Config) *int { return &c.RecvBuffer }),
	"rcvbufmax":  number("largest receive buffer, bytes", 2304, func(c *Config) *int { return &c.MaxRecvBuffer }),
	"sndbuf":     number("send buffer, bytes", 4608, func(c *Config) *int { return &c.SendBuffer }),
	"sndbufmax":  number("largest send buffer, bytes", 4608, func(c *Config) *int { return &c.MaxSendBuffer }),
	"minrto":     span("least retransmission timeout", func(c *Config) *time.Duration { return &c.MinRTO }),
	"maxrto":     span("largest retransmission timeout", func(c *Config) *time.Duration { return &c.MaxRTO }),
	"initrto":    span("retransmission timeout of a SYN", func(c *Config) *time.Duration { return &c.InitialRTO }),
	"timewait":   span("length of TIME-WAIT", func(c *Config) *time.Duration { return &c.TimeWait }),
	"sack":       toggle("selective acknowledgments", func(c *Config) *bool { return &c.SACK }),
	"timestamps": toggle("timestamps", func(c *Config) *bool { return &c.Timestamps }),
	"wscale":     toggle("window scaling", func(c *Config) *bool { return &c.WindowScaling }),
	"tlp":        toggle("tail loss probes", func(c *Config) *bool { return &c.TLP }),
	"frto":       toggle("detection of spurious timeouts", func(c *Config) *bool { return &c.FRTO }),
	"mtuprobe":   toggle("path MTU probing at black holes", func(c *Config) *bool { return &c.MTUProbing }),
	"cookies":    toggle("SYN cookies when a queue is full", func(c *Config) *bool { return &c.SYNCookies }),
	"ecn": {"explicit congestion notification: on, off or passive", func(c *Config, v string) error {
		m, ok := map[string]ECNMode{"on": ECNOn, "off": ECNOff, "passive": ECNPassive}[v]
		if !ok {
			return fmt.Errorf("want on, off or passive")
		}
		c.ECN = m
		return nil
	}},
}

// Set sets what --tcp alp,NAME=VALUE says.
func (c *Config) Set(name, value string) error {
	s, ok := settings[name]
	if !ok {
		return fmt.Errorf("%q: no such setting, want one of %v", name, slices.Sorted(maps.Keys(settings)))
	}
	if err := s.set(c, value); err != nil {
		return fmt.Errorf("%s=%s: %w", name, value, err)
	}
	return nil
}

// Settings lists what Set knows: name and meaning, sorted.
func Settings() [][2]string {
	var list [][2]string
	for _, n := range slices.Sorted(maps.Keys(settings)) {
		list = append(list, [2]string{n, settings[n].help})
	}
	return list
}

// registry has the implementations of one kind of policy.
type registry[T any] struct {
	kind string
	m    map[string]func() T
}

// add registers an implementation; it panics if the name is taken. It is for
// package initialization.
func (r *registry[T]) add(name string, f func() T) {
	if _, dup := r.m[name]; dup {
		panic("tcp: " + r.kind + " " + name + " is registered twice")
	}
	if r.m == nil {
		r.m = make(map[string]func() T)
	}
	r.m[name] = f
}

func (r *registry[T]) find(name string) (func() T, bool) {
	f, ok := r.m[name]
	return f, ok
}

func (r *registry[T]) names() []string { return slices.Sorted(maps.Keys(r.m)) }

// make makes one; an unknown name is a mistake of the caller's.
func (r *registry[T]) make(name string) T {
	f, ok := r.m[name]
	if !ok {
		panic("tcp: no " + r.kind + " " + name)
	}
	return f()
}
