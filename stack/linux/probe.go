package linux

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/linux/internal/proto"
)

// probeEvery is how often the guest looks at its connections.
const probeEvery = 2 * time.Millisecond

// Probe has f told of the guest's connections: their struct tcp_info, looked at
// whenever the agent did something, and every few milliseconds.
func (e *Engine) Probe(f func(stack.TCPSample)) {
	every := probeEvery
	if f == nil {
		e.probe.Store(nil)
		every = 0
	} else {
		e.probe.Store(&f)
	}
	x := proto.Args(uint32(every.Microseconds()), 0, 0)
	e.ch.put(true, args(proto.OpProbe, 0), x[:])
}

// sample tells what a struct tcp_info says. With mu; the addresses are asked for
// in the background the first time.
func (e *Endpoint) sample(info []byte) {
	f := e.engine.probe.Load()
	if f == nil {
		return
	}
	if !e.named {
		if !e.naming {
			e.naming = true
			go e.findNames()
		}
		return
	}
	s, ok := parseInfo(info)
	if !ok {
		return
	}
	s.Local, s.Remote = e.names[0], e.names[1]
	(*f)(s)
}

func (e *Endpoint) findNames() {
	local := e.LocalAddr()
	peer, errno := e.PeerAddr()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.naming = false
	if errno == 0 && local.Port != 0 {
		e.named = true
		e.names = [2]netip.AddrPort{addrPort(local), addrPort(peer)}
	}
}

func addrPort(a stack.Addr) netip.AddrPort { return netip.AddrPortFrom(a.IP.Unmap(), a.Port) }

// infinite is tcpi_snd_ssthresh before the first loss (TCP_INFINITE_SSTHRESH).
const infinite = 0x7fffffff

// parseInfo reads a struct tcp_info (linux/tcp.h), whose first 104 bytes every
// kernel has.
func parseInfo(b []byte) (s stack.TCPSample, ok bool) {
	if len(b) < 104 {
		return s, false
	}
	u := func(at int) uint64 {
		if at+4 > len(b) {
			return 0
		}
		return uint64(binary.NativeEndian.Uint32(b[at:]))
	}
	micro := func(at int) time.Duration { return time.Duration(u(at)) * time.Microsecond }
	mss := u(16)
	s = stack.TCPSample{
		State: b[0], CAState: b[1], SndMSS: uint32(mss), SndCwnd: u(80) * mss,
		RTT: micro(68), RTTVar: micro(72), RTO: micro(8), TotalRetrans: u(100),
		SndWnd: u(228),
	}
	if n := u(76); n != infinite {
		s.SndSsthresh = n * mss
	}
	out := u(24) + u(36)
	if gone := u(28) + u(32); gone < out {
		s.InFlight = (out - gone) * mss
	}
	return s, true
}
