package sharing_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/gopacket/layers"
)

// spoofFragments is what cutting packets up does not get out.
func spoofFragments() (ss []spoof) {
	id := uint32(0x5a00)
	for _, v := range []struct {
		name string
		host netip.Addr
		to   netip.AddrPort
		head int
	}{{"IPv4", host4, to4, 20}, {"IPv6", host6, to6, 40}} {
		whole := func(port uint16, mark string) []byte {
			return udpPacket(netip.AddrPortFrom(v.host, port), v.to, strings.Repeat(mark+strings.Repeat(".", 64-len(mark)), 4))
		}
		ss = append(ss, spoof{v.name + " fragments, the first from another port", func(forged bool, mark string) [][]byte {
			id++
			return plain(fragments(whole(pick[uint16](forged, foreign, mine), mark), id, 72, 136)...)
		}}, spoof{v.name + " fragments, the first of 8 bytes from another port", func(forged bool, mark string) [][]byte {
			id++
			return plain(fragments(whole(pick[uint16](forged, foreign, mine), mark), id, 8, 136)...)
		}}, spoof{v.name + " fragments without their first", func(forged bool, mark string) [][]byte {
			id++
			return plain(fragments(whole(mine, mark), id, 72, 136)[pick(forged, 1, 0):]...)
		}}, spoof{v.name + " a second first fragment, from another port", func(forged bool, mark string) [][]byte {
			id++
			fs := fragments(whole(mine, strings.ReplaceAll(mark, "forged", "before")), id, 72)
			again := fragments(whole(pick[uint16](forged, foreign, mine), mark), id, 72)
			return plain(fs[0], again[0])
		}}, spoof{v.name + " fragments that go on as another protocol", func(forged bool, mark string) [][]byte {
			id++
			fs := fragments(whole(mine, strings.ReplaceAll(mark, "forged", "before")), id, 72)
			again := fragments(whole(mine, mark), id, 72)
			if forged {
				again[1][pick(v.head == 20, 9, 40)] = 6
			}
			return plain(fs[0], again[1])
		}}, spoof{v.name + " fragments that go on from another address", func(forged bool, mark string) [][]byte {
			id++
			fs := fragments(whole(mine, strings.ReplaceAll(mark, "forged", "before")), id, 72)
			again := fragments(whole(mine, mark), id, 72)
			if forged {
				again[1][pick(v.head == 20, 15, 23)]++ // the last byte of the source
			}
			return plain(fs[0], again[1])
		}})
	}
	return append(ss, spoof{"IPv6 ports behind options behind a fragment header", func(forged bool, mark string) [][]byte {
		id++
		p := udpPacket(netip.AddrPortFrom(host6, mine), to6, mark)
		return plain(fragmentAt(pick(forged, behind(60, p), p)[:40], pick(forged, behind(60, p), p)[40:], id, 0, false))
	}})
}

// twice is a datagram from the granted port with the mark in two places, one of
// which may be written over.
func twice(m string) []byte {
	return udpPacket(netip.AddrPortFrom(host4, mine), to4, m+strings.Repeat(".", 40)+m)
}

// cover returns what adds to a table a packet behind two virtio-net headers.
func cover(ss *[]spoof) func(what string, bad, good offload, forged, honest func(mark string) []byte) {
	return func(what string, bad, good offload, forged, honest func(mark string) []byte) {
		*ss = append(*ss, spoof{what, func(f bool, mark string) [][]byte {
			return [][]byte{pick(f, bad, good).with(pick(f, forged, honest)(mark))}
		}})
	}
}

// spoofOffloads is what virtio-net headers do not get out: those that have the
// kernel write a checksum over what was looked at.
func spoofOffloads() (ss []spoof) {
	add := cover(&ss)
	for what, o := range map[string]offload{
		"the source port":             {csum: 20},
		"the destination port":        {csum: 20, csumOff: 2},
		"the source port, from 18":    {csum: 18, csumOff: 2},
		"the source address":          {csum: 12},
		"the source address, from 0":  {csum: 0xfff0, csumOff: 12},
		"the protocol":                {csum: 8},
		"the payload, as TCP's":       {csum: 20, csumOff: 16},
		"what is beyond the packet":   {csum: 20, csumOff: 0x4000},
		"the header of the layer two": {csum: 0xffff, csumOff: 0xffff},
	} {
		add("checksum to be put over "+what, o, offload{csum: 20, csumOff: 6}, twice, twice)
	}
	add("checksum in a fragment", offload{csum: 20, csumOff: 6}, offload{csum: 20, csumOff: 6}, func(m string) []byte {
		p := slices.Clone(twice(m + strings.Repeat(".", 64)))
		return fragmentAt(p[:20], p[20:68], 0x6b00, 0, true)
	}, twice)
	add("an IPv4 header that says it is shorter", offload{}, offload{}, func(m string) []byte {
		p := twice(m)
		p[0] = 0x44
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		return p
	}, twice)
	return ss
}

// spoofSegments is what segmentation offload does not get out.
func spoofSegments() (ss []spoof) {
	add := cover(&ss)
	long := func(port uint16, n int) func(m string) []byte {
		return func(m string) []byte {
			return tcpPacket(netip.AddrPortFrom(host4, port), to4, layers.TCP{ACK: true, Window: 1}, m+strings.Repeat(".", n))
		}
	}
	long6 := func(port uint16) func(m string) []byte {
		return func(m string) []byte {
			return tcpPacket(netip.AddrPortFrom(host6, port), to6, layers.TCP{ACK: true, Window: 1}, m+strings.Repeat(".", 5000))
		}
	}
	good := offload{csum: 20, csumOff: 16, gso: gsoTCP4, size: 1000, hdr: 40}
	change := func(f func(o *offload)) offload { o := good; f(&o); return o }
	for what, o := range map[string]offload{
		"":                            good,
		" with a header of 65535":     change(func(o *offload) { o.hdr = 0xffff }),
		" with a header of 1":         change(func(o *offload) { o.hdr = 1 }),
		" with a header of 0":         change(func(o *offload) { o.hdr = 0 }),
		" of 1 byte each":             change(func(o *offload) { o.size = 1 }),
		" of 65535 bytes":             change(func(o *offload) { o.size = 0xffff }),
		" with ECN":                   change(func(o *offload) { o.gso |= gsoECN }),
		" of the other family":        change(func(o *offload) { o.gso = gsoTCP6 }),
		" as UDP fragments":           change(func(o *offload) { o.gso = gsoUDP }),
		" as UDP datagrams":           change(func(o *offload) { o.gso = gsoUDPL4 }),
		" of a kind there is not":     change(func(o *offload) { o.gso = 0x7f }),
		" without a checksum":         change(func(o *offload) { o.csum, o.csumOff = 0, 0 }),
		" with the checksum in front": change(func(o *offload) { o.csum, o.csumOff = 12, 0 }),
	} {
		add("segmentation"+what+", from another port", o, good, long(foreign, 5000), long(mine, 5000))
	}
	add("segmentation of 65000 bytes from another port", good, good, long(foreign, 65000), long(mine, 60000))
	good6 := offload{csum: 40, csumOff: 16, gso: gsoTCP6, size: 1000, hdr: 60}
	add("IPv6 segmentation from another port", good6, good6, long6(foreign), long6(mine))
	add("IPv6 segmentation with the checksum over the port", offload{csum: 40, gso: gsoTCP6, size: 1000, hdr: 60}, good6, long6(mine), long6(mine))
	add("segmentation with the checksum over the port", change(func(o *offload) { o.csumOff = 0 }), good, long(mine, 5000), long(mine, 5000))
	add("UDP segmentation with the checksum over the port", offload{csum: 20, gso: gsoUDPL4, size: 100, hdr: 28},
		offload{csum: 20, csumOff: 6, gso: gsoUDPL4, size: 1000, hdr: 28}, twice, twice)
	add("segmentation with the source in a header length of 44", change(func(o *offload) { o.hdr = 44 }), good, func(m string) []byte {
		p := long(mine, 5000)(m)
		p[0]++ // an IP header of 24 bytes: what were ports are options
		return p
	}, long(mine, 5000))
	return ss
}
