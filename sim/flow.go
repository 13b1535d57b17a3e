package sim

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/stack"
)

// flow is one flow of built-in traffic: a client on the host whose traffic it
// is, a server on the other.
type flow struct {
	sim      *Sim
	spec     *topo.Traffic
	name     string
	from, to *Host
	dst      stack.Addr
	rnd      random
	m        metrics
	ends     bool // it is to end by itself
	over     bool

	client, server *stream // of TCP
	datagrams      *datagrams
	served         bool   // datagrams have found their server
	seen           uint64 // number of the latest of them, and one
	steps          []step // of a trace
}

// metrics is what is measured of a flow.
type metrics struct {
	started, first, last time.Duration // virtual; first and last data at the receiver
	connected            time.Duration // handshake's length
	completed            time.Duration // the end, 0: not yet
	sent, received       int64         // payload bytes: of the client, by the server
	returned             int64         // payload bytes the client got
	sentMsgs, gotMsgs    int64         // datagrams, or transactions
	reordered            int64         // datagrams
	retransmissions      uint64
	rtt                  spread
	latency              spread // of transactions
	err                  string
	corrupt              string
}

// defaultPort is that of a host's first traffic, if the file names none; each
// further one has the next.
const defaultPort = 5001

// addTraffic makes the flows of one entry of a host's traffic.
func (s *Sim) addTraffic(n *topo.Node, t *topo.Traffic) error {
	from, to := s.byName[n.Name], s.byName[t.To.Name]
	if from == nil || to == nil {
		return fmt.Errorf("traffic from %s to %s: not both are hosts", n.Name, t.To.Name)
	}
	if from == to {
		return fmt.Errorf("traffic from %s to itself: it would meet no network", n.Name)
	}
	addrs := s.lab.Lookup(n, t.To.Name)
	at := slices.IndexFunc(addrs, func(a netip.Addr) bool { return t.IP == 0 || a.Is6() == (t.IP == 6) })
	if at < 0 {
		return fmt.Errorf("traffic to %s: it has no such address", t.To.Name)
	}
	port := t.Port
	if port == 0 {
		port = uint16(defaultPort + s.entries(t.To.Name))
	}
	steps, err := parseSizes(t)
	if err != nil {
		return err
	}
	if t.Kind == "onoff" && t.Rate <= 0 {
		return fmt.Errorf("traffic: kind onoff goes with rate")
	}
	for i := range max(t.Count, 1) {
		f := &flow{
			sim: s, spec: t, from: from, to: to, steps: steps,
			name: fmt.Sprintf("%s-%s:%d", n.Name, t.To.Name, port),
			dst:  stack.Addr{IP: addrs[at], Port: port},
			ends: t.Bytes > 0 || t.Stop > 0 || len(steps) > 0,
		}
		if t.Count > 1 {
			f.name += fmt.Sprintf("#%d", i+1)
		}
		f.rnd = newRandom(s.seed, "flow", f.name)
		s.flows = append(s.flows, f)
		if f.ends {
			s.open++
		}
		s.clock.At(t.Start, func() { f.start(); from.settled() })
	}
	return s.listen(to, listenKey{to.Name, port, isDatagram(t.Kind)}, slices.ContainsFunc(addrs, netip.Addr.Is6), s.flows[len(s.flows)-max(t.Count, 1):])
}

// entries is how many ports of a host have a server.
func (s *Sim) entries(host string) int {
	n := 0
	for k := range s.listeners {
		if k.host == host {
			n++
		}
	}
	return n
}

func isDatagram(kind string) bool { return kind == "onoff" || kind == "echo" }

// start begins the flow.
func (f *flow) start() {
	f.m.started = f.sim.clock.now
	if isDatagram(f.spec.Kind) {
		f.startDatagrams()
		return
	}
	f.startStream()
}

// finish ends the flow; why is empty for success.
func (f *flow) finish(why string) {
	if f.over {
		return
	}
	f.over = true
	f.m.err = why
	f.m.completed = f.sim.clock.now
	f.account()
	if f.ends {
		f.sim.open--
	}
	if why != "" {
		for _, st := range []*stream{f.client, f.server} {
			if st != nil {
				st.ep.Notify(nil)
				st.ep.Abort()
			}
		}
	}
}

// got notes that data reached the receiver.
func (f *flow) got() {
	if f.m.first == 0 {
		f.m.first = f.sim.clock.now
	}
	f.m.last = f.sim.clock.now
}

// fail ends the flow with an error of a call.
func (f *flow) fail(call string, err stack.Errno) {
	f.finish(call + ": " + err.Error())
}

// stopped reports whether the flow's time is over.
func (f *flow) stopped() bool {
	return f.spec.Stop > 0 && f.sim.clock.now >= f.spec.Stop
}

// The bytes that flows carry: a fixed pattern, twice, so that any piece shorter
// than a period is contiguous. The period is a prime, so that no size of
// segment, buffer or window divides it: a byte from elsewhere in the stream is
// noticed.
const period = 65521

var pattern = makePattern()

func makePattern() []byte {
	b := make([]byte, period)
	_, _ = rand.NewChaCha8([32]byte{'a', 'l', 'p'}).Read(b) // never fails
	return append(b, b...)
}

// source is what a stream sends; it implements stack.Source.
type source struct {
	sent, limit int64
	phase       int64 // where in the pattern it begins
}

// Len is how many bytes can be read now.
func (s *source) Len() int { return int(min(s.limit-s.sent, 1<<18)) }

// Read gives the next bytes of the pattern.
func (s *source) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), s.limit-s.sent))
	if n <= 0 {
		return 0, io.EOF
	}
	for done := 0; done < n; {
		done += copy(p[done:n], pattern[(s.phase+s.sent+int64(done))%period:])
	}
	s.sent += int64(n)
	return n, nil
}

// sink is what a stream receives; it compares.
type sink struct {
	got   int64
	phase int64
	wrong int64 // the offset of the first wrong byte, -1: none
}

// Write takes bytes.
func (s *sink) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		at := (s.phase + s.got) % period
		m := min(len(p), 2*period-int(at))
		if s.wrong < 0 && !bytes.Equal(p[:m], pattern[at:int(at)+m]) {
			s.wrong = s.got
		}
		s.got += int64(m)
		p = p[m:]
	}
	return n, nil
}

// listenKey names a server.
type listenKey struct {
	host     string
	port     uint16
	datagram bool
}

// listener is a server for one or more flows.
type listener struct {
	ep    stack.Endpoint
	task  task
	flows []*flow
	peers map[netip.AddrPort]*flow // of datagrams
}

// listen gives a host a server for flows, or one that is there more flows. v6 says
// that the host has IPv6.
func (s *Sim) listen(h *Host, k listenKey, v6 bool, flows []*flow) error {
	l := s.listeners[k]
	if l != nil {
		l.flows = append(l.flows, flows...)
		return nil
	}
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6 // serves IPv4 too
	}
	typ := unix.SOCK_STREAM
	if k.datagram {
		typ = unix.SOCK_DGRAM
	}
	ep, err := h.Engine.Socket(family, typ, 0)
	if err == 0 {
		err = ep.Bind(stack.Addr{Port: k.port})
	}
	if err == 0 && !k.datagram {
		err = ep.Listen(max(4096, len(flows)))
	}
	if err != 0 {
		return fmt.Errorf("serve port %d of %s: %w", k.port, h.Name, err)
	}
	l = &listener{ep: ep, flows: append([]*flow(nil), flows...), peers: make(map[netip.AddrPort]*flow)}
	l.task = task{host: h, run: l.accept}
	if k.datagram {
		l.task.run = l.receive
	}
	ep.Notify(l.task.wake)
	s.listeners[k] = l
	h.settled()
	return nil
}

// flowOf is the flow whose client is at an address: exactly, or by its port, or,
// behind a translator that changes both, the first that has no server yet.
func (l *listener) flowOf(peer stack.Addr, local func(*flow) (stack.Addr, bool), taken func(*flow) bool) *flow {
	var byPort, free *flow
	ip := peer.IP.Unmap()
	for _, f := range l.flows {
		a, ok := local(f)
		if !ok || taken(f) {
			continue
		}
		switch {
		case a.Port == peer.Port && a.IP.Unmap() == ip:
			return f
		case a.Port == peer.Port && byPort == nil:
			byPort = f
		case free == nil:
			free = f
		}
	}
	if byPort != nil {
		return byPort
	}
	return free
}
