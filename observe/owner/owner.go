// Package owner knows which process has which socket, for those who see
// packets: captures and logs. The tracer fills a [Registry] in as the program
// binds, connects, accepts and sends; whoever has a packet looks its flow up.
// A nil Registry takes everything and knows nothing, at no cost.
package owner

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/alptrace/alptrace/internal/flow"
)

// Owner is who has a socket.
type Owner struct {
	PID    int    // process, not thread
	Prog   string // its name, as proc(5) comm
	FD     int    // the socket in it, negative if that is not yet known
	Closed bool   // it was; the socket is closed
}

// Append appends o and a flow of its socket's, local side first:
// "curl[1234] tcp 10.0.2.15:40000 > 93.184.216.34:80 fd 5". Closed sockets have
// "closed" in place of the descriptor.
func (o Owner) Append(b []byte, local flow.Flow, out bool) []byte {
	b = append(b, o.Prog...)
	b = append(b, '[')
	b = strconv.AppendInt(b, int64(o.PID), 10)
	b = append(b, "] "...)
	switch local.Proto {
	case flow.TCP:
		b = append(b, "tcp "...)
	case flow.UDP:
		b = append(b, "udp "...)
	case flow.ICMP, flow.ICMPv6:
		b = append(b, "icmp "...)
	default:
		b = append(b, "ip "...)
	}
	b = local.Src.AppendTo(b)
	if out {
		b = append(b, " > "...)
	} else {
		b = append(b, " < "...)
	}
	b = local.Dst.AppendTo(b)
	if o.Closed {
		return append(b, " closed"...)
	}
	if o.FD < 0 {
		return b
	}
	b = append(b, " fd "...)
	return strconv.AppendInt(b, int64(o.FD), 10)
}

// Registry knows the sockets of a run. It is safe for concurrent use; Lookup
// takes no lock but its own.
type Registry struct {
	mu    sync.RWMutex
	of    map[flow.Flow]Owner
	order []flow.Flow // as they came, to forget the oldest
	next  int

	begun flow.Flow // what a call under way sends to
	by    Owner
}

// most is how many sockets are remembered, closed ones included.
const most = 1 << 16

// New makes an empty registry.
func New() *Registry { return &Registry{of: make(map[flow.Flow]Owner)} }

// Socket is the key of a socket: Src is its local address, Dst its peer or
// invalid. An unspecified local address counts as none.
func Socket(proto uint8, local, remote netip.AddrPort) flow.Flow {
	f := flow.Flow{Proto: proto, Src: netip.AddrPortFrom(local.Addr().Unmap().WithZone(""), local.Port())}
	if f.Src.Addr().IsUnspecified() {
		f.Src = netip.AddrPortFrom(netip.Addr{}, local.Port())
	}
	if remote.IsValid() {
		f.Dst = netip.AddrPortFrom(remote.Addr().Unmap().WithZone(""), remote.Port())
	}
	return f
}

// Set says who has a socket from now on.
func (r *Registry) Set(socket flow.Flow, o Owner) {
	if r == nil {
		return
	}
	o.Prog = printable(o.Prog)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.of[socket]; !known {
		if len(r.order) < most {
			r.order = append(r.order, socket)
		} else {
			delete(r.of, r.order[r.next])
			r.order[r.next] = socket
			r.next = (r.next + 1) % most
		}
	}
	r.of[socket] = o
}

// printable makes a name fit for a line of text.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// Close says that a socket was closed. Packets of it may still come.
func (r *Registry) Close(socket flow.Flow, by Owner) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.of[socket]; ok && o.PID == by.PID && o.FD == by.FD {
		o.Closed = true
		r.of[socket] = o
	}
}

// Begin says that o is about to send to remote from a socket that may have no
// local port yet, and End that it is done: the first packet leaves before
// anybody can know its port. There is one at a time.
func (r *Registry) Begin(proto uint8, remote netip.AddrPort, o Owner) {
	if r == nil {
		return
	}
	o.Prog = printable(o.Prog)
	r.mu.Lock()
	r.begun, r.by = Socket(proto, netip.AddrPort{}, remote), o
	r.mu.Unlock()
}

// End ends Begin.
func (r *Registry) End() {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.begun = flow.Flow{}
	r.mu.Unlock()
}

// Lookup says who has the socket that the packets from local.Src to local.Dst,
// and back, belong to: a connection's own, else one bound to the local address
// or port.
func (r *Registry) Lookup(local flow.Flow) (Owner, bool) {
	if r == nil {
		return Owner{}, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	o, ok := r.lookup(local)
	if (!ok || o.Closed) && local.Dst.IsValid() && r.begun.Proto == local.Proto && r.begun.Dst == local.Dst {
		return r.by, true
	}
	return o, ok
}

func (r *Registry) lookup(local flow.Flow) (o Owner, ok bool) {
	port := netip.AddrPortFrom(netip.Addr{}, local.Src.Port())
	for _, k := range [...]flow.Flow{
		local,
		{Proto: local.Proto, Src: port, Dst: local.Dst},
		{Proto: local.Proto, Src: local.Src},
		{Proto: local.Proto, Src: port},
	} {
		if o, ok = r.of[k]; ok {
			return o, true
		}
	}
	return o, false
}
