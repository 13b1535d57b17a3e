package enginetest

import (
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func otherScenes() []scene {
	return []scene{
		{"Multicast/Membership", multicastMembership},
		{"Multicast/Loop", multicastLoop},
		{"Concurrent/Close", concurrentClose},
		{"Engine/Interfaces", engineInterfaces},
		{"Engine/SocketErrors", engineSocketErrors},
		{"Engine/Stats", engineStats},
	}
}

// mreq is struct ip_mreq.
func mreq(group, ifAddr netip.Addr) []byte {
	return append(group.AsSlice(), ifAddr.AsSlice()...)
}

// multicastMembership: joining and leaving, and their errors.
func multicastMembership(f *fixture) {
	if f.family != unix.AF_INET {
		f.Skip("IPv4 only")
	}
	s := f.dgram(f.A)
	group := mreq(netip.MustParseAddr("239.1.2.3"), f.ipA)
	set := func(opt int, val []byte) stack.Errno { return s.SetOption(unix.IPPROTO_IP, opt, val) }
	f.expect("leave before joining", set(unix.IP_DROP_MEMBERSHIP, group), unix.EADDRNOTAVAIL)
	f.expect("join what is no group", set(unix.IP_ADD_MEMBERSHIP, mreq(f.ipA, f.ipA)), unix.EINVAL)
	f.expect("join at nobody's interface", set(unix.IP_ADD_MEMBERSHIP, mreq(netip.MustParseAddr("239.1.2.3"), addr4)), unix.ENODEV)
	f.expect("join with a short value", set(unix.IP_ADD_MEMBERSHIP, group[:4]), unix.EINVAL)
	f.expect("join", set(unix.IP_ADD_MEMBERSHIP, group), 0)
	f.expect("join again", set(unix.IP_ADD_MEMBERSHIP, group), unix.EADDRINUSE)
	f.expect("leave", set(unix.IP_DROP_MEMBERSHIP, group), 0)
	f.expect("leave again", set(unix.IP_DROP_MEMBERSHIP, group), unix.EADDRNOTAVAIL)
}

// multicastLoop: a member on the sender's own host hears it, unless
// IP_MULTICAST_LOOP is off.
func multicastLoop(f *fixture) {
	if f.family != unix.AF_INET {
		f.Skip("IPv4 only")
	}
	group := netip.MustParseAddr("239.1.2.4")
	r, s := f.dgram(f.A), f.dgram(f.A)
	f.must("bind", r.Bind(stack.Addr{}), 0)
	f.must("join", r.SetOption(unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, mreq(group, f.ipA)), 0)
	f.must("IP_MULTICAST_IF", s.SetOption(unix.IPPROTO_IP, unix.IP_MULTICAST_IF, f.ipA.AsSlice()), 0)
	to := stack.Addr{IP: group, Port: r.LocalAddr().Port}
	f.must("send", s.sendTo([]byte("all"), to), 0)
	if m := r.recv(); string(m.Data) != "all" || m.Addr.IP != f.ipA {
		f.Errorf("received %q from %v", m.Data, m.Addr)
	}
	if f.ipA.IsLoopback() {
		return // what a loopback interface sends it receives, loop or not
	}
	f.must("IP_MULTICAST_LOOP", s.setInt(unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0), 0)
	f.must("send", s.sendTo([]byte("others"), to), 0)
	time.Sleep(50 * time.Millisecond)
	f.expect("recv with loop off", r.Recv(new(stack.Message)), unix.EAGAIN)
}

// concurrentClose: a connection is closed while others use it: no panic, no
// deadlock, and nothing for the race detector.
func concurrentClose(f *fixture) {
	for range 20 {
		a, b := f.connected()
		var wg sync.WaitGroup
		stop := time.Now().Add(5 * time.Millisecond)
		for _, use := range []func(){
			func() { _, _ = a.WriteFrom(from(make([]byte, 10000))) },
			func() { _, _ = b.ReadTo(io.Discard) },
			func() { _ = a.Readiness(); _, _ = a.Queued(); _ = a.TakeError() },
			func() { _ = b.LocalAddr(); _, _ = b.PeerAddr(); b.Notify(func() {}) },
		} {
			wg.Go(func() {
				for time.Now().Before(stop) {
					use()
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		a.Close()
		b.Abort()
		wg.Wait()
	}
}

func engineInterfaces(f *fixture) {
	list := f.A.Interfaces()
	if len(list) == 0 || list[0].Flags&unix.IFF_LOOPBACK == 0 || list[0].HardwareType != unix.ARPHRD_LOOPBACK {
		f.Fatalf("the first interface is no loopback: %+v", list)
	}
	seen := map[int]bool{}
	found := false
	for _, i := range list {
		if i.Index <= 0 || seen[i.Index] || i.Name == "" || len(i.Name) >= unix.IFNAMSIZ || i.MTU <= 0 {
			f.Errorf("interface %+v", i)
		}
		seen[i.Index] = true
		for _, p := range i.Addrs {
			found = found || p.Addr() == f.ipA
		}
	}
	if !found {
		f.Errorf("no interface has %v", f.ipA)
	}
}

func engineSocketErrors(f *fixture) {
	for _, s := range []struct {
		name               string
		family, typ, proto int
		want               stack.Errno
	}{
		{"AF_UNIX", unix.AF_UNIX, unix.SOCK_STREAM, 0, unix.EAFNOSUPPORT},
		{"a type beyond all", f.family, 15, 0, unix.EINVAL},
		{"SOCK_SEQPACKET", f.family, unix.SOCK_SEQPACKET, unix.IPPROTO_TCP, unix.ESOCKTNOSUPPORT},
		{"a stream of UDP", f.family, unix.SOCK_STREAM, unix.IPPROTO_UDP, unix.EPROTONOSUPPORT},
		{"a datagram of TCP", f.family, unix.SOCK_DGRAM, unix.IPPROTO_TCP, unix.EPROTONOSUPPORT},
		{"a stream of TCP", f.family, unix.SOCK_STREAM, unix.IPPROTO_TCP, 0},
		{"a datagram of UDP", f.family, unix.SOCK_DGRAM, unix.IPPROTO_UDP, 0},
	} {
		ep, errno := f.A.Socket(s.family, s.typ, s.proto)
		f.expect(s.name, errno, s.want)
		if errno == 0 {
			ep.Close()
		}
	}
}

func engineStats(f *fixture) {
	before := f.A.Stats().Sockets + f.B.Stats().Sockets
	f.connected()
	want := uint64(3) // listener, client, connection
	if f.A == f.B {
		want *= 2
	}
	if n := f.A.Stats().Sockets + f.B.Stats().Sockets - before; n != want {
		f.Errorf("%d sockets counted, want %d", n, want)
	}
}
