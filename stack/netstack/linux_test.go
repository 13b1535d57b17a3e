package netstack

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// The options of the engine are compared with those of the kernel that the
// test runs on: the same socket is made in both, and every option is got and
// set with many values and lengths. Run it as root and as somebody else.

// optionSocket is what setsockopt(2) and getsockopt(2) act on.
type optionSocket interface {
	set(level, name int, val []byte) stack.Errno
	get(level, name int, val []byte) (int, stack.Errno)
	close()
}

// kernelSocket is a socket of the kernel.
type kernelSocket int

func (k kernelSocket) set(level, name int, val []byte) stack.Errno {
	p := append(val[:len(val):len(val)], 0)
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(k), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&p[0])), uintptr(len(val)), 0)
	return e
}

func (k kernelSocket) get(level, name int, val []byte) (int, stack.Errno) {
	p := append(val[:len(val):len(val)], 0)
	n := uint32(len(val))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(k), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&p[0])), uintptr(unsafe.Pointer(&n)), 0)
	copy(val, p)
	return int(n), e
}

func (k kernelSocket) close() { unix.Close(int(k)) }

// engineSocket is a socket of the engine.
type engineSocket struct{ stack.Endpoint }

func (e engineSocket) set(level, name int, val []byte) stack.Errno {
	return e.SetOption(level, name, val)
}

func (e engineSocket) get(level, name int, val []byte) (int, stack.Errno) {
	return e.GetOption(level, name, val)
}

func (e engineSocket) close() { e.Close() }

type socketKind struct {
	name                string
	family, typ, proto  int
	needsRoot, needsGID bool
}

var socketKinds = []socketKind{
	{"tcp4", unix.AF_INET, unix.SOCK_STREAM, 0, false, false},
	{"tcp6", unix.AF_INET6, unix.SOCK_STREAM, 0, false, false},
	{"udp4", unix.AF_INET, unix.SOCK_DGRAM, 0, false, false},
	{"udp6", unix.AF_INET6, unix.SOCK_DGRAM, 0, false, false},
	{"ping4", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, false, true},
	{"ping6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6, false, true},
	{"raw4", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, true, false},
	{"raw6", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, true, false},
	{"raw4 udp", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP, true, false},
	{"raw6 udp", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP, true, false},
}

var optionLevels = []struct {
	name      string
	level     int
	last      int
	increment int
}{
	{"SOL_SOCKET", unix.SOL_SOCKET, 90, 1},
	{"SOL_IP", unix.SOL_IP, 60, 1},
	{"SOL_IPV6", unix.SOL_IPV6, 80, 1},
	{"SOL_TCP", unix.SOL_TCP, 50, 1},
	{"SOL_UDP", unix.SOL_UDP, 105, 1},
	{"SOL_RAW", unix.SOL_RAW, 8, 1},
	{"SOL_ICMPV6", unix.SOL_ICMPV6, 3, 1},
	{"SOL_NETLINK", unix.SOL_NETLINK, 2, 1},
}

var optionValues = []int64{-1 << 31, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 63, 64, 87, 88, 119, 121, 127, 128, 255, 256, 536, 1000,
	1279, 1280, 32767, 32768, 65535, 65536, 100000, 200000, 1 << 20, 3000000, 1<<31 - 1}

var optionLengths = []int{0, 1, 2, 3, 4, 5, 8, 12, 16, 20, 41, 64}

// transcript gets and sets one option in every way and says what came of it.
func transcript(mk func() optionSocket, level, name int) []string {
	var lines []string
	show := func(s optionSocket, n int) string {
		val := make([]byte, n)
		got, err := s.get(level, name, val)
		if err != 0 {
			return unix.ErrnoName(err)
		}
		return fmt.Sprintf("%d %x", got, val[:min(got, n)])
	}
	s := mk()
	for _, n := range optionLengths {
		lines = append(lines, fmt.Sprintf("get len %d: %s", n, show(s, n)))
	}
	s.close()
	for _, v := range optionValues {
		s := mk()
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(v))
		err := s.set(level, name, b[:])
		lines = append(lines, fmt.Sprintf("set %d: %s, get %s", v, unix.ErrnoName(err), show(s, 16)))
		s.close()
	}
	for _, n := range optionLengths {
		s := mk()
		b := make([]byte, n)
		if n > 0 {
			b[0] = 1
		}
		err := s.set(level, name, b)
		lines = append(lines, fmt.Sprintf("set len %d: %s, get %s", n, unix.ErrnoName(err), show(s, 16)))
		s.close()
	}
	return lines
}

// difference is a way in which the engine differs from Linux, and why.
type difference struct {
	level, name int
	lines       string // those that begin so; empty for all
	why         string
	on          string // only sockets whose name ends so
}

var knownDifferences = []difference{
	{unix.SOL_SOCKET, unix.SO_COOKIE, "", "a number of its own for every socket", ""},
	{unix.SOL_SOCKET, unix.SO_PEERNAME, "get", "a port of the system's choice", "connected"},
	{unix.SOL_SOCKET, unix.SO_PEERNAME, "set", "a port of the system's choice", "connected"},
	{unix.SOL_SOCKET, unix.SO_INCOMING_CPU, "", "of a connection, the processor of the last packet", "connected"},
	{unix.SOL_IP, 52, "", "IP_PROTOCOL is the local port of streams and UDP", ""},
	{unix.SOL_TCP, unix.TCP_MAXSEG, "", "of a connection, half the peer's window at most in Linux", "connected"},
	{unix.SOL_TCP, unix.TCP_WINDOW_CLAMP, "", "of a connection, Linux sets it to the receive buffer", "connected"},
	{unix.SOL_SOCKET, unix.SO_NETNS_COOKIE, "", "the number of the network namespace", ""},
	{unix.SOL_SOCKET, unix.SO_ATTACH_BPF, "", "depends on the descriptors of the process", ""},
	{unix.SOL_SOCKET, 52, "", "SO_ATTACH_REUSEPORT_EBPF: depends on the descriptors of the process", ""},
	{unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, "set len 16", "filters are not offered", ""},
	{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, "", "an index that is no interface's is not kept by netstack", ""},
	{unix.SOL_SOCKET, 80, "", "SO_DEVMEM_DONTNEED: devices' memory is not offered", ""},
	{unix.SOL_TCP, unix.TCP_CC_INFO, "", "depends on the algorithm", ""},
	{unix.SOL_TCP, unix.TCP_TIMESTAMP, "", "a clock", ""},
	{unix.SOL_TCP, unix.TCP_INFO, "", "last_data_sent and its like count from a clock", ""},
	{unix.SOL_TCP, unix.TCP_REPAIR, "", "repair is not offered", ""},
	{unix.SOL_TCP, unix.TCP_REPAIR_QUEUE, "", "repair is not offered", ""},
	{unix.SOL_TCP, unix.TCP_REPAIR_WINDOW, "", "repair is not offered", ""},
	{unix.SOL_TCP, unix.TCP_QUEUE_SEQ, "", "repair is not offered", ""},
	{unix.SOL_TCP, unix.TCP_FASTOPEN_KEY, "set len 16", "fast open is not offered", ""},
	{unix.SOL_UDP, unix.UDP_SEGMENT, "", "segmentation is not offered", ""},
	{unix.SOL_UDP, unix.UDP_GRO, "", "segmentation is not offered", ""},
	{unix.SOL_UDP, 100, "", "UDP_ENCAP: encapsulation of IPsec is not offered", ""},
	{unix.SOL_IP, unix.IP_OPTIONS, "set", "options other than end and no-operation are not offered", ""},
	{unix.SOL_IP, unix.IP_UNBLOCK_SOURCE, "set len 12", "source filters are not offered", ""},
	{unix.SOL_IP, unix.IP_BLOCK_SOURCE, "set len 12", "source filters are not offered", ""},
	{unix.SOL_IP, unix.IP_ADD_SOURCE_MEMBERSHIP, "set len 12", "source filters are not offered", ""},
	{unix.SOL_IP, unix.IP_DROP_SOURCE_MEMBERSHIP, "set len 12", "source filters are not offered", ""},
	{unix.SOL_IPV6, unix.IPV6_HOPOPTS, "set len", "extension headers are not sent", ""},
	{unix.SOL_IPV6, unix.IPV6_RTHDRDSTOPTS, "set len", "extension headers are not sent", ""},
	{unix.SOL_IPV6, unix.IPV6_DSTOPTS, "set len", "extension headers are not sent", ""},
	{unix.SOL_TCP, unix.TCP_ZEROCOPY_RECEIVE, "", "mapped receive buffers are not offered", ""},
}

// hostDifferences are those of a test that runs as somebody else, and so in
// the system's own network namespace.
var hostDifferences = []difference{
	{unix.SOL_IP, unix.IP_DROP_MEMBERSHIP, "", "depends on the routes", ""},
	{unix.SOL_IPV6, unix.IPV6_MULTICAST_IF, "", "depends on the interfaces", ""},
	{unix.SOL_TCP, unix.TCP_CONGESTION, "", "the default algorithm is the system's", ""},
	{unix.SOL_SOCKET, unix.SO_SNDBUF, "", "of a connection, depends on the algorithm", "connected"},
	{unix.SOL_SOCKET, unix.SO_MEMINFO, "", "of a connection, depends on the algorithm", "connected"},
}

func isKnown(what string, level, name int, line string) bool {
	known := knownDifferences
	if os.Geteuid() != 0 {
		known = append(hostDifferences[:len(hostDifferences):len(hostDifferences)], known...)
	}
	for _, d := range known {
		if d.level == level && d.name == name && strings.HasPrefix(line, d.lines) && strings.HasSuffix(what, d.on) {
			return true
		}
	}
	return false
}

func sysctl(name string, field int) int {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if field >= len(f) {
		return 0
	}
	n, _ := strconv.Atoi(f[field])
	return n
}

func TestOptionsLikeLinux(t *testing.T) {
	root := os.Geteuid() == 0
	if root {
		// A namespace of its own, where ICMP echo sockets are allowed. The
		// thread is not unlocked, so it ends with the test.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Logf("no network namespace of its own: %v", err)
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0); err != nil {
			t.Logf("no ICMP echo sockets: %v", err)
		}
		loopbackUp(t)
	}
	e, err := New(Config{
		Admin:     root,
		RcvBufMax: sysctl("net/core/rmem_max", 0),
		SndBufMax: sysctl("net/core/wmem_max", 0),
		TCPRcvMax: sysctl("net/ipv4/tcp_rmem", 2),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, k := range socketKinds {
		fd, err := unix.Socket(k.family, k.typ, k.proto)
		if err != nil {
			t.Logf("%s: not possible here: %v", k.name, err)
			continue
		}
		unix.Close(fd)
		native := func() optionSocket { return kernelSocket(nativeSocket(t, k)) }
		ours := func() optionSocket {
			ep, err := e.Socket(k.family, k.typ, k.proto)
			if err != 0 {
				t.Fatalf("%s: %v", k.name, err)
			}
			return engineSocket{ep}
		}
		compare(t, k.name, native, ours)
		if k.proto != 0 {
			continue
		}
		compare(t, k.name+" connected", func() optionSocket {
			return nativeConnected(t, k)
		}, func() optionSocket {
			return ourConnected(t, e, k)
		})
		if k.typ == unix.SOCK_STREAM {
			compare(t, k.name+" listening", func() optionSocket {
				fd := nativeSocket(t, k)
				if err := unix.Listen(fd, 5); err != nil {
					t.Fatal(err)
				}
				return kernelSocket(fd)
			}, func() optionSocket {
				ep, _ := e.Socket(k.family, k.typ, k.proto)
				must(t, "listen", ep.Listen(5), 0)
				return engineSocket{ep}
			})
		}
	}
}

func nativeSocket(t *testing.T, k socketKind) int {
	fd, err := unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC, k.proto)
	if err != nil {
		t.Fatal(err)
	}
	if k.typ == unix.SOCK_STREAM { // the system's default may be another
		_ = unix.SetsockoptString(fd, unix.SOL_TCP, unix.TCP_CONGESTION, "cubic")
	}
	return fd
}

// connectedSocket is a socket connected over loopback, with its other end.
type connectedSocket struct {
	optionSocket
	others []optionSocket
}

func (c connectedSocket) close() {
	c.optionSocket.close()
	for _, o := range c.others {
		o.close()
	}
}

func nativeConnected(t *testing.T, k socketKind) optionSocket {
	l, c := nativeSocket(t, k), nativeSocket(t, k)
	var lo unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if k.family == unix.AF_INET6 {
		lo = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	if err := unix.Bind(l, lo); err != nil {
		t.Fatal(err)
	}
	if k.typ == unix.SOCK_STREAM {
		if err := unix.Listen(l, 5); err != nil {
			t.Fatal(err)
		}
	}
	to, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	// Reset at the end, so that no port stays in TIME_WAIT.
	_ = unix.SetsockoptLinger(c, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err := unix.Connect(c, to); err != nil {
		t.Fatal(err)
	}
	return connectedSocket{kernelSocket(c), []optionSocket{kernelSocket(l)}}
}

func ourConnected(t *testing.T, e *Engine, k socketKind) optionSocket {
	l, _ := e.Socket(k.family, k.typ, k.proto)
	c, _ := e.Socket(k.family, k.typ, k.proto)
	lo := addr("127.0.0.1:0")
	if k.family == unix.AF_INET6 {
		lo = addr("[::1]:0")
	}
	must(t, "bind", l.Bind(lo), 0)
	if k.typ == unix.SOCK_STREAM {
		must(t, "listen", l.Listen(5), 0)
	}
	w := wrap(t, c)
	must(t, "linger", c.SetOption(unix.SOL_SOCKET, unix.SO_LINGER, []byte{1, 0, 0, 0, 0, 0, 0, 0}), 0)
	must(t, "connect", w.dial(l.LocalAddr()), 0)
	return connectedSocket{engineSocket{c}, []optionSocket{engineSocket{l}}}
}

// compare reports what options of the sockets that the two functions make
// differ.
func compare(t *testing.T, what string, native, ours func() optionSocket) {
	t.Helper()
	for _, l := range optionLevels {
		for name := 0; name <= l.last; name++ {
			want := transcript(native, l.level, name)
			got := transcript(ours, l.level, name)
			var diff []string
			for i := range want {
				if want[i] != got[i] && !isKnown(what, l.level, name, want[i]) {
					diff = append(diff, fmt.Sprintf("\tLinux:  %s\n\tengine: %s", want[i], got[i]))
				}
			}
			if len(diff) > 0 {
				t.Errorf("%s: %s %d: %d lines differ, such as\n%s", what, l.name, name, len(diff), strings.Join(diff[:min(len(diff), 2)], "\n"))
			}
		}
	}
}

// loopbackUp brings lo up in the thread's network namespace.
func loopbackUp(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Logf("bring lo up: %v", err)
	}
}
