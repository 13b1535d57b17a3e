package host

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// table is what the kernel says of the host's interfaces, addresses and
// routes, read by rtnetlink(7) and followed while it changes.
type table struct {
	log    *slog.Logger
	events *os.File // a netlink socket
	done   chan struct{}

	ask    sync.Mutex // of handle
	handle *netlink.Handle

	mu         sync.RWMutex
	device     string // the lease's own, which is not shown
	interfaces []stack.Interface
	addrs      []netip.Prefix
	mtus       map[int]int // by interface index
	ways       map[netip.Addr]way
	generation uint64 // of the above; a lookup begun before a change is not kept
	changed    func()
}

// way is an answer of the routing table.
type way struct {
	src netip.Addr
	mtu int
	err unix.Errno
}

const (
	// maxWays bounds the answers that are kept.
	maxWays = 8192
	// settle is how long changes are waited for, which come in groups.
	settle = 10 * time.Millisecond
	// answerTime bounds a request to the kernel.
	answerTime = time.Second
)

// groups are the multicast groups of what matters.
var groups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
}

func newTable(device string, log *slog.Logger) (*table, error) {
	t := &table{log: log, device: device, done: make(chan struct{})}
	var err error
	// Follow before reading, so that nothing falls between.
	if t.events, err = subscribe(); err != nil {
		return nil, fmt.Errorf("follow the host's addresses: %w", err)
	}
	if t.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		_ = t.events.Close()
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	if err = errors.Join(t.handle.SetSocketTimeout(answerTime), t.read()); err != nil {
		_ = t.events.Close()
		t.handle.Close()
		return nil, fmt.Errorf("read the host's addresses: %w", err)
	}
	go t.follow()
	return t, nil
}

// subscribe opens a socket that hears of changes. It is not blocking, so that
// Close wakes who reads it.
func subscribe() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}

func (t *table) close() {
	t.mu.Lock()
	t.changed = nil
	t.mu.Unlock()
	_ = t.events.Close()
	<-t.done
	t.ask.Lock()
	t.handle.Close()
	t.handle = nil
	t.ask.Unlock()
}

// ignore sets the name of the lease's own device.
func (t *table) ignore(device string) {
	t.mu.Lock()
	t.device = device
	t.mu.Unlock()
}

// read reads links and addresses, and forgets the answers.
func (t *table) read() error {
	t.ask.Lock()
	defer t.ask.Unlock()
	if t.handle == nil {
		return nil
	}
	links, err := t.handle.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list links: %w", err)
	}
	addrs, err := t.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list addresses: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.interfaces, t.mtus = interfaces(links, addrs, ownPrefix(t.device))
	t.addrs = shared(t.interfaces)
	t.ways = make(map[netip.Addr]way)
	t.generation++
	return nil
}

// ownPrefix is what the names of rootd's devices have in common.
func ownPrefix(device string) string { return strings.TrimRight(device, "0123456789") }

// interfaces makes the kernel's list ours; without rootd's devices, and
// without addresses that are still being checked or were found to be another's.
func interfaces(links []netlink.Link, addrs []netlink.Addr, own string) ([]stack.Interface, map[int]int) {
	mtus := make(map[int]int)
	var list []stack.Interface
	for _, l := range links {
		a := l.Attrs()
		mtus[a.Index] = a.MTU
		if l.Type() == "tuntap" && own != "" && strings.HasPrefix(a.Name, own) {
			continue
		}
		i := stack.Interface{
			Index:        a.Index,
			Name:         a.Name,
			MTU:          a.MTU,
			Flags:        uint16(a.RawFlags),
			HardwareType: hardwareType(a),
			HardwareAddr: a.HardwareAddr,
		}
		for _, addr := range addrs {
			if addr.LinkIndex != a.Index || addr.IPNet == nil ||
				addr.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && addr.Flags&unix.IFA_F_OPTIMISTIC == 0 {
				continue
			}
			ip, ok := netip.AddrFromSlice(addr.IP)
			bits, _ := addr.Mask.Size()
			if ok {
				i.Addrs = append(i.Addrs, netip.PrefixFrom(ip.Unmap(), bits))
			}
		}
		list = append(list, i)
	}
	slices.SortStableFunc(list, func(a, b stack.Interface) int { return cmp.Compare(a.Index, b.Index) })
	return list, mtus
}

// hardwareType is the ARPHRD_* number; the library gives its name.
func hardwareType(a *netlink.LinkAttrs) uint16 {
	switch a.EncapType {
	case "loopback":
		return unix.ARPHRD_LOOPBACK
	case "ether":
		return unix.ARPHRD_ETHER
	}
	return unix.ARPHRD_NONE
}

// shared are the addresses that a stack shares: those of interfaces that are
// up, without link-local ones, and loopback in any case.
func shared(list []stack.Interface) []netip.Prefix {
	addrs := []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 8),
		netip.PrefixFrom(netip.IPv6Loopback(), 128),
	}
	for _, i := range list {
		if i.Flags&unix.IFF_UP == 0 {
			continue
		}
		for _, p := range i.Addrs {
			if ip := p.Addr(); ip.Is6() && ip.IsLinkLocalUnicast() || slices.Contains(addrs, p) {
				continue
			}
			addrs = append(addrs, p)
		}
	}
	return addrs
}

// follow reads the table anew when the kernel says that something changed.
func (t *table) follow() {
	defer close(t.done)
	buf := make([]byte, 64<<10)
	for {
		// What changed is not looked at; ENOBUFS, too many changes, is one.
		_, err := t.events.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.log.Warn("follow the host's addresses", "err", err)
			return
		}
		time.Sleep(settle)
		for err = nil; err == nil || errors.Is(err, unix.ENOBUFS); {
			_ = t.events.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err = t.events.Read(buf)
		}
		_ = t.events.SetReadDeadline(time.Time{})
		if err := t.read(); err != nil {
			t.log.Warn("read the host's addresses", "err", err)
			continue
		}
		t.mu.RLock()
		f := t.changed
		t.mu.RUnlock()
		if f != nil {
			f()
		}
	}
}

// Addrs are the host's addresses, those of loopback included and link-local
// ones of IPv6 left out.
func (l *Link) Addrs() []netip.Prefix {
	l.table.mu.RLock()
	defer l.table.mu.RUnlock()
	return l.table.addrs
}

// Interfaces are the host's interfaces.
func (l *Link) Interfaces() []stack.Interface {
	l.table.mu.RLock()
	defer l.table.mu.RUnlock()
	return l.table.interfaces
}

// OnChange sets the function that is called after addresses or routes changed.
func (l *Link) OnChange(f func()) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.table.changed = f
}

// Source is the address that the kernel would send from to dst and the MTU of
// the way in bytes; ENETUNREACH and the like where there is none.
func (l *Link) Source(dst netip.Addr) (src netip.Addr, mtu int, err unix.Errno) {
	t := l.table
	t.mu.RLock()
	w, ok := t.ways[dst]
	generation := t.generation
	t.mu.RUnlock()
	if ok {
		return w.src, w.mtu, w.err
	}
	w = t.look(dst)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.generation == generation {
		if len(t.ways) >= maxWays {
			clear(t.ways)
		}
		t.ways[dst] = w
	}
	return w.src, w.mtu, w.err
}

// look asks the kernel (RTM_GETROUTE).
func (t *table) look(dst netip.Addr) way {
	t.ask.Lock()
	defer t.ask.Unlock()
	if t.handle == nil {
		return way{err: unix.ENETUNREACH}
	}
	rs, err := t.handle.RouteGet(dst.AsSlice())
	if err != nil || len(rs) == 0 {
		var e unix.Errno
		if !errors.As(err, &e) {
			e = unix.ENETUNREACH
		}
		return way{err: e}
	}
	r := rs[0]
	switch r.Type {
	case unix.RTN_UNREACHABLE:
		return way{err: unix.EHOSTUNREACH}
	case unix.RTN_PROHIBIT:
		return way{err: unix.EACCES}
	case unix.RTN_BLACKHOLE, unix.RTN_THROW:
		return way{err: unix.EINVAL}
	}
	w := way{mtu: r.MTU}
	if src, ok := netip.AddrFromSlice(r.Src); ok {
		w.src = src.Unmap()
	}
	if w.mtu == 0 {
		t.mu.RLock()
		w.mtu = t.mtus[r.LinkIndex]
		t.mu.RUnlock()
	}
	return w
}
