// Package host is the link by which a stack shares the addresses of the host
// with its kernel, without privilege.
//
// rootd, a small daemon of root's, gives a lease: a TUN device, and grants of
// local ports as they are asked for. A packet to a granted port comes by the
// device, and the kernel does not see it; a packet that is sent has a granted
// source, or rootd's program in the kernel drops it. Routes and neighbours are
// the kernel's.
//
// A [Link] is three things: the link itself; the ports ([Link.Reserve]), of
// which the ephemeral ones come from a pool, so that a connection costs no
// round trip to rootd; and what the host's routing table says ([Link.Addrs],
// [Link.Source]), as far as a stack must know it, followed while it changes.
// Together they are netstack's Host.
//
// When rootd restarts, the device and the grants stay, and the lease is taken
// up again behind the stack's back. Where rootd has forgotten it, a new lease
// takes its place, with the same ports as far as they can be had.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/tun"
	"github.com/alptrace/alptrace/rootd/proto"
)

// Config configures a link; the zero Config works.
type Config struct {
	// Socket is where rootd listens; empty is proto.DefaultSocket.
	Socket string
	// Program is the name that rootd shows to the administrator; empty is
	// that of the running program.
	Program string
	// Logger receives diagnostics; nil discards them.
	Logger *slog.Logger

	// open makes a link of the lease's device; nil is openDevice.
	open func(proto.Welcome, *slog.Logger) (link.Link, error)
}

// Link is a link on the host's own addresses.
type Link struct {
	cfg    Config
	log    *slog.Logger
	mtu    int
	table  *table
	ports  *ports
	closed chan struct{}
	wg     sync.WaitGroup

	mu      sync.RWMutex
	conn    *proto.Conn // the lease's; nil while rootd is away
	back    chan struct{}
	welcome proto.Welcome
	dev     link.Link
	recv    func([]link.Packet)
	ending  bool
}

var _ link.Link = (*Link)(nil)

// Open asks rootd for a lease. ctx bounds the time until it is given. Where no
// rootd listens the error is that of connect(2); where it refuses, a
// *proto.Error.
func Open(ctx context.Context, cfg Config) (*Link, error) {
	l := &Link{cfg: cfg, log: cfg.Logger, closed: make(chan struct{})}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.cfg.open == nil {
		l.cfg.open = openDevice
	}
	if l.cfg.Program == "" && len(os.Args) > 0 {
		l.cfg.Program = os.Args[0]
	}
	conn, w, dev, err := l.hello(ctx)
	if err != nil {
		return nil, err
	}
	l.conn, l.welcome, l.dev, l.mtu = conn, w, dev, dev.MTU()
	if l.table, err = newTable(w.Device, l.log); err != nil {
		_ = dev.Close()
		_ = conn.Close()
		return nil, err
	}
	l.ports = newPorts(l.rpc, l.log)
	l.ports.start()
	l.wg.Add(1)
	go l.stay(conn)
	return l, nil
}

// hello begins a lease.
func (l *Link) hello(ctx context.Context) (*proto.Conn, proto.Welcome, link.Link, error) {
	fail := func(err error) (*proto.Conn, proto.Welcome, link.Link, error) {
		return nil, proto.Welcome{}, nil, err
	}
	conn, err := l.dial(ctx)
	if err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	w, err := conn.Hello(l.cfg.Program)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("rootd: no answer: %w", ctx.Err())
		}
		return fail(err)
	}
	dev, err := l.cfg.open(w, l.log)
	if err != nil {
		_ = conn.Close()
		return fail(err)
	}
	return conn, w, dev, nil
}

func (l *Link) dial(ctx context.Context) (*proto.Conn, error) {
	conn, err := proto.Dial(ctx, l.cfg.Socket)
	if err != nil {
		return nil, err
	}
	conn.OnRevoke(func(items []proto.Item) {
		for _, it := range items {
			l.log.Warn("port taken back by rootd", "proto", it.Proto, "addr", it.Addr, "port", it.Port)
		}
		l.ports.revoked(items)
	})
	return conn, nil
}

// openDevice makes a link of the device that came with w.
func openDevice(w proto.Welcome, log *slog.Logger) (link.Link, error) {
	defer w.File.Close()
	if i, err := net.InterfaceByName(w.Device); err != nil || i.Index != int(w.Index) {
		return nil, fmt.Errorf("device %s of rootd: it is in another network namespace", w.Device)
	}
	// The link gets a descriptor of its own, since a file's belongs to Go's poller.
	fd, err := unix.FcntlInt(w.File.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("device %s of rootd: %w", w.Device, err)
	}
	dev, err := tun.OpenFD(fd, tun.Options{MTU: int(w.MTU), Logger: log})
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("device %s of rootd: %w", w.Device, err)
	}
	return dev, nil
}

// Name is "host".
func (*Link) Name() string { return "host" }

// Medium is IP.
func (*Link) Medium() link.Medium { return link.IP }

// MTU is the device's, bytes.
func (l *Link) MTU() int { return l.mtu }

// HardwareAddr is nil.
func (*Link) HardwareAddr() net.HardwareAddr { return nil }

// Features are those of the device.
func (l *Link) Features() link.Features { return l.device().Features() }

// Device is the name of the lease's TUN device.
func (l *Link) Device() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.welcome.Device
}

func (l *Link) device() link.Link {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dev
}

// Send sends packets. Those whose source is not granted are dropped without an
// error.
func (l *Link) Send(pkts []link.Packet) (int, error) { return l.device().Send(pkts) }

// Start begins delivery.
func (l *Link) Start(recv func([]link.Packet)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.dev.Start(recv); err != nil {
		return err
	}
	l.recv = recv
	return nil
}

// Close gives up the lease, and with it the device and all ports.
func (l *Link) Close() error {
	l.mu.Lock()
	if l.ending {
		l.mu.Unlock()
		return nil
	}
	l.ending = true
	close(l.closed)
	conn, dev := l.conn, l.dev
	l.mu.Unlock()
	l.ports.close(conn)
	err := dev.Close()
	if conn != nil {
		err = errors.Join(err, conn.Close())
	}
	l.table.close()
	l.wg.Wait()
	return err
}

// Times of a lease that has lost its rootd.
const (
	retryAfter = 50 * time.Millisecond   // first and then twice as long
	retryMost  = 2 * time.Second         // at most
	helloTime  = 5 * time.Second         // for an answer
	absence    = 1500 * time.Millisecond // how long a request waits for a rootd that is away
)

// stay keeps the lease: it takes it up again when rootd has restarted.
func (l *Link) stay(conn *proto.Conn) {
	defer l.wg.Done()
	for conn != nil {
		select {
		case <-conn.Done():
		case <-l.closed:
			return
		}
		l.log.Warn("connection to rootd lost", "err", conn.Err())
		l.mu.Lock()
		l.conn, l.back = nil, make(chan struct{})
		l.mu.Unlock()
		conn = l.again()
	}
}

// again connects anew until it succeeds; nil after Close.
func (l *Link) again() *proto.Conn {
	for wait := retryAfter; ; wait = min(2*wait, retryMost) {
		select {
		case <-l.closed:
			return nil
		case <-time.After(wait):
		}
		conn, err := l.resume()
		if err == nil {
			return conn
		}
		l.log.Debug("rootd is away", "err", err)
	}
}

// resume takes the lease up with a rootd that restarted, or begins another.
func (l *Link) resume() (*proto.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), helloTime)
	defer cancel()
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	w, err := conn.Resume(l.welcome.Lease, l.welcome.Token)
	var refused *proto.Error
	switch {
	case err == nil:
		w.Device, w.Index, w.MTU = l.welcome.Device, l.welcome.Index, l.welcome.MTU
		l.adopt(conn, w, nil)
		l.log.Info("lease taken up again", "lease", w.Lease)
		return conn, nil
	case !errors.As(err, &refused):
		_ = conn.Close()
		return nil, err
	}
	_ = conn.Close()
	l.log.Warn("rootd has forgotten the lease", "lease", l.welcome.Lease, "err", err)
	conn, w, dev, err := l.hello(ctx)
	if err != nil {
		return nil, err
	}
	l.ports.renew(conn)
	old := l.device()
	l.adopt(conn, w, dev)
	_ = old.Close()
	return conn, nil
}

// adopt makes conn the lease's, and dev the device if it is a new one.
func (l *Link) adopt(conn *proto.Conn, w proto.Welcome, dev link.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending {
		_ = conn.Close()
		if dev != nil {
			_ = dev.Close()
		}
		return
	}
	l.conn, l.welcome = conn, w
	if dev != nil {
		l.dev = dev
		l.table.ignore(w.Device)
		if l.recv != nil {
			if err := dev.Start(l.recv); err != nil {
				l.log.Error("start the new device", "device", w.Device, "err", err)
			}
		}
	}
	close(l.back)
}

// rpc gives the connection for a request, and waits a while for a rootd that
// is away; nil if it stays away.
func (l *Link) rpc(wait bool) *proto.Conn {
	l.mu.RLock()
	conn, back := l.conn, l.back
	l.mu.RUnlock()
	if conn != nil || !wait {
		return conn
	}
	select {
	case <-back:
	case <-l.closed:
	case <-time.After(absence):
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.conn
}
