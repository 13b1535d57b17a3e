package ui

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/alptrace/alptrace/observe"
	"golang.org/x/sys/unix"
)

// socketRow is a socket as the page has it. Sizes are bytes, rates bytes a
// second, times milliseconds.
type socketRow struct {
	ID       uint64  `json:"id"`
	PID      int     `json:"pid"`
	FD       int     `json:"fd"`
	Proto    string  `json:"proto"`
	State    string  `json:"state"`
	Local    string  `json:"local"`
	Peer     string  `json:"peer"`
	In       uint64  `json:"in"`
	Out      uint64  `json:"out"`
	InRate   float64 `json:"inr"`
	OutRate  float64 `json:"outr"`
	RTT      float64 `json:"rtt"`
	RTTVar   float64 `json:"rttvar"`
	RTO      float64 `json:"rto"`
	Cwnd     int     `json:"cwnd"`
	Ssthresh int     `json:"ssthresh"`
	InFlight int     `json:"flight"`
	SndWnd   int     `json:"wnd"`
	MSS      int     `json:"mss"`
	Retrans  int     `json:"retrans"`
	CA       string  `json:"ca"`
	Backlog  int     `json:"backlog"`
	Closed   bool    `json:"closed"`
}

// socketState is what is remembered of a socket.
type socketState struct {
	row, sent socketRow
	series    series
	end       int // the tick after the last of series
	seen      int // in this tick
	at        time.Duration
}

// socketHistory is the past of a socket: its series end before the tick End.
type socketHistory struct {
	ID     uint64               `json:"id"`
	End    int                  `json:"end"`
	Series map[string][]float32 `json:"series"`
}

// observe takes in a socket as it is at tick n and time at.
func (h *Host) observe(s *observe.Socket, n int, at time.Duration) {
	st := h.rows[s.ID]
	if st == nil {
		st = &socketState{series: series{}}
		h.rows[s.ID] = st
	}
	was, dt := st.row, (at - st.at).Seconds()
	st.at, st.seen = at, n
	r := socketRow{
		ID: s.ID, PID: h.process(s.TID), FD: s.FD, Proto: protoName(s), State: s.State,
		Local: addrText(s.Local, s.Family), Peer: addrText(s.Peer, s.Family),
		In: s.In, Out: s.Out, Backlog: s.Backlog, Closed: s.Closed,
		RTT: millis(s.TCP.RTT), RTTVar: millis(s.TCP.RTTVar), RTO: millis(s.TCP.RTO),
		Cwnd: s.TCP.Cwnd, Ssthresh: s.TCP.Ssthresh, InFlight: s.TCP.InFlight,
		SndWnd: s.TCP.SndWnd, MSS: s.TCP.MSS, Retrans: s.TCP.Retrans, CA: s.TCP.CAState,
	}
	switch {
	case s.Closed:
		// What was last known of the connection is of more interest than what
		// is left of it.
		if r.Peer == "" {
			r.Peer = was.Peer
		}
		if r.MSS == 0 {
			r.RTT, r.RTTVar, r.RTO, r.Cwnd, r.Ssthresh, r.SndWnd, r.MSS = was.RTT, was.RTTVar, was.RTO, was.Cwnd, was.Ssthresh, was.SndWnd, was.MSS
			r.Retrans = max(r.Retrans, was.Retrans)
		}
		if s.Type == unix.SOCK_STREAM {
			r.State = "CLOSE"
		}
	case was.ID != 0 && dt > 0:
		r.InRate, r.OutRate = rate(r.In, was.In, dt), rate(r.Out, was.Out, dt)
	}
	st.row = r
	if r.MSS == 0 && r.In+r.Out == 0 {
		return // nothing to draw
	}
	if st.end < n && st.end > 0 { // not looked at for some ticks
		for ; st.end < n && n-st.end < historyTicks; st.end++ {
			st.addSeries(&was)
		}
	}
	st.addSeries(&r)
	st.end = n + 1
}

func (st *socketState) addSeries(r *socketRow) {
	st.series.add("in", r.InRate)
	st.series.add("out", r.OutRate)
	if r.MSS != 0 {
		st.series.add("rtt", r.RTT)
		st.series.add("cwnd", float64(r.Cwnd))
		st.series.add("ssthresh", float64(r.Ssthresh))
		st.series.add("flight", float64(r.InFlight))
	}
}

// close remembers that a socket is gone, and forgets the oldest of those.
func (h *Host) close(s *observe.Socket, n int, at time.Duration) (forgotten []uint64) {
	h.observe(s, n, at)
	h.gone = append(h.gone, s.ID)
	if len(h.gone) > maxClosed {
		forgotten = slices.Clone(h.gone[:len(h.gone)-maxClosed])
		h.gone = h.gone[len(forgotten):]
		for _, id := range forgotten {
			delete(h.rows, id)
		}
	}
	return forgotten
}

// forget drops rows of open sockets that were not among those looked at lately:
// there are too many to show, or their close was not told.
func (h *Host) forget(n int) (forgotten []uint64) {
	for id, st := range h.rows {
		if !st.row.Closed && st.seen <= n-3*ticksPerSecond {
			delete(h.rows, id)
			forgotten = append(forgotten, id)
		}
	}
	return forgotten
}

// changed are the rows that are not as the pages have them.
func (h *Host) changed() (rows []socketRow) {
	for _, st := range h.rows {
		if st.row != st.sent {
			st.sent = st.row
			rows = append(rows, st.row)
		}
	}
	slices.SortFunc(rows, func(a, b socketRow) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// historyRows bounds how many sockets' series a new page is given.
const historyRows = 24

// histories are the series of those that moved the most.
func (h *Host) histories() []socketHistory {
	var all []*socketState
	for _, st := range h.rows {
		if st.end > 0 {
			all = append(all, st)
		}
	}
	slices.SortFunc(all, func(a, b *socketState) int {
		return cmp.Or(cmp.Compare(b.row.In+b.row.Out, a.row.In+a.row.Out), cmp.Compare(a.row.ID, b.row.ID))
	})
	list := make([]socketHistory, 0, historyRows)
	for _, st := range all[:min(len(all), historyRows)] {
		list = append(list, socketHistory{st.row.ID, st.end, st.series.all()})
	}
	return list
}

func rate(now, before uint64, dt float64) float64 {
	return math.Round(float64(now-min(now, before)) / dt)
}

// millis is d in milliseconds, to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func protoName(s *observe.Socket) string {
	name := "raw"
	switch {
	case s.Type == unix.SOCK_STREAM:
		name = "tcp"
	case s.Protocol == unix.IPPROTO_ICMP || s.Protocol == unix.IPPROTO_ICMPV6:
		name = "icmp"
	case s.Type == unix.SOCK_DGRAM:
		name = "udp"
	}
	if s.Family == unix.AF_INET6 {
		name += "6"
	}
	return name
}

// addrText is an address as ss(8) writes it, empty if there is none.
func addrText(a netip.AddrPort, family int) string {
	switch {
	case a.Addr().IsValid():
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
	case a.Port() == 0:
		return ""
	case family == unix.AF_INET6:
		return netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port()).String()
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port()).String()
}
