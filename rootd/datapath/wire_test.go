package datapath

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// client is a lease as its holder sees it: a device to read and write.
type client struct {
	*Device
	t  *testing.T
	d  *Datapath
	id uint32
}

// newClient makes a lease with grants.
func newClient(t *testing.T, d *Datapath, id uint32, gs ...Grant) *client {
	t.Helper()
	dev, err := d.NewDevice(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.File.Close() })
	if errs := d.Add(id, dev.Index, gs); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	return &client{Device: dev, t: t, d: d, id: id}
}

// offload is a virtio network header.
type offload struct {
	csum, csumOff uint16 // NEEDS_CSUM if csum is set
	gso           uint8
	size, hdr     uint16
}

func (c *client) write(o offload, pkt []byte) error {
	b := make([]byte, 10, 10+len(pkt))
	if o.csum != 0 {
		b[0] = 1
	}
	b[1] = o.gso
	binary.NativeEndian.PutUint16(b[2:], o.hdr)
	binary.NativeEndian.PutUint16(b[4:], o.size)
	binary.NativeEndian.PutUint16(b[6:], o.csum)
	binary.NativeEndian.PutUint16(b[8:], o.csumOff)
	_, err := c.File.Write(append(b, pkt...))
	return err
}

// send sends a packet that must be accepted by the device.
func (c *client) send(pkt []byte) {
	c.t.Helper()
	if err := c.write(offload{}, pkt); err != nil {
		c.t.Fatal(err)
	}
}

// recv is the next packet, nil if none comes in time.
func (c *client) recv(wait time.Duration) gopacket.Packet {
	c.t.Helper()
	buf := make([]byte, 70000)
	_ = c.File.SetReadDeadline(time.Now().Add(wait))
	n, err := c.File.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	pkt := buf[10:n]
	// A checksum to be filled in. In an ICMP error it is the quoted packet's, and
	// stays as it was sent.
	if isICMP := pkt[0]>>4 == 4 && pkt[9] == 1 || pkt[0]>>4 == 6 && pkt[6] == 58; buf[0]&1 != 0 && !isICMP {
		start, off := binary.NativeEndian.Uint16(buf[6:]), binary.NativeEndian.Uint16(buf[8:])
		binary.BigEndian.PutUint16(pkt[start+off:], checksum(pkt[start:]))
	}
	return decode(pkt)
}

// expect waits for a packet for which f is true.
func (c *client) expect(what string, f func(gopacket.Packet) bool) gopacket.Packet {
	c.t.Helper()
	for deadline := time.Now().Add(3 * time.Second); ; {
		p := c.recv(time.Until(deadline))
		if p == nil {
			c.t.Fatalf("%s: not received (%+v)", what, c.counters())
		}
		if f(p) {
			return p
		}
	}
}

// silent fails if a packet comes.
func (c *client) silent(what string) {
	c.t.Helper()
	if p := c.recv(50 * time.Millisecond); p != nil {
		c.t.Errorf("%s: received %v", what, p)
	}
}

func (c *client) counters() Counters {
	c.t.Helper()
	n, err := c.d.Counters(c.id)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// dropped runs f, which is to make the datapath drop one packet for a reason.
func (c *client) dropped(what string, why Reason, f func()) {
	c.t.Helper()
	before := c.counters()
	f()
	after := c.counters()
	if got := after.Drops[why] - before.Drops[why]; got != 1 || after.TxPackets != before.TxPackets {
		c.t.Errorf("%s: %d dropped as %q, %d sent; drops now %v", what, got, why, after.TxPackets-before.TxPackets, after.Drops)
	}
}

func decode(b []byte) gopacket.Packet {
	first := layers.LayerTypeIPv4
	if len(b) > 0 && b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	return gopacket.NewPacket(b, first, gopacket.Default)
}

func serialize(ls ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...)
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

// ipLayer is the header of a packet.
func ipLayer(proto uint8, src, dst netip.Addr) (gopacket.SerializableLayer, gopacket.NetworkLayer) {
	if src.Is4() {
		h := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocol(proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), Flags: layers.IPv4DontFragment}
		return h, h
	}
	h := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocol(proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	return h, h
}

func udp(src, dst netip.AddrPort, payload string) []byte {
	h, n := ipLayer(17, src.Addr(), dst.Addr())
	u := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	_ = u.SetNetworkLayerForChecksum(n)
	return serialize(h, u, gopacket.Payload(payload))
}

func tcp(src, dst netip.AddrPort, t layers.TCP, payload string) []byte {
	h, n := ipLayer(6, src.Addr(), dst.Addr())
	t.SrcPort, t.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	_ = t.SetNetworkLayerForChecksum(n)
	return serialize(h, &t, gopacket.Payload(payload))
}

func echo(src, dst netip.Addr, request bool, id uint16) []byte {
	if src.Is4() {
		h, _ := ipLayer(1, src, dst)
		kind := uint8(layers.ICMPv4TypeEchoReply)
		if request {
			kind = layers.ICMPv4TypeEchoRequest
		}
		return serialize(h, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: id, Seq: 1})
	}
	h, n := ipLayer(58, src, dst)
	kind := uint8(layers.ICMPv6TypeEchoReply)
	if request {
		kind = layers.ICMPv6TypeEchoRequest
	}
	i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	_ = i.SetNetworkLayerForChecksum(n)
	return serialize(h, i, &layers.ICMPv6Echo{Identifier: id, SeqNumber: 1})
}

// icmpError is an ICMP error that quotes a packet; info is the MTU, say.
func icmpError(src, dst netip.Addr, kind, code uint8, info uint32, quoted []byte) []byte {
	quote := make([]byte, 4, 4+len(quoted))
	binary.BigEndian.PutUint32(quote, info)
	quote = append(quote, quoted...)
	if src.Is4() {
		h, _ := ipLayer(1, src, dst)
		return serialize(h, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Seq: uint16(info)}, gopacket.Payload(quote[4:]))
	}
	h, n := ipLayer(58, src, dst)
	i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
	_ = i.SetNetworkLayerForChecksum(n)
	return serialize(h, i, gopacket.Payload(quote))
}

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func payload(p gopacket.Packet) string {
	if p == nil || p.ApplicationLayer() == nil {
		return ""
	}
	return string(p.ApplicationLayer().Payload())
}

// hasPayload is for expect.
func hasPayload(s string) func(gopacket.Packet) bool {
	return func(p gopacket.Packet) bool { return payload(p) == s }
}

// udpSocket is a socket of the kernel in a namespace ("" is the host).
func udpSocket(t *testing.T, ns string, a netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	var err error
	f := func() { c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(a)) }
	if ns == "" {
		f()
	} else {
		in(t, ns, f)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// from reads a datagram, and returns it with where it came from.
func from(t *testing.T, c *net.UDPConn) (string, netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 65536)
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	n, a, err := c.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n]), netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// sniffer sees what arrives at a device of a namespace.
type sniffer struct {
	t  *testing.T
	fd int
}

func sniff(t *testing.T, ns, dev string) *sniffer {
	t.Helper()
	s := &sniffer{t: t}
	in(t, ns, func() {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			t.Error(err)
			return
		}
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Error(err)
			return
		}
		_ = unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		err = unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: i.Index})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// send puts a whole frame on the wire towards the host.
func (s *sniffer) send(frame []byte) {
	s.t.Helper()
	if _, err := unix.Write(s.fd, frame); err != nil {
		s.t.Fatal(err)
	}
}

// all are the frames that have come in so far, and shortly after.
func (s *sniffer) all() []gopacket.Packet {
	var ps []gopacket.Packet
	buf := make([]byte, 70000)
	_ = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 30000})
	for {
		n, err := unix.Read(s.fd, buf)
		if err != nil {
			return ps
		}
		ps = append(ps, gopacket.NewPacket(append([]byte(nil), buf[:n]...), layers.LayerTypeEthernet, gopacket.Default))
	}
}

// noneWith fails if a frame came in that contains s.
func (s *sniffer) noneWith(what, sub string) {
	s.t.Helper()
	for _, p := range s.all() {
		if strings.Contains(string(p.Data()), sub) {
			s.t.Errorf("%s: got out: %v", what, p)
		}
	}
}
