package netstack

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
)

// icmpAbout is the error that a router sends about packet b.
func icmpAbout(b []byte, typ, code uint8) []byte {
	if b[0]>>4 == 4 {
		out := make([]byte, 28)
		out[0], out[8], out[9] = 0x45, 64, unix.IPPROTO_ICMP
		copy(out[12:], []byte{10, 0, 0, 254})
		copy(out[16:], b[12:16])
		out[20], out[21] = typ, code
		out = append(out, b[:28]...)
		binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
		binary.BigEndian.PutUint16(out[10:], ^checksum.Checksum(out[:20], 0))
		binary.BigEndian.PutUint16(out[22:], ^checksum.Checksum(out[20:], 0))
		return out
	}
	out := make([]byte, 48)
	out[0], out[6], out[7] = 0x60, unix.IPPROTO_ICMPV6, 64
	copy(out[8:], netip.MustParseAddr("fd00::ff").AsSlice())
	copy(out[24:], b[8:24])
	out[40], out[41] = typ, code
	return sealICMPv6(append(out, b[:min(len(b), 1200)]...))
}

// sealICMPv6 writes the length and the checksum of an ICMPv6 packet.
func sealICMPv6(b []byte) []byte {
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	pseudo := checksum.Checksum(b[8:40], 0)
	pseudo = checksum.Combine(pseudo, uint16(len(b)-40))
	pseudo = checksum.Combine(pseudo, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(b[42:], ^checksum.Checksum(b[40:], pseudo))
	return b
}

// TestConnectICMP: a connection attempt ends with the errors of tcp_v4_err and
// tcp_v6_err.
func TestConnectICMP(t *testing.T) {
	for _, c := range []struct {
		name      string
		family    int
		to        string
		typ, code uint8
		want      unix.Errno // 0: it goes on
	}{
		{"no route", unix.AF_INET6, "[fd01::2]:80", 1, 0, unix.ENETUNREACH},
		{"prohibited", unix.AF_INET6, "[fd01::2]:80", 1, 1, unix.EACCES},
		{"beyond scope", unix.AF_INET6, "[fd01::2]:80", 1, 2, unix.EHOSTUNREACH},
		{"address unreachable", unix.AF_INET6, "[fd01::2]:80", 1, 3, unix.EHOSTUNREACH},
		{"port unreachable", unix.AF_INET6, "[fd01::2]:80", 1, 4, unix.ECONNREFUSED},
		{"source policy", unix.AF_INET6, "[fd01::2]:80", 1, 5, unix.EACCES},
		{"reject route", unix.AF_INET6, "[fd01::2]:80", 1, 6, unix.EACCES},
		{"unknown code", unix.AF_INET6, "[fd01::2]:80", 1, 9, unix.EPROTO},
		{"hop limit", unix.AF_INET6, "[fd01::2]:80", 3, 0, unix.EHOSTUNREACH},
		{"parameter problem", unix.AF_INET6, "[fd01::2]:80", 4, 1, unix.EPROTO},
		{"echo request", unix.AF_INET6, "[fd01::2]:80", 128, 0, 0},
		{"net unreachable", unix.AF_INET, "10.1.0.2:80", 3, 0, unix.ENETUNREACH},
		{"host unreachable", unix.AF_INET, "10.1.0.2:80", 3, 1, unix.EHOSTUNREACH},
		{"port unreachable 4", unix.AF_INET, "10.1.0.2:80", 3, 3, unix.ECONNREFUSED},
		{"source route failed", unix.AF_INET, "10.1.0.2:80", 3, 5, unix.EOPNOTSUPP},
		{"source isolated", unix.AF_INET, "10.1.0.2:80", 3, 8, unix.ENONET},
		{"source isolated, mapped", unix.AF_INET6, "[::ffff:10.1.0.2]:80", 3, 8, unix.ENONET},
		{"prohibited 4", unix.AF_INET, "10.1.0.2:80", 3, 13, unix.EHOSTUNREACH},
		{"time to live", unix.AF_INET, "10.1.0.2:80", 11, 0, unix.EHOSTUNREACH},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, la, syn := halfConnected(t, c.family, c.to)
			la.queue <- [][]byte{icmpAbout(syn, c.typ, c.code)}
			la.meta <- link.Offload{}
			if c.want == 0 {
				if la.settled(); s.Readiness() != 0 {
					t.Fatalf("readiness %#x", s.Readiness())
				}
				return
			}
			s.wait(unix.POLLERR)
			must(t, "connect", s.Connect(addr(c.to)), c.want)
			must(t, "SO_ERROR", s.TakeError(), 0)
		})
	}
}

// TestConnectICMPForeign: errors about another connection, or an address that
// is not the stack's, leave an attempt alone.
func TestConnectICMPForeign(t *testing.T) {
	for name, change := range map[string]func(syn []byte){
		"source port":      func(b []byte) { b[41] ^= 1 },
		"destination port": func(b []byte) { b[43] ^= 1 },
		"source":           func(b []byte) { b[23] ^= 1 },
		"destination":      func(b []byte) { b[39] ^= 1 },
		"protocol":         func(b []byte) { b[6] = unix.IPPROTO_UDP },
	} {
		t.Run(name, func(t *testing.T) {
			s, la, syn := halfConnected(t, unix.AF_INET6, "[fd01::2]:80")
			other := slices.Clone(syn)
			change(other)
			for _, code := range []uint8{1, 3} {
				la.queue <- [][]byte{icmpAbout(other, 1, code)}
				la.meta <- link.Offload{}
			}
			la.settled()
			if r := s.Readiness(); r != 0 {
				t.Fatalf("readiness %#x", r)
			}
			la.queue <- [][]byte{icmpAbout(syn, 1, 3)}
			la.meta <- link.Offload{}
			s.wait(unix.POLLERR)
			must(t, "SO_ERROR", s.TakeError(), unix.EHOSTUNREACH)
		})
	}
}

// TestEstablishedICMP: an error about an established connection is none (RFC
// 5461, 4.1).
func TestEstablishedICMP(t *testing.T) {
	la, lb := newPipe(link.IP, false)
	packets := make(chan []byte, 64)
	la.drop = func(b []byte) bool {
		select {
		case packets <- slices.Clone(b):
		default:
		}
		return false
	}
	a, b := newEngine(t, la, "fd00::1/64"), newEngine(t, lb, "fd00::2/64")
	client, server := connection(t, a, b, "[fd00::2]:0")
	for _, code := range []uint8{1, 3} {
		la.queue <- [][]byte{icmpAbout(<-packets, 1, code)}
		la.meta <- link.Offload{}
	}
	la.settled()
	client.writeAll([]byte("on"))
	if got := server.readFull(2); string(got) != "on" {
		t.Errorf("got %q", got)
	}
	must(t, "SO_ERROR", client.TakeError(), 0)
}

// TestDatagramICMP: without IP_RECVERR a connected datagram socket hears of hard
// errors, one that is not connected of none (udp_err, ping_err).
func TestDatagramICMP(t *testing.T) {
	for _, c := range []struct {
		name      string
		family    int
		proto     int
		to        string
		typ, code uint8
		want      unix.Errno // 0: none
	}{
		{"net unreachable", unix.AF_INET, 0, "10.1.0.2:80", 3, 0, 0},
		{"host unreachable", unix.AF_INET, 0, "10.1.0.2:80", 3, 1, 0},
		{"protocol unreachable", unix.AF_INET, 0, "10.1.0.2:80", 3, 2, unix.ENOPROTOOPT},
		{"port unreachable", unix.AF_INET, 0, "10.1.0.2:80", 3, 3, unix.ECONNREFUSED},
		{"source isolated, mapped", unix.AF_INET6, 0, "[::ffff:10.1.0.2]:80", 3, 8, unix.ENONET},
		{"prohibited", unix.AF_INET, 0, "10.1.0.2:80", 3, 13, unix.EHOSTUNREACH},
		{"time to live", unix.AF_INET, 0, "10.1.0.2:80", 11, 0, 0},
		{"parameter problem", unix.AF_INET, 0, "10.1.0.2:80", 12, 0, unix.EPROTO},
		{"echo, port unreachable", unix.AF_INET, unix.IPPROTO_ICMP, "10.1.0.2:0", 3, 3, unix.ECONNREFUSED},
		{"echo, host unreachable", unix.AF_INET, unix.IPPROTO_ICMP, "10.1.0.2:0", 3, 1, 0},
		{"no route 6", unix.AF_INET6, 0, "[fd01::2]:80", 1, 0, 0},
		{"prohibited 6", unix.AF_INET6, 0, "[fd01::2]:80", 1, 1, unix.EACCES},
		{"port unreachable 6", unix.AF_INET6, 0, "[fd01::2]:80", 1, 4, unix.ECONNREFUSED},
		{"hop limit 6", unix.AF_INET6, 0, "[fd01::2]:80", 3, 0, 0},
	} {
		for _, connected := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/connected=%v", c.name, connected), func(t *testing.T) {
				e, la, lb := behindRouter(t)
				s := socket(t, e, c.family, unix.SOCK_DGRAM, c.proto)
				echo := []byte{8, 0, 0, 0, 0, 0, 0, 1}
				m := &stack.Message{Data: echo, Addr: addr(c.to), HasAddr: !connected}
				if connected {
					must(t, "connect", s.Connect(addr(c.to)), 0)
				}
				_, err := s.Send(m)
				must(t, "send", err, 0)
				proto := cmp.Or(c.proto, unix.IPPROTO_UDP)
				la.queue <- [][]byte{icmpAbout(outgoing(t, lb, byte(proto)), c.typ, c.code)}
				la.meta <- link.Offload{}
				la.settled()
				want := c.want
				if !connected {
					want = 0
				}
				if r := s.Readiness() & unix.POLLERR; (r != 0) != (want != 0) {
					t.Errorf("readiness %#x", s.Readiness())
				}
				must(t, "SO_ERROR", s.TakeError(), want)
				must(t, "SO_ERROR again", s.TakeError(), 0)
				if !connected {
					return
				}
				must(t, "disconnect", s.Disconnect(), 0)
				if len(e.errs.list()) != 0 {
					t.Error("a socket that is not connected is watched")
				}
			})
		}
	}
}

// behindRouter is an engine with la, which leads by a router to anywhere.
func behindRouter(t *testing.T) (e *Engine, la, lb *pipeLink) {
	t.Helper()
	la, lb = newPipe(link.IP, false)
	cfg := config(la, "10.0.0.1/24", "fd00::1/64")
	cfg.Gateways = []netip.Addr{netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("fd00::ff")}
	return made(t, cfg), la, lb
}

// halfConnected is a socket whose SYN, which it returns, has gone out by la.
func halfConnected(t *testing.T, family int, to string) (*testSock, *pipeLink, []byte) {
	t.Helper()
	e, la, lb := behindRouter(t)
	s := socket(t, e, family, unix.SOCK_STREAM, 0)
	must(t, "connect", s.Connect(addr(to)), unix.EINPROGRESS)
	return s, la, outgoing(t, lb, unix.IPPROTO_TCP)
}

// outgoing is the next packet of a protocol that comes out at lb.
func outgoing(t *testing.T, lb *pipeLink, proto byte) []byte {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case bufs := <-lb.queue:
			b := bufs[0]
			if <-lb.meta; b[0]>>4 == 4 && b[9] == proto || b[0]>>4 == 6 && b[6] == proto {
				return b
			}
		case <-deadline:
			t.Fatal("no packet in time")
		}
	}
}

// settled returns when what was queued to be received has been: the last of it
// is an empty packet.
func (l *pipeLink) settled() {
	for range 2 { // the second is taken after the first was delivered
		l.queue <- [][]byte{{}}
		l.meta <- link.Offload{}
	}
	for len(l.queue) > 0 {
		time.Sleep(time.Millisecond)
	}
}
