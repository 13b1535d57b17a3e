// Package udp is a virtual Ethernet between processes on different machines,
// over UDP, with no privilege.
//
// The members share a key. Each has a session with every other (a full mesh, see
// link/internal/mesh), so that a frame crosses in one step. It is enough that a
// member knows the address of one other: members tell each other of those that
// they have.
//
// # Messages
//
// A session begins with a handshake of two messages (handshake.go), in which
// either side proves that it has the key, and from which both get keys of the
// session's own. Everything after it is encrypted and authenticated by
// ChaCha20-Poly1305 (RFC 8439) with a counter as the nonce, which the receiver
// also uses to refuse what comes twice (RFC 6479). A frame of TCP that is still
// to be cut is cut here, and what arrives is joined again.
//
//	type 1, initiation   type(1) 0(3) sender(4) ephemeral(32) {id(16) mtu(2)} tag(16) mac(16)
//	type 2, reply        type(1) 0(3) sender(4) receiver(4) ephemeral(32) {id(16) mtu(2)} tag(16) mac(16)
//	type 3, frame        type(1) 0(3) receiver(4) counter(8) {Ethernet frame} tag(16)
//	type 4, control      type(1) 0(3) receiver(4) counter(8) {operation(1) ...} tag(16)
//
// Numbers are big-endian, lengths in bytes, braces mean encrypted. An empty control
// message only shows that its sender is alive.
//
// # What is protected, and from whom
//
// Somebody who has not the key but sees, changes, delays, repeats and forges
// packets learns how many, how large, when and between whom. They can lose packets
// and so disturb or end the traffic. They cannot read or change a frame, or make
// one arrive twice; what they record they cannot read either when they learn the
// key later. An old initiation, repeated, may be answered, within a limit, and leads
// to nothing. No clock is needed, and a member that starts anew begins with new
// keys. What one without the key sends costs the receiver one hash, and never
// an answer.
//
// Members trust each other as machines on one Ethernet do: one can take another's
// address. Whoever has the key is a member.
package udp

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/internal/park"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/mesh"
)

// DefaultMTU is the largest network-layer packet, bytes, that with all headers
// fits in 1500: 14 of Ethernet and 4 of a VLAN tag, 32 of ours, 48 of UDP and IPv6.
const DefaultMTU = 1400

const sockbuf = 4 << 20 // bytes of each of the socket's buffers

// Options of a wire over UDP; only Key is needed.
type Options struct {
	// Key is the members' secret.
	Key Key
	// MTU is the largest network-layer packet, bytes; 0 is DefaultMTU. Where the
	// path is narrower than that and the headers, IP fragments the datagrams.
	// It should be the same for all members: a larger frame is dropped where
	// it arrives.
	MTU int
	// HardwareAddr is this member's address; nil makes a random, locally
	// administered one.
	HardwareAddr net.HardwareAddr
	// Logger hears of members that come and go; nil is silence.
	Logger *slog.Logger

	rekey time.Duration // after which keys are old; 0: rekeyAfter
}

// Stats counts frames since the wire was joined.
type Stats = mesh.Stats

// Link is one member's end of a wire over UDP.
type Link struct {
	net   *mesh.Mesh[*peer]
	log   *slog.Logger
	lot   *park.Lot
	v6    bool
	local netip.AddrPort
	tx    transmitter
	born  time.Time
	recv  atomic.Pointer[func([]link.Packet)]
	early early
	// settled says that the others have been met, as far as they can be.
	settled atomic.Bool
	closed  atomic.Bool
	once    sync.Once
	done    chan struct{}
	cancel  context.CancelFunc
}

var _ link.Link = (*Link)(nil)

// Open joins a wire: spec is LISTEN,PEER..., see [ParseSpec]. It does not wait for
// other members; those that cannot be reached are tried again for as long as the
// link is open. Errors: those of bind(2), an MTU that cannot be.
func Open(spec string, opts Options) (*Link, error) {
	l, err := open(spec, opts)
	if err != nil {
		return nil, fmt.Errorf("udp:%s: %w", spec, err)
	}
	return l, nil
}

func open(spec string, opts Options) (*Link, error) {
	listen, peers, err := ParseSpec(spec)
	if err != nil {
		return nil, err
	}
	l := &Link{log: opts.Logger, born: time.Now(), done: make(chan struct{})}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if opts.MTU == 0 {
		opts.MTU = DefaultMTU
	}
	if most := link.MaxPacket - 200; opts.MTU > most {
		return nil, fmt.Errorf("mtu %d: the largest is %d: %w", opts.MTU, most, unix.EINVAL)
	}
	if l.net, err = mesh.New[*peer](mesh.Config{MTU: opts.MTU, HardwareAddr: opts.HardwareAddr}); err != nil {
		return nil, err
	}
	noise, err := newSuite(opts.Key)
	if err != nil {
		return nil, err
	}
	fd, v6, err := socket(listen)
	if err != nil {
		return nil, err
	}
	l.v6, l.tx.fd, l.tx.arena = v6, fd, make([]byte, 0, txArena)
	if l.local, err = localAddr(fd); err == nil {
		l.lot, err = park.New(fd, "udp")
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	m := newMembers(ctx, l, noise, fd)
	_, _ = rand.Read(m.me.id[:]) // never fails
	m.me.mtu = opts.MTU
	m.rekey = cmp.Or(opts.rekey, rekeyAfter)
	for _, p := range peers {
		m.targets = append(m.targets, &target{name: p})
	}
	go m.loop()
	return l, nil
}

func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
}

// now is the time since the link was opened.
func (l *Link) now() time.Duration { return time.Since(l.born) }

// LocalAddr is where the link listens.
func (l *Link) LocalAddr() netip.AddrPort { return l.local }

// Name is "udp".
func (l *Link) Name() string { return "udp" }

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
		return fmt.Errorf("udp: already started: %w", unix.EALREADY)
	}
	return nil
}

// Send sends frames: one for a known address to its member, any other to all.
// While the socket's buffer is full, it waits, at most 10 ms; then frames are
// lost. The first frames that nobody is there to take, or not yet everybody, wait
// for new members, for a second. Errors: EMSGSIZE for a frame larger than the MTU, EINVAL
// for one without an Ethernet header, net.ErrClosed.
func (l *Link) Send(pkts []link.Packet) (int, error) {
	if l.closed.Load() {
		return 0, net.ErrClosed
	}
	if none := len(l.net.Members()) == 0; none || !l.settled.Load() {
		now := l.now()
		l.early.keep(pkts, now, none)
		l.settled.Store(now > earlyFor)
	}
	n, err := l.net.Send(pkts)
	if err != nil {
		err = fmt.Errorf("udp: %w", err)
	}
	return n, err
}

// Close leaves the wire. It must not be called by the receive function.
// Further calls do nothing.
func (l *Link) Close() error {
	var err error
	l.once.Do(func() {
		l.closed.Store(true)
		for _, p := range l.net.Members() {
			p.control([]byte{opLeave})
		}
		l.cancel()
		l.tx.close()
		err = l.lot.Close()
		<-l.done
	})
	return err
}

// early is what was sent before there was anybody to send it to: the first
// question of a program (ARP, say) would otherwise be lost, and asked again only
// after a second.
type early struct {
	mu     sync.Mutex
	frames [][]byte
	at     []time.Duration
}

const earlyFrames, earlyFor = 16, time.Second

// keep keeps frames for members to come: those for everybody, or all.
func (e *early) keep(pkts []link.Packet, now time.Duration, all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range pkts {
		if pkts[i].NeedsCsum || pkts[i].GSO != link.GSONone {
			continue
		}
		f := pkts[i].AppendTo(nil)
		if len(f) == 0 || !all && f[0]&1 == 0 {
			continue
		}
		if len(e.frames) == earlyFrames {
			e.frames, e.at = e.frames[1:], e.at[1:]
		}
		e.frames = append(e.frames, f)
		e.at = append(e.at, now)
	}
}

// take is what has been kept and is not too old.
func (e *early) take(now time.Duration) (pkts []link.Packet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, f := range e.frames {
		if now-e.at[i] < earlyFor {
			pkts = append(pkts, link.Packet{Bufs: [][]byte{f}})
		}
	}
	if len(pkts) == 0 {
		e.frames, e.at = nil, nil
	}
	return pkts
}
