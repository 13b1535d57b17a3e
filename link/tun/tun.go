// Package tun is a link through a TUN or TAP device of the kernel.
//
// A TUN device carries IP packets, a TAP device Ethernet frames; this end of it
// is the stack, the other end the kernel's interface of that name. Both carry a
// virtio network header in front of each packet (IFF_VNET_HDR), so that 64 KiB
// of TCP cross in one piece and checksums inside one machine are not computed.
//
// The kernel delivers what we write as if it had come in on the interface, in
// the writing thread: a Send of TCP data returns after the kernel's receiver has
// run. There is therefore no queue to fill, and no backpressure, in that
// direction; in the other, the kernel drops what exceeds the device's
// txqueuelen (ip-link(8)).
package tun

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/internal/park"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/rawio"
)

// Kind is a kind of device.
type Kind int

// The kinds.
const (
	TUN Kind = iota // carries IP packets
	TAP             // carries Ethernet frames
)

// String is "tun" or "tap".
func (k Kind) String() string {
	if k == TAP {
		return "tap"
	}
	return "tun"
}

// Options of a link; the zero value works.
type Options struct {
	// MTU is given to a device that Open creates, and believed of a descriptor
	// given to OpenFD; 0 is the device's own (1500 if it cannot be seen).
	MTU int
	// HostAddrs are given to the host's end of a device that Open creates, and
	// only then: usually the stack's gateways, with their prefix lengths.
	HostAddrs []netip.Prefix
	// HardwareAddr is the address of this end of a TAP; nil makes a random one.
	HardwareAddr net.HardwareAddr
	// Logger hears why delivery ended early; nil is silence.
	Logger *slog.Logger
}

// Sizes of what is read at once. The arena takes three packets of the largest
// size, or a whole batch of ordinary ones.
const (
	maxFrame  = link.VnetLen + link.MaxPacket + 14 + 4 // with a VLAN tag
	arenaSize = 4 * 65536
	batch     = 64
)

// maxPieces is the most pieces, the vnet header included, that are sent as they
// are; a packet in more is copied together first.
const maxPieces = 64

// Link is a link through a TUN or TAP device.
type Link struct {
	name   string
	medium link.Medium
	mtu    int
	hw     net.HardwareAddr
	vnet   int // bytes of vnet header, 0 or link.VnetLen
	log    *slog.Logger
	lot    *park.Lot // of fd

	mu      sync.RWMutex // held for reading while fd is written to
	fd      int          // -1 after Close
	started bool
	done    chan struct{} // closed when the reading loop has ended
}

var _ link.Link = (*Link)(nil)

// newLink makes the link; an mtu of 0 is the device's.
func newLink(fd int, opts Options, mtu int) (*Link, error) {
	var ifr unix.Ifreq
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, &ifr); err != nil {
		return nil, fmt.Errorf("TUNGETIFF: %w", err)
	}
	l := &Link{name: ifr.Name(), fd: fd, done: make(chan struct{}), log: opts.Logger}
	flags := ifr.Uint16()
	if flags&unix.IFF_TAP != 0 {
		l.medium = link.Ethernet
	}
	if flags&unix.IFF_VNET_HDR != 0 {
		l.vnet = link.VnetLen
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, link.VnetLen); err != nil {
			return nil, fmt.Errorf("TUNSETVNETHDRSZ: %w", err)
		}
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunModeOffloads); err != nil {
			return nil, fmt.Errorf("TUNSETOFFLOAD: %w", err)
		}
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.mtu = mtu; mtu == 0 {
		l.mtu = deviceMTU(l.name)
	}
	if l.medium == link.Ethernet {
		l.hw = opts.HardwareAddr
		if l.hw == nil {
			l.hw = randomAddr()
		}
		if len(l.hw) != 6 {
			return nil, fmt.Errorf("hardware address %v: %w", l.hw, unix.EINVAL)
		}
	}
	var err error
	if l.lot, err = park.New(fd, "tun"); err != nil {
		return nil, err
	}
	return l, nil
}

// deviceMTU is the MTU of the device, 1500 if it cannot be seen.
func deviceMTU(name string) int {
	if ifr, err := request(name, unix.SIOCGIFMTU, nil); err == nil {
		if mtu := int(ifr.Uint32()); mtu > 0 && mtu <= link.MaxPacket {
			return mtu
		}
	}
	return 1500
}

// randomAddr is a random, locally administered unicast address (IEEE 802 8.2).
func randomAddr() net.HardwareAddr {
	a := make(net.HardwareAddr, 6)
	_, _ = rand.Read(a) // never fails
	a[0] = a[0]&^1 | 2
	return a
}

// Name is the device's name.
func (l *Link) Name() string { return l.name }

// Medium is IP for a TUN, Ethernet for a TAP.
func (l *Link) Medium() link.Medium { return l.medium }

// MTU is the device's MTU as it was when the link was opened, bytes.
func (l *Link) MTU() int { return l.mtu }

// HardwareAddr is this end's address, not the kernel's, on a TAP; nil on a TUN.
func (l *Link) HardwareAddr() net.HardwareAddr { return l.hw }

// Features are checksum and segmentation, where the device has vnet headers.
func (l *Link) Features() link.Features {
	if l.vnet == 0 {
		return link.Features{}
	}
	return link.Features{Csum: true, TSO: true, GSOMax: link.MaxPacket}
}

// Send writes packets to the device. A packet that the kernel refuses is lost,
// the others are sent; the error is that of the first lost one, as write(2) of
// a TUN device: EIO while the interface is down, EBADFD when it was deleted,
// EINVAL for offloads that contradict the packet. net.ErrClosed after Close.
func (l *Link) Send(pkts []link.Packet) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.fd < 0 {
		return 0, net.ErrClosed
	}
	var (
		sent  int
		first error
		store [maxPieces]unix.Iovec // filled by index: append would move it to the heap
		hdr   [link.VnetLen]byte
	)
	for i := range pkts {
		p := &pkts[i]
		n := 0
		if l.vnet > 0 {
			link.EncodeVnet(hdr[:], &p.Offload)
			store[0] = rawio.Iovec(hdr[:])
			n = 1
		} else if p.NeedsCsum || p.GSO != link.GSONone {
			first = keep(first, unix.EINVAL)
			continue
		}
		if len(p.Bufs) <= len(store)-n {
			for _, b := range p.Bufs {
				store[n] = rawio.Iovec(b)
				n++
			}
		} else {
			store[n] = rawio.Iovec(p.AppendTo(make([]byte, 0, p.Len())))
			n++
		}
		if _, e := rawio.Writev(l.fd, store[:n]); e != 0 {
			first = keep(first, e)
			continue
		}
		sent++
	}
	if first != nil {
		return sent, fmt.Errorf("write %s: %w", l.name, first)
	}
	return sent, nil
}

func keep(first error, e unix.Errno) error {
	if first != nil {
		return first
	}
	return e
}

// Start begins delivery, once.
func (l *Link) Start(recv func(pkts []link.Packet)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return net.ErrClosed
	}
	if l.started {
		return errors.New("tun: already started")
	}
	l.started = true
	go l.loop(l.lot, l.fd, recv)
	return nil
}

// Close stops delivery and closes the device. It must not be called by the
// receive function. Further calls do nothing.
func (l *Link) Close() error {
	l.mu.Lock()
	fd, started := l.fd, l.started
	l.fd = -1
	l.mu.Unlock()
	if fd < 0 {
		return nil
	}
	if err := l.lot.Close(); err != nil {
		return fmt.Errorf("close %s: %w", l.name, err)
	}
	if started {
		<-l.done
	}
	return nil
}
