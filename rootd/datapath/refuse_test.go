package datapath

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

var second4 = netip.MustParseAddr("10.9.2.1") // of the host, on eth1

// options makes an IPv4 packet one with n bytes of options: no operation.
func options(pkt []byte, n int) []byte {
	pkt = slices.Insert(pkt, 20, slices.Repeat([]byte{1}, n)...)
	pkt[0] += byte(n / 4)
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	pkt[10], pkt[11] = 0, 0
	binary.BigEndian.PutUint16(pkt[10:], checksum(pkt[:20+n]))
	return pkt
}

// isReset is for expect: the reset from src to dst with these numbers, with
// checksums that are right.
func isReset(t *testing.T, src, dst netip.AddrPort, seq, ack uint32, hasAck bool) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		t.Helper()
		s, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			return false
		}
		want := tcp(src, dst, layers.TCP{RST: true, ACK: hasAck, Seq: seq, Ack: ack}, "")
		got := slices.Clone(p.Data())
		if src.Addr().Is4() { // what kernels fill in as they like
			copy(want[:12], got[:12])
			if checksum(got[:20]) != 0 {
				t.Errorf("IP checksum of %v", p)
			}
		} else {
			copy(want[:4], got[:4])
		}
		if string(got) != string(want) {
			t.Errorf("received %+v of\n%x, want\n%x", s, got, want)
		}
		return true
	}
}

// TestNSRefused sends to ports of this host that are closed.
func TestNSRefused(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{6, any4, 7000}, Grant{6, any6, 7000}, Grant{17, any4, 7000}, Grant{17, any6, 7000})
	const closed = 7999
	for _, tc := range []struct{ src, dst netip.Addr }{
		{host4, host4}, {host4, second4}, {lo4, host4}, {host4, lo4}, {lo4, lo4}, {host6, host6}, {lo6, lo6},
	} {
		near, far := addrPort(tc.src, 7000), addrPort(tc.dst, closed)
		hdr := uint16(20)
		if tc.src.Is6() {
			hdr = 40
		}
		c.send(tcp(near, far, layers.TCP{SYN: true, Seq: 1000, Window: 1000}, ""))
		c.expect("SYN", isReset(t, far, near, 0, 1001, true))
		mss := []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}}}
		c.send(tcp(near, far, layers.TCP{SYN: true, FIN: true, Seq: 1<<32 - 2, Window: 1000, Options: mss}, "data"))
		c.expect("SYN, FIN and data", isReset(t, far, near, 0, 4, true))
		c.send(tcp(near, far, layers.TCP{ACK: true, PSH: true, Seq: 1000, Ack: 5000, Window: 1000}, strings.Repeat("x", 1000)))
		c.expect("data", isReset(t, far, near, 5000, 0, false))
		pkt := tcp(near, far, layers.TCP{SYN: true, Seq: 2000, Window: 1000}, "")
		if err := c.write(offload{csum: hdr, csumOff: 16}, partial(pkt, int(hdr))); err != nil {
			t.Fatal(err)
		}
		c.expect("SYN, checksum offload", isReset(t, far, near, 0, 2001, true))
		pkt = tcp(near, far, layers.TCP{Seq: 2000, Window: 1000}, strings.Repeat("x", 20000))
		o := offload{csum: hdr, csumOff: 16, hdr: hdr + 20, gso: 1, size: 1400}
		if tc.src.Is6() {
			o.gso = 4
		}
		if err := c.write(o, partial(pkt, int(hdr))); err != nil {
			t.Fatal(err)
		}
		c.expect("data, segmentation offload", func(p gopacket.Packet) bool {
			s, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
			return ok && s.RST && s.ACK && s.Seq == 0
		})
		for p := c.recv(50 * time.Millisecond); p != nil; p = c.recv(50 * time.Millisecond) {
			// One for each segment, where the kernel cut.
		}
		if tc.src.Is4() {
			for _, n := range []int{4, 40} {
				pkt = options(tcp(near, far, layers.TCP{SYN: true, Seq: 3000, Window: 1000}, "x"), n)
				c.send(pkt)
				c.expect("SYN with IP options", isReset(t, far, near, 0, 3002, true))
			}
		}
		c.send(tcp(near, far, layers.TCP{RST: true, Seq: 1000}, ""))
		c.silent("RST")
		c.send(udp(near, far, "anybody?"))
		c.expect("port unreachable", func(p gopacket.Packet) bool {
			i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			if ok {
				return i.TypeCode == layers.CreateICMPv4TypeCode(3, 3)
			}
			j, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
			return ok && j.TypeCode == layers.CreateICMPv6TypeCode(1, 4)
		})
	}
	if n := c.counters(); len(n.Drops) > 0 {
		t.Errorf("drops: %v", n.Drops)
	}
	// The kernel's own programs.
	_, err := net.DialTimeout("tcp4", addrPort(host4, closed).String(), time.Second)
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("from the kernel: %v", err)
	}
}

// partial replaces a TCP checksum by that of the pseudo header.
func partial(pkt []byte, hdr int) []byte {
	h := append(slices.Clone(pkt[12:20]), 0, 6, byte((len(pkt)-hdr)>>8), byte(len(pkt)-hdr))
	if hdr == 40 {
		h = append(slices.Clone(pkt[8:40]), 0, 6, byte((len(pkt)-hdr)>>8), byte(len(pkt)-hdr))
	}
	binary.BigEndian.PutUint16(pkt[hdr+16:], ^checksum(h))
	return pkt
}

// TestNSNotRefused goes through a connection to a socket of the kernel: at no
// stage is there a reset.
func TestNSNotRefused(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{6, any4, 7000})
	for _, tc := range []struct {
		listen, src netip.Addr
		dev         string
	}{{host4, host4, ""}, {any4, host4, ""}, {any6, second4, ""}, {host4, host4, "lo"}} {
		l, err := (&net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			_ = raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), tc.dev) })
			return err
		}}).Listen(t.Context(), "tcp", addrPort(tc.listen, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		near, far := addrPort(tc.src, 7000), addrPort(host4, l.Addr().(*net.TCPAddr).AddrPort().Port())
		next := func(what string) *layers.TCP {
			t.Helper()
			p := c.recv(3 * time.Second)
			if p == nil {
				t.Fatalf("%s: not answered", what)
			}
			s, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
			if !ok || s.RST {
				t.Fatalf("%s: received %v", what, p)
			}
			return s
		}
		c.send(tcp(near, far, layers.TCP{SYN: true, Seq: 0, Window: 65535}, ""))
		syn := next("SYN")
		if !syn.SYN || !syn.ACK {
			t.Fatalf("received %+v", syn)
		}
		c.send(tcp(near, far, layers.TCP{ACK: true, Seq: 1, Ack: syn.Seq + 1, Window: 65535}, "hello"))
		next("data")
		k, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = k.SetDeadline(time.Now().Add(3 * time.Second))
		buf := make([]byte, 5)
		if _, err := io.ReadFull(k, buf); err != nil || string(buf) != "hello" {
			t.Errorf("the kernel received %q, %v", buf, err)
		}
		k.Close()
		if fin := next("close"); !fin.FIN {
			t.Errorf("received %+v, want FIN", fin)
		}
		fin := tcp(near, far, layers.TCP{ACK: true, FIN: true, Seq: 6, Ack: syn.Seq + 2, Window: 65535}, "")
		c.send(fin)
		next("FIN")
		l.Close()
		c.send(fin)
		next("FIN in TIME-WAIT")
		c.send(tcp(near, far, layers.TCP{SYN: true, Seq: 1 << 30, Window: 65535}, ""))
		next("SYN in TIME-WAIT")
		c.silent("after it")
	}
}
