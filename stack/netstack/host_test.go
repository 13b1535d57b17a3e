package netstack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

// fakeHost is a host with a kernel that has the ports in taken.
type fakeHost struct {
	mu    sync.Mutex
	addrs []netip.Prefix
	taken map[uint16]stack.Errno
	held  map[string]int
	next  uint16
	mtu   int
	ways  map[netip.Addr]netip.Addr
	err   map[netip.Addr]stack.Errno
}

func newFakeHost(addrs ...string) *fakeHost {
	h := &fakeHost{
		taken: make(map[uint16]stack.Errno), held: make(map[string]int), next: 40000,
		ways: make(map[netip.Addr]netip.Addr), err: make(map[netip.Addr]stack.Errno),
	}
	for _, a := range append([]string{"127.0.0.1/8", "::1/128"}, addrs...) {
		h.addrs = append(h.addrs, netip.MustParsePrefix(a))
	}
	return h
}

func (h *fakeHost) Addrs() []netip.Prefix {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.addrs)
}

func (h *fakeHost) Interfaces() []stack.Interface {
	return []stack.Interface{
		{Index: 1, Name: "lo", MTU: 65536, Flags: unix.IFF_UP | unix.IFF_LOOPBACK, Addrs: h.addrs[:2]},
		{Index: 7, Name: "uplink", MTU: 1500, Flags: unix.IFF_UP, Addrs: h.Addrs()[2:]},
	}
}

func (h *fakeHost) Source(dst netip.Addr) (netip.Addr, int, stack.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.err[dst]; err != 0 {
		return netip.Addr{}, 0, err
	}
	if src, ok := h.ways[dst]; ok {
		return src, h.mtu, 0
	}
	if dst.Is4() && dst.IsLoopback() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0, 0
	}
	for _, p := range h.addrs {
		if p.Addr() == dst {
			return dst, 0, 0
		}
	}
	for _, p := range h.addrs[2:] {
		if p.Contains(dst) {
			return p.Addr(), h.mtu, 0
		}
	}
	return netip.Addr{}, 0, unix.ENETUNREACH
}

func (h *fakeHost) key(proto uint8, addr netip.Addr, dual bool, port uint16) string {
	return fmt.Sprint(proto, " ", addr, " ", dual, " ", port)
}

func (h *fakeHost) Reserve(proto uint8, addr netip.Addr, dual bool, port uint16, _ bool) (uint16, stack.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if port == 0 {
		h.next++
		port = h.next
	} else if err := h.taken[port]; err != 0 {
		return 0, err
	}
	h.held[h.key(proto, addr, dual, port)]++
	return port, 0
}

func (h *fakeHost) Release(proto uint8, addr netip.Addr, dual bool, port uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.key(proto, addr, dual, port)
	if h.held[k]--; h.held[k] < 0 {
		panic("released but not held: " + k)
	}
	if h.held[k] == 0 {
		delete(h.held, k)
	}
}

func (h *fakeHost) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}

// waitHeld waits until n ports are held.
func (h *fakeHost) waitHeld(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); h.count() != n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("ports held: %v, want %d", h.held, n)
		}
	}
}

// hairpin is a link that brings back what goes to the host's own addresses, as
// the datapath does.
type hairpin struct {
	*pipeLink
	host *fakeHost
	mtu  int

	mu   sync.Mutex
	sent [][]byte
}

func (l *hairpin) MTU() int { return l.mtu }

func (l *hairpin) Send(pkts []link.Packet) (int, error) {
	for i := range pkts {
		b := pkts[i].AppendTo(nil)
		l.mu.Lock()
		l.sent = append(l.sent, b)
		l.mu.Unlock()
		dst, _ := netip.AddrFromSlice(b[24:40])
		if b[0]>>4 == 4 {
			dst, _ = netip.AddrFromSlice(b[16:20])
		}
		own := dst.IsLoopback() || slices.ContainsFunc(l.host.Addrs(), func(p netip.Prefix) bool { return p.Addr() == dst })
		if !own {
			if _, err := l.pipeLink.Send(pkts[i : i+1]); err != nil {
				return i, err
			}
			continue
		}
		select {
		case l.queue <- [][]byte{b}:
			l.meta <- pkts[i].Offload
		case <-l.done:
		}
	}
	return len(pkts), nil
}

// newShared makes an engine that shares a host's addresses 10.0.0.1 and
// fd00::1, and another on the same cable with 10.0.0.2 and fd00::2.
func newShared(t *testing.T) (*Engine, *fakeHost, *hairpin, *Engine) {
	t.Helper()
	h := newFakeHost("10.0.0.1/24", "fd00::1/64")
	la, lb := newPipe(link.IP, false)
	hp := &hairpin{pipeLink: la, host: h, mtu: 1500}
	e, err := New(Config{Links: []link.Link{hp}, Host: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, h, hp, newEngine(t, lb, "10.0.0.2/24", "fd00::2/64")
}

// TestSharedBind: the host has the last word about a port.
func TestSharedBind(t *testing.T) {
	e, h, _, _ := newShared(t)
	h.taken[80], h.taken[443] = unix.EACCES, unix.EADDRINUSE
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		s := socket(t, e, unix.AF_INET, typ, 0)
		must(t, "bind to 80", s.Bind(addr("0.0.0.0:80")), unix.EACCES)
		must(t, "bind to 443", s.Bind(addr("10.0.0.1:443")), unix.EADDRINUSE)
		must(t, "bind to an address not the host's", s.Bind(addr("10.0.0.9:81")), unix.EADDRNOTAVAIL)
		must(t, "bind to 81", s.Bind(addr("0.0.0.0:81")), 0)
		h.waitHeld(t, 1)
		s2 := socket(t, e, unix.AF_INET, typ, 0)
		must(t, "bind to 81 again", s2.Bind(addr("127.0.0.1:81")), unix.EADDRINUSE)
		h.waitHeld(t, 1)
		must(t, "bind to 127.0.0.9", s2.Bind(addr("127.0.0.9:82")), 0)
		h.waitHeld(t, 2)
		s.Close()
		s2.Close()
		h.waitHeld(t, 0)
		s6 := socket(t, e, unix.AF_INET6, typ, 0)
		must(t, "bind to [::]:0", s6.Bind(addr("[::]:0")), 0)
		if p := s6.LocalAddr().Port; h.held[h.key(uint8(map[int]int{unix.SOCK_STREAM: 6, unix.SOCK_DGRAM: 17}[typ]), netip.IPv6Unspecified(), true, p)] != 1 {
			t.Errorf("port %d is not held for both families: %v", p, h.held)
		}
		s6.Close()
		h.waitHeld(t, 0)
	}
	if _, err := e.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP); err != unix.EPERM {
		t.Errorf("raw socket: %v, want EPERM", err)
	}
}

// TestSharedStream: connections to and from another host, and on the host
// itself, by all its addresses; each port is given back when all is over.
func TestSharedStream(t *testing.T) {
	for _, c := range []struct{ to, from string }{
		{"10.0.0.1:7000", ""}, {"127.0.0.1:7000", ""}, {"127.0.0.77:7000", ""}, {"[::1]:7000", ""}, {"[fd00::1]:7000", ""},
		{"10.0.0.1:7000", "peer"}, {"[fd00::1]:7000", "peer"},
	} {
		t.Run(c.to+" "+c.from, func(t *testing.T) {
			e, h, _, peer := newShared(t)
			l := listen(t, e, unix.AF_INET6, addr("[::]:7000"), 16)
			from := e
			if c.from != "" {
				from = peer
			}
			dst := addr(c.to)
			family := unix.AF_INET
			if dst.IP.Is6() {
				family = unix.AF_INET6
			}
			client := socket(t, from, family, unix.SOCK_STREAM, 0)
			must(t, "connect", client.dial(dst), 0)
			server := l.accept()
			if got, _ := server.PeerAddr(); got.IP.Unmap() != client.LocalAddr().IP {
				t.Errorf("the server sees %v, the client is %v", got, client.LocalAddr())
			}
			client.writeAll([]byte("hello"))
			if got := string(server.readFull(5)); got != "hello" {
				t.Errorf("got %q", got)
			}
			l.Close()
			if n := h.count(); n == 0 {
				t.Error("the port of an accepted connection was given back")
			}
			server.Close()
			if client.readFull(1); from == e {
				h.waitHeld(t, 2) // the server's end is in FIN_WAIT2
			}
			client.Close()
			// The server closed first: its end goes to TIME_WAIT, the client's not.
			h.waitHeld(t, 1)
			if h.held[h.key(6, netip.IPv6Unspecified(), true, 7000)] != 1 {
				t.Errorf("the port in TIME_WAIT is not held: %v", h.held)
			}
		})
	}
}

// TestSharedConnect: source, port and errors of connect(2).
func TestSharedConnect(t *testing.T) {
	e, h, _, peer := newShared(t)
	listen(t, peer, unix.AF_INET, addr("0.0.0.0:7000"), 16)
	s := socket(t, e, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "connect without a way", s.Connect(addr("8.8.8.8:7000")), unix.ENETUNREACH)
	h.err[netip.MustParseAddr("9.9.9.9")] = unix.EHOSTUNREACH
	must(t, "connect without a way", s.Connect(addr("9.9.9.9:7000")), unix.EHOSTUNREACH)
	h.waitHeld(t, 0)
	must(t, "connect to a closed port", s.dial(addr("10.0.0.2:1")), unix.ECONNREFUSED)
	h.waitHeld(t, 0)
	must(t, "connect", s.dial(addr("10.0.0.2:7000")), 0)
	if a := s.LocalAddr(); a.IP.String() != "10.0.0.1" || a.Port <= 40000 {
		t.Errorf("local address %v", a)
	}
	// Another address of the host's for one destination, which is then added.
	h.mu.Lock()
	h.addrs = append(h.addrs, netip.MustParsePrefix("10.0.0.50/32"))
	h.ways[netip.MustParseAddr("10.0.0.2")] = netip.MustParseAddr("10.0.0.50")
	h.mu.Unlock()
	if err := e.HostChanged(); err != nil {
		t.Fatal(err)
	}
	s2 := socket(t, e, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "connect", s2.dial(addr("10.0.0.2:7000")), 0)
	if a := s2.LocalAddr(); a.IP.String() != "10.0.0.50" {
		t.Errorf("local address %v", a)
	}
	u := socket(t, e, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if _, err := u.Send(&stack.Message{Data: []byte("x"), Addr: addr("8.8.8.8:53"), HasAddr: true}); err != unix.ENETUNREACH {
		t.Errorf("send without a way: %v", err)
	}
	must(t, "connect", u.Connect(addr("10.0.0.2:7000")), 0)
	if a := u.LocalAddr(); a.IP.String() != "10.0.0.50" || a.Port <= 40000 {
		t.Errorf("local address of UDP %v", a)
	}
	must(t, "connect again", u.Connect(addr("127.0.0.1:7000")), 0)
	if a := u.LocalAddr(); a.IP.String() != "127.0.0.1" {
		t.Errorf("local address of UDP %v", a)
	}
	must(t, "disconnect", u.Disconnect(), 0)
	u.Close()
	s2.Abort()
	s.Abort()
	h.waitHeld(t, 0)
}

// TestSharedListenUnbound: listen(2) without bind(2) gets a port.
func TestSharedListenUnbound(t *testing.T) {
	e, h, _, _ := newShared(t)
	l := socket(t, e, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "listen", l.Listen(1), 0)
	h.waitHeld(t, 1)
	if p := l.LocalAddr().Port; p <= 40000 {
		t.Errorf("port %d", p)
	}
	l.Close()
	h.waitHeld(t, 0)
}

// TestSharedDatagram: UDP on the host itself, with the source that the host
// prefers, and with IP_PKTINFO.
func TestSharedDatagram(t *testing.T) {
	e, h, _, _ := newShared(t)
	for _, to := range []string{"10.0.0.1:7000", "127.0.0.1:7000", "127.3.3.3:7000", "[::1]:7000", "[fd00::1]:7000"} {
		dst := addr(to)
		family, any := unix.AF_INET, "0.0.0.0:7000"
		if dst.IP.Is6() {
			family, any = unix.AF_INET6, "[::]:7000"
		}
		server := socket(t, e, family, unix.SOCK_DGRAM, 0)
		on := binary.NativeEndian.AppendUint32(nil, 1)
		if family == unix.AF_INET {
			must(t, "IP_PKTINFO", server.SetOption(unix.SOL_IP, unix.IP_PKTINFO, on), 0)
		}
		must(t, "bind", server.Bind(addr(any)), 0)
		client := socket(t, e, family, unix.SOCK_DGRAM, 0)
		_, err := client.Send(&stack.Message{Data: []byte("hello"), Addr: dst, HasAddr: true})
		must(t, "send to "+to, err, 0)
		server.wait(unix.POLLIN)
		var m stack.Message
		must(t, "recv", server.Recv(&m), 0)
		if string(m.Data) != "hello" || m.Addr.Port != client.LocalAddr().Port {
			t.Errorf("to %s: got %q from %v", to, m.Data, m.Addr)
		}
		if want := map[bool]netip.Addr{true: netip.MustParseAddr("127.0.0.1"), false: dst.IP}[dst.IP.Is4() && dst.IP.IsLoopback()]; m.Addr.IP != want {
			t.Errorf("to %s: source %v, want %v", to, m.Addr.IP, want)
		}
		if family == unix.AF_INET {
			want := map[bool]uint32{true: 1, false: 7}[dst.IP.IsLoopback()]
			if got := binary.NativeEndian.Uint32(m.Control[16:]); got != want {
				t.Errorf("to %s: interface %d, want %d", to, got, want)
			}
		}
		server.Close()
		client.Close()
		h.waitHeld(t, 0)
	}
}

// TestSharedPathMTU: an ICMP error makes later datagrams to its destination
// fragments of the path's MTU, and EMSGSIZE where the program wants none.
func TestSharedPathMTU(t *testing.T) {
	for _, c := range []struct {
		family int
		to     string
		mtu    int
	}{{unix.AF_INET, "10.0.0.2:7000", 900}, {unix.AF_INET6, "[fd00::2]:7000", 1300}} {
		e, _, hp, peer := newShared(t)
		server := socket(t, peer, c.family, unix.SOCK_DGRAM, 0)
		dst := addr(c.to)
		must(t, "bind", server.Bind(stack.Addr{Port: dst.Port}), 0)
		client := socket(t, e, c.family, unix.SOCK_DGRAM, 0)
		must(t, "connect", client.Connect(dst), 0)
		data := bytes.Repeat([]byte("0123456789"), 400)
		send := func(largest int) {
			t.Helper()
			hp.mu.Lock()
			hp.sent = nil
			hp.mu.Unlock()
			_, err := client.Send(&stack.Message{Data: data})
			must(t, "send", err, 0)
			server.wait(unix.POLLIN)
			var m stack.Message
			must(t, "recv", server.Recv(&m), 0)
			if !bytes.Equal(m.Data, data) {
				t.Errorf("%d bytes of %d, or wrong ones", len(m.Data), len(data))
			}
			hp.mu.Lock()
			defer hp.mu.Unlock()
			for _, b := range hp.sent {
				if len(b) > largest || b[0]>>4 == 4 && len(hp.sent) > 3 && b[6]&0x40 != 0 {
					t.Errorf("a packet of %d bytes, flags %#x, on a path of %d", len(b), b[6], largest)
				}
			}
		}
		send(1500)
		send(1500)
		hp.mu.Lock()
		tooBig := icmpTooBig(hp.sent[0], c.mtu)
		hp.mu.Unlock()
		hp.queue <- [][]byte{tooBig}
		hp.meta <- link.Offload{}
		for deadline := time.Now().Add(patience); e.shared.ways.pathMTU(dst.IP) != c.mtu; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("path MTU %d, want %d", e.shared.ways.pathMTU(dst.IP), c.mtu)
			}
		}
		send(c.mtu)
		level, name := unix.SOL_IP, unix.IP_MTU_DISCOVER
		if c.family == unix.AF_INET6 {
			level, name = unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER
		}
		must(t, "IP_MTU_DISCOVER", client.SetOption(level, name, binary.NativeEndian.AppendUint32(nil, unix.IP_PMTUDISC_DO)), 0)
		if _, err := client.Send(&stack.Message{Data: data[:1200]}); c.family == unix.AF_INET && err != unix.EMSGSIZE {
			t.Errorf("send of what does not fit: %v", err)
		}
	}
}

// icmpTooBig is the error of a router that could not forward packet b.
func icmpTooBig(b []byte, mtu int) []byte {
	if b[0]>>4 == 4 {
		out := make([]byte, 28, 28+28)
		out[0], out[8], out[9] = 0x45, 64, unix.IPPROTO_ICMP
		copy(out[12:], []byte{10, 0, 0, 2})
		copy(out[16:], b[12:16])
		out[20], out[21] = 3, 4
		binary.BigEndian.PutUint16(out[26:], uint16(mtu))
		out = append(out, b[:28]...)
		binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
		binary.BigEndian.PutUint16(out[10:], ^checksum.Checksum(out[:20], 0))
		binary.BigEndian.PutUint16(out[22:], ^checksum.Checksum(out[20:], 0))
		return out
	}
	out := make([]byte, 48, 48+68)
	out[0], out[6], out[7] = 0x60, unix.IPPROTO_ICMPV6, 64
	copy(out[8:], netip.MustParseAddr("fd00::2").AsSlice())
	copy(out[24:], b[8:24])
	out[40] = 2
	binary.BigEndian.PutUint32(out[44:], uint32(mtu))
	// A router quotes the packet, not netstack's first fragment.
	q := slices.Clone(b[:68])
	if q[6] == unix.IPPROTO_FRAGMENT {
		q = append(q[:40], b[48:68]...)
		q[6] = unix.IPPROTO_UDP
	}
	return sealICMPv6(append(out, q...))
}

// TestFragment: fragments of fragments carry the right offsets.
func TestFragment(t *testing.T) {
	data := make([]byte, 3001)
	for i := range data {
		data[i] = byte(i * 7)
	}
	p4 := append([]byte{0x45, 0, 0, 0, 0, 9, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, data...)
	binary.BigEndian.PutUint16(p4[2:], uint16(len(p4)))
	p6 := append(make([]byte, 40), data...)
	p6[0], p6[6] = 0x60, 17
	for _, mtus := range [][]int{{1500}, {1500, 700}, {577}} {
		in4, in6 := [][]byte{p4}, [][]byte{p6}
		for _, mtu := range mtus {
			var out4, out6 [][]byte
			for _, b := range in4 {
				out4 = append(out4, fragment4(b, mtu, 5)...)
			}
			for _, b := range in6 {
				out6 = append(out6, fragment6(b, mtu, 5)...)
			}
			in4, in6 = out4, out6
		}
		var got4, got6 []byte
		for i, b := range in4 {
			field := binary.BigEndian.Uint16(b[6:])
			if int(field&0x1fff)*8 != len(got4) || (field&0x2000 != 0) != (i < len(in4)-1) || b[5] != 9 || field&0x4000 != 0 ||
				checksum.Checksum(b[:20], 0) != 0xffff || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
				t.Errorf("mtus %v: IPv4 fragment %d: % x", mtus, i, b[:20])
			}
			got4 = append(got4, b[20:]...)
		}
		for i, b := range in6 {
			field := binary.BigEndian.Uint16(b[42:])
			if int(field&^7) != len(got6) || (field&1 != 0) != (i < len(in6)-1) || b[6] != 44 || b[40] != 17 ||
				binary.BigEndian.Uint32(b[44:]) != 5 || int(binary.BigEndian.Uint16(b[4:])) != len(b)-40 {
				t.Errorf("mtus %v: IPv6 fragment %d: % x", mtus, i, b[:48])
			}
			got6 = append(got6, b[48:]...)
		}
		if !bytes.Equal(got4, data) || !bytes.Equal(got6, data) {
			t.Errorf("mtus %v: the pieces are not the whole", mtus)
		}
	}
}
