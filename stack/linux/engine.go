package linux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
	_ "github.com/alptrace/alptrace/stack/linux/agent" // this binary is the agent
	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/ring"
	"github.com/alptrace/alptrace/stack/linux/vhost"
)

// Config says which kernel, and what it is given.
type Config struct {
	// Kernel is the executable of a kernel built for ARCH=um: a path, or a name
	// that is looked for on PATH.
	Kernel string
	// Link is the way out, eth0 in the guest; nil is none. The engine owns it.
	Link link.Link
	// Addrs are the addresses of eth0, with the lengths of their prefixes;
	// Gateways the default gateways, which need not be neighbours.
	Addrs    []netip.Prefix
	Gateways []netip.Addr
	// Sysctls are "name=value", set before eth0 is up.
	Sysctls []string
	// Modules are files of modules that are loaded, "path" or "path a=1 b=2".
	Modules []string
	// Arguments are more arguments of the kernel's.
	Arguments []string
	// Memory of the guest, MiB; 0 is 96.
	Memory int
	// BootLimit is how long the guest may take to boot; 0 is 30 s. HangLimit is
	// how long it may take to answer before it is taken for hung; 0 is 10 s.
	BootLimit, HangLimit time.Duration
	// Log gets the kernel's log as it is written; nil: nobody.
	Log io.Writer
	// Failed is called, once, when the kernel has panicked, hangs, or is gone
	// otherwise than by Close. The endpoints have failed with ENETDOWN.
	Failed func(error)
	// Logger receives diagnostics; nil discards them.
	Logger *slog.Logger
}

// Engine is a Linux kernel; it implements [stack.Engine] and [stack.Prober].
type Engine struct {
	cfg    Config
	kernel *kernel
	ch     *channel
	card   *vhost.Card
	count  *counter

	nextID  atomic.Uint32
	sockets atomic.Uint64
	closing atomic.Bool
	fails   sync.Once
	stop    chan struct{} // closed by Close
	probe   atomic.Pointer[func(stack.TCPSample)]

	mu        sync.Mutex
	endpoints map[uint32]*Endpoint
	dead      bool
}

var (
	_ stack.Engine = (*Engine)(nil)
	_ stack.Prober = (*Engine)(nil)
)

// New boots a kernel. On error the link is left open.
func New(cfg Config) (*Engine, error) {
	if cfg.Memory == 0 {
		cfg.Memory = 96
	}
	if cfg.BootLimit == 0 {
		cfg.BootLimit = 30 * time.Second
	}
	if cfg.HangLimit == 0 {
		cfg.HangLimit = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	setup, err := cfg.setup()
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, endpoints: map[uint32]*Endpoint{}, stop: make(chan struct{})}
	if cfg.Link != nil {
		e.count = &counter{Link: cfg.Link}
		e.cfg.Link = e.count
	}
	if e.kernel, err = boot(&e.cfg); err != nil {
		return nil, err
	}
	if err := e.join(setup); err != nil {
		e.closing.Store(true)
		e.kernel.kill()
		if e.ch != nil {
			_ = e.ch.port.Close()
		}
		return nil, err
	}
	e.kernel.tidy()
	go e.watch()
	return e, nil
}

// setup is what the agent is told of the network.
func (cfg *Config) setup() (*proto.Setup, error) {
	s := &proto.Setup{Addrs: cfg.Addrs, Gateways: cfg.Gateways}
	if l := cfg.Link; l != nil {
		s.Card, s.NoARP, s.MTU = true, l.Medium() == link.IP, l.MTU()
	}
	for _, v := range cfg.Sysctls {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" || strings.Contains(name, "..") {
			return nil, fmt.Errorf("sysctl %q: want NAME=VALUE", v)
		}
		s.Sysctls = append(s.Sysctls, proto.Sysctl{Name: name, Value: value})
	}
	return s, nil
}

// join waits until the kernel has booted, and sets its network up.
func (e *Engine) join(s *proto.Setup) error {
	limit := time.NewTimer(e.cfg.BootLimit)
	defer limit.Stop()
	var cardConn *net.UnixConn
	ready := make(<-chan struct{}) // of the agent
	cards := e.kernel.card
	for joined := false; !joined; {
		select {
		case cardConn = <-cards:
			cards = nil
			if err := e.plugIn(cardConn); err != nil {
				return err
			}
		case conn := <-e.kernel.port:
			e.kernel.port = nil
			e.ch = newChannel(conn, e.deliver, e.deviceFailed)
			ready = e.ch.ready
		case <-ready:
			joined = true
		case <-e.kernel.ended:
			return e.bootError("the kernel ended while it booted")
		case <-limit.C:
			return e.bootError(fmt.Sprintf("the kernel has not booted within %v", e.cfg.BootLimit))
		}
	}
	if e.ch.err != nil {
		return e.bootError(e.ch.err.Error())
	}
	if e.cfg.Link != nil && e.card == nil {
		return e.bootError("the kernel did not take the network card: it needs CONFIG_VIRTIO_NET")
	}
	for _, m := range e.cfg.Modules {
		path, params, _ := strings.Cut(m, " ")
		if r := e.ch.ask(args(proto.OpModule, 0), zero[:], []byte(path), []byte{0}, []byte(params)); r.errno != 0 {
			return e.bootError(string(r.body))
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if r := e.ch.ask(args(proto.OpSetup, 0), zero[:], text); r.errno != 0 {
		return e.bootError(string(r.body))
	}
	return nil
}

// zero are three arguments where none are needed.
var zero [proto.ArgsLen]byte

// args is a frame's header.
func args(op uint16, id uint32) ring.Frame { return ring.Frame{Op: op, ID: id} }

func (e *Engine) plugIn(conn *net.UnixConn) (err error) {
	e.card, err = vhost.NewCard(conn, e.cfg.Link, e.deviceFailed)
	return err
}

// bootError tells why there is no engine, as far as the kernel's log knows.
func (e *Engine) bootError(what string) error {
	e.closing.Store(true)
	e.kernel.kill()
	text := e.kernel.log.text()
	if !strings.Contains(text, "Linux version") && strings.TrimSpace(text) == "" {
		return fmt.Errorf("%s: %s, and said nothing: is it a kernel built for ARCH=um?", e.cfg.Kernel, what)
	}
	if why := reason(text); why != "" {
		what += ": " + why
	}
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("%s: %s", e.cfg.Kernel, what)
	}
	const lines = 12
	return fmt.Errorf("%s: %s\nThe end of the kernel's log:\n%s", e.cfg.Kernel, what, lastLines(text, lines))
}

// deviceFailed is called when the driver of a device is gone.
func (e *Engine) deviceFailed(err error) {
	if e.closing.Load() {
		return
	}
	go func() {
		// The log comes by another way.
		select {
		case <-e.kernel.ended:
		case <-time.After(time.Second):
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("the kernel is gone")
		}
		e.fail(err)
	}()
}

// fail ends the engine because of the kernel.
func (e *Engine) fail(err error) {
	e.fails.Do(func() {
		if e.closing.Load() {
			return
		}
		if e.ch != nil {
			e.ch.kill()
		}
		e.mu.Lock()
		e.dead = true
		all := make([]*Endpoint, 0, len(e.endpoints))
		for _, ep := range e.endpoints {
			all = append(all, ep)
		}
		e.mu.Unlock()
		for _, ep := range all {
			ep.die()
		}
		e.kernel.kill()
		text := e.kernel.log.text()
		if why := reason(text); why != "" {
			err = fmt.Errorf("%w: %s", err, why)
		}
		if strings.TrimSpace(text) != "" {
			const lines = 30
			err = fmt.Errorf("%w\nThe end of the kernel's log:\n%s", err, lastLines(text, lines))
		}
		e.cfg.Logger.Error("the kernel failed", "err", err)
		if e.cfg.Failed != nil {
			e.cfg.Failed(err)
		}
	})
}

// watch looks whether the kernel is alive.
func (e *Engine) watch() {
	tick := time.NewTicker(e.cfg.HangLimit / 4)
	defer tick.Stop()
	asked := false
	answered := make(chan struct{}, 1)
	var since time.Time
	for {
		select {
		case <-e.stop:
			return
		case <-e.kernel.ended:
			if !e.closing.Load() {
				e.fail(errors.New("the kernel is gone"))
			}
			return
		case <-answered:
			asked = false
		case now := <-tick.C:
			switch {
			case !asked:
				asked, since = true, now
				go func() {
					e.ch.ask(args(proto.OpReadFile, 0), zero[:], []byte("/proc/uptime"))
					answered <- struct{}{}
				}()
			case e.kernel.stopped():
				since = now // by a debugger, say
			case now.Sub(since) >= e.cfg.HangLimit:
				e.fail(fmt.Errorf("the kernel hangs: it has not answered for %v", e.cfg.HangLimit))
				return
			}
		}
	}
}

// Name is "linux".
func (e *Engine) Name() string { return "linux" }

// Pid is the kernel's process, for a debugger.
func (e *Engine) Pid() int { return e.kernel.pid }

// Socket is socket(2) in the guest, for AF_INET and AF_INET6.
func (e *Engine) Socket(family, typ, protocol int) (stack.Endpoint, stack.Errno) {
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return nil, unix.EAFNOSUPPORT
	}
	if typ&^0xf != 0 {
		return nil, unix.EINVAL
	}
	ep := e.newEndpoint(family, typ)
	if ep == nil {
		return nil, unix.ENOBUFS
	}
	x := proto.Args(uint32(family), uint32(typ), uint32(protocol))
	if r := e.ch.ask(args(proto.OpSocket, ep.id), x[:]); r.errno != 0 {
		e.forget(ep)
		return nil, r.errno
	}
	e.sockets.Add(1)
	return ep, 0
}

// newEndpoint makes an endpoint and its number; nil when the engine is closed.
func (e *Engine) newEndpoint(family, typ int) *Endpoint {
	ep := &Endpoint{engine: e, id: e.nextID.Add(1), family: family, typ: typ, stream: typ == unix.SOCK_STREAM}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dead || e.closing.Load() {
		return nil
	}
	e.endpoints[ep.id] = ep
	return ep
}

func (e *Engine) forget(ep *Endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.endpoints, ep.id)
}

// deliver hands a frame to its endpoint.
func (e *Engine) deliver(f ring.Frame, p []byte) {
	e.mu.Lock()
	ep := e.endpoints[f.ID]
	e.mu.Unlock()
	if ep != nil {
		ep.deliver(f, p)
	}
}

// Interfaces lists the guest's interfaces.
func (e *Engine) Interfaces() (list []stack.Interface) {
	r := e.ch.ask(args(proto.OpFaces, 0), zero[:])
	if r.errno == 0 {
		_ = json.Unmarshal(r.body, &list)
	}
	return list
}

// readFile is a file of the guest's /proc.
func (e *Engine) readFile(name string) string {
	r := e.ch.ask(args(proto.OpReadFile, 0), zero[:], []byte(name))
	if r.errno != 0 {
		return ""
	}
	return string(r.body)
}

// field is a number of a file of pairs of lines (/proc/net/snmp) or of lines with
// pairs (/proc/net/sockstat).
func field(text, line, name string) (n uint64) {
	var names []string
	for l := range strings.Lines(text) {
		f := strings.Fields(l)
		if len(f) == 0 || f[0] != line {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			if f[i] == name {
				if n, err := strconv.ParseUint(f[i+1], 10, 64); err == nil {
					return n
				}
			}
		}
		for i := range names {
			if i < len(f) && names[i] == name {
				n, _ = strconv.ParseUint(f[i], 10, 64)
				return n
			}
		}
		names = f
	}
	return 0
}

// Stats counts sockets, packets of eth0 and the guest's retransmissions.
func (e *Engine) Stats() stack.Stats {
	s := stack.Stats{Sockets: e.sockets.Load(), Retransmissions: field(e.readFile("/proc/net/snmp"), "Tcp:", "RetransSegs")}
	if c := e.count; c != nil {
		s.PacketsIn, s.BytesIn = c.packetsIn.Load(), c.bytesIn.Load()
		s.PacketsOut, s.BytesOut = c.packetsOut.Load(), c.bytesOut.Load()
	}
	return s
}

// Drain waits until the guest has no orphaned connection left.
func (e *Engine) Drain(ctx context.Context) {
	const least, most = 2 * time.Millisecond, 50 * time.Millisecond
	for wait := least; ; wait = min(2*wait, most) {
		r := e.ch.ask(args(proto.OpUnsent, 0), zero[:])
		if r.errno != 0 || r.result == 0 && field(e.readFile("/proc/net/sockstat"), "TCP:", "orphan") == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Close ends the kernel and the link.
func (e *Engine) Close() error {
	if e.closing.Swap(true) {
		return nil
	}
	close(e.stop)
	e.ch.kill()
	e.kernel.kill()
	var err error
	if e.card != nil {
		err = e.card.Close()
	}
	_ = e.ch.port.Close()
	e.mu.Lock()
	e.endpoints = map[uint32]*Endpoint{}
	e.mu.Unlock()
	return err
}
