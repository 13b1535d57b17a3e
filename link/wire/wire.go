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
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/rawio"
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
	// Spin is how long to look for more frames before sleeping, while traffic
	// flows; 0 is never.
	Spin time.Duration
	// Logger hears of members that come and go; nil is silence.
	Logger *slog.Logger
}

// Stats counts frames since the wire was joined.
type Stats struct {
	Members   int    // others now
	Sent      uint64 // messages to members; a flooded frame counts for each
	TxDropped uint64 // messages lost because a member did not take them in time
	Received  uint64 // delivered
	RxDropped uint64 // malformed, larger than the MTU
	RxOther   uint64 // for other members
}

const (
	ethLen    = 14
	minMTU    = 68 // RFC 791
	sndbuf    = 1 << 20
	maxFrame  = ethLen + 4 + link.MaxPacket
	maxMACs   = 64  // addresses learned from one member
	sendWait  = 10  // ms that a Send waits for one member
	backlog   = 512 // connections not yet accepted
	maxLinger = 256 // accepted connections that have not said who they are
)

// Link is one member's end of a wire.
type Link struct {
	dir    *directory
	self   string
	hw     net.HardwareAddr
	mtu    int
	all    bool // promiscuous
	spin   time.Duration
	log    *slog.Logger
	waker  *rawio.Waker
	recv   atomic.Pointer[func([]link.Packet)]
	closed atomic.Bool
	table  atomic.Pointer[table]
	once   sync.Once
	done   chan struct{}

	sent, txDropped, received, rxDropped, rxOther atomic.Uint64
}

var _ link.Link = (*Link)(nil)

// addr is an Ethernet address.
type addr [6]byte

func (a addr) multicast() bool { return a[0]&1 != 0 }

// table is who is where; a new one is made for every change.
type table struct {
	peers []*peer
	macs  map[addr]*peer
}

// Open joins the wire of directory dir, which is made if it is missing.
func Open(dir string, opts Options) (link.Link, error) {
	l, err := open(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("wire:%s: %w", dir, err)
	}
	return l, nil
}

func open(dir string, opts Options) (*Link, error) {
	l := &Link{mtu: opts.MTU, hw: opts.HardwareAddr, all: opts.Promiscuous, log: opts.Logger, spin: opts.Spin, done: make(chan struct{})}
	if l.mtu == 0 {
		l.mtu = 1500
	}
	if l.mtu < minMTU || l.mtu > link.MaxPacket {
		return nil, fmt.Errorf("mtu %d is not within %d and %d: %w", l.mtu, minMTU, link.MaxPacket, unix.EINVAL)
	}
	if l.hw == nil {
		l.hw = make(net.HardwareAddr, 6)
		_, _ = rand.Read(l.hw)
		l.hw[0] = l.hw[0]&^1 | 2 // unicast, locally administered
	}
	if len(l.hw) != 6 || l.hw[0]&1 != 0 {
		return nil, fmt.Errorf("hardware address %v is no Ethernet unicast address: %w", l.hw, unix.EINVAL)
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.table.Store(&table{})
	var err error
	if l.dir, err = openDir(dir); err != nil {
		return nil, err
	}
	m, err := newMesh(l)
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
func (l *Link) MTU() int { return l.mtu }

// HardwareAddr is this member's address.
func (l *Link) HardwareAddr() net.HardwareAddr { return l.hw }

// Features are checksum and segmentation, up to 65535 bytes.
func (l *Link) Features() link.Features {
	return link.Features{Csum: true, TSO: true, GSOMax: link.MaxPacket}
}

// Stats counts what has passed so far.
func (l *Link) Stats() Stats {
	return Stats{
		Members: len(l.table.Load().peers), Sent: l.sent.Load(), TxDropped: l.txDropped.Load(),
		Received: l.received.Load(), RxDropped: l.rxDropped.Load(), RxOther: l.rxOther.Load(),
	}
}

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
		l.waker.Wake()
		<-l.done
		l.waker.Close()
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
	t := l.table.Load()
	sent := 0
	var first error
	for i := 0; i < len(pkts); {
		if err := l.check(&pkts[i]); err != nil {
			if first == nil {
				first = fmt.Errorf("wire: send of %d bytes: %w", pkts[i].Len(), err)
			}
			i++
			continue
		}
		to := t.find(&pkts[i])
		j := i + 1
		for j < len(pkts) && t.find(&pkts[j]) == to && l.check(&pkts[j]) == nil {
			j++
		}
		if to != nil {
			sent += to.send(l, pkts[i:j])
		} else {
			for _, p := range t.peers {
				p.send(l, pkts[i:j])
			}
			sent += j - i
		}
		i = j
	}
	return sent, first
}

// check refuses a frame that no member would accept.
func (l *Link) check(p *link.Packet) error {
	n := p.Len()
	if n < ethLen {
		return unix.EINVAL
	}
	if n > maxFrame || p.GSO == link.GSONone && n > l.mtu+ethLen+4 {
		return unix.EMSGSIZE
	}
	return nil
}

// find is the member to which the frame goes, nil for all. The frame has at
// least ethLen bytes.
func (t *table) find(p *link.Packet) *peer {
	var dst addr
	n := 0
	for _, b := range p.Bufs {
		if n += copy(dst[n:], b); n == len(dst) {
			break
		}
	}
	if dst.multicast() {
		return nil
	}
	return t.macs[dst]
}

// with is a copy of the table with p added.
func (t *table) with(p *peer) *table {
	return &table{peers: append(t.peers[:len(t.peers):len(t.peers)], p), macs: t.macs}
}

// without is a copy of the table with p and its addresses removed.
func (t *table) without(p *peer) *table {
	c := &table{macs: make(map[addr]*peer, len(t.macs))}
	for _, q := range t.peers {
		if q != p {
			c.peers = append(c.peers, q)
		}
	}
	for a, q := range t.macs {
		if q != p {
			c.macs[a] = q
		}
	}
	return c
}

// learned is a copy of the table where a is at p.
func (t *table) learned(a addr, p *peer) *table {
	c := &table{peers: t.peers, macs: make(map[addr]*peer, len(t.macs)+1)}
	for b, q := range t.macs {
		c.macs[b] = q
	}
	c.macs[a] = p
	return c
}
