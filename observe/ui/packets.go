package ui

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/alptrace/alptrace/link"
)

// packetRow is a packet as the page has it.
type packetRow struct {
	At     float64 `json:"t"`   // seconds since the start
	Dir    string  `json:"dir"` // "in" or "out", as the link's first end sees it
	Len    int     `json:"len"` // bytes, with the link header
	Proto  string  `json:"proto"`
	Src    string  `json:"src"`
	Dst    string  `json:"dst"`
	Info   string  `json:"info"`
	Socket uint64  `json:"sock,omitempty"`
	Bad    bool    `json:"bad,omitempty"` // RST, ICMP errors
}

// headers is how much of a packet is looked at.
const headers = 160

// Numbers of protocols (IANA).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58

	etherIPv4, etherIPv6, etherARP = 0x0800, 0x86dd, 0x0806
)

// TCP flags.
const (
	flagFIN, flagSYN, flagRST, flagPSH, flagACK, flagURG, flagECE, flagCWR = 1, 2, 4, 8, 16, 32, 64, 128
)

// network is where a packet's network header begins and its Ethernet type.
func network(b []byte, m link.Medium) (ip []byte, typ int) {
	if m == link.Ethernet {
		if len(b) < 14 {
			return nil, 0
		}
		return b[14:], int(binary.BigEndian.Uint16(b[12:]))
	}
	if len(b) > 0 && b[0]>>4 == 6 {
		return b, etherIPv6
	}
	return b, etherIPv4
}

// notable tells whether a packet is worth showing among many: the beginning and
// end of connections, and whatever is not TCP or UDP.
func notable(b []byte, m link.Medium) bool {
	ip, typ := network(b, m)
	var proto byte
	switch {
	case typ == etherIPv4 && len(ip) >= 20:
		proto = ip[9]
		ip = ip[min(len(ip), int(ip[0]&15)*4):]
	case typ == etherIPv6 && len(ip) >= 40:
		proto = ip[6]
		ip = ip[40:]
	default:
		return true
	}
	switch proto {
	case protoTCP:
		return len(ip) > 13 && ip[13]&(flagSYN|flagFIN|flagRST) != 0
	case protoUDP:
		return false
	}
	return true
}

// describe says what a packet is, from its first bytes.
func describe(b []byte, m link.Medium) (r packetRow) {
	ip, typ := network(b, m)
	var proto byte
	var src, dst netip.Addr
	var payload []byte
	var total int // bytes behind the network header
	switch {
	case typ == etherIPv4 && len(ip) >= 20 && ip[0]>>4 == 4:
		src, _ = netip.AddrFromSlice(ip[12:16])
		dst, _ = netip.AddrFromSlice(ip[16:20])
		proto = ip[9]
		hdr := max(20, int(ip[0]&15)*4)
		total = int(binary.BigEndian.Uint16(ip[2:])) - hdr
		payload = ip[min(len(ip), hdr):]
		if frag := binary.BigEndian.Uint16(ip[6:]) & 0x1fff; frag != 0 {
			r.Proto, r.Src, r.Dst = "ip", src.String(), dst.String()
			r.Info = fmt.Sprintf("fragment at %d of id %d", int(frag)*8, binary.BigEndian.Uint16(ip[4:]))
			return r
		}
	case typ == etherIPv6 && len(ip) >= 40 && ip[0]>>4 == 6:
		src, _ = netip.AddrFromSlice(ip[8:24])
		dst, _ = netip.AddrFromSlice(ip[24:40])
		proto, payload, total = ip[6], ip[40:], int(binary.BigEndian.Uint16(ip[4:]))
		// Hop-by-hop options, as those of MLD.
		if proto == 0 && len(payload) >= 8 {
			n := min(len(payload), int(payload[1])*8+8)
			proto, total, payload = payload[0], total-n, payload[n:]
		}
	case typ == etherARP && len(ip) >= 28:
		return describeARP(ip)
	default:
		r.Proto, r.Info = "eth", fmt.Sprintf("type %#04x", typ)
		return r
	}
	r.Src, r.Dst = src.String(), dst.String()
	switch {
	case proto == protoTCP && len(payload) >= 20:
		r.describeTCP(src, dst, payload, total)
	case proto == protoUDP && len(payload) >= 8:
		r.Proto = "udp"
		r.ports(src, dst, payload)
		r.Info = fmt.Sprintf("length %d", int(binary.BigEndian.Uint16(payload[4:]))-8)
	case proto == protoICMP && len(payload) >= 8:
		r.describeICMP(payload, icmpNames, payload[0] == 3 || payload[0] == 11 || payload[0] == 12)
		r.Proto = "icmp"
	case proto == protoICMPv6 && len(payload) >= 8:
		r.describeICMP(payload, icmp6Names, payload[0] < 128)
		r.Proto = "icmp6"
	default:
		r.Proto, r.Info = "ip", fmt.Sprintf("protocol %d, length %d", proto, total)
	}
	return r
}

func (r *packetRow) ports(src, dst netip.Addr, b []byte) {
	r.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)).String()
	r.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])).String()
}

var flagNames = []struct {
	bit  byte
	name string
}{{flagSYN, "SYN"}, {flagFIN, "FIN"}, {flagRST, "RST"}, {flagPSH, "PSH"}, {flagURG, "URG"}, {flagECE, "ECE"}, {flagCWR, "CWR"}, {flagACK, "ACK"}}

func (r *packetRow) describeTCP(src, dst netip.Addr, b []byte, total int) {
	r.Proto = "tcp"
	r.ports(src, dst, b)
	var w []string
	for _, f := range flagNames {
		if b[13]&f.bit != 0 {
			w = append(w, f.name)
		}
	}
	flags := strings.Join(w, " ")
	if flags == "" {
		flags = "no flags"
	}
	be := binary.BigEndian
	hdr := int(b[12]>>4) * 4
	r.Info = fmt.Sprintf("%s  seq %d", flags, be.Uint32(b[4:]))
	if b[13]&flagACK != 0 {
		r.Info += fmt.Sprintf("  ack %d", be.Uint32(b[8:]))
	}
	r.Info += fmt.Sprintf("  win %d  len %d", be.Uint16(b[14:]), max(0, total-hdr)) + tcpOptions(b[20:min(len(b), max(20, hdr))])
	r.Bad = b[13]&flagRST != 0
}

// tcpOptions names the options that explain something: MSS, window scale, SACK.
func tcpOptions(b []byte) (s string) {
	for len(b) >= 2 {
		kind, n := b[0], int(b[1])
		if kind == 0 {
			break
		}
		if kind == 1 {
			b = b[1:]
			continue
		}
		if n < 2 || n > len(b) {
			break
		}
		switch {
		case kind == 2 && n == 4:
			s += fmt.Sprintf("  mss %d", binary.BigEndian.Uint16(b[2:]))
		case kind == 3 && n == 3:
			s += fmt.Sprintf("  wscale %d", b[2])
		case kind == 5:
			for e := b[2:n]; len(e) >= 8; e = e[8:] {
				s += fmt.Sprintf("  sack %d-%d", binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:]))
			}
		}
		b = b[n:]
	}
	return s
}

var (
	icmpNames = map[byte]string{0: "echo reply", 3: "destination unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded", 12: "parameter problem"}

	icmp6Names = map[byte]string{
		1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request", 129: "echo reply",
		133: "router solicitation", 134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement", 143: "multicast listener report",
	}
)

func (r *packetRow) describeICMP(b []byte, names map[byte]string, bad bool) {
	name, ok := names[b[0]]
	if !ok {
		name = fmt.Sprintf("type %d", b[0])
	}
	r.Info, r.Bad = name, bad
	switch {
	case strings.HasPrefix(name, "echo"):
		r.Info += fmt.Sprintf("  id %d  seq %d", binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]))
	case b[1] != 0:
		r.Info += fmt.Sprintf("  code %d", b[1])
	}
}

func describeARP(b []byte) (r packetRow) {
	r.Proto = "arp"
	sender, _ := netip.AddrFromSlice(b[14:18])
	target, _ := netip.AddrFromSlice(b[24:28])
	r.Src, r.Dst = sender.String(), target.String()
	if binary.BigEndian.Uint16(b[6:]) == 1 {
		r.Info = fmt.Sprintf("who has %v? tell %v", target, sender)
	} else {
		r.Info = fmt.Sprintf("%v is at %x", sender, b[8:14])
	}
	return r
}
