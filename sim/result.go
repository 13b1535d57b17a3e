package sim

import (
	"github.com/alptrace/alptrace/link/impair"
)

// Result is what came out of a run. Times are in seconds of virtual time unless
// they say otherwise, rates in bits per second of payload (flows) or of packets
// with their headers (links).
type Result struct {
	Name     string  `json:"name"`
	Seed     uint64  `json:"seed"`
	Duration float64 `json:"duration"`
	// Hash is SHA-256 over all packets that arrived anywhere, with their times:
	// of each the time, the direction, the length and a digest of its bytes.
	Hash    string `json:"hash"`
	Packets uint64 `json:"packets"` // arrivals, at each hop
	Events  uint64 `json:"events"`  // timers that fired

	Flows   []FlowResult           `json:"flows"`
	Links   []LinkResult           `json:"links"`
	Routers map[string]RouterStats `json:"routers,omitempty"`

	// Wall is how long the run took, in real seconds: the one thing that is
	// not the same twice.
	Wall float64 `json:"wall"`
}

// SpeedUp is virtual time by real time.
func (r *Result) SpeedUp() float64 {
	if r.Wall <= 0 {
		return 0
	}
	return r.Duration / r.Wall
}

// FlowResult is one flow.
type FlowResult struct {
	Name  string  `json:"name"` // FROM-TO:PORT, and #N of several
	Kind  string  `json:"kind"`
	CC    string  `json:"cc,omitempty"`
	Start float64 `json:"start"`
	// Sent and Received are payload bytes from client to server, Returned
	// those from server to client.
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
	Returned int64 `json:"returned,omitempty"`
	// Goodput is payload that the flow was for (of reqresp the answers, else
	// what the server received), by the time from the start to the last of it.
	Goodput         float64 `json:"goodput"`
	Retransmissions uint64  `json:"retransmissions"`   // TCP segments, both ways
	Connect         float64 `json:"connect,omitempty"` // how long the handshake took

	// RTT is the smoothed round-trip time that the client's TCP measured,
	// sampled, or that of echoed messages.
	RTT *Spread `json:"rtt,omitempty"`
	// Latency is that of whole requests with their answers (reqresp), or one
	// way (onoff).
	Latency *Spread `json:"latency,omitempty"`

	// Messages of datagrams, or requests and answers.
	MessagesSent     int64 `json:"messages_sent,omitempty"`
	MessagesReceived int64 `json:"messages_received,omitempty"`
	Reordered        int64 `json:"reordered,omitempty"`

	Done       bool    `json:"done"`                 // all was delivered
	Completion float64 `json:"completion,omitempty"` // from the start to the end
	Error      string  `json:"error,omitempty"`      // of a call of the program
	Corrupt    string  `json:"corrupt,omitempty"`    // the stack delivered what was not sent
}

// Spread is the distribution of a time, in seconds.
type Spread struct {
	N      int64   `json:"n"`
	Min    float64 `json:"min"`
	Mean   float64 `json:"mean"`
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

// LinkResult is one link.
type LinkResult struct {
	Name string       `json:"name"`
	Ways [2]WayResult `json:"ways"`
}

// WayResult is one direction of a link.
type WayResult struct {
	From       string  `json:"from"` // the nodes
	To         string  `json:"to"`
	Throughput float64 `json:"throughput"`
	// Utilisation is the throughput by the rate; 0 without a rate.
	Utilisation float64 `json:"utilisation,omitempty"`
	Packets     uint64  `json:"packets"`             // delivered
	Bytes       uint64  `json:"bytes"`               // delivered
	QueueMax    int     `json:"queue_max,omitempty"` // packets, as sampled for the queue log

	Offered     uint64 `json:"offered"` // packets
	Drops       Drops  `json:"drops"`
	Marks       uint64 `json:"marks,omitempty"` // with ECN
	Duplicated  uint64 `json:"duplicated,omitempty"`
	Corrupted   uint64 `json:"corrupted,omitempty"`
	Reordered   uint64 `json:"reordered,omitempty"`
	Outstanding uint64 `json:"outstanding,omitempty"` // on the way when the run ended
}

// Drops are packets that did not arrive.
type Drops struct {
	Queue  uint64 `json:"queue,omitempty"`  // it was full
	Early  uint64 `json:"early,omitempty"`  // RED or CoDel chose them
	Loss   uint64 `json:"loss,omitempty"`   // by chance
	Down   uint64 `json:"down,omitempty"`   // the link was
	Memory uint64 `json:"memory,omitempty"` // of the simulation: see impair.Stats
	Broken uint64 `json:"broken,omitempty"` // could not be cut into segments
}

// Total is the sum of all.
func (d Drops) Total() uint64 { return d.Queue + d.Early + d.Loss + d.Down + d.Memory + d.Broken }

// result is the state of things now.
func (s *Sim) result() *Result {
	r := &Result{
		Seed: s.seed, Duration: s.clock.now.Seconds(), Packets: s.trail.packets,
		Events: s.clock.fired, Wall: s.spent.Seconds(), Hash: s.trail.sum(),
	}
	if s.lab != nil {
		r.Name = s.lab.Name
	}
	for _, f := range s.flows {
		if !f.over {
			f.account()
		}
		r.Flows = append(r.Flows, f.result())
	}
	for i, w := range s.wires {
		r.Links = append(r.Links, s.linkResult(i, w))
	}
	for _, x := range s.routers {
		if r.Routers == nil {
			r.Routers = make(map[string]RouterStats)
		}
		r.Routers[x.Name] = x.count
	}
	return r
}

func (f *flow) result() FlowResult {
	m := &f.m
	r := FlowResult{
		Name: f.name, Kind: f.spec.Kind, CC: f.spec.CC, Start: f.spec.Start.Seconds(),
		Sent: m.sent, Received: m.received, Returned: m.returned,
		Retransmissions: m.retransmissions, Connect: m.connected.Seconds(),
		MessagesSent: m.sentMsgs, MessagesReceived: m.gotMsgs, Reordered: m.reordered,
		RTT: m.rtt.result(), Latency: m.latency.result(),
		Done: f.over && m.err == "", Error: m.err, Corrupt: m.corrupt,
	}
	if f.over {
		r.Completion = (m.completed - m.started).Seconds()
	}
	useful, last := m.received, m.last
	if f.spec.Kind == "reqresp" {
		useful, last = m.returned, f.sim.clock.now
		if f.over {
			last = m.completed
		}
	}
	if t := last - m.started; t > 0 {
		r.Goodput = float64(useful) * 8 / t.Seconds()
	}
	return r
}

func (s *spread) result() *Spread {
	if s.n == 0 {
		return nil
	}
	return &Spread{
		N: s.n, Min: s.min.Seconds(), Mean: s.mean().Seconds(), Median: s.quantile(0.5).Seconds(),
		P99: s.quantile(0.99).Seconds(), Max: s.max.Seconds(),
	}
}

func (s *Sim) linkResult(i int, w *Wire) LinkResult {
	r := LinkResult{Name: w.Name}
	for e := range r.Ways {
		x := wayResult(w.Stats(e))
		x.From, x.To = w.ends[e].name, w.ends[1-e].name
		if s.lab != nil {
			l := s.lab.Links[i]
			x.From, x.To = l.Ends[e].Node.Name, l.Ends[1-e].Node.Name
		}
		if s.clock.now > 0 {
			x.Throughput = float64(x.Bytes) * 8 / s.clock.now.Seconds()
		}
		if rate := w.ways[e].core.Spec().Rate; rate > 0 {
			x.Utilisation = x.Throughput / float64(rate)
		}
		if s.queues != nil {
			x.QueueMax = s.queues.most[2*i+e]
		}
		r.Ways[e] = x
	}
	return r
}

func wayResult(st impair.Stats) WayResult {
	return WayResult{
		Packets: st.Delivered, Bytes: st.DeliveredBytes, Offered: st.In,
		Drops: Drops{st.DropsQueue, st.DropsEarly, st.DropsLoss, st.DropsDown, st.DropsMemory, st.DropsMalformed},
		Marks: st.Marks, Duplicated: st.Duplicated, Corrupted: st.Corrupted, Reordered: st.Reordered,
		Outstanding: uint64(st.QueueLen + st.InFlight),
	}
}
