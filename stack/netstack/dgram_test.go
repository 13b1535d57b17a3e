package netstack

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

func (s *testSock) setInt(level, name, v int) {
	s.t.Helper()
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(v))
	must(s.t, "setsockopt", s.SetOption(level, name, b[:]), 0)
}

func (s *testSock) getInt(level, name int) int {
	s.t.Helper()
	var b [4]byte
	_, err := s.GetOption(level, name, b[:])
	must(s.t, "getsockopt", err, 0)
	return int(int32(binary.NativeEndian.Uint32(b[:])))
}

func (s *testSock) recv() *stack.Message {
	s.t.Helper()
	m := &stack.Message{}
	for {
		switch err := s.Recv(m); err {
		case 0:
			return m
		case unix.EAGAIN:
			s.wait(unix.POLLIN)
		default:
			s.t.Fatalf("recv: %v", err)
		}
	}
}

func (s *testSock) sendTo(data string, to stack.Addr, control ...byte) stack.Errno {
	_, err := s.Send(&stack.Message{Data: []byte(data), Addr: to, HasAddr: true, Control: control})
	return err
}

func findCmsg(t *testing.T, control []byte, level, typ int) []byte {
	t.Helper()
	for len(control) >= cmsgHdrLen {
		l, ty, data, rest, err := nextCmsg(control)
		must(t, "cmsg", err, 0)
		if l == level && ty == typ {
			return data
		}
		control = rest
	}
	t.Fatalf("no control message %d %d", level, typ)
	return nil
}

// TestPacketInfo: a server on the wildcard address learns which of its
// addresses was asked, and answers from it.
func TestPacketInfo(t *testing.T) {
	la, lb := newPipe(link.IP, false)
	a := newEngine(t, la, "10.0.0.1/24")
	b := newEngine(t, lb, "10.0.0.2/24", "10.0.0.3/24")
	s := socket(t, b, unix.AF_INET, unix.SOCK_DGRAM, 0)
	s.setInt(unix.SOL_IP, unix.IP_PKTINFO, 1)
	s.setInt(unix.SOL_IP, unix.IP_RECVTTL, 1)
	s.setInt(unix.SOL_IP, unix.IP_RECVTOS, 1)
	must(t, "bind", s.Bind(stack.Addr{Port: 53}), 0)
	c := socket(t, a, unix.AF_INET, unix.SOCK_DGRAM, 0)
	c.setInt(unix.SOL_IP, unix.IP_TTL, 33)
	c.setInt(unix.SOL_IP, unix.IP_TOS, 0x10)
	for _, to := range []string{"10.0.0.2:53", "10.0.0.3:53"} {
		must(t, "send", c.sendTo("ask", addr(to)), 0)
		m := s.recv()
		info := findCmsg(t, m.Control, unix.SOL_IP, unix.IP_PKTINFO)
		if got := netip.AddrFrom4([4]byte(info[8:])); got != addr(to).IP {
			t.Errorf("packet to %s is said to be to %v", to, got)
		}
		if ttl := findCmsg(t, m.Control, unix.SOL_IP, unix.IP_TTL); ttl[0] != 33 {
			t.Errorf("TTL %d", ttl[0])
		}
		if tos := findCmsg(t, m.Control, unix.SOL_IP, unix.IP_TOS); len(tos) != 1 || tos[0] != 0x10 {
			t.Errorf("TOS %x", tos)
		}
		reply := make([]byte, unix.SizeofInet4Pktinfo)
		copy(reply[4:8], info[8:12])
		must(t, "answer", s.sendTo("answer", m.Addr, appendCmsg(nil, unix.SOL_IP, unix.IP_PKTINFO, reply)...), 0)
		if r := c.recv(); r.Addr != addr(to) || string(r.Data) != "answer" {
			t.Errorf("answer %q from %v, want from %s", r.Data, r.Addr, to)
		}
	}
	bad := make([]byte, unix.SizeofInet4Pktinfo)
	bad[4] = 9
	must(t, "foreign source", s.sendTo("x", addr("10.0.0.1:9"), appendCmsg(nil, unix.SOL_IP, unix.IP_PKTINFO, bad)...), unix.EINVAL)
}

func TestMulticast(t *testing.T) {
	for _, c := range []struct {
		family, level, add, drop, loop, ifc int
		group                               string
	}{
		{unix.AF_INET, unix.SOL_IP, unix.IP_ADD_MEMBERSHIP, unix.IP_DROP_MEMBERSHIP, unix.IP_MULTICAST_LOOP, unix.IP_MULTICAST_IF, "239.1.2.3"},
		{unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_ADD_MEMBERSHIP, unix.IPV6_DROP_MEMBERSHIP, unix.IPV6_MULTICAST_LOOP, unix.IPV6_MULTICAST_IF, "ff05::1:3"},
	} {
		a, b := newPair(t, link.Ethernet, false)
		group := stack.Addr{IP: netip.MustParseAddr(c.group), Port: 7}
		req := append(group.IP.AsSlice(), 0, 0, 0, 0)
		r := socket(t, b, c.family, unix.SOCK_DGRAM, 0)
		must(t, "bind", r.Bind(stack.Addr{Port: 7}), 0)
		must(t, "leave before join", r.SetOption(c.level, c.drop, req), unix.EADDRNOTAVAIL)
		must(t, "join", r.SetOption(c.level, c.add, req), 0)
		must(t, "join again", r.SetOption(c.level, c.add, req), unix.EADDRINUSE)
		s := socket(t, a, c.family, unix.SOCK_DGRAM, 0)
		must(t, "send", s.sendTo("to many", group), 0)
		if m := r.recv(); string(m.Data) != "to many" {
			t.Errorf("received %q", m.Data)
		}
		// The sender's own host hears it too, unless told not to.
		own := socket(t, a, c.family, unix.SOCK_DGRAM, 0)
		must(t, "bind", own.Bind(stack.Addr{Port: 7}), 0)
		must(t, "join", own.SetOption(c.level, c.add, req), 0)
		must(t, "send", s.sendTo("looped", group), 0)
		own.recv()
		s.setInt(c.level, c.loop, 0)
		must(t, "send", s.sendTo("not looped", group), 0)
		r.recv()
		r.recv()
		must(t, "not looped", own.Recv(&stack.Message{}), unix.EAGAIN)
		must(t, "leave", r.SetOption(c.level, c.drop, req), 0)
		must(t, "send", s.sendTo("unheard", group), 0)
	}
}

func TestPing(t *testing.T) {
	a, _ := newPair(t, link.Ethernet, false)
	for _, c := range []struct {
		family, proto  int
		request, reply byte
		to             string
	}{
		{unix.AF_INET, unix.IPPROTO_ICMP, 8, 0, "10.0.0.2"},
		{unix.AF_INET, unix.IPPROTO_ICMP, 8, 0, "127.0.0.1"},
		{unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129, "fd00::2"},
		{unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129, "::1"},
	} {
		for _, connected := range []bool{false, true} {
			s := socket(t, a, c.family, unix.SOCK_DGRAM, c.proto)
			to := stack.Addr{IP: netip.MustParseAddr(c.to)}
			msg := append([]byte{c.request, 0, 0, 0, 0x12, 0x34, 0, 1}, "payload"...)
			if connected {
				must(t, "connect", s.Connect(to), 0)
				_, err := s.Send(&stack.Message{Data: msg})
				must(t, "send", err, 0)
			} else {
				must(t, "send", s.sendTo(string(msg), to), 0)
			}
			m := s.recv()
			id := s.LocalAddr().Port
			if m.Data[0] != c.reply || be16(m.Data[4:]) != id || id == 0 || string(m.Data[8:]) != "payload" || m.Addr.IP != to.IP {
				t.Errorf("%s: reply % x from %v, identifier %d", c.to, m.Data, m.Addr, id)
			}
		}
		s := socket(t, a, c.family, unix.SOCK_DGRAM, c.proto)
		must(t, "no echo request", s.sendTo("\x05\x00\x00\x00\x00\x00\x00\x00", stack.Addr{IP: netip.MustParseAddr(c.to)}), unix.EINVAL)
	}
}

func TestRaw(t *testing.T) {
	a, b := newPair(t, link.IP, false)
	to := stack.Addr{IP: netip.MustParseAddr("10.0.0.2")}

	s := socket(t, a, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	echo := header.ICMPv4(make([]byte, 16))
	echo.SetType(header.ICMPv4Echo)
	echo.SetIdent(77)
	echo.SetChecksum(^checksum.Checksum(echo, 0))
	must(t, "send", s.sendTo(string(echo), to), 0)
	m := s.recv()
	if ip := header.IPv4(m.Data); !ip.IsValid(len(m.Data)) || ip.Payload()[0] != 0 || m.Addr.IP != to.IP {
		t.Errorf("received % x from %v", m.Data, m.Addr)
	}

	// Any protocol, with and without the IP header.
	for _, hdrincl := range []bool{false, true} {
		r := socket(t, b, unix.AF_INET, unix.SOCK_RAW, 89)
		w := socket(t, a, unix.AF_INET, unix.SOCK_RAW, 89)
		payload := []byte("not really OSPF")
		if hdrincl {
			w.setInt(unix.SOL_IP, unix.IP_HDRINCL, 1)
			ip := header.IPv4(make([]byte, header.IPv4MinimumSize))
			ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip) + len(payload)), TTL: 9, Protocol: 89,
				SrcAddr: fromIP(netip.MustParseAddr("10.0.0.1")), DstAddr: fromIP(to.IP)})
			payload = append(ip, payload...)
		}
		must(t, "send", w.sendTo(string(payload), to), 0)
		if got := r.recv(); !bytes.HasSuffix(got.Data, []byte("OSPF")) || len(got.Data) != 20+len("not really OSPF") {
			t.Errorf("received %q", got.Data)
		}
	}
	if got := socket(t, a, unix.AF_INET, unix.SOCK_RAW, 89).LocalAddr(); got.Port != 89 {
		t.Errorf("getsockname of a raw socket: %v", got)
	}
	_, err := a.Socket(unix.AF_INET, unix.SOCK_RAW, 0)
	must(t, "raw 0", err, unix.EPROTONOSUPPORT)
}

func TestSocketErrors(t *testing.T) {
	e := newEngine(t, nil)
	for _, c := range []struct {
		family, typ, proto int
		want               stack.Errno
	}{
		{unix.AF_UNIX, unix.SOCK_STREAM, 0, unix.EAFNOSUPPORT},
		{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, unix.EPROTONOSUPPORT},
		{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_UDP, unix.EPROTONOSUPPORT},
		{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP, unix.EPROTONOSUPPORT},
		{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_TCP, unix.EPROTONOSUPPORT},
		{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, unix.EPROTONOSUPPORT},
		{unix.AF_INET, unix.SOCK_SEQPACKET, 0, unix.ESOCKTNOSUPPORT},
		{unix.AF_INET, unix.SOCK_DCCP, 0, unix.ESOCKTNOSUPPORT},
		{unix.AF_INET, 11, 0, unix.EINVAL},
		{unix.AF_INET, unix.SOCK_STREAM, -1, unix.EINVAL},
		{unix.AF_INET, unix.SOCK_STREAM, 300, unix.EINVAL},
	} {
		_, err := e.Socket(c.family, c.typ, c.proto)
		if err != c.want {
			t.Errorf("socket(%d, %d, %d): %v, want %v", c.family, c.typ, c.proto, err, c.want)
		}
	}
}

// TestCork: UDP_CORK and MSG_MORE make one datagram of several.
func TestCork(t *testing.T) {
	e := newEngine(t, nil)
	r := socket(t, e, unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(t, "bind", r.Bind(addr("127.0.0.1:7")), 0)
	s := socket(t, e, unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(t, "connect", s.Connect(addr("127.0.0.1:7")), 0)
	for _, part := range []struct {
		data  string
		flags int
	}{{"one ", unix.MSG_MORE}, {"two ", unix.MSG_MORE}, {"three", 0}} {
		_, err := s.Send(&stack.Message{Data: []byte(part.data), Flags: part.flags})
		must(t, "send", err, 0)
	}
	if m := r.recv(); string(m.Data) != "one two three" {
		t.Errorf("received %q", m.Data)
	}
	s.setInt(unix.SOL_UDP, udpCork, 1)
	_, err := s.Send(&stack.Message{Data: []byte("held")})
	must(t, "send", err, 0)
	must(t, "held back", r.Recv(&stack.Message{}), unix.EAGAIN)
	s.setInt(unix.SOL_UDP, udpCork, 0)
	if m := r.recv(); string(m.Data) != "held" {
		t.Errorf("received %q", m.Data)
	}
}

func TestInherited(t *testing.T) {
	e := newEngine(t, nil)
	l := socket(t, e, unix.AF_INET, unix.SOCK_STREAM, 0)
	want := map[[2]int]int{
		{unix.SOL_TCP, unix.TCP_NODELAY}:      1,
		{unix.SOL_TCP, unix.TCP_KEEPIDLE}:     17,
		{unix.SOL_TCP, unix.TCP_USER_TIMEOUT}: 12345,
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:  1,
		{unix.SOL_SOCKET, unix.SO_REUSEADDR}:  1,
		{unix.SOL_IP, unix.IP_TOS}:            0x10,
		{unix.SOL_IP, unix.IP_TTL}:            9,
	}
	for k, v := range want {
		l.setInt(k[0], k[1], v)
	}
	l.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 50000)
	must(t, "bind", l.Bind(addr("127.0.0.1:7")), 0)
	must(t, "listen", l.Listen(1), 0)
	c := socket(t, e, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, "connect", c.dial(addr("127.0.0.1:7")), 0)
	s := l.accept()
	for k, v := range want {
		if got := s.getInt(k[0], k[1]); got != v {
			t.Errorf("option %v: %d, want %d", k, got, v)
		}
	}
	if got := s.getInt(unix.SOL_SOCKET, unix.SO_RCVBUF); got != 100000 {
		t.Errorf("SO_RCVBUF %d", got)
	}
	if got := s.getInt(unix.SOL_SOCKET, unix.SO_ACCEPTCONN); got != 0 {
		t.Errorf("SO_ACCEPTCONN of the connection %d", got)
	}
	if got := l.getInt(unix.SOL_SOCKET, unix.SO_ACCEPTCONN); got != 1 {
		t.Errorf("SO_ACCEPTCONN of the listener %d", got)
	}
	if got := s.getInt(unix.SOL_TCP, unix.TCP_MAXSEG); got < 32000 {
		t.Errorf("TCP_MAXSEG of a connection on lo %d", got)
	}
}

func TestTCPInfo(t *testing.T) {
	a, b := newPair(t, link.IP, false)
	client, server := connection(t, a, b, "10.0.0.2:0")
	client.writeAll(make([]byte, 100000))
	server.readFull(100000)
	var info [256]byte
	n, err := client.GetOption(unix.SOL_TCP, unix.TCP_INFO, info[:])
	must(t, "TCP_INFO", err, 0)
	get := func(off int) uint32 { return binary.NativeEndian.Uint32(info[off:]) }
	if n < 232 || info[infoState] != byte(tcpEstablished) {
		t.Errorf("%d bytes, state %d", n, info[infoState])
	}
	if mss := get(infoSndMSS); mss < 1400 || mss > 1460 {
		t.Errorf("snd_mss %d", mss)
	}
	if info[infoOptions]&(optTimestamps|optSACK) != optTimestamps|optSACK {
		t.Errorf("options %#x", info[infoOptions])
	}
	if get(infoSndCwnd) < 10 || get(infoPMTU) != 1500 || get(infoRTT) == 0 || get(infoSegsOut) == 0 {
		t.Errorf("cwnd %d, pmtu %d, rtt %d, segs_out %d", get(infoSndCwnd), get(infoPMTU), get(infoRTT), get(infoSegsOut))
	}
	// SIOCOUTQ: nothing reads, so the window fills and bytes stay unsent.
	for {
		if _, err := client.WriteFrom(&zeros{1 << 20}); err == unix.EAGAIN {
			break
		}
	}
	if _, out := client.Queued(); out == 0 {
		t.Error("nothing unsent with a full window")
	}
}
