// Package wire is a virtual Ethernet between processes of one user on one
// machine, with no daemon and no privilege.
//
// A wire is a directory. Each member listens on an AF_UNIX SOCK_SEQPACKET
// socket there and has one connection with every other member: a full mesh, so
// that a frame crosses in one step and a member can join, leave or be killed at
// any time without the others noticing more than an unplugged cable. A message
// on a connection is a virtio network header and an Ethernet frame, which may be
// 64 KiB of TCP still to be cut.
//
// # Joining
//
// A member binds and listens under a temporary name, renames the socket to
// NAME.sock, and only then lists the directory and connects to the members it
// finds. Of two members that join at once at least one therefore sees the
// other; if both do, the connection made by the lesser name is kept. And
// every NAME.sock has a listener for as long as its member lives: one that
// refuses a connection is stale for good, and is removed by whoever meets it
// (names are random and never used again). After the kill -9 of the last
// member its socket stays until the next one joins.
//
// # Who may join
//
// Members have the same effective user: both ends of a connection check the
// credentials of the other (SO_PEERCRED). The directory is made with mode 0700
// if it is missing. One in which others may write is refused, because they
// could remove sockets and so divide the wire, unless it is sticky (as /tmp
// is), where they cannot.
// Frames of other members are nevertheless parsed as bytes from outside.
package wire

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/internal/park"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/mesh"
)

// Options of a wire; the zero value works.
type Options struct {
	// MTU is the largest network-layer packet, bytes; 0 is 1500. It should be
	// the same for all members: a larger frame is dropped where it arrives.
	MTU int
	// HardwareAddr is this member's address; nil makes a random, locally
	// administered one.
	HardwareAddr net.HardwareAddr
	// Promiscuous delivers frames for other members too, when they come this
	// way (unknown unicast).
	Promiscuous bool
	// Logger hears of members that come and go; nil is silence.
	Logger *slog.Logger
}

// Stats counts frames since the wire was joined.
type Stats = mesh.Stats

const (
	sndbuf    = 1 << 20
	sendWait  = 10  // ms that a Send waits for one member
	backlog   = 512 // connections not yet accepted
	maxLinger = 256 // accepted connections that have not said who they are
)

// Link is one member's end of a wire.
type Link struct {
	net    *mesh.Mesh[*peer]
	dir    *directory
	self   string
	log    *slog.Logger
	lot    *park.Lot // of the epoll instance that watches all connections
	recv   atomic.Pointer[func([]link.Packet)]
	closed atomic.Bool
	once   sync.Once
	done   chan struct{}
}

var _ link.Link = (*Link)(nil)

// Open joins the wire of directory dir, which is made if it is missing.
func Open(dir string, opts Options) (link.Link, error) {
	l, err := open(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("wire:%s: %w", dir, err)
	}
	return l, nil
}

func open(dir string, opts Options) (*Link, error) {
	l := &Link{log: opts.Logger, done: make(chan struct{})}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	var err error
	l.net, err = mesh.New[*peer](mesh.Config{MTU: opts.MTU, HardwareAddr: opts.HardwareAddr, Promiscuous: opts.Promiscuous})
	if err != nil {
		return nil, err
	}
	if l.dir, err = openDir(dir); err != nil {
		return nil, err
	}
	m, err := newMembers(l)
	if err != nil {
		l.dir.close()
		return nil, err
	}
	go m.loop()
	return l, nil
}

// Name is "wire".
func (l *Link) Name() string { return "wire" }

// Medium is Ethernet.
func (l *Link) Medium() link.Medium { return link.Ethernet }

// MTU is that of the options, bytes.
func (l *Link) MTU() int { return l.net.MTU() }

// HardwareAddr is this member's address.
func (l *Link) HardwareAddr() net.HardwareAddr { return l.net.HardwareAddr() }

// Features are checksum and segmentation, up to 65535 bytes.
func (l *Link) Features() link.Features {
	return link.Features{Csum: true, TSO: true, GSOMax: link.MaxPacket}
}

// Stats counts what has passed so far.
func (l *Link) Stats() Stats { return l.net.Stats() }

// Start begins delivery, once. Frames that came before are lost.
func (l *Link) Start(recv func(pkts []link.Packet)) error {
	if l.closed.Load() {
		return net.ErrClosed
	}
	if !l.recv.CompareAndSwap(nil, &recv) {
		return fmt.Errorf("wire: already started: %w", unix.EALREADY)
	}
	return nil
}

// Close leaves the wire. It must not be called by the receive function.
// Further calls do nothing.
func (l *Link) Close() error {
	l.once.Do(func() {
		l.closed.Store(true)
		_ = l.lot.Close()
		<-l.done
	})
	return nil
}

// Send sends frames. A frame for a known address goes to its member, any other
// to all. While a member's buffer is full, Send waits for it, at most 10 ms;
// then its frames are lost, and until it reads again no Send waits for it any
// more: a member that is stopped stalls the others once. Errors: EMSGSIZE for a
// frame larger than the MTU, EINVAL for one without an Ethernet header,
// net.ErrClosed.
func (l *Link) Send(pkts []link.Packet) (int, error) {
	if l.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := l.net.Send(pkts)
	if err != nil {
		err = fmt.Errorf("wire: %w", err)
	}
	return n, err
}
