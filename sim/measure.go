package sim

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// spread is the distribution of a time.
type spread struct {
	n             int64
	sum, min, max time.Duration
	bins          map[uint16]int64 // by size, each a sixteenth of a power of two
}

func (s *spread) add(d time.Duration) {
	if s.n == 0 || d < s.min {
		s.min = d
	}
	s.max = max(s.max, d)
	s.n++
	s.sum += d
	if s.bins == nil {
		s.bins = make(map[uint16]int64)
	}
	s.bins[bin(d)]++
}

// bin is the number of a time's bin: the exponent and four bits behind it.
func bin(d time.Duration) uint16 {
	return uint16(math.Float64bits(float64(max(d, 1))) >> (52 - 4))
}

// quantile is the time that a share of all does not exceed, to 3%.
func (s *spread) quantile(q float64) time.Duration {
	left := int64(math.Ceil(q * float64(s.n)))
	for _, b := range sortedKeys(s.bins) {
		if left -= s.bins[b]; left <= 0 {
			low := math.Float64frombits(uint64(b) << (52 - 4))
			return min(max(time.Duration(low*(1+1.0/32)), s.min), s.max)
		}
	}
	return s.max
}

func sortedKeys(m map[uint16]int64) []uint16 {
	l := make([]uint16, 0, len(m))
	for k := range m {
		l = append(l, k)
	}
	slices.Sort(l)
	return l
}

func (s *spread) mean() time.Duration {
	if s.n == 0 {
		return 0
	}
	return s.sum / time.Duration(s.n)
}

// Offsets in struct tcp_info (linux/tcp.h).
const (
	infoRTT          = 68  // microseconds
	infoTotalRetrans = 100 // segments
	infoLen          = 104
)

// observe asks a connection how it is doing: an open one, or a last time.
func (f *flow) observe(st *stream) {
	var b [infoLen]byte
	n, err := st.ep.GetOption(unix.SOL_TCP, unix.TCP_INFO, b[:])
	if err != 0 || n < infoLen {
		return
	}
	st.retransmissions = uint64(binary.NativeEndian.Uint32(b[infoTotalRetrans:]))
	if rtt := binary.NativeEndian.Uint32(b[infoRTT:]); rtt != 0 && st == f.client {
		f.m.rtt.add(time.Duration(rtt) * time.Microsecond)
	}
}

// account sums up the streams.
func (f *flow) account() {
	if f.client == nil && f.server == nil {
		return
	}
	m := &f.m
	m.retransmissions, m.sent, m.received, m.returned = 0, 0, 0, 0
	for _, st := range []*stream{f.client, f.server} {
		if st == nil {
			continue
		}
		if !st.closed {
			f.observe(st)
		}
		m.retransmissions += st.retransmissions
	}
	if f.client != nil {
		m.sent, m.returned = f.client.out.sent, f.client.in.got
	}
	if f.server != nil {
		m.received = f.server.in.got
	}
}

// sample asks all connections, again and again.
func (s *Sim) sample() {
	var t *Timer
	t = s.clock.timer(func() {
		for _, f := range s.flows {
			if !f.over && f.client != nil && f.client.up && !f.client.closed {
				f.observe(f.client)
			}
		}
		t.Set(s.clock.now + s.interval())
	})
	t.Set(s.interval())
	if s.opts.Queues != nil {
		s.queues = newQueueLog(s)
	}
}

// interval is the time between two samples; many flows are asked less often.
func (s *Sim) interval() time.Duration {
	return s.opts.Sample * time.Duration(1+len(s.flows)/10)
}
