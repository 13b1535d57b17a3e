package flow

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/alptrace/alptrace/link"
)

func packet(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, l...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// examples are packets of all kinds, by what they are.
func examples(t testing.TB) map[string][]byte {
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	tagged := *eth
	tagged.EthernetType = layers.EthernetTypeDot1Q
	ip4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, TOS: 2, Protocol: p, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
	}
	ip6 := func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: p,
			SrcIP: netip.MustParseAddr("fd00::1").AsSlice(), DstIP: netip.MustParseAddr("fd00::2").AsSlice(),
		}
	}
	tcp := &layers.TCP{SrcPort: 1000, DstPort: 2000, DataOffset: 5}
	udp := &layers.UDP{SrcPort: 1000, DstPort: 2000}
	options := gopacket.Payload(append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, packet(t, tcp)...))
	late := gopacket.Payload(append([]byte{17, 0, 0, 8, 0, 0, 0, 1}, packet(t, udp)...))
	fragment := ip4(layers.IPProtocolUDP)
	fragment.FragOffset = 100
	unreachable := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 77}
	sent := packet(t, ip4(layers.IPProtocolUDP), udp)
	return map[string][]byte{
		"tcp4":     packet(t, ip4(layers.IPProtocolTCP), tcp),
		"udp6":     packet(t, ip6(layers.IPProtocolUDP), udp),
		"options6": packet(t, ip6(0), options),
		"late6":    packet(t, ip6(44), late),
		"fragment": packet(t, fragment, udp),
		"echo":     packet(t, ip4(layers.IPProtocolICMPv4), echo),
		"error":    packet(t, ip4(layers.IPProtocolICMPv4), unreachable, gopacket.Payload(sent)),
		"eth":      packet(t, eth, ip4(layers.IPProtocolTCP), tcp),
		"vlan":     packet(t, &tagged, &layers.Dot1Q{VLANIdentifier: 5, Type: layers.EthernetTypeIPv4}, ip4(layers.IPProtocolTCP), tcp),
	}
}

func TestParse(t *testing.T) {
	flow := func(proto uint8, src, dst string) Flow {
		return Flow{proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)}
	}
	four, six := flow(TCP, "10.0.0.1:1000", "10.0.0.2:2000"), flow(UDP, "[fd00::1]:1000", "[fd00::2]:2000")
	tcp6 := six
	tcp6.Proto = TCP
	udp4 := four
	udp4.Proto = UDP
	ex := examples(t)
	for name, c := range map[string]struct {
		want      Flow
		about     Flow
		transport int
		none      bool
	}{
		"tcp4":     {want: four, transport: 20},
		"udp6":     {want: six, transport: 40},
		"options6": {want: tcp6, transport: 48},
		"late6":    {none: true},
		"fragment": {none: true},
		"echo":     {want: flow(ICMP, "10.0.0.1:77", "10.0.0.2:77"), transport: 20},
		"error":    {want: flow(ICMP, "10.0.0.1:0", "10.0.0.2:0"), about: udp4, transport: 20},
		"eth":      {want: four, transport: 34},
		"vlan":     {want: four, transport: 38},
	} {
		m := link.IP
		if name == "eth" || name == "vlan" {
			m = link.Ethernet
		}
		p, ok := Parse(ex[name], m)
		if ok == c.none || ok && (p.Flow != c.want || p.About != c.about || p.Transport != c.transport) {
			t.Errorf("%s: %+v, %v", name, p, ok)
		}
		if name == "tcp4" && (p.ECN != 2 || p.End != 40) {
			t.Errorf("%+v", p)
		}
		if ok && p.Reverse().Reverse() != p.Flow {
			t.Error("not the reverse")
		}
	}
}

func FuzzParse(f *testing.F) {
	for name, b := range examples(f) {
		f.Add(b, name == "eth" || name == "vlan")
	}
	f.Fuzz(func(t *testing.T, b []byte, eth bool) {
		m := link.IP
		if eth {
			m = link.Ethernet
		}
		if p, ok := Parse(b, m); ok && p.Transport+8 > len(b) {
			t.Errorf("%+v of %d bytes", p, len(b))
		}
	})
}
