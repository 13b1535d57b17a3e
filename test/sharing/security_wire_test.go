package sharing_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// offload is a virtio network header (virtio v1.3 5.1.6).
type offload struct {
	csum, csumOff uint16 // NEEDS_CSUM if csum is set
	gso           uint8
	size, hdr     uint16
}

// GSO types (linux/virtio_net.h).
const (
	gsoTCP4, gsoUDP, gsoTCP6, gsoUDPL4, gsoECN = 1, 3, 4, 5, 0x80
)

// with puts the header before a packet.
func (o offload) with(pkt []byte) []byte {
	b := make([]byte, 10, 10+len(pkt))
	if o.csum != 0 {
		b[0] = 1
	}
	b[1] = o.gso
	for i, v := range []uint16{o.hdr, o.size, o.csum, o.csumOff} {
		binary.NativeEndian.PutUint16(b[2+2*i:], v)
	}
	return append(b, pkt...)
}

func plain(pkts ...[]byte) [][]byte {
	for i := range pkts {
		pkts[i] = offload{}.with(pkts[i])
	}
	return pkts
}

func serialize(ls ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		panic(err)
	}
	return slices.Clone(b.Bytes())
}

type networkLayer interface {
	gopacket.SerializableLayer
	gopacket.NetworkLayer
}

func ipHeader(proto int, src, dst netip.Addr) networkLayer {
	if src.Is4() {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocol(proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocol(proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func udpPacket(src, dst netip.AddrPort, text string) []byte {
	h := ipHeader(unix.IPPROTO_UDP, src.Addr(), dst.Addr())
	u := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	_ = u.SetNetworkLayerForChecksum(h)
	return serialize(h, u, gopacket.Payload(text))
}

func tcpPacket(src, dst netip.AddrPort, t layers.TCP, text string) []byte {
	h := ipHeader(unix.IPPROTO_TCP, src.Addr(), dst.Addr())
	t.SrcPort, t.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	_ = t.SetNetworkLayerForChecksum(h)
	return serialize(h, &t, gopacket.Payload(text))
}

func rawPacket(proto int, src, dst netip.Addr, text string) []byte {
	return serialize(ipHeader(proto, src, dst), gopacket.Payload(text))
}

// icmpPacket is an ICMP message of the family's kind; rest is its second word.
func icmpPacket(src, dst netip.Addr, typ, code uint8, rest uint32, body []byte) []byte {
	if src.Is4() {
		return serialize(ipHeader(unix.IPPROTO_ICMP, src, dst), &layers.ICMPv4{
			TypeCode: layers.CreateICMPv4TypeCode(typ, code), Id: uint16(rest >> 16), Seq: uint16(rest),
		}, gopacket.Payload(body))
	}
	h := ipHeader(unix.IPPROTO_ICMPV6, src, dst)
	m := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, code)}
	_ = m.SetNetworkLayerForChecksum(h)
	return serialize(h, m, gopacket.Payload(append(binary.BigEndian.AppendUint32(nil, rest), body...)))
}

func echoPacket(src, dst netip.Addr, id uint16, text string) []byte {
	typ := uint8(layers.ICMPv4TypeEchoRequest)
	if src.Is6() {
		typ = layers.ICMPv6TypeEchoRequest
	}
	return icmpPacket(src, dst, typ, 0, uint32(id)<<16|1, []byte(text))
}

// fragments cuts a packet's payload at multiples of 8 bytes.
func fragments(pkt []byte, id uint32, cuts ...int) (out [][]byte) {
	head := 20
	if pkt[0]>>4 == 6 {
		head = 40
	}
	cuts = append(cuts, len(pkt)-head)
	for from := 0; len(cuts) > 0; cuts = cuts[1:] {
		f := fragmentAt(pkt[:head], pkt[head+from:head+cuts[0]], id, from, len(cuts) > 1)
		out = append(out, f)
		from = cuts[0]
	}
	return out
}

// fragmentAt is one fragment, at an offset in bytes.
func fragmentAt(header, body []byte, id uint32, at int, more bool) []byte {
	f := slices.Clone(header)
	off := uint16(at)
	if header[0]>>4 == 4 {
		off /= 8
		if more {
			off |= 0x2000
		}
		binary.BigEndian.PutUint16(f[2:], uint16(20+len(body)))
		binary.BigEndian.PutUint16(f[4:], uint16(id))
		binary.BigEndian.PutUint16(f[6:], off)
		f[10], f[11] = 0, 0
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(f[i:]))
		}
		binary.BigEndian.PutUint16(f[10:], ^uint16(sum+sum>>16))
		return append(f, body...)
	}
	if more {
		off |= 1
	}
	binary.BigEndian.PutUint16(f[4:], uint16(8+len(body)))
	f = append(f, f[6], 0, byte(off>>8), byte(off), 0, 0, 0, 0)
	f[6] = unix.IPPROTO_FRAGMENT
	binary.BigEndian.PutUint32(f[44:], id)
	return append(f, body...)
}

// behind puts an IPv6 extension header of 8 bytes before the payload.
func behind(ext uint8, pkt []byte) []byte {
	p := slices.Insert(slices.Clone(pkt), 40, pkt[6], 0, 1, 4, 0, 0, 0, 0)
	p[6] = ext
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	return p
}

// mapped writes an IPv4-mapped source into an IPv6 packet.
func mapped(pkt []byte, src netip.Addr) []byte {
	a := src.As16()
	copy(pkt[8:], a[:])
	return pkt
}

func ap(ip string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), port)
}

// spoof is one thing that a lease may not send.
type spoof struct {
	what string
	// make gives the packets: those that are not allowed, or the same where
	// they are. Each carries the mark.
	make func(forged bool, mark string) [][]byte
}

// A lease's grants in the table: TCP, UDP and echo at mine on the host's two
// addresses, and UDP at wild on any.
const (
	mine, wild, foreign = 9000, 9001, 9999
	discard             = 9
)

// pick is one value for the forgery and another for the control.
func pick[T any](forged bool, bad, good T) T {
	if forged {
		return bad
	}
	return good
}

// spoofs is the table of what may not be sent.
func spoofs(kernel, victim uint16) []spoof {
	return slices.Concat(spoofPorts(kernel, victim), spoofProtocols(kernel), spoofFragments(), spoofOffloads(), spoofSegments())
}

var (
	host4, host6 = netip.MustParseAddr(hostIP), netip.MustParseAddr(hostIP6)
	to4, to6     = ap(peerIP, discard), ap(peerIP6, discard)
)

func spoofPorts(kernel, victim uint16) (ss []spoof) {
	for _, v := range []struct {
		name      string
		host, oth netip.Addr
		to        netip.AddrPort
	}{
		{"IPv4", host4, netip.MustParseAddr("10.77.0.9"), to4}, {"IPv6", host6, netip.MustParseAddr("fd77::9"), to6},
	} {
		for what, bad := range map[string]netip.AddrPort{
			"a port that nobody has":     netip.AddrPortFrom(v.host, foreign),
			"a privileged port":          netip.AddrPortFrom(v.host, 53),
			"port 0":                     netip.AddrPortFrom(v.host, 0),
			"a port of the kernel's":     netip.AddrPortFrom(v.host, kernel),
			"a port of another lease's":  netip.AddrPortFrom(v.host, victim),
			"an address of nobody's":     netip.AddrPortFrom(v.oth, mine),
			"the peer's own address":     netip.AddrPortFrom(v.to.Addr(), mine),
			"an address of nobody's, *":  netip.AddrPortFrom(v.oth, wild),
			"a loopback address, *":      netip.AddrPortFrom(loopback(v.host), wild),
			"the unspecified address, *": netip.AddrPortFrom(unspecified(v.host), wild),
		} {
			good := netip.AddrPortFrom(v.host, mine)
			ss = append(ss, spoof{v.name + " UDP from " + what, func(forged bool, mark string) [][]byte {
				return plain(udpPacket(pick(forged, bad, good), v.to, mark))
			}}, spoof{v.name + " TCP SYN from " + what, func(forged bool, mark string) [][]byte {
				return plain(tcpPacket(pick(forged, bad, good), v.to, layers.TCP{SYN: true, Window: 1000}, mark))
			}})
		}
		ss = append(ss, spoof{v.name + " TCP from a port granted for UDP", func(forged bool, mark string) [][]byte {
			return plain(tcpPacket(netip.AddrPortFrom(v.host, pick[uint16](forged, wild, mine)), v.to, layers.TCP{SYN: true}, mark))
		}}, spoof{v.name + " echo request with another identifier", func(forged bool, mark string) [][]byte {
			return plain(echoPacket(v.host, v.to.Addr(), pick[uint16](forged, foreign, mine), mark))
		}}, spoof{v.name + " echo request from another address", func(forged bool, mark string) [][]byte {
			return plain(echoPacket(pick(forged, v.oth, v.host), v.to.Addr(), mine, mark))
		}}, spoof{v.name + " longer than its header says", func(forged bool, mark string) [][]byte {
			p := udpPacket(netip.AddrPortFrom(v.host, mine), v.to, mark)
			return plain(pick(forged, append(p, 0, 0, 0, 0), p))
		}}, spoof{v.name + " to multicast", func(forged bool, mark string) [][]byte {
			group := pick(v.host.Is4(), netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("ff02::1"))
			return plain(udpPacket(netip.AddrPortFrom(v.host, mine), netip.AddrPortFrom(pick(forged, group, v.to.Addr()), discard), mark))
		}}, spoof{v.name + " to the kernel here, as the peer", func(forged bool, mark string) [][]byte {
			return plain(udpPacket(netip.AddrPortFrom(pick(forged, v.to.Addr(), v.host), mine), netip.AddrPortFrom(v.host, kernel), mark))
		}})
	}
	return ss
}

func loopback(a netip.Addr) netip.Addr {
	return pick(a.Is4(), netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
}

func unspecified(a netip.Addr) netip.Addr {
	return pick(a.Is4(), netip.IPv4Unspecified(), netip.IPv6Unspecified())
}

func spoofProtocols(kernel uint16) (ss []spoof) {
	good := func(mark string) []byte { return udpPacket(netip.AddrPortFrom(host4, mine), to4, mark) }
	good6 := func(mark string) []byte { return udpPacket(netip.AddrPortFrom(host6, mine), to6, mark) }
	add := func(what string, bad, good func(mark string) []byte) {
		ss = append(ss, spoof{what, func(forged bool, mark string) [][]byte { return plain(pick(forged, bad, good)(mark)) }})
	}
	for _, n := range []int{0, 2, 4, 41, 47, 50, 58, 89, 132, 136, 255} {
		add(fmt.Sprintf("IPv4 protocol %d", n), func(m string) []byte {
			// What follows looks like UDP from the granted port.
			return rawPacket(n, host4, to4.Addr(), string(good(m)[20:]))
		}, good)
	}
	for _, n := range []int{1, 4, 41, 47, 50, 59, 132, 255} {
		add(fmt.Sprintf("IPv6 protocol %d", n), func(m string) []byte {
			return rawPacket(n, host6, to6.Addr(), string(good6(m)[40:]))
		}, good6)
	}
	for _, n := range []uint8{0, 43, 60, 51} {
		add(fmt.Sprintf("IPv6 extension header %d", n), func(m string) []byte { return behind(n, good6(m)) }, good6)
	}
	add("IPv4-mapped source in IPv6", func(m string) []byte { return mapped(good6(m), host4) }, good6)
	add("IPv4-mapped source in IPv6, *", func(m string) []byte {
		return mapped(udpPacket(netip.AddrPortFrom(host6, wild), to6, m), netip.MustParseAddr("10.77.0.9"))
	}, good6)
	quote := func(from uint16) func(m string) []byte {
		return func(m string) []byte { return udpPacket(to4, netip.AddrPortFrom(host4, from), m) }
	}
	own := func(m string) []byte { return icmpPacket(host4, to4.Addr(), 3, 3, 0, quote(mine)(m)) }
	add("ICMP error about a flow of the kernel's", func(m string) []byte {
		return icmpPacket(host4, to4.Addr(), 3, 3, 0, quote(kernel)(m))
	}, own)
	add("ICMP: the path MTU is 576", func(m string) []byte { return icmpPacket(host4, to4.Addr(), 3, 4, 576, quote(mine)(m)) }, own)
	for _, typ := range []uint8{0, 4, 5, 9, 13, 17} {
		add(fmt.Sprintf("ICMP type %d", typ), func(m string) []byte { return icmpPacket(host4, to4.Addr(), typ, 0, mine<<16, []byte(m)) }, own)
	}
	for _, typ := range []uint8{129, 130, 133, 134, 135, 136, 137} {
		add(fmt.Sprintf("ICMPv6 type %d", typ), func(m string) []byte { return icmpPacket(host6, to6.Addr(), typ, 0, mine<<16, []byte(m)) }, good6)
	}
	return ss
}
