// Package relay is a link whose other side is the host's own sockets, so that
// a stack reaches the world with no privilege and no device.
//
// The far side of the link is a gateway inside this process: a second stack
// ([Relay.far]) that takes every address for its own, terminates the near
// stack's flows and copies their payload to and from sockets of the host, as
// slirp does. To the world the program's connections are the host's; what
// happens to them there is told to the near stack in the words of its own
// protocols: a refused connection is an RST, an unreachable network an ICMP
// error, a half-close stays one, an RST passes both ways.
//
// # The network
//
//	10.0.2.15/24, fd00::15/64   the near stack
//	10.0.2.2, fd00::2           the gateway, which is also the host's loopback
//	10.0.2.3, fd00::3           port 53: the host's resolvers
//
// Everything else is the world as the host sees it, except what makes no sense
// through sockets of another stack: multicast, broadcast, 0.0.0.0/8, loopback
// addresses and link-local destinations.
//
// # What is not relayed
//
// IP options, TTL and TOS, and so the ICMP time exceeded messages of the
// host's path (traceroute sees one hop); protocols other than TCP, UDP and
// ICMP echo (the gateway answers protocol unreachable); TCP urgent data, which
// arrives in line.
//
// # Locks and order
//
// [Relay.Send] hands packets to the far stack in the caller's goroutine; TCP
// there only queues them. Packets of the far stack go to the near one through
// one queue (deliverer), in order, one goroutine at a time. Whatever the far
// stack may answer from inside Send (RST, ICMP) is delivered from a goroutine of
// its own, because the caller of Send may hold locks that receiving such an
// answer takes.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/alptrace/alptrace/link"
)

// Relay is a [link.Link] to the host's sockets. Make one with [New].
type Relay struct {
	cfg   Config
	log   *slog.Logger
	stats counters

	far   *stack.Stack
	farEP *farEndpoint
	out   *deliverer
	fwd   *tcp.Forwarder
	res   *resolvConf

	ctx    context.Context // done when the relay closes
	cancel context.CancelFunc
	wg     sync.WaitGroup // the relay's own goroutines, flows excluded

	started atomic.Bool
	closed  atomic.Bool

	mu   sync.Mutex
	tcps map[*tcpFlow]struct{}

	syns  sync.Map // stack.TransportEndpointID to quote: SYNs being dialed
	table flowTable

	listeners []*net.TCPListener
	udpPubs   []*udpPublish
	dnsSlots  chan struct{}
}

var _ link.Link = (*Relay)(nil)

// New makes a relay and binds the published ports; nothing moves before
// [Relay.Start]. Its errors are those of a wrong Config and of binding, such as
// "publish 127.0.0.1:80: address already in use".
func New(cfg Config) (*Relay, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Relay{
		cfg:      cfg,
		log:      cfg.Logger,
		tcps:     make(map[*tcpFlow]struct{}),
		res:      newResolvConf(cfg.ResolvConf, cfg.Resolvers),
		dnsSlots: make(chan struct{}, maxDNSQueries),
	}
	r.table.init()
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.out = newDeliverer()
	if err := r.newFar(); err != nil {
		r.cancel()
		return nil, fmt.Errorf("relay: %w", err)
	}
	if err := r.bindPublished(); err != nil {
		r.cancel()
		r.far.Destroy()
		return nil, fmt.Errorf("relay: %w", err)
	}
	return r, nil
}

// Name is "relay".
func (r *Relay) Name() string { return "relay" }

// Medium is [link.IP].
func (r *Relay) Medium() link.Medium { return link.IP }

// MTU is the largest IP packet, bytes.
func (r *Relay) MTU() int { return r.cfg.MTU }

// HardwareAddr is nil: there are no frames.
func (r *Relay) HardwareAddr() net.HardwareAddr { return nil }

// Features says that the near stack need not compute checksums, which nobody
// would look at, nor cut segments.
func (r *Relay) Features() link.Features {
	return link.Features{Csum: true, TSO: true, GSOMax: 65535}
}

// Config returns the configuration with every default filled in.
func (r *Relay) Config() Config { return r.cfg }

// Addrs are the addresses that the near stack should have.
func (r *Relay) Addrs() []netip.Prefix { return []netip.Prefix{r.cfg.Near4, r.cfg.Near6} }

// Gateways are the near stack's default gateways.
func (r *Relay) Gateways() []netip.Addr { return []netip.Addr{r.cfg.Gateway4, r.cfg.Gateway6} }

// Start begins delivery and opens the published ports for business.
func (r *Relay) Start(recv func(pkts []link.Packet)) error {
	if recv == nil {
		return errors.New("relay: start: no receive function")
	}
	if r.closed.Load() {
		return net.ErrClosed
	}
	if !r.started.CompareAndSwap(false, true) {
		return errors.New("relay: already started")
	}
	r.out.start(recv)
	r.goRun(func() { r.out.run(r.ctx) })
	r.goRun(r.reap)
	r.servePublished()
	return nil
}

func (r *Relay) goRun(f func()) {
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		f()
	}()
}

// Send takes packets of the near stack. It never waits. Packets that are no
// IP, or that go where nothing can (see the package comment), vanish as they
// would on a network.
func (r *Relay) Send(pkts []link.Packet) (int, error) {
	if r.closed.Load() {
		return 0, net.ErrClosed
	}
	for i := range pkts {
		r.input(&pkts[i])
	}
	return len(pkts), nil
}

// input copies one packet of the near stack into the far one.
func (r *Relay) input(p *link.Packet) {
	n := p.Len()
	r.stats.packetsIn.Add(1)
	if n < header.IPv4MinimumSize || n > maxMTU {
		r.stats.dropped.Add(1)
		return
	}
	v := buffer.NewViewSize(n)
	b := v.AsSlice()
	off := 0
	for _, s := range p.Bufs {
		off += copy(b[off:], s)
	}
	proto, why := r.admit(b, p.NeedsCsum || p.CsumValid)
	if why != "" {
		v.Release()
		r.stats.dropped.Add(1)
		r.log.Debug("relay: dropped", "why", why, "len", n)
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	r.farEP.deliver(proto, pkt)
	pkt.DecRef()
}

// Close ends the relay. It first waits, at most Config.DrainTimeout, until what
// the near stack wrote is in the host's sockets, from where the kernel delivers
// it even after this process has ended. The receive function, from which Close
// must not be called, is not called after Close has returned.
func (r *Relay) Close() error {
	if r.cfg.DrainTimeout > 0 && r.started.Load() && !r.closed.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), r.cfg.DrainTimeout)
		_ = r.Drain(ctx)
		cancel()
	}
	if !r.closed.CompareAndSwap(false, true) {
		return nil
	}
	r.closePublished()
	r.cancel()
	r.mu.Lock()
	flows := make([]*tcpFlow, 0, len(r.tcps))
	for f := range r.tcps {
		flows = append(flows, f)
	}
	r.mu.Unlock()
	r.out.stop()
	for _, f := range flows {
		f.finish()
	}
	r.table.closeAll()
	r.wg.Wait()
	r.far.Close()
	return nil
}

// Drain waits until everything that the near stack has sent on TCP, and that was
// acknowledged to it, has been written to the host's sockets, or until ctx is
// done, whose error it returns then. Connections stay as they are.
func (r *Relay) Drain(ctx context.Context) error {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for {
		r.mu.Lock()
		busy := false
		for f := range r.tcps {
			if !f.drained() {
				busy = true
				break
			}
		}
		r.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("relay: drain: %w", ctx.Err())
		case <-t.C:
		}
	}
}
