package netstack

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// ways makes netstack's routing table agree with a host's: for each
// destination the same source address, and the MTU of the way.
//
// The table has a route for each of the host's subnets and a default route.
// Where the host says something else of a destination, a route for it alone is
// put before them.
type ways struct {
	engine *Engine
	link   int // the link's MTU, bytes

	mu    sync.Mutex
	table []way // by prefix length, longest first
	alone map[netip.Addr]way
	paths map[netip.Addr]pathMTU // learned
	known atomic.Int32           // len(paths)
}

// way is what is known of the way to a destination.
type way struct {
	dst netip.Prefix
	src netip.Addr // none: netstack's choice
	mtu int        // bytes
}

// pathMTU is a path MTU that was learned from an ICMP error.
type pathMTU struct {
	mtu   int
	until tcpip.MonotonicTime
}

const (
	// maxAlone bounds the routes for one destination, maxPaths the path MTUs.
	maxAlone, maxPaths = 1024, 4096
	// mtuExpires is Linux's net.ipv4.route.mtu_expires, minPathMTU its
	// net.ipv4.route.min_pmtu, and minMTU6 the least of IPv6 (RFC 8200 5).
	mtuExpires          = 10 * time.Minute
	minPathMTU, minMTU6 = 552, 1280
)

func (w *ways) init(e *Engine, mtu int) {
	w.engine, w.link = e, mtu
	w.alone = make(map[netip.Addr]way)
	w.paths = make(map[netip.Addr]pathMTU)
}

// Destinations that only a default route leads to (RFC 5737, RFC 3849).
var (
	far4 = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	far6 = netip.MustParseAddr("2001:db8::1")
)

// reset makes the table anew, for the host's addresses.
func (w *ways) reset(addrs []netip.Prefix) {
	var table []way
	add := func(p netip.Prefix, probe netip.Addr) {
		r := way{dst: p.Masked(), mtu: w.link}
		if src, mtu, err := w.engine.shared.host.Source(probe); err == 0 {
			r.src, r.mtu = src, w.clamp(mtu)
		}
		table = append(table, r)
	}
	for _, p := range addrs {
		a := p.Addr()
		if p.IsSingleIP() || a.IsLoopback() && a.Is4() {
			add(p, a)
			continue
		}
		add(netip.PrefixFrom(a, a.BitLen()), a)
		// A neighbour stands for its subnet.
		if n := neighbour(p); n.IsValid() {
			add(p, n)
		}
	}
	add(netip.PrefixFrom(netip.IPv4Unspecified(), 0), far4)
	add(netip.PrefixFrom(netip.IPv6Unspecified(), 0), far6)
	slices.SortStableFunc(table, func(a, b way) int { return cmp.Compare(b.dst.Bits(), a.dst.Bits()) })

	w.mu.Lock()
	defer w.mu.Unlock()
	w.table = table
	w.forgetLocked()
}

// neighbour is an address of the subnet that is not the host's own.
func neighbour(p netip.Prefix) netip.Addr {
	for _, a := range []netip.Addr{p.Addr().Next(), p.Addr().Prev()} {
		if a.IsValid() && p.Contains(a) && a != p.Masked().Addr() {
			return a
		}
	}
	return netip.Addr{}
}

func (r way) route() tcpip.Route {
	return tcpip.Route{
		Destination: tcpip.AddressWithPrefix{Address: addrBytes(r.dst.Addr()), PrefixLen: r.dst.Bits()}.Subnet(),
		NIC:         firstLinkNIC,
		SourceHint:  fromIP(r.src),
		MTU:         uint32(r.mtu),
	}
}

// to makes the table right for dst and gives the source address; dst has no
// mapped form. Multicast and broadcast are left to netstack.
func (w *ways) to(dst netip.Addr) (netip.Addr, stack.Errno) {
	if !dst.IsValid() || dst.IsMulticast() || dst == broadcast4 {
		return netip.Addr{}, 0
	}
	src, mtu, err := w.engine.shared.host.Source(dst)
	if err != 0 {
		return netip.Addr{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pathLocked(dst); p != 0 && (mtu == 0 || p < mtu) {
		mtu = p
	}
	want := way{netip.PrefixFrom(dst, dst.BitLen()), src, w.clamp(mtu)}
	have, ok := w.alone[dst]
	if !ok {
		have = w.lookLocked(dst)
	}
	if have.src == want.src && have.mtu == want.mtu {
		return src, 0
	}
	if !ok && len(w.alone) >= maxAlone {
		w.forgetLocked()
	}
	w.alone[dst] = want
	w.engine.st.ReplaceRoute(want.route())
	return src, 0
}

// clamp is an MTU that is no larger than the link's; 0 is the link's.
func (w *ways) clamp(mtu int) int {
	if mtu == 0 || mtu > w.link {
		return w.link
	}
	return mtu
}

// lookLocked is what the table says of dst.
func (w *ways) lookLocked(dst netip.Addr) way {
	for _, r := range w.table {
		if r.dst.Contains(dst) {
			return r
		}
	}
	return way{}
}

// forgetLocked leaves only the table.
func (w *ways) forgetLocked() {
	clear(w.alone)
	routes := make([]tcpip.Route, 0, len(w.table))
	for _, r := range w.table {
		routes = append(routes, r.route())
	}
	w.engine.st.SetRouteTable(routes)
}

// learn notes what an ICMP error says of the MTU of the path to dst.
func (w *ways) learn(dst netip.Addr, mtu int) {
	least := minPathMTU
	if dst.Is6() {
		least = minMTU6
	}
	mtu = max(mtu, least)
	now := w.engine.st.Clock().NowMonotonic()
	w.mu.Lock()
	defer w.mu.Unlock()
	if p, ok := w.paths[dst]; ok && p.mtu <= mtu && now.Before(p.until) {
		return // a path does not become wider by an error (RFC 1191 6.3)
	}
	if len(w.paths) >= maxPaths {
		clear(w.paths)
	}
	w.paths[dst] = pathMTU{mtu: mtu, until: now.Add(mtuExpires)}
	w.known.Store(int32(len(w.paths)))
}

// pathLocked is the path MTU learned, 0 if there is none.
func (w *ways) pathLocked(dst netip.Addr) int {
	p, ok := w.paths[dst]
	if !ok {
		return 0
	}
	if !w.engine.st.Clock().NowMonotonic().Before(p.until) {
		delete(w.paths, dst)
		w.known.Store(int32(len(w.paths)))
		return 0
	}
	return p.mtu
}

// pathMTU is the path MTU that was learned of dst, 0 if none was.
func (w *ways) pathMTU(dst netip.Addr) int {
	if w.known.Load() == 0 {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pathLocked(dst)
}

// localMTU is the MTU between the host's own addresses, bytes. Linux lets no
// packet that is not to be segmented grow by a link header (bpf_skb_change_head)
// beyond SKB_MAX_ALLOC, 16064 where pages have 4 KiB.
const localMTU = 16000

// mtu is the MTU of the way to dst, 0 if there is none. TCP, whose segments are
// cut below anyway, keeps to the link's MTU on the host itself too.
func (w *ways) mtu(dst netip.Addr) int {
	if w.engine.shared.isLocal(dst) {
		return max(localMTU, w.link)
	}
	_, mtu, err := w.engine.shared.host.Source(dst)
	if err != 0 {
		return 0
	}
	mtu = w.clamp(mtu)
	if p := w.pathMTU(dst); p != 0 {
		mtu = min(mtu, p)
	}
	return mtu
}
