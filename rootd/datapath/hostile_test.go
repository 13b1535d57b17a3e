package datapath

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func writeFile(t *testing.T, path, s string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNSSpoof has a lease try what it may not.
func TestNSSpoof(t *testing.T) {
	d := open(t, testConfig)
	evil := newClient(t, d, 1, Grant{17, host4, 7000}, Grant{6, host4, 7000}, Grant{17, host6, 7000}, Grant{17, any4, 7001})
	victim := newClient(t, d, 2, Grant{17, host4, 8000}, Grant{6, host4, 8000}, Grant{17, any6, 8000})
	s := sniff(t, "dppeer", "eth0")
	peer := addrPort(peer4, 9)
	const mark = "forged"
	ours := udp(addrPort(peer4, 9), addrPort(host4, 7000), "q")   // as if received
	theirs := udp(addrPort(peer4, 9), addrPort(host4, 8000), "q") // by the victim
	kernels := udp(addrPort(peer4, 9), addrPort(host4, 22), "q")  // by the kernel
	ext := udp(addrPort(host6, 7000), addrPort(peer6, 9), mark)   // with a routing header
	ext = append(ext[:40:40], append([]byte{17, 0, 4, 0, 0, 0, 0, 0}, ext[40:]...)...)
	ext[6], ext[5] = 43, ext[5]+8
	long := udp(addrPort(host4, 7000), peer, mark)
	long[3]++
	version := udp(addrPort(host4, 7000), peer, mark)
	version[0] = 0x44
	for _, tc := range []struct {
		name string
		why  Reason
		pkt  []byte
	}{
		{"another port", NotGranted, udp(addrPort(host4, 7777), peer, mark)},
		{"a low port", NotGranted, udp(addrPort(host4, 53), peer, mark)},
		{"the other lease's port", NotGranted, udp(addrPort(host4, 8000), peer, mark)},
		{"the other lease's port of any address", NotGranted, udp(addrPort(host6, 8000), addrPort(peer6, 9), mark)},
		{"another address of the host", NotGranted, udp(netip.MustParseAddrPort("10.9.2.1:7000"), peer, mark)},
		{"another host's address", NotGranted, udp(netip.MustParseAddrPort("10.9.0.9:7000"), peer, mark)},
		{"another host's address, any", NotGranted, udp(netip.MustParseAddrPort("10.9.0.9:7001"), peer, mark)},
		{"the peer's address, any", NotGranted, udp(addrPort(peer4, 7001), peer, mark)},
		{"the unspecified address", NotLocal, udp(addrPort(any4, 7001), peer, mark)},
		{"a protocol not granted", NotGranted, tcp(addrPort(host4, 7001), peer, layers.TCP{SYN: true}, mark)},
		{"ICMP echo", NotGranted, echo(host4, peer4, true, 7000)},
		{"ICMP redirect", Protocol, icmpError(host4, peer4, 5, 1, 0, ours)},
		{"ICMP timestamp", Protocol, icmpError(host4, peer4, 13, 0, 0, ours)},
		{"neighbour advertisement", Protocol, icmpError(host6, peer6, 136, 0, 0, ours)},
		{"GRE", Protocol, func() []byte {
			h, _ := ipLayer(47, host4, peer4)
			return serialize(h, gopacket.Payload(mark))
		}()},
		{"error about the victim's flow", NotGranted, icmpError(host4, peer4, 3, 3, 0, theirs)},
		{"error about the kernel's flow", NotGranted, icmpError(host4, peer4, 3, 3, 0, kernels)},
		{"error to another than the flow's", NotGranted, icmpError(host4, far4, 3, 3, 0, ours)},
		{"path MTU", NotGranted, icmpError(host4, peer4, 3, 4, 576, ours)},
		{"path MTU, to the kernel", NotGranted, icmpError(host4, host4, 3, 4, 576, udp(addrPort(host4, 22), addrPort(host4, 7000), "q"))},
		{"routing header", Protocol, ext},
		{"wrong length", Malformed, long},
		{"an IPv4 address in IPv6", Malformed, mapped(host4, peer6)},
		{"an IPv4 address in IPv6, any", Malformed, mapped(netip.MustParseAddr("10.9.2.1"), peer6)},
		{"to an IPv4 address in IPv6", Malformed, mapped(host4, peer4)},
		{"wrong header length", Malformed, version},
		{"truncated", Malformed, udp(addrPort(host4, 7000), peer, mark)[:24]},
		{"TCP without ports", Protocol, func() []byte {
			h, _ := ipLayer(6, host4, peer4)
			return serialize(h, gopacket.Payload("xy"))
		}()},
	} {
		evil.dropped(tc.name, tc.why, func() { evil.send(tc.pkt) })
	}
	// A checksum for the kernel to fill in, where the source port is, the
	// source address, or in a fragment.
	whole := udp(addrPort(host4, 7000), peer, mark)
	for _, o := range []offload{{csum: 20}, {csum: 20, csumOff: 2}, {csum: 22, csumOff: 4}, {csum: 22}} {
		evil.dropped("checksum offload", Malformed, func() {
			if err := evil.write(o, whole); err != nil {
				t.Error(err)
			}
		})
	}
	for _, o := range []offload{{csum: 10, csumOff: 2}, {csum: 14}, {csum: 12}} { // newer kernels refuse these
		_ = evil.write(o, whole)
	}
	first := fragment(udp(addrPort(host4, 7000), peer, mark+string(make([]byte, 2000))), 5)[0]
	evil.dropped("checksum offload in a fragment", Malformed, func() { _ = evil.write(offload{csum: 20, csumOff: 6}, first) })
	s.noneWith("spoofing", mark)
	victim.silent("forged packets")
	// What is allowed: an error about its own flow, to where that came from.
	evil.send(icmpError(host4, peer4, 3, 3, 0, ours))
	if n := evil.counters(); n.TxPackets != 1 {
		t.Errorf("port unreachable did not go out: %+v", n)
	}
	if err := evil.write(offload{}, []byte("\x10 is no version of IP")); err == nil {
		t.Error("a packet that is no IP was accepted")
	}
}

// mapped is a datagram in IPv6 from port 7001 with an IPv4-mapped source, and
// destination if that is IPv4.
func mapped(src, dst netip.Addr) []byte {
	p := udp(addrPort(host6, 7001), addrPort(peer6, 9), "forged")
	s, d := src.As16(), dst.As16()
	copy(p[8:], s[:])
	copy(p[24:], d[:])
	return p
}

// TestNSResetKernel has a lease forge resets into connections of the kernel and
// of another lease, while the kernel's go on.
func TestNSResetKernel(t *testing.T) {
	d := open(t, testConfig)
	l, err := net.Listen("tcp4", "10.9.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var c net.Conn
	in(t, "dppeer", func() { c, err = net.Dial("tcp4", l.Addr().String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	near, far := l.Addr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()
	evil := newClient(t, d, 1, Grant{6, host4, 7000}, Grant{6, any6, 7000})
	for seq := range uint32(50) {
		evil.send(tcp(near, far, layers.TCP{RST: true, Seq: seq << 26}, ""))
		evil.send(tcp(far, near, layers.TCP{RST: true, Seq: seq << 26}, ""))
	}
	if n := evil.counters(); n.Drops[NotGranted] != 100 || n.TxPackets != 0 {
		t.Errorf("counters: %+v", n)
	}
	msg := bytes.Repeat([]byte("intact"), 10000)
	go func() { _, _ = c.Write(msg); c.(*net.TCPConn).CloseWrite() }()
	_ = a.SetDeadline(time.Now().Add(5 * time.Second))
	if got, err := io.ReadAll(a); err != nil || !bytes.Equal(got, msg) {
		t.Errorf("the kernel's connection: %d bytes, %v", len(got), err)
	}
}

// TestNSFrames has frames arrive that are none of the leases' business.
func TestNSFrames(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{17, any4, 7000}, Grant{17, any6, 7000}, Grant{17, lo4, 7001})
	s := sniff(t, "dppeer", "eth0")
	mac, err := os.ReadFile("/sys/class/net/eth0/address")
	if err != nil {
		t.Fatal(err)
	}
	own, err := net.ParseMAC(string(bytes.TrimSpace(mac)))
	if err != nil {
		t.Fatal(err)
	}
	frame := func(dst net.HardwareAddr, tag bool, pkt []byte) []byte {
		f := append(append([]byte{}, dst...), 2, 0, 0, 0, 0, 9)
		if tag {
			f = append(f, 0x81, 0, 0, 7)
		}
		if pkt[0]>>4 == 4 {
			f = append(f, 8, 0)
		} else {
			f = append(f, 0x86, 0xdd)
		}
		return append(f, pkt...)
	}
	near, far := addrPort(host4, 7000), addrPort(peer4, 9)
	toMapped := mapped(peer4, host4)
	binary.BigEndian.PutUint16(toMapped[42:], 7000)
	s.send(frame(own, false, udp(far, near, "good")))
	c.expect("a good frame", hasPayload("good"))
	for _, tc := range []struct {
		name string
		b    []byte
	}{
		{"foreign MAC", frame(net.HardwareAddr{2, 1, 1, 1, 1, 1}, false, udp(far, near, "x"))},
		{"broadcast MAC", frame(net.HardwareAddr{255, 255, 255, 255, 255, 255}, false, udp(far, near, "x"))},
		{"VLAN tag", frame(own, true, udp(far, near, "x"))},
		{"not a local address", frame(own, false, udp(far, addrPort(far4, 7000), "x"))},
		{"to loopback", frame(own, false, udp(far, addrPort(lo4, 7001), "x"))},
		{"to any loopback", frame(own, false, udp(far, netip.MustParseAddrPort("127.0.0.5:7000"), "x"))},
		{"to loopback, IPv6", frame(own, false, udp(addrPort(peer6, 9), addrPort(lo6, 7000), "x"))},
		{"from loopback", frame(own, false, udp(addrPort(lo4, 9), near, "x"))},
		{"from loopback, IPv6", frame(own, false, udp(addrPort(lo6, 9), addrPort(host6, 7000), "x"))},
		{"from the host's own address", frame(own, false, udp(addrPort(host4, 9), near, "x"))},
		{"from multicast", frame(own, false, udp(netip.MustParseAddrPort("224.0.0.1:9"), near, "x"))},
		{"to the unspecified address", frame(own, false, udp(far, addrPort(any4, 7000), "x"))},
		{"to an IPv4 address in IPv6", frame(own, false, toMapped)},
		{"truncated", frame(own, false, udp(far, near, "x")[:22])},
		{"error about a flow from another address", frame(own, false, icmpError(peer4, netip.MustParseAddr("10.9.2.1"), 3, 3, 0, udp(near, far, "x")))},
	} {
		s.send(tc.b)
		c.silent(tc.name)
	}
	s.send(frame(own, false, icmpError(peer4, host4, 3, 3, 0, udp(near, far, "x"))))
	c.expect("port unreachable", func(p gopacket.Packet) bool { return p.Layer(layers.LayerTypeICMPv4) != nil })
	// Behind extension headers.
	h := udp(addrPort(peer6, 9), addrPort(host6, 7000), "behind")
	h = append(h[:40:40], append([]byte{17, 0, 1, 4, 0, 0, 0, 0}, h[40:]...)...)
	h[6], h[5] = 60, h[5]+8
	s.send(frame(own, false, h))
	c.expect("a datagram behind destination options", func(p gopacket.Packet) bool { return bytes.Contains(p.Data(), []byte("behind")) })
}
