package impair

import (
	"strconv"
	"strings"
	"time"
)

// Distribution is that of the jitter.
type Distribution uint8

// The distributions. Jitter is the half width of the uniform one, and the
// standard deviation of the others.
const (
	Uniform Distribution = iota // within delay-jitter and delay+jitter
	Normal
	Pareto // shape 3, shifted to mean 0: no draw is below delay-0.58*jitter, few are very long
)

var distributions = []string{"uniform", "normal", "pareto"}

func (d Distribution) String() string { return distributions[d] }

// GilbertElliott is a loss model with two states, for losses that come in
// bursts (Gilbert 1960, Elliott 1963). A packet is lost with the probability of
// the state, which may then change. Bursts of the bad state are 1/R packets
// long on average, and a share P/(P+R) of packets meets it.
type GilbertElliott struct {
	P, R float64 // probability of good to bad, and of bad to good, for each packet
	Bad  float64 // loss in the bad state
	Good float64 // loss in the good state
}

// QueueKind is a queue's discipline.
type QueueKind uint8

// The disciplines.
const (
	DropTail QueueKind = iota
	RED                // Floyd and Jacobson 1993, "gentle"
	CoDel              // RFC 8289
	FQCoDel            // RFC 8290
)

var queueKinds = []string{"droptail", "red", "codel", "fq_codel"}

func (k QueueKind) String() string { return queueKinds[k] }

// Queue describes the queue in front of a rate. Zero fields are defaults.
type Queue struct {
	Kind QueueKind
	// Packets or Bytes is the limit; with RED it is also the unit of Min and
	// Max. 0 and 0 is 1000 packets, 10240 for FQCoDel.
	Packets, Bytes int
	// Of RED: the average queue lengths between which the drop probability
	// rises from 0 to P (by default limit/12, limit/4, 0.02), and the weight
	// of each packet in the average (0.002).
	Min, Max  int
	P, Weight float64
	// Of CoDel and FQCoDel: 5 ms and 100 ms.
	Target, Interval time.Duration
	// Of FQCoDel: the number of flow queues (1024), and the bytes for each in
	// a round (1514).
	Flows, Quantum int
}

// withDefaults fills in what is zero.
func (q Queue) withDefaults() Queue {
	if q.Packets == 0 && q.Bytes == 0 {
		q.Packets = 1000
		if q.Kind == FQCoDel {
			q.Packets = 10240
		}
	}
	limit := max(q.Packets, q.Bytes)
	if q.Kind == RED {
		def(&q.Max, max(limit/4, q.Min+1, 1))
		def(&q.Min, q.Max/3)
		def(&q.P, 0.02)
		def(&q.Weight, 0.002)
	}
	if q.Kind == CoDel || q.Kind == FQCoDel {
		def(&q.Interval, 100*time.Millisecond)
		def(&q.Target, min(5*time.Millisecond, q.Interval))
	}
	if q.Kind == FQCoDel {
		def(&q.Flows, 1024)
		def(&q.Quantum, 1514)
	}
	return q
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Spec describes one direction of a network. Probabilities are from 0 to 1.
// The zero Spec is a perfect network.
type Spec struct {
	Delay         time.Duration // of the medium, one way
	Jitter        time.Duration
	Dist          Distribution
	Loss          float64        // of independent losses
	Burst         GilbertElliott // instead of Loss
	Dup           float64
	Corrupt       float64 // one bit behind the link header is inverted
	Reorder       float64 // packets that depart at once, without the delay
	ReorderJitter bool    // packets may overtake each other by their jitter
	Rate          int64   // bit/s; 0 is no limit
	Trace         *Trace  // instead of Rate
	Overhead      int     // bytes that each packet takes on the line beyond its own
	MTU           int     // of the link, if smaller than its own, bytes; 0: see [Wrap]
	Queue         Queue
	ECN           bool          // RED and CoDel mark what they can instead of dropping it
	Down, Every   time.Duration // down for Down at Every, 2*Every, ... after the start
	Seed          uint64
}

// limited reports whether there is a bottleneck.
func (s *Spec) limited() bool { return s.Rate != 0 || s.Trace != nil }

// IsZero reports whether s changes nothing.
func (s Spec) IsZero() bool {
	return s.Delay == 0 && s.Jitter == 0 && !s.chancy() && s.Reorder == 0 && !s.limited() && s.Down == 0 && s.MTU == 0
}

// chancy reports whether single packets are lost, repeated or damaged.
func (s *Spec) chancy() bool {
	return s.Loss != 0 || s.Burst.lossy() || s.Dup != 0 || s.Corrupt != 0
}

func (g *GilbertElliott) lossy() bool { return g.Good != 0 || g.P != 0 && g.Bad != 0 }

// String is s in the words of [Parse].
func (s Spec) String() string {
	var w []string
	add := func(on bool, word, val string) {
		if on {
			w = append(w, word+val)
		}
	}
	add(s.Delay != 0, "delay=", s.Delay.String())
	jitter := s.Jitter.String()
	if s.Dist != Uniform {
		jitter += ":" + s.Dist.String()
	}
	add(s.Jitter != 0, "jitter=", jitter)
	add(s.Loss != 0, "loss=", percent(s.Loss))
	b := s.Burst
	add(b != GilbertElliott{}, "loss=ge:",
		strings.Join([]string{percent(b.P), percent(b.R), percent(b.Bad), percent(b.Good)}, ","))
	add(s.Dup != 0, "dup=", percent(s.Dup))
	add(s.Corrupt != 0, "corrupt=", percent(s.Corrupt))
	add(s.Reorder != 0, "reorder=", percent(s.Reorder))
	add(s.ReorderJitter, "reorder=jitter", "")
	add(s.Rate != 0, "rate=", formatRate(s.Rate))
	if s.Trace != nil {
		add(true, "rate=trace:", s.Trace.File)
	}
	add(s.Overhead != 0, "overhead=", strconv.Itoa(s.Overhead))
	add(s.MTU != 0, "mtu=", strconv.Itoa(s.MTU))
	add(s.Queue != Queue{}, "queue=", s.Queue.String())
	add(s.ECN, "ecn", "")
	add(s.Down != 0, "down=", s.Down.String()+"@"+s.Every.String())
	add(s.Seed != 0, "seed=", strconv.FormatUint(s.Seed, 10))
	return strings.Join(w, " ")
}

// String is q as the word queue= has it.
func (q Queue) String() string {
	size := func(n int) string {
		if q.Bytes != 0 {
			return strconv.Itoa(n) + "b"
		}
		return strconv.Itoa(n) + "p"
	}
	limit := size(max(q.Packets, q.Bytes))
	if q.Kind == DropTail {
		return limit
	}
	var w []string
	add := func(on bool, word, val string) {
		if on {
			w = append(w, word+"="+val)
		}
	}
	add(q.Packets != 0 || q.Bytes != 0, "limit", limit)
	add(q.Min != 0, "min", size(q.Min))
	add(q.Max != 0, "max", size(q.Max))
	add(q.P != 0, "p", percent(q.P))
	add(q.Weight != 0, "weight", percent(q.Weight))
	add(q.Target != 0, "target", q.Target.String())
	add(q.Interval != 0, "interval", q.Interval.String())
	add(q.Flows != 0, "flows", strconv.Itoa(q.Flows))
	add(q.Quantum != 0, "quantum", strconv.Itoa(q.Quantum)+"b")
	if len(w) == 0 {
		return q.Kind.String()
	}
	return q.Kind.String() + ":" + strings.Join(w, ",")
}

func percent(p float64) string { return strconv.FormatFloat(p*100, 'g', 15, 64) + "%" }

func formatRate(bps int64) string {
	for i := len(rateUnits) - 1; i > 0; i-- {
		if u := rateUnits[i]; bps%u.factor == 0 {
			return strconv.FormatInt(bps/u.factor, 10) + u.name
		}
	}
	return strconv.FormatInt(bps, 10) + "bit"
}
