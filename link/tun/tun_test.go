package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
)

var (
	hostIP = netip.MustParseAddr("10.77.0.1") // the kernel's
	ourIP  = netip.MustParseAddr("10.77.0.2") // the responder's
)

// inNetns runs f in a new network namespace, or skips where that is not
// permitted. The thread of f is not used again.
func inNetns(t testing.TB, f func()) {
	t.Helper()
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errc <- err
			return
		}
		defer close(errc)
		f()
	}()
	if err := <-errc; errors.Is(err, unix.EPERM) {
		t.Skipf("a network namespace takes CAP_SYS_ADMIN: %v", err)
	} else if err != nil {
		t.Fatalf("unshare: %v", err)
	}
}

// setUp makes a device of the kind, with the kernel's end configured.
func setUp(t testing.TB, kind Kind) *Link {
	t.Helper()
	l, err := Open("alptun0", kind, Options{MTU: 1500})
	if err != nil {
		t.Errorf("open: %v", err)
		runtime.Goexit()
	}
	must := func(err error) {
		if err != nil {
			t.Errorf("set up: %v", err)
			runtime.Goexit()
		}
	}
	dev, err := netlink.LinkByName("alptun0")
	must(err)
	if dev.Attrs().Flags&net.FlagUp == 0 {
		t.Error("the device is not up")
	}
	addr, err := netlink.ParseAddr(hostIP.String() + "/24")
	must(err)
	must(netlink.AddrAdd(dev, addr))
	if kind == TAP {
		must(netlink.NeighAdd(&netlink.Neigh{LinkIndex: dev.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: ourIP.AsSlice(), HardwareAddr: l.HardwareAddr()}))
	}
	return l.(*Link)
}

// responder is a small stack: it answers echo requests and UDP datagrams,
// accepts one TCP connection, swallows what comes and can send.
type responder struct {
	l       *Link
	t       testing.TB
	eth     []byte // header of what we send, on a TAP
	biggest atomic.Int64
	bytes   atomic.Int64
	mu      sync.Mutex // of the TCP connection
	next    uint32     // TCP: next expected
	seq     uint32     // TCP: next to send
	flow    layers.TCP
	open    chan struct{}
	acked   atomic.Uint32
	fast    bool // answer UDP without gopacket
}

func (r *responder) recv(pkts []link.Packet) {
	for i := range pkts {
		b := pkts[i].Bufs[0]
		if r.l.medium == link.Ethernet {
			if len(b) < 14 || b[12] != 8 || b[13] != 0 {
				continue
			}
			if r.eth == nil {
				r.eth = append(append(append([]byte{}, b[6:12]...), r.l.hw...), 8, 0)
			}
			b = b[14:]
		}
		if len(b) < 28 || b[0] != 0x45 {
			continue
		}
		if r.fast && b[9] == 17 {
			r.fastUDP(b)
			continue
		}
		r.packet(b, &pkts[i])
	}
}

// fastUDP sends a datagram back in place: swapping keeps every checksum.
func (r *responder) fastUDP(b []byte) {
	var tmp [4]byte
	copy(tmp[:], b[12:16])
	copy(b[12:16], b[16:20])
	copy(b[16:20], tmp[:])
	copy(tmp[:2], b[20:22])
	copy(b[20:22], b[22:24])
	copy(b[22:24], tmp[:2])
	b[26], b[27] = 0, 0 // no checksum
	r.write(b, link.Offload{})
}

func (r *responder) packet(b []byte, p *link.Packet) {
	g := gopacket.NewPacket(b, layers.LayerTypeIPv4, gopacket.NoCopy)
	ip := g.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	out := &layers.IPv4{Version: 4, TTL: 64, Protocol: ip.Protocol, SrcIP: ip.DstIP, DstIP: ip.SrcIP}
	switch x := g.TransportLayer().(type) {
	case *layers.UDP:
		u := &layers.UDP{SrcPort: x.DstPort, DstPort: x.SrcPort}
		_ = u.SetNetworkLayerForChecksum(out)
		r.send(out, u, gopacket.Payload(x.Payload))
		return
	case *layers.TCP:
		r.tcp(out, x, p)
		return
	}
	if ic, ok := g.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && ic.TypeCode.Type() == layers.ICMPv4TypeEchoRequest {
		ic.TypeCode = layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0)
		r.send(out, ic, gopacket.Payload(ic.Payload))
	}
}

func (r *responder) tcp(out *layers.IPv4, x *layers.TCP, p *link.Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ack := layers.TCP{SrcPort: x.DstPort, DstPort: x.SrcPort, ACK: true, Window: 65535}
	_ = ack.SetNetworkLayerForChecksum(out)
	switch {
	case x.SYN:
		r.next, r.seq = x.Seq+1, 1001
		ack.SYN, ack.Seq, ack.Ack = true, 1000, r.next
		ack.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}},
			{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{6}}}
		r.flow = ack
		r.send(out, &ack)
		close(r.open)
		return
	case x.ACK:
		r.acked.Store(x.Ack)
	}
	n := len(x.Payload)
	if n == 0 || x.Seq != r.next {
		return
	}
	if p.GSO != link.GSONone && (p.GSO != link.GSOTCP4 || !p.NeedsCsum || p.GSOSize != 1460) {
		r.t.Errorf("offload of %d bytes: %+v", n, p.Offload)
	}
	r.biggest.Store(max(r.biggest.Load(), int64(n)))
	r.bytes.Add(int64(n))
	r.next += uint32(n)
	ack.Seq, ack.Ack = r.seq, r.next
	r.send(out, &ack)
}

func (r *responder) send(ls ...gopacket.SerializableLayer) {
	sb := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(sb, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		r.t.Errorf("serialize: %v", err)
	}
	r.write(sb.Bytes(), link.Offload{})
}

func (r *responder) write(b []byte, o link.Offload) {
	p := link.Packet{Bufs: [][]byte{r.eth, b}, Offload: o}
	if n, err := r.l.Send([]link.Packet{p}); (n != 1 || err != nil) && !errors.Is(err, net.ErrClosed) {
		r.t.Errorf("send: %d, %v", n, err)
	}
}

// gso sends payload to the kernel in one packet to be cut.
func (r *responder) gso(payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := make([]byte, 40, 40+len(payload))
	b = append(b, payload...)
	b[0], b[8], b[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], ourIP.AsSlice())
	copy(b[16:], hostIP.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^link.Checksum(b[:20], 0))
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp, uint16(r.flow.SrcPort))
	binary.BigEndian.PutUint16(tcp[2:], uint16(r.flow.DstPort))
	binary.BigEndian.PutUint32(tcp[4:], r.seq)
	binary.BigEndian.PutUint32(tcp[8:], r.next)
	tcp[12], tcp[13] = 0x50, 0x18
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	var ph [12]byte
	copy(ph[:8], b[12:20])
	ph[9] = 6
	binary.BigEndian.PutUint16(ph[10:], uint16(len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], link.Checksum(ph[:], 0))
	r.seq += uint32(len(payload))
	e := uint16(len(r.eth))
	r.write(b, link.Offload{NeedsCsum: true, CsumStart: e + 20, CsumOffset: 16, GSO: link.GSOTCP4, GSOSize: 1460, HdrLen: e + 40})
}

func start(t testing.TB, kind Kind) *responder {
	r := &responder{l: setUp(t, kind), t: t, open: make(chan struct{})}
	if err := r.l.Start(r.recv); err != nil {
		t.Error(err)
	}
	return r
}

func TestIntegrationEcho(t *testing.T) {
	for _, kind := range []Kind{TUN, TAP} {
		t.Run(kind.String(), func(t *testing.T) {
			inNetns(t, func() {
				r := start(t, kind)
				defer r.l.Close()
				var eth []byte // from and to nobody
				if kind == TAP {
					eth = []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
				}
				many := link.Packet{} // in pieces of a byte
				for _, b := range append(append([]byte{}, eth...), 0x45) {
					many.Bufs = append(many.Bufs, []byte{b})
				}
				for range 200 {
					many.Bufs = append(many.Bufs, []byte{0})
				}
				if n, err := r.l.Send([]link.Packet{many}); n != 1 || err != nil {
					t.Errorf("a packet in %d pieces: %d, %v", len(many.Bufs), n, err)
				}
				for _, network := range []string{"udp4", "ip4:icmp"} {
					if err := echo(network, 200); err != nil {
						t.Errorf("%s: %v", network, err)
					}
				}
				lost := link.Packet{Bufs: [][]byte{eth, make([]byte, 40)}} // to nobody
				lost.Bufs[1][0] = 0x45
				if n := testing.AllocsPerRun(100, func() { _, _ = r.l.Send([]link.Packet{lost}) }); n > 0 {
					t.Errorf("%v allocations for a packet", n)
				}
				if f := r.l.Features(); !f.Csum || !f.TSO || f.GSOMax != 65535 || r.l.MTU() != 1500 {
					t.Errorf("features %+v, mtu %d", f, r.l.MTU())
				}
			})
		})
	}
}

// echo has n messages answered through a socket of the kernel.
func echo(network string, n int) error {
	addr := ourIP.String()
	if network == "udp4" {
		addr += ":7"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 2000)
	for i := range n {
		msg := []byte{8, 0, 0, 0, 0, 1, 0, byte(i), 'h', 'i'} // an echo request, if ICMP
		binary.BigEndian.PutUint16(msg[2:], ^link.Checksum(msg, 0))
		if _, err := c.Write(msg); err != nil {
			return err
		}
		k, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		if !bytes.Equal(buf[k-4:k], msg[6:]) {
			return fmt.Errorf("answer %d: %x to %x", i, buf[:k], msg)
		}
	}
	return nil
}

func TestIntegrationGSO(t *testing.T) {
	for _, kind := range []Kind{TUN, TAP} {
		t.Run(kind.String(), func(t *testing.T) {
			inNetns(t, func() {
				r := start(t, kind)
				defer r.l.Close()
				c, err := net.DialTimeout("tcp4", ourIP.String()+":80", 5*time.Second)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				<-r.open
				const total = 8 << 20
				if _, err := c.Write(make([]byte, total)); err != nil {
					t.Error(err)
				}
				for end := time.Now().Add(5 * time.Second); r.bytes.Load() < total && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
				if r.bytes.Load() != total || r.biggest.Load() < 32000 {
					t.Errorf("%d bytes of %d arrived, the largest segment %d", r.bytes.Load(), total, r.biggest.Load())
				}
				out := make([]byte, 40000)
				for i := range out {
					out[i] = byte(i * 13)
				}
				r.gso(out)
				in := make([]byte, len(out))
				if _, err := io.ReadFull(c, in); err != nil || !bytes.Equal(in, out) {
					t.Errorf("from us to the kernel: %v, equal %v", err, bytes.Equal(in, out))
				}
			})
		})
	}
}

func TestIntegrationLifetime(t *testing.T) {
	inNetns(t, func() {
		addrs := []netip.Prefix{netip.MustParsePrefix("10.5.6.7/20"), netip.MustParsePrefix("10.6.0.1/32"),
			netip.MustParsePrefix("fd05::7/64")}
		l, err := Open("alptun1", TUN, Options{MTU: 9000, HostAddrs: addrs})
		if err != nil {
			t.Error(err)
			return
		}
		if dev, err := netlink.LinkByName("alptun1"); err != nil {
			t.Error(err)
		} else if have, err := netlink.AddrList(dev, netlink.FAMILY_ALL); err != nil {
			t.Error(err)
		} else {
			for _, a := range addrs {
				if !slices.ContainsFunc(have, func(h netlink.Addr) bool { return h.IPNet.String() == a.String() }) {
					t.Errorf("the host's end has %v, not %v", have, a)
				}
			}
		}
		if l.MTU() != 9000 || l.Medium() != link.IP || l.HardwareAddr() != nil || l.Name() != "alptun1" {
			t.Errorf("%s: mtu %d, medium %v, address %v", l.Name(), l.MTU(), l.Medium(), l.HardwareAddr())
		}
		if _, err := Open("alptun1", TUN, Options{}); !errors.Is(err, unix.EBUSY) {
			t.Errorf("second open: %v", err)
		}
		if _, err := Open("lo", TUN, Options{}); !errors.Is(err, unix.EINVAL) {
			t.Errorf("open of lo: %v", err)
		}
		if err := l.Start(func([]link.Packet) {}); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.Send(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("send after close: %v", err)
		}
		if _, err := netlink.LinkByName("alptun1"); err == nil {
			t.Error("the device outlives the link")
		}
	})
}

// TestIntegrationUnprivileged opens, as another user, a device made for it.
func TestIntegrationUnprivileged(t *testing.T) {
	if os.Getenv("ALPTRACE_TUN_CHILD") != "" {
		child(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("making a device for another user takes root")
	}
	for _, tool := range []string{"unshare", "setpriv", "ip", "mknod"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	dir, err := os.MkdirTemp("", "alptun")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(dir+"/test", self, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	script := `set -e; cd $1; mknod tun c 10 200; chmod 666 tun; mount --bind tun /dev/net/tun
ip tuntap add dev mine mode tun user 65534; ip link set mine mtu 1400 up
ip tuntap add dev other mode tun user 65533
setpriv --reuid 65534 --regid 65534 --clear-groups ./test -test.run '^TestIntegrationUnprivileged$' -test.v
umount /dev/net/tun`
	cmd := exec.Command("unshare", "-n", "-m", "sh", "-c", script, "sh", dir)
	cmd.Env = append(os.Environ(), "ALPTRACE_TUN_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestIntegrationUnprivileged") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func child(t *testing.T) {
	l, err := Open("mine", TUN, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if l.MTU() != 1400 {
		t.Errorf("mtu %d", l.MTU())
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for name, kind := range map[string]Kind{"other": TUN, "absent": TUN} {
		_, err := Open(name, kind, Options{})
		if !errors.Is(err, unix.EPERM) || !strings.Contains(fmt.Sprint(err), "ip tuntap add dev "+name+" mode tun user") {
			t.Errorf("%s: %v", name, err)
		}
		t.Log(err)
	}
	if _, err := Open("mine", TAP, Options{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a tun as tap: %v", err)
	}
	l, err = Open("mine", TUN, Options{}) // it is persistent
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestOpenRefusesNames(t *testing.T) {
	for _, name := range []string{"", "a-name-of-16-chars"} {
		if _, err := Open(name, TUN, Options{}); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := OpenFD(0, Options{}); err == nil {
		t.Error("standard input is no device")
	}
}
