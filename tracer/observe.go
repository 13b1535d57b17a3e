package tracer

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/alptrace/alptrace/observe"
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Observer hears what happens while it happens. Its methods may be called from
// any goroutine, with locks of the Tracer held: they must not block, nor call
// the Tracer.
type Observer interface {
	// WantsCall says whether the call that begins now is to be told: writing it
	// down costs more than answering it.
	WantsCall() bool
	// Call tells of a call.
	Call(observe.Call)
	// Closed tells of a socket when the program has closed it.
	Closed(observe.Socket)
}

// observed is what a socket counts for an observer.
type observed struct {
	id      uint64
	in, out atomic.Uint64 // of this socket, not yet added to the Tracer's
	seen    uint64        // in and out at the last Sockets; of Sockets alone
}

// counters are where the bytes that the program receives and sends on s are
// counted: the Tracer's own, unless somebody observes.
func (s *socket) counters() (in, out *atomic.Uint64) {
	if s.t.observer == nil {
		return &s.t.In, &s.t.Out
	}
	o := s.observed()
	return &o.in, &o.out
}

func (s *socket) observed() *observed {
	if o := s.watch.Load(); o != nil {
		return o
	}
	s.watch.CompareAndSwap(nil, &observed{id: s.t.observedIDs.Add(1)})
	return s.watch.Load()
}

// observeClose tells the observer of the last of s. The caller holds s.mu, and
// has not yet closed the endpoint.
func (s *socket) observeClose() {
	s.disown()
	if s.t.observer == nil {
		return
	}
	o := s.observed()
	snap := s.snapshot()
	snap.Closed = true
	s.t.In.Add(o.in.Swap(0))
	s.t.Out.Add(o.out.Swap(0))
	s.t.observer.Closed(snap)
}

// observed is the call as an observer hears of it; text is its line up to and
// with the result.
func (c *call) observed(text []byte, r result, took time.Duration) observe.Call {
	end := len(c.tr.text)
	return observe.Call{
		Start: c.start, Took: took, TID: int(c.tid), Name: syntaxOf(c.nr).name, Err: r.err,
		Args: string(text[c.tr.args : end-len(endOfArgs)]), Result: string(text[end:]),
	}
}

// Bytes are what the program has received and sent so far.
func (t *Tracer) Bytes() (in, out uint64) {
	in, out = t.In.Load(), t.Out.Load()
	if t.observer == nil {
		return in, out
	}
	for _, s := range t.sockets.All() {
		if o := s.watch.Load(); o != nil {
			in += o.in.Load()
			out += o.out.Load()
		}
	}
	return in, out
}

// Sockets appends the sockets as they are now to list, at most as many as most:
// those that moved the most bytes since the last time, then the youngest. It
// needs an observer, and is for one goroutine. total is how many there are.
func (t *Tracer) Sockets(list []observe.Socket, most int) (all []observe.Socket, total int) {
	type candidate struct {
		s     *socket
		o     *observed
		moved uint64
	}
	sockets := t.sockets.All()
	candidates := make([]candidate, len(sockets))
	for i, s := range sockets {
		o := s.observed()
		n := o.in.Load() + o.out.Load()
		candidates[i] = candidate{s, o, n - min(n, o.seen)}
		o.seen = n
	}
	total = len(candidates)
	if total > most {
		slices.SortFunc(candidates, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(b.moved, a.moved), cmp.Compare(b.o.id, a.o.id))
		})
		candidates = candidates[:most]
	}
	for _, c := range candidates {
		c.s.mu.Lock()
		if !c.s.gone {
			list = append(list, c.s.snapshot())
		}
		c.s.mu.Unlock()
	}
	return list, total
}

// snapshot is s now. The caller holds s.mu.
func (s *socket) snapshot() observe.Socket {
	o, last := s.observed(), s.last.Load()
	snap := observe.Socket{
		ID: o.id, Family: s.family, Type: s.typ, Protocol: s.proto,
		TID: int(last >> 32), FD: int(int32(last)),
		In: o.in.Load(), Out: o.out.Load(),
		Local: addrPort(s.ep.LocalAddr()), State: "UNCONN",
	}
	if peer, e := s.ep.PeerAddr(); e == 0 {
		snap.Peer, snap.State = addrPort(s.shown(peer)), "ESTABLISHED"
	}
	if s.isStream() {
		s.snapshotTCP(&snap)
	}
	return snap
}

// shortTCPInfo is the least of struct tcp_info that an engine must fill.
const shortTCPInfo = int(unsafe.Offsetof(unix.TCPInfo{}.Pacing_rate))

func (s *socket) snapshotTCP(snap *observe.Socket) {
	var info unix.TCPInfo
	b := unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info))
	snap.State = "CLOSE"
	n, e := s.ep.GetOption(unix.IPPROTO_TCP, unix.TCP_INFO, b)
	if e != 0 || n < shortTCPInfo {
		return
	}
	if int(info.State) < len(tcpStates) {
		snap.State = tcpStates[info.State]
	}
	if s.state == listening {
		snap.Backlog = len(s.pending)
		return
	}
	if s.state != connected && s.state != connecting {
		return
	}
	if s.state == connecting {
		snap.Peer = addrPort(s.shown(s.to))
	}
	mss := int(info.Snd_mss)
	snap.TCP = observe.TCP{
		RTT: micros(info.Rtt), RTTVar: micros(info.Rttvar), RTO: micros(info.Rto), MSS: mss,
		Cwnd: int(info.Snd_cwnd) * mss, InFlight: int(info.Unacked) * mss,
		SndWnd: int(info.Snd_wnd), Retrans: int(info.Total_retrans),
	}
	if info.Snd_ssthresh < infiniteSsthresh {
		snap.TCP.Ssthresh = int(info.Snd_ssthresh) * mss
	}
	if int(info.Ca_state) < len(caStates) {
		snap.TCP.CAState = caStates[info.Ca_state]
	}
}

// infiniteSsthresh is TCP_INFINITE_SSTHRESH: slow start goes on.
const infiniteSsthresh = 0x7fffffff

// tcpStates and caStates are the names by the numbers of tcp_info
// (net/tcp_states.h, linux/tcp.h).
var (
	tcpStates = []string{"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV"}
	caStates  = []string{"Open", "Disorder", "CWR", "Recovery", "Loss"}
)

func micros(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }

func addrPort(a stack.Addr) netip.AddrPort {
	if !a.IP.IsValid() && a.Port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.IP, a.Port)
}
