package link

import (
	"encoding/binary"
	"errors"
)

// VnetLen is the length of struct virtio_net_hdr without num_buffers, as TUN
// devices and wires put it in front of each packet.
const VnetLen = 10

// MaxPacket is the largest network-layer packet that a link carries, bytes.
const MaxPacket = 65535

// Lengths of headers, bytes.
const (
	ethLen  = 14
	vlanLen = 4
	ip4Len  = 20
	ip6Len  = 40
	tcpLen  = 20
)

// Flags and types of struct virtio_net_hdr (VIRTIO 1.2, 5.1.6).
const (
	vnetNeedsCsum = 1
	vnetDataValid = 2
	vnetGSOECN    = 0x80

	protoTCP = 6
	protoUDP = 17
)

// Errors of [DecodeVnet], [Complete] and [Segment]: the packet is malformed.
var (
	ErrShort     = errors.New("packet too short")
	ErrVnetCsum  = errors.New("checksum offsets outside the packet")
	ErrVnetGSO   = errors.New("unsupported or inconsistent segmentation offload")
	ErrNotIP     = errors.New("not an IP packet")
	ErrOversized = errors.New("packet larger than 65535 bytes")
)

// EncodeVnet writes o as a virtio network header in the machine's byte order
// into b, which has at least [VnetLen] bytes.
func EncodeVnet(b []byte, o *Offload) {
	b = b[:VnetLen:VnetLen]
	clear(b)
	if o.NeedsCsum {
		b[0] = vnetNeedsCsum
		binary.NativeEndian.PutUint16(b[6:], o.CsumStart)
		binary.NativeEndian.PutUint16(b[8:], o.CsumOffset)
	} else if o.CsumValid {
		b[0] = vnetDataValid
	}
	if o.GSO != GSONone {
		b[1] = byte(o.GSO)
		binary.NativeEndian.PutUint16(b[2:], o.HdrLen)
		binary.NativeEndian.PutUint16(b[4:], o.GSOSize)
	}
}

// DecodeVnet reads the virtio network header h of pkt and checks it against
// the packet: every offset lies inside it, and a packet to be segmented is TCP
// over the IP version it claims. HdrLen is computed from the packet, because
// Linux gives only a hint there. CsumValid is also set where the checksum is
// left to be completed: the packet has not been on a medium that could damage
// it. Errors: ErrShort, ErrVnetCsum, ErrVnetGSO, ErrNotIP.
func DecodeVnet(h, pkt []byte, m Medium) (Offload, error) {
	var o Offload
	if len(h) < VnetLen {
		return o, ErrShort
	}
	o.CsumValid = h[0]&(vnetDataValid|vnetNeedsCsum) != 0
	if h[0]&vnetNeedsCsum != 0 {
		o.NeedsCsum = true
		o.CsumStart = binary.NativeEndian.Uint16(h[6:])
		o.CsumOffset = binary.NativeEndian.Uint16(h[8:])
		if err := checkCsum(pkt, &o, m); err != nil {
			return Offload{}, err
		}
	}
	o.GSO = GSO(h[1] &^ vnetGSOECN)
	if o.GSO == GSONone {
		return o, nil
	}
	o.GSOSize = binary.NativeEndian.Uint16(h[4:])
	hdr, err := gsoHeader(pkt, &o, m)
	if err != nil {
		return Offload{}, err
	}
	o.HdrLen = uint16(hdr.payload)
	return o, nil
}

// checkCsum checks that the checksum that o leaves to be completed lies inside
// pkt, behind a network header.
func checkCsum(pkt []byte, o *Offload, m Medium) error {
	start, off := int(o.CsumStart), int(o.CsumOffset)
	low := ip4Len
	if m == Ethernet {
		low += ethLen
	}
	if start < low || start+off+2 > len(pkt) {
		return ErrVnetCsum
	}
	return nil
}

// headers says where the headers of a TCP packet to be segmented begin.
type headers struct {
	ip, tcp, payload int // offsets, bytes
	v6               bool
}

// gsoHeader finds the headers of the packet to be segmented pkt, and checks
// them against o.
func gsoHeader(pkt []byte, o *Offload, m Medium) (headers, error) {
	var h headers
	ip, err := ipOffset(pkt, m)
	if err != nil {
		return h, err
	}
	h.ip, h.tcp = ip, int(o.CsumStart)
	if !o.NeedsCsum || o.GSOSize == 0 || o.CsumOffset != 16 {
		return h, ErrVnetGSO
	}
	switch {
	case o.GSO == GSOTCP4 && pkt[ip]>>4 == 4:
		if h.tcp != ip+int(pkt[ip]&15)*4 || h.tcp < ip+ip4Len || len(pkt) < h.tcp || pkt[ip+9] != protoTCP {
			return h, ErrVnetGSO
		}
	case o.GSO == GSOTCP6 && pkt[ip]>>4 == 6:
		h.v6 = true
		if h.tcp < ip+ip6Len {
			return h, ErrVnetGSO
		}
		// Extension headers may come between, but not without them.
		if (h.tcp == ip+ip6Len) != (pkt[ip+6] == protoTCP) {
			return h, ErrVnetGSO
		}
	default:
		return h, ErrVnetGSO
	}
	if len(pkt) < h.tcp+tcpLen {
		return h, ErrShort
	}
	doff := int(pkt[h.tcp+12]>>4) * 4
	h.payload = h.tcp + doff
	if doff < tcpLen || len(pkt) <= h.payload {
		return h, ErrVnetGSO
	}
	if len(pkt)-ip > MaxPacket {
		return h, ErrOversized
	}
	return h, nil
}

// ipOffset is where the IP header of pkt begins, behind the Ethernet header
// and at most two VLAN tags; the fixed part of the header is known to be whole.
func ipOffset(pkt []byte, m Medium) (int, error) {
	off := 0
	if m == Ethernet {
		if len(pkt) < ethLen {
			return 0, ErrShort
		}
		off = ethLen
		typ := binary.BigEndian.Uint16(pkt[12:])
		for n := 0; typ == 0x8100 || typ == 0x88a8; n++ {
			if n == 2 || len(pkt) < off+vlanLen {
				return 0, ErrNotIP
			}
			typ = binary.BigEndian.Uint16(pkt[off+2:])
			off += vlanLen
		}
		if typ != 0x0800 && typ != 0x86dd {
			return 0, ErrNotIP
		}
	}
	if len(pkt) <= off {
		return 0, ErrShort
	}
	switch v := pkt[off] >> 4; {
	case v == 4 && len(pkt) >= off+ip4Len, v == 6 && len(pkt) >= off+ip6Len:
		return off, nil
	case v == 4 || v == 6:
		return 0, ErrShort
	}
	return 0, ErrNotIP
}
