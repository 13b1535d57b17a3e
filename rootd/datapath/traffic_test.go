package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// TestNSUDP exchanges datagrams with the peer, with grants of an address and of
// any address.
func TestNSUDP(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1,
		Grant{17, host4, 7000}, Grant{17, host6, 7000}, Grant{17, any4, 7001}, Grant{17, any6, 7001})
	for _, tc := range []struct {
		name       string
		host, peer netip.Addr
		port       uint16
	}{
		{"IPv4", host4, peer4, 7000}, {"IPv6", host6, peer6, 7000},
		{"IPv4 any", host4, peer4, 7001}, {"IPv6 any", host6, peer6, 7001},
		{"IPv4 any, other uplink", netip.MustParseAddr("10.9.2.1"), peer4, 7001},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.t = t
			k := udpSocket(t, "dppeer", addrPort(tc.peer, 0))
			far := k.LocalAddr().(*net.UDPAddr).AddrPort()
			near := addrPort(tc.host, tc.port)
			if _, err := k.WriteToUDPAddrPort([]byte("in"), near); err != nil {
				t.Fatal(err)
			}
			c.expect("datagram", hasPayload("in"))
			c.send(udp(near, addrPort(tc.peer, far.Port()), "out"))
			if s, a := from(t, k); s != "out" || a != near {
				t.Errorf("the peer received %q from %v", s, a)
			}
		})
	}
	// A port that was not granted is the kernel's.
	k := udpSocket(t, "", addrPort(host4, 7002))
	p := udpSocket(t, "dppeer", addrPort(peer4, 0))
	_, _ = p.WriteToUDPAddrPort([]byte("kernel's"), addrPort(host4, 7002))
	if s, _ := from(t, k); s != "kernel's" {
		t.Errorf("the kernel received %q", s)
	}
	c.t = t
	c.silent("a datagram for the kernel")
	n := c.counters()
	if n.RxPackets != 5 || n.TxPackets != 5 || n.RxBytes != 3*(20+8+2)+2*(40+8+2) || n.TxBytes != n.RxBytes+5 || len(n.Drops) > 0 {
		t.Errorf("counters: %+v", n)
	}
}

func TestNSEcho(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{1, host4, 9}, Grant{58, host6, 9}, Grant{1, lo4, 9}, Grant{58, lo6, 9})
	for _, tc := range []struct{ src, dst netip.Addr }{
		{host4, peer4}, {host6, peer6}, {host4, host4}, {host6, host6}, {lo4, lo4}, {lo6, lo6}, {host4, far4}, {host6, far6},
	} {
		c.send(echo(tc.src, tc.dst, true, 9))
		c.expect("echo reply from "+tc.dst.String(), func(p gopacket.Packet) bool {
			if i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
				return i.TypeCode.Type() == layers.ICMPv4TypeEchoReply && i.Id == 9
			}
			i, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo)
			return ok && i.Identifier == 9
		})
	}
	// Requests from outside are the kernel's to answer.
	s := sniff(t, "dppeer", "eth0")
	c.dropped("a reply", NotGranted, func() { c.send(echo(host4, peer4, false, 9)) })
	c.dropped("another's identifier", NotGranted, func() { c.send(echo(host4, peer4, true, 10)) })
	for _, p := range s.all() {
		if p.Layer(layers.LayerTypeICMPv4) != nil {
			t.Errorf("got out: %v", p)
		}
	}
}

// TestNSFragments has datagrams of 4000 bytes go both ways in fragments.
func TestNSFragments(t *testing.T) {
	d := open(t, testConfig)
	for i, tc := range []struct{ host, peer netip.Addr }{{host4, peer4}, {host6, peer6}} {
		near := addrPort(tc.host, 7000)
		c := newClient(t, d, uint32(i+1), Grant{17, tc.host, 7000})
		k := udpSocket(t, "dppeer", addrPort(tc.peer, 0))
		peer := addrPort(tc.peer, k.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		big := strings.Repeat("0123456789", 400)
		_, _ = k.WriteToUDPAddrPort([]byte(big), near)
		got := 0
		for range 3 {
			p := c.recv(3 * time.Second)
			if p == nil {
				t.Fatalf("%v: fragment not received", tc.host)
			}
			got += len(p.Layer(p.Layers()[0].LayerType()).LayerPayload())
			if tc.host.Is6() {
				got -= 8
			}
		}
		if got != 4008 {
			t.Errorf("%v: fragments of %d bytes, want 4008", tc.host, got)
		}
		whole := udp(near, peer, big)
		fs := fragment(whole, 77)
		c.dropped("a fragment before the first", Fragment, func() { c.send(fs[1]) })
		for _, f := range fs {
			c.send(f)
		}
		if s, a := from(t, k); s != big || a != near {
			t.Errorf("%v: the peer received %d bytes from %v", tc.host, len(s), a)
		}
		// Another lease cannot add to this one's packet.
		other := newClient(t, d, uint32(i+10), Grant{17, tc.host, 7009})
		other.dropped("a fragment of another's packet", Fragment, func() { other.send(fs[2]) })
		// Nor take it away by beginning one of the same identification.
		c.send(fs[0])
		other.send(fragment(udp(addrPort(tc.host, 7009), peer, big), 77)[0])
		n := c.counters().TxPackets
		c.send(fs[1])
		if c.counters().TxPackets != n+1 {
			t.Errorf("%v: a fragment was dropped for another lease's", tc.host)
		}
	}
}

// fragment cuts an IP packet into fragments of at most 1480 bytes of payload.
func fragment(pkt []byte, id uint32) [][]byte {
	var fs [][]byte
	v6 := pkt[0]>>4 == 6
	hdr := 20
	if v6 {
		hdr = 40
	}
	body := pkt[hdr:]
	for off := 0; off < len(body); off += 1440 {
		part := body[off:min(off+1440, len(body))]
		more := off+1440 < len(body)
		h := append([]byte(nil), pkt[:hdr]...)
		if v6 {
			f := make([]byte, 8)
			f[0] = h[6]
			h[6] = 44
			o := uint16(off)
			if more {
				o |= 1
			}
			binary.BigEndian.PutUint16(f[2:], o)
			binary.BigEndian.PutUint32(f[4:], id)
			binary.BigEndian.PutUint16(h[4:], uint16(8+len(part)))
			h = append(h, f...)
		} else {
			o := uint16(off / 8)
			if more {
				o |= 0x2000
			}
			binary.BigEndian.PutUint16(h[2:], uint16(20+len(part)))
			binary.BigEndian.PutUint16(h[4:], uint16(id))
			binary.BigEndian.PutUint16(h[6:], o)
			h[10], h[11] = 0, 0
			binary.BigEndian.PutUint16(h[10:], checksum(h))
		}
		fs = append(fs, append(h, part...))
	}
	return fs
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// tooBig returns an expectation of an ICMP error with this MTU, whose checksum
// is right and which quotes a packet to dst.
func tooBig(t *testing.T, dst netip.Addr, mtu int) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool {
		if i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && i.TypeCode == layers.CreateICMPv4TypeCode(3, 4) {
			h := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			if checksum(p.Data()[:20]) != 0 || checksum(h.Payload) != 0 {
				t.Error("wrong checksum")
			}
			quoted, _ := netip.AddrFromSlice(i.Payload[16:20])
			return int(i.Seq) == mtu && quoted == dst
		}
		i, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		if !ok || i.TypeCode != layers.CreateICMPv6TypeCode(2, 0) {
			return false
		}
		h := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		pseudo := append(append([]byte(nil), h.SrcIP...), h.DstIP...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(h.Payload)))
		pseudo = append(pseudo, 0, 0, 0, 58)
		if checksum(append(pseudo, h.Payload...)) != 0 {
			t.Error("wrong checksum")
		}
		quoted, _ := netip.AddrFromSlice(i.Payload[4+24 : 4+40])
		return int(binary.BigEndian.Uint32(i.Payload)) == mtu && quoted == dst
	}
}

// TestNSPathMTU has packets too long for the router, and for the host's own
// route; segmentation offload is judged by its segments.
func TestNSPathMTU(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{17, host4, 7000}, Grant{17, host6, 7000}, Grant{6, host4, 7000}, Grant{6, host6, 7000})
	for _, tc := range []struct{ src, dst netip.Addr }{{host4, far4}, {host6, far6}} {
		c.send(udp(addrPort(tc.src, 7000), addrPort(tc.dst, 9), strings.Repeat("x", 1400)))
		c.expect("the router's error", tooBig(t, tc.dst, 1300))
	}
	ip(t, "route add 10.9.1.2/32 via 10.9.0.2 mtu lock 1290")
	defer ip(t, "route del 10.9.1.2/32")
	ip(t, "route add fd09:1::2/128 via fd09::2 mtu lock 1290")
	defer ip(t, "route del fd09:1::2/128")
	for _, tc := range []struct {
		src, dst netip.Addr
		hdr      int
	}{{host4, far4, 20}, {host6, far6, 40}} {
		src, dst := addrPort(tc.src, 7000), addrPort(tc.dst, 9)
		before := c.counters()
		fits := udp(src, dst, strings.Repeat("x", 1290-tc.hdr-8))
		c.send(fits)
		if n := c.counters(); n.TxPackets != before.TxPackets+1 {
			t.Errorf("%v: a packet of 1290 bytes: %+v", tc.dst, n)
		}
		c.dropped("1291 bytes", TooBig, func() { c.send(udp(src, dst, strings.Repeat("x", 1291-tc.hdr-8))) })
		c.expect("this host's error", tooBig(t, tc.dst, 1290))
		// Checksum and segmentation left to the kernel.
		big := tcp(src, dst, layers.TCP{ACK: true, Window: 1000}, strings.Repeat("x", 20000))
		o := offload{csum: uint16(tc.hdr), csumOff: 16, gso: 1, hdr: uint16(tc.hdr + 20)}
		if tc.dst.Is6() {
			o.gso = 4
		}
		o.size = uint16(1290 - tc.hdr - 20 + 1)
		c.dropped("segments of 1291 bytes", TooBig, func() {
			if err := c.write(o, big); err != nil {
				t.Fatal(err)
			}
		})
		c.expect("this host's error", tooBig(t, tc.dst, 1290))
		o.size--
		before = c.counters()
		if err := c.write(o, big); err != nil {
			t.Fatal(err)
		}
		if n := c.counters(); n.TxPackets != before.TxPackets+1 {
			t.Errorf("%v: segments of 1290 bytes: %+v", tc.dst, n)
		}
		// The far kernel resets what is no connection: all segments got there.
		c.expect("reset", func(p gopacket.Packet) bool {
			tl, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
			return ok && tl.RST
		})
	}
}

// TestNSLocal has leases and the kernel of one host talk.
func TestNSLocal(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{17, any4, 7000}, Grant{17, any6, 7000}, Grant{17, lo4, 7005})
	other := newClient(t, d, 2, Grant{17, any4, 7001}, Grant{17, any6, 7001})
	for _, a := range []netip.Addr{host4, host6, lo4, lo6, netip.MustParseAddr("127.7.7.7")} {
		k := udpSocket(t, "", addrPort(a, 0))
		kernel := addrPort(a, k.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		near := addrPort(a, 7000)
		c.send(udp(near, kernel, "to the kernel"))
		if s, from := from(t, k); s != "to the kernel" || from != near {
			t.Errorf("%v: the kernel received %q from %v", a, s, from)
		}
		_, _ = k.WriteToUDPAddrPort([]byte("from the kernel"), near)
		c.expect(a.String(), hasPayload("from the kernel"))
		c.send(udp(near, addrPort(a, 7001), "to another lease"))
		other.expect(a.String(), hasPayload("to another lease"))
		c.send(udp(near, near, "to itself"))
		c.expect(a.String(), hasPayload("to itself"))
	}
	// From a loopback address to the host's own, as Linux lets.
	k := udpSocket(t, "", addrPort(host4, 7002))
	c.send(udp(addrPort(lo4, 7000), addrPort(host4, 7002), "across"))
	if s, _ := from(t, k); s != "across" {
		t.Errorf("the kernel received %q", s)
	}
	// Long ones, over lo and directly.
	c.send(udp(addrPort(host4, 7000), addrPort(host4, 7002), strings.Repeat("l", 16000-28)))
	if s, _ := from(t, k); len(s) != 16000-28 {
		t.Errorf("the kernel received %d bytes", len(s))
	}
	c.send(udp(addrPort(host4, 7000), addrPort(host4, 7001), strings.Repeat("l", 60000)))
	other.expect("60000 bytes", hasPayload(strings.Repeat("l", 60000)))
	c.dropped("too long for lo", Internal, func() {
		c.send(udp(addrPort(host4, 7000), addrPort(host4, 7002), strings.Repeat("l", 65000)))
	})
	// A grant of 127.0.0.1 is no grant of 127.7.7.7.
	_, _ = k.WriteToUDPAddrPort([]byte("no"), netip.MustParseAddrPort("127.7.7.7:7005"))
	c.silent("a datagram to another loopback address")
	s := sniff(t, "dppeer", "eth0")
	c.dropped("loopback to the network", Loopback, func() { c.send(udp(addrPort(lo4, 7000), addrPort(peer4, 9), "leaks")) })
	s.noneWith("loopback", "leaks")
}

// TestNSRoutes has several uplinks, no route, and a neighbour that is none.
func TestNSRoutes(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{17, any4, 7000}, Grant{17, any6, 7000})
	s := sniff(t, "dppeer", "eth1")
	c.send(udp(netip.MustParseAddrPort("10.9.2.1:7000"), netip.MustParseAddrPort("10.9.2.2:9"), "by eth1"))
	c.send(udp(netip.MustParseAddrPort("[fd09:2::1]:7000"), netip.MustParseAddrPort("[fd09:2::2]:9"), "by eth1 6"))
	// Forced by a rule on the source, with a table of its own.
	ip(t, "rule add from 10.9.2.1 table 77")
	defer ip(t, "rule del from 10.9.2.1 table 77")
	ip(t, "route add default via 10.9.2.2 dev eth1 table 77")
	c.send(udp(netip.MustParseAddrPort("10.9.2.1:7000"), netip.MustParseAddrPort("198.51.100.1:9"), "by rule"))
	seen := ""
	for _, p := range s.all() {
		seen += string(p.Data())
	}
	for _, want := range []string{"by eth1", "by eth1 6", "by rule"} {
		if !strings.Contains(seen, want) {
			t.Errorf("%q did not leave by eth1", want)
		}
	}
	unreachable := func(p gopacket.Packet) bool {
		if i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
			return i.TypeCode.Type() == 3
		}
		i, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		return ok && i.TypeCode.Type() == 1
	}
	ip(t, "route add unreachable 203.0.113.0/24")
	defer ip(t, "route del unreachable 203.0.113.0/24")
	c.dropped("unreachable route", NoRoute, func() { c.send(udp(addrPort(host4, 7000), netip.MustParseAddrPort("203.0.113.9:9"), "x")) })
	c.expect("unreachable", unreachable)
	ip(t, "-6 route del default")
	c.dropped("no route", NoRoute, func() { c.send(udp(addrPort(host6, 7000), netip.MustParseAddrPort("[2001:db8::1]:9"), "x")) })
	ip(t, "route add default via fd09::2")
	c.expect("unreachable", unreachable)
	for _, bc := range []string{"10.9.0.255", "10.9.0.0", "255.255.255.255", "224.0.0.1", "0.0.0.0"} {
		c.dropped(bc, Multicast, func() { c.send(udp(addrPort(host4, 7000), addrPort(netip.MustParseAddr(bc), 9), "x")) })
	}
	c.dropped("ff02::1", Multicast, func() { c.send(udp(addrPort(host6, 7000), netip.MustParseAddrPort("[ff02::1]:9"), "x")) })
	// The kernel asks for the neighbour, gives up, and says so.
	for _, f := range []string{"/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms", "/proc/sys/net/ipv6/neigh/eth0/retrans_time_ms"} {
		writeFile(t, f, "50")
	}
	c.send(udp(addrPort(host4, 7000), netip.MustParseAddrPort("10.9.0.77:9"), "nobody"))
	c.expect("host unreachable", unreachable)
	c.send(udp(addrPort(host6, 7000), netip.MustParseAddrPort("[fd09::77]:9"), "nobody"))
	c.expect("address unreachable", unreachable)
}
