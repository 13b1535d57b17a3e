package host_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/host"
	"golang.org/x/sys/unix"
)

var localhost = loopbacks[0].ip

func TestRefused(t *testing.T) {
	e := newEngine(t, host.Config{})
	l := listen(t, e, unix.AF_INET, localhost)
	dead := l.LocalAddr()
	l.Close()
	c := watch(socket(t, e, unix.AF_INET, unix.SOCK_STREAM))
	check(t, "connect", c.ep.Connect(dead), unix.EINPROGRESS)
	c.until(t, unix.POLLERR)
	if m := c.ep.Readiness(); m != unix.POLLIN|unix.POLLOUT|unix.POLLERR|unix.POLLHUP|unix.POLLRDHUP {
		t.Errorf("readiness of a refused connection is %#x", m)
	}
	check(t, "SO_ERROR", c.ep.TakeError(), unix.ECONNREFUSED)
	check(t, "SO_ERROR again", c.ep.TakeError(), 0)
}

func TestFreshStream(t *testing.T) {
	e := newEngine(t, host.Config{})
	ep := socket(t, e, unix.AF_INET, unix.SOCK_STREAM)
	if m := ep.Readiness(); m != unix.POLLOUT|unix.POLLHUP {
		t.Errorf("readiness is %#x, want OUT|HUP", m)
	}
	src := from([]byte("x"))
	_, errno := ep.WriteFrom(src)
	check(t, "write", errno, unix.EPIPE)
	if src.Len() != 1 {
		t.Error("a byte was taken that could not be sent")
	}
	_, errno = ep.ReadTo(&sink{})
	check(t, "read", errno, unix.ENOTCONN)
	_, errno = ep.Accept()
	check(t, "accept", errno, unix.EINVAL)
	if a := ep.LocalAddr(); a != (stack.Addr{}) {
		t.Errorf("address is %v, want the zero Addr", a)
	}
}

// TestNotifyEdges: one arrival, one notification; none without an arrival.
func TestNotifyEdges(t *testing.T) {
	e := newEngine(t, host.Config{})
	c, s := pair(t, e, unix.AF_INET, localhost)
	time.Sleep(20 * time.Millisecond)
	for range 3 {
		start := s.count.Load()
		sendAll(t, c, []byte("x"))
		s.until(t, unix.POLLIN)
		time.Sleep(20 * time.Millisecond)
		if n := s.count.Load() - start; n != 1 {
			t.Errorf("%d notifications of one arrival", n)
		}
		recvTo(t, s, &sink{}, 1)
	}
	s.ep.Notify(nil)
	start := s.count.Load()
	sendAll(t, c, []byte("x"))
	time.Sleep(20 * time.Millisecond)
	if s.count.Load() != start {
		t.Error("notified after Notify(nil)")
	}
}

// TestReadToFullWriter: a writer that takes nothing loses nothing, and the
// bytes that the endpoint holds count.
func TestReadToFullWriter(t *testing.T) {
	e := newEngine(t, host.Config{})
	c, s := pair(t, e, unix.AF_INET, localhost)
	sendAll(t, c, []byte("0123456789"))
	s.until(t, unix.POLLIN)
	_, errno := s.ep.ReadTo(fullWriter{})
	check(t, "ReadTo", errno, unix.EAGAIN)
	if in, _ := s.ep.Queued(); in != 10 {
		t.Errorf("%d bytes queued, want 10", in)
	}
	if s.ep.Readiness()&unix.POLLIN == 0 {
		t.Error("not readable with bytes held")
	}
	got := sink{limit: 3}
	recvTo(t, s, &got, 10)
	if got.String() != "0123456789" {
		t.Errorf("got %q", got.String())
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, unix.EAGAIN }

// TestWriteUntilFull: bytes taken beyond the kernel's room count, block further
// writes, and reach the peer before the FIN of Shutdown.
func TestWriteUntilFull(t *testing.T) {
	e := newEngine(t, host.Config{})
	c, s := pair(t, e, unix.AF_INET, localhost)
	total := fill(t, c)
	if c.ep.Readiness()&unix.POLLOUT != 0 {
		t.Error("writable while full")
	}
	if _, out := c.ep.Queued(); out == 0 || out > total {
		t.Errorf("%d bytes in the send queue, %d written", out, total)
	}
	check(t, "shutdown", c.ep.Shutdown(unix.SHUT_WR), 0)
	if c.ep.Readiness()&unix.POLLOUT == 0 {
		t.Error("not writable after SHUT_WR, where a write answers EPIPE at once")
	}
	_, errno := c.ep.WriteFrom(from([]byte("x")))
	check(t, "write after SHUT_WR", errno, unix.EPIPE)
	var got sink
	recvTo(t, s, &got, total+1)
	if got.Len() != total {
		t.Errorf("%d bytes before FIN, %d written", got.Len(), total)
	}
}

// fill writes until there is no room, and returns how much was taken.
func fill(t *testing.T, c *watcher) int {
	t.Helper()
	total, chunk := 0, make([]byte, 1<<20)
	for range 100 {
		n, errno := c.ep.WriteFrom(from(chunk))
		if errno == unix.EAGAIN {
			return total
		}
		check(t, "WriteFrom", errno, 0)
		total += n
	}
	t.Fatal("never full")
	return 0
}

func TestCloseFlushes(t *testing.T) {
	e := newEngine(t, host.Config{})
	c, s := pair(t, e, unix.AF_INET, localhost)
	total := fill(t, c)
	c.ep.Close()
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	e.Drain(short)
	if short.Err() == nil {
		t.Error("Drain returned with bytes left over")
	}
	var got sink
	recvTo(t, s, &got, total+1)
	if got.Len() != total {
		t.Errorf("%d bytes before FIN, %d written", got.Len(), total)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	e.Drain(ctx)
	if ctx.Err() != nil {
		t.Error("Drain did not return")
	}
}

// TestLingerTimeout: a peer that takes nothing does not keep a socket for ever.
func TestLingerTimeout(t *testing.T) {
	e := newEngine(t, host.Config{LingerTimeout: 50 * time.Millisecond})
	c, s := pair(t, e, unix.AF_INET, localhost)
	fill(t, c)
	c.ep.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	e.Drain(ctx)
	if ctx.Err() != nil {
		t.Fatal("Drain did not return")
	}
	s.until(t, unix.POLLERR)
}

// TestReset: how the ways to end a connection look to the peer.
func TestReset(t *testing.T) {
	linger := func(on, seconds int) []byte { return append(bytes4(on), bytes4(seconds)...) }
	tests := []struct {
		name string
		end  func(t *testing.T, s *watcher)
		want stack.Errno // 0: FIN
	}{
		{"close", func(t *testing.T, s *watcher) { recvTo(t, s, &sink{}, 4); s.ep.Close() }, 0},
		{"close with unread bytes in the kernel", func(_ *testing.T, s *watcher) { s.ep.Close() }, unix.ECONNRESET},
		{"close with unread bytes held", func(_ *testing.T, s *watcher) { s.ep.ReadTo(fullWriter{}); s.ep.Close() }, unix.ECONNRESET},
		{"abort", func(t *testing.T, s *watcher) { recvTo(t, s, &sink{}, 4); s.ep.Abort() }, unix.ECONNRESET},
		{"linger 0", func(t *testing.T, s *watcher) {
			recvTo(t, s, &sink{}, 4)
			check(t, "SO_LINGER", s.ep.SetOption(unix.SOL_SOCKET, unix.SO_LINGER, linger(1, 0)), 0)
			s.ep.Close()
		}, unix.ECONNRESET},
		{"linger 5 does not wait", func(t *testing.T, s *watcher) {
			recvTo(t, s, &sink{}, 4)
			check(t, "SO_LINGER", s.ep.SetOption(unix.SOL_SOCKET, unix.SO_LINGER, linger(1, 5)), 0)
			fill(t, s)
			_ = s.ep.Shutdown(unix.SHUT_WR)
			start := time.Now()
			s.ep.Close()
			if d := time.Since(start); d > time.Second {
				t.Errorf("Close took %v", d)
			}
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, host.Config{})
			c, s := pair(t, e, unix.AF_INET, localhost)
			sendAll(t, c, []byte("data"))
			s.until(t, unix.POLLIN)
			tt.end(t, s)
			for {
				n, errno := c.ep.ReadTo(&sink{})
				if n > 0 {
					continue
				}
				if errno == unix.EAGAIN {
					c.until(t, unix.POLLIN)
					continue
				}
				check(t, "read", errno, tt.want)
				break
			}
		})
	}
}

func TestOptions(t *testing.T) {
	e := newEngine(t, host.Config{})
	tcp := socket(t, e, unix.AF_INET, unix.SOCK_STREAM)
	tests := []struct{ level, name, set, want int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 7, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, 10000, 20000}, // doubled
		{unix.SOL_SOCKET, unix.SO_SNDBUF, 1, 4608},      // at least SOCK_MIN_SNDBUF
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77, 77},
		{unix.IPPROTO_IP, unix.IP_TOS, 0x10, 0x10},
	}
	for _, tt := range tests {
		check(t, "setsockopt", tcp.SetOption(tt.level, tt.name, bytes4(tt.set)), 0)
		if got := intOption(t, tcp, tt.level, tt.name); got != tt.want {
			t.Errorf("option %d,%d set to %d is %d, want %d", tt.level, tt.name, tt.set, got, tt.want)
		}
	}
	check(t, "unknown option", tcp.SetOption(unix.SOL_SOCKET, 9999, bytes4(1)), unix.ENOPROTOOPT)
	check(t, "short value", tcp.SetOption(unix.IPPROTO_TCP, unix.TCP_NODELAY, []byte{1}), unix.EINVAL)
	check(t, "bad level", tcp.SetOption(9999, 1, bytes4(1)), unix.ENOPROTOOPT)
	var short [1]byte
	n, errno := tcp.GetOption(unix.SOL_SOCKET, unix.SO_TYPE, short[:])
	if errno != 0 || n != 1 || short[0] != unix.SOCK_STREAM {
		t.Errorf("SO_TYPE into one byte: %d, %v, %v", n, errno, short)
	}
	name := make([]byte, 16)
	n, errno = tcp.GetOption(unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	if errno != 0 || n == 0 || name[0] == 0 {
		t.Errorf("TCP_CONGESTION: %q, %v", name[:n], errno)
	}
}

// TestForeignOptions: values that point into the caller's memory are refused,
// and nothing is read or written there.
func TestForeignOptions(t *testing.T) {
	e := newEngine(t, host.Config{})
	tcp := socket(t, e, unix.AF_INET, unix.SOCK_STREAM)
	code := []unix.SockFilter{{Code: 6, K: 0xffff}}
	prog := unix.SockFprog{Len: 1, Filter: &code[0]}
	val := unsafe.Slice((*byte)(unsafe.Pointer(&prog)), unsafe.Sizeof(prog))
	check(t, "SO_ATTACH_FILTER", tcp.SetOption(unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, val), unix.ENOPROTOOPT)
	n, errno := tcp.GetOption(unix.SOL_SOCKET, unix.SO_GET_FILTER, make([]byte, 8))
	if n != 0 || errno != 0 {
		t.Errorf("SO_GET_FILTER: %d, %v", n, errno)
	}
	_, errno = tcp.GetOption(unix.IPPROTO_TCP, unix.TCP_ZEROCOPY_RECEIVE, make([]byte, 64))
	check(t, "TCP_ZEROCOPY_RECEIVE", errno, unix.ENOPROTOOPT)
	check(t, "IPT_SO_SET_REPLACE", tcp.SetOption(unix.IPPROTO_IP, 64, make([]byte, 96)), unix.ENOPROTOOPT)
}

func TestPacketInfo(t *testing.T) {
	e := newEngine(t, host.Config{})
	a, b := socket(t, e, unix.AF_INET, unix.SOCK_DGRAM), watch(socket(t, e, unix.AF_INET, unix.SOCK_DGRAM))
	check(t, "bind", b.ep.Bind(stack.Addr{}), 0)
	check(t, "IP_PKTINFO", b.ep.SetOption(unix.IPPROTO_IP, unix.IP_PKTINFO, bytes4(1)), 0)
	check(t, "IP_RECVTTL", b.ep.SetOption(unix.IPPROTO_IP, unix.IP_RECVTTL, bytes4(1)), 0)
	// The other way, too: the source address and the TTL by ancillary data.
	src := netip.MustParseAddr("127.0.0.2")
	out := stack.Message{
		Data: []byte("x"), HasAddr: true,
		Addr:    stack.Addr{IP: localhost, Port: b.ep.LocalAddr().Port},
		Control: unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: src.As4()}),
	}
	_, errno := a.Send(&out)
	check(t, "send", errno, 0)
	b.until(t, unix.POLLIN)
	var in stack.Message
	check(t, "recv", b.ep.Recv(&in), 0)
	if in.Addr.IP != src {
		t.Errorf("source is %v, want %v", in.Addr.IP, src)
	}
	cmsgs, err := unix.ParseSocketControlMessage(in.Control)
	if err != nil || len(cmsgs) != 2 {
		t.Fatalf("%d control messages, %v", len(cmsgs), err)
	}
	for _, c := range cmsgs {
		switch c.Header.Type {
		case unix.IP_PKTINFO:
			if dst := netip.AddrFrom4([4]byte(c.Data[8:12])); dst != localhost {
				t.Errorf("destination is %v", dst)
			}
		case unix.IP_TTL:
			if ttl := binary.NativeEndian.Uint32(c.Data); ttl != 64 {
				t.Errorf("TTL is %d", ttl)
			}
		default:
			t.Errorf("control message of type %d", c.Header.Type)
		}
	}
}

func TestErrorQueue(t *testing.T) {
	e := newEngine(t, host.Config{})
	gone := socket(t, e, unix.AF_INET, unix.SOCK_DGRAM)
	check(t, "bind", gone.Bind(stack.Addr{IP: localhost}), 0)
	dead := gone.LocalAddr()
	gone.Close()
	a := watch(socket(t, e, unix.AF_INET, unix.SOCK_DGRAM))
	check(t, "IP_RECVERR", a.ep.SetOption(unix.IPPROTO_IP, unix.IP_RECVERR, bytes4(1)), 0)
	var m stack.Message
	check(t, "empty queue", a.ep.RecvError(&m), unix.EAGAIN)
	_, errno := a.ep.Send(&stack.Message{Data: []byte("lost"), Addr: dead, HasAddr: true})
	check(t, "send", errno, 0)
	a.until(t, unix.POLLERR)
	check(t, "recv error", a.ep.RecvError(&m), 0)
	if string(m.Data) != "lost" || m.Addr != dead || m.Flags&unix.MSG_ERRQUEUE == 0 {
		t.Errorf("data %q, address %v, flags %#x", m.Data, m.Addr, m.Flags)
	}
	cmsgs, err := unix.ParseSocketControlMessage(m.Control)
	if err != nil || len(cmsgs) != 1 || cmsgs[0].Header.Type != unix.IP_RECVERR {
		t.Fatalf("control is %v, %v", cmsgs, err)
	}
	if en := unix.Errno(binary.NativeEndian.Uint32(cmsgs[0].Data)); en != unix.ECONNREFUSED {
		t.Errorf("ee_errno is %v", en)
	}
}

// TestPing sends an ICMP echo from whichever socket the kernel permits.
func TestPing(t *testing.T) {
	e := newEngine(t, host.Config{})
	for _, typ := range []int{unix.SOCK_DGRAM, unix.SOCK_RAW} {
		ep, errno := e.Socket(unix.AF_INET, typ, unix.IPPROTO_ICMP)
		if errno == unix.EACCES || errno == unix.EPERM {
			t.Logf("type %d: %v", typ, errno)
			continue
		}
		check(t, "socket", errno, 0)
		t.Cleanup(ep.Close)
		w := watch(ep)
		echo := []byte{8, 0, 0, 0, 0x12, 0x34, 0, 1, 'p', 'i', 'n', 'g'}
		binary.BigEndian.PutUint16(echo[2:], checksum(echo))
		_, errno = ep.Send(&stack.Message{Data: echo, Addr: stack.Addr{IP: localhost}, HasAddr: true})
		check(t, "send", errno, 0)
		w.until(t, unix.POLLIN)
		var m stack.Message
		check(t, "recv", ep.Recv(&m), 0)
		if !bytes.HasSuffix(m.Data, []byte("ping")) {
			t.Errorf("received % x", m.Data)
		}
	}
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return ^uint16(sum + sum>>16)
}

func TestSocketErrors(t *testing.T) {
	e := newEngine(t, host.Config{})
	tests := []struct {
		family, typ, proto int
		want               stack.Errno
	}{
		{unix.AF_UNIX, unix.SOCK_STREAM, 0, unix.EAFNOSUPPORT},
		{unix.AF_INET, 9, 0, unix.ESOCKTNOSUPPORT},
		{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_UDP, unix.EPROTONOSUPPORT},
		{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_NONBLOCK, 0, unix.EINVAL},
	}
	for _, tt := range tests {
		_, errno := e.Socket(tt.family, tt.typ, tt.proto)
		if tt.typ == 9 && errno == unix.EINVAL { // beyond SOCK_MAX
			continue
		}
		check(t, "socket", errno, tt.want)
	}
}

func TestInterfaces(t *testing.T) {
	e := newEngine(t, host.Config{})
	list := e.Interfaces()
	if len(list) == 0 {
		t.Fatal("no interfaces")
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip(err)
	}
	got := list[0]
	if got.Name != "lo" || got.Index != lo.Index || got.MTU != lo.MTU ||
		got.HardwareType != unix.ARPHRD_LOOPBACK || got.Flags&unix.IFF_LOOPBACK == 0 {
		t.Errorf("loopback is %+v", got)
	}
	if len(got.Addrs) == 0 || got.Addrs[0] != netip.MustParsePrefix("127.0.0.1/8") {
		t.Errorf("loopback has %v", got.Addrs)
	}
}

// TestClosed: every method of a closed endpoint answers, and harms nobody.
func TestClosed(t *testing.T) {
	e := newEngine(t, host.Config{})
	ep := socket(t, e, unix.AF_INET, unix.SOCK_STREAM)
	ep.Close()
	ep.Close()
	ep.Abort()
	ep.Notify(func() {})
	check(t, "bind", ep.Bind(stack.Addr{}), unix.EBADF)
	check(t, "connect", ep.Connect(stack.Addr{}), unix.EBADF)
	check(t, "SO_ERROR", ep.TakeError(), unix.EBADF)
	_, errno := ep.WriteFrom(from([]byte("x")))
	check(t, "write", errno, unix.EBADF)
	_, errno = ep.ReadTo(&sink{})
	check(t, "read", errno, unix.EBADF)
	if m := ep.Readiness(); m != unix.POLLNVAL {
		t.Errorf("readiness is %#x", m)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, errno := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); errno != unix.ENOBUFS {
		t.Errorf("socket of a closed engine: %v", errno)
	}
}
