package sharing_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/alptrace/alptrace/test/sharing/hostile/order"
)

// exchange has a text echoed.
func exchange(c net.Conn, text string) error {
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("echoed %q", got)
	}
	return nil
}

// resets has both users forge segments, with the right numbers, into
// connections of the kernel and of a lease, in both directions. The control is
// the same reset by root, which ends the connection.
func (l *trial) resets() {
	for _, v := range []struct {
		of   string
		port uint16
	}{{"the kernel's connection", kernelPort}, {"another lease's connection", victimPort}} {
		for _, out := range []bool{true, false} {
			c := l.dialFrom(l.peer, "tcp", ap(hostIP, v.port).String())
			if err := exchange(c, "secret: first"); err != nil {
				l.t.Errorf("%s: %v", v.of, err)
				continue
			}
			time.Sleep(60 * time.Millisecond) // the last acknowledgement
			src, dst := ap(hostIP, v.port), c.LocalAddr().(*net.TCPAddr).AddrPort()
			what := "resets, data and FIN to the peer, in " + v.of
			if !out {
				src, dst = dst, src
				what = "resets, data and FIN to this host, in " + v.of
			}
			s := l.eyes.segment(src.Port(), dst.Port())
			rst := tcpPacket(src, dst, layers.TCP{RST: true, ACK: true, Seq: s.Seq, Ack: s.Ack}, "")
			forged, _ := l.mark()
			for _, h := range []*hostile{l.a, l.b} {
				h.send(plain(rst, tcpPacket(src, dst, layers.TCP{RST: true, Seq: s.Seq}, ""),
					tcpPacket(src, dst, layers.TCP{ACK: true, PSH: true, Seq: s.Seq, Ack: s.Ack, Window: 500}, forged),
					tcpPacket(src, dst, layers.TCP{ACK: true, FIN: true, Seq: s.Seq, Ack: s.Ack, Window: 500}, ""),
					tcpPacket(src, dst, layers.TCP{SYN: true, Seq: s.Seq, Window: 500}, ""))...)
			}
			err := exchange(c, "secret: second")
			time.Sleep(60 * time.Millisecond)
			s = l.eyes.segment(src.Port(), dst.Port())
			rst = tcpPacket(src, dst, layers.TCP{RST: true, ACK: true, Seq: s.Seq, Ack: s.Ack}, "")
			if out {
				l.inject(l.host, hostDev, peerDev, l.peer, rst)
			} else {
				l.inject(l.peer, peerDev, hostDev, l.host, rst)
			}
			time.Sleep(20 * time.Millisecond)
			l.note(what, err == nil && !l.eyes.saw(forged), "it lives on", exchange(c, "secret: third") != nil)
		}
	}
}

// reading looks for what is not theirs in what the devices had, and tries to get
// at more. The control is a datagram that is theirs.
func (l *trial) reading() {
	for _, to := range []uint16{kernelPort, victimPort, mine + 2} {
		_, _ = l.dialFrom(l.peer, "udp", ap(hostIP, to).String()).Write([]byte("secret: datagram"))
	}
	c := l.dialFrom(l.host, "tcp", ap(hostIP, kernelPort).String())
	if err := exchange(c, "secret: on lo"); err != nil {
		l.t.Error(err)
	}
	for name, v := range map[string]struct {
		h    *hostile
		port uint16
	}{"one lease": {l.a, mine}, "another": {l.b, otherPort}} {
		_, _ = l.dialFrom(l.peer, "udp", ap(hostIP, v.port).String()).Write([]byte("theirs"))
		var got [][]byte
		control := eventually(2*time.Second, func() bool {
			got = append(got, v.h.do(order.Order{Op: order.Received}).Packets...)
			return bytes.Contains(bytes.Join(got, nil), []byte("theirs"))
		})
		bad := 0
		for _, b := range got {
			if bytes.Contains(b, []byte("secret")) || !ofLease(b, v.port, wild) {
				bad++
			}
		}
		l.note("to see others' packets on the device of "+name, bad == 0, fmt.Sprintf("%d of %d packets", bad, len(got)), control)
	}
	dev := l.b.do(order.Order{Op: order.Lease, Path: l.socket()})
	for what, errno := range l.a.do(order.Order{Op: order.Steal, Path: dev.Device}).Tried {
		l.note("to read with "+strings.Replace(what, dev.Device, "another's device", 1), errno != 0, errno, dev.Errno == 0)
	}
	l.b.do(order.Order{Op: order.End, Lease: dev.Lease})
}

// ofLease says whether a packet is to one of the ports, or no TCP or UDP.
func ofLease(b []byte, ports ...uint16) bool {
	first := layers.LayerTypeIPv4
	if b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	var dst uint16
	switch t := gopacket.NewPacket(b, first, gopacket.Default).TransportLayer().(type) {
	case *layers.TCP:
		dst = uint16(t.DstPort)
	case *layers.UDP:
		dst = uint16(t.DstPort)
	default:
		return true
	}
	for _, p := range ports {
		if p == dst {
			return true
		}
	}
	return false
}

// duel has two leases attack each other.
func (l *trial) duel() {
	for _, v := range []struct {
		who          string
		from, at     *hostile
		own, victims uint16
	}{{"lease A to B", l.a, l.b, mine, otherPort}, {"lease B to A", l.b, l.a, otherPort, mine}} {
		own, theirs := netip.AddrPortFrom(host4, v.own), netip.AddrPortFrom(host4, v.victims)
		l.spoof(v.from, spoof{v.who + ": send as the other", func(f bool, m string) [][]byte {
			return plain(udpPacket(pick(f, theirs, own), to4, m))
		}})
		// Into what the other sends in fragments.
		forged, honest := l.mark()
		text := func(m string) []byte { return udpPacket(theirs, to4, strings.Repeat(m, 20)) }
		id := uint32(0x7000 + int(v.own))
		v.at.send(plain(fragments(text("before-00000"), id, 72)[0])...)
		v.from.send(plain(fragments(text(forged), id, 72)[1])...)
		v.at.send(plain(fragments(text(honest), id, 72)[1])...)
		control := eventually(2*time.Second, func() bool { return l.eyes.saw(honest) })
		l.note(v.who+": go on with the other's fragments", !l.eyes.saw(forged), "dropped", control)
		// To the other, as others.
		for what, as := range map[string]netip.AddrPort{"as the peer": to4, "as itself": theirs, "as the kernel": netip.AddrPortFrom(host4, kernelPort)} {
			forged, honest := l.mark()
			v.from.send(plain(udpPacket(as, theirs, forged), udpPacket(own, theirs, honest))...)
			var got []byte
			control := eventually(2*time.Second, func() bool {
				got = append(got, bytes.Join(v.at.do(order.Order{Op: order.Received}).Packets, nil)...)
				return bytes.Contains(got, []byte(honest))
			})
			l.note(v.who+": send to the other "+what, !bytes.Contains(got, []byte(forged)), "dropped", control)
		}
		it := []proto.Item{{Proto: proto.UDP, Addr: host4, Port: v.victims}}
		a := v.from.do(order.Order{Op: order.Release, Items: it})
		_, honest = l.mark()
		v.at.send(plain(udpPacket(theirs, to4, honest))...)
		l.note(v.who+": give the other's grant back", a.Results[0].Errno == unix.EINVAL, a.Results[0].Errno,
			eventually(2*time.Second, func() bool { return l.eyes.saw(honest) }))
	}
}

// ports asks for what is taken. The control is a free port, asked for likewise.
func (l *trial) ports() {
	// A port that is held back: its lease is over.
	held := l.b.do(order.Order{Op: order.Lease, Path: l.socket()})
	back := proto.Item{Proto: proto.TCP, Addr: host4, Port: 9700}
	l.b.must(l.b.do(order.Order{Op: order.Grant, Lease: held.Lease, Items: []proto.Item{back}}).Results[0].Errno)
	l.b.do(order.Order{Op: order.End, Lease: held.Lease})
	time.Sleep(200 * time.Millisecond)

	for _, v := range []struct {
		what  string
		proto uint8
		addr  string
		port  uint16
		want  syscall.Errno
	}{
		{"another lease's TCP port", proto.TCP, hostIP, victimPort, unix.EADDRINUSE},
		{"another lease's TCP port, *", proto.TCP, "0.0.0.0", victimPort, unix.EADDRINUSE},
		{"another lease's TCP port, IPv6 and IPv4", proto.TCP, "::", victimPort, unix.EADDRINUSE},
		{"another lease's UDP port", proto.UDP, hostIP, otherPort, unix.EADDRINUSE},
		{"another lease's UDP port, *", proto.UDP, "0.0.0.0", otherPort, unix.EADDRINUSE},
		{"the kernel's TCP port", proto.TCP, hostIP, kernelPort, unix.EADDRINUSE},
		{"the kernel's TCP port, *", proto.TCP, "0.0.0.0", kernelPort, unix.EADDRINUSE},
		{"the kernel's UDP port", proto.UDP, hostIP, kernelPort, unix.EADDRINUSE},
		{"the kernel's UDP port, *", proto.UDP, "::", kernelPort, unix.EADDRINUSE},
		{"a port held back", proto.TCP, hostIP, back.Port, unix.EADDRINUSE},
		{"a port held back, *", proto.TCP, "::", back.Port, unix.EADDRINUSE},
		{"a privileged port", proto.TCP, hostIP, 80, unix.EACCES},
		{"a privileged port, UDP", proto.UDP, "::", 53, unix.EACCES},
		{"the peer's address", proto.UDP, peerIP, 9600, unix.EADDRNOTAVAIL},
		{"multicast", proto.UDP, "224.0.0.1", 9600, unix.EADDRNOTAVAIL},
		{"broadcast", proto.UDP, "10.77.0.255", 9600, unix.EADDRNOTAVAIL},
		{"protocol 47", 47, hostIP, 9600, unix.EPROTONOSUPPORT},
		{"protocol 255", 255, hostIP, 9600, unix.EPROTONOSUPPORT},
		{"protocol 0", 0, hostIP, 9600, unix.EPROTONOSUPPORT},
	} {
		var got []string
		failed := true
		for _, flags := range []proto.Flags{0, proto.ReuseAddr, proto.ReusePort, proto.ReuseAddr | proto.ReusePort, proto.Listening, proto.ReuseAddr | proto.Listening} {
			errno := l.a.grant(proto.Item{Proto: v.proto, Addr: netip.MustParseAddr(v.addr), Port: v.port, Flags: flags})
			failed = failed && errno != 0
			if s := errno.Error(); len(got) == 0 || got[len(got)-1] != s {
				got = append(got, s)
			}
			if errno != v.want {
				l.t.Errorf("%s with flags %d: %v, want %v", v.what, flags, errno, v.want)
			}
		}
		free := proto.Item{Proto: proto.TCP, Addr: host4, Port: 9601, Flags: proto.ReuseAddr}
		control := l.a.grant(free) == 0
		l.a.do(order.Order{Op: order.Release, Items: []proto.Item{free}})
		l.note("to have "+v.what, failed, strings.Join(got, ", "), control)
	}
	back.Flags = proto.ReuseAddr
	l.note("to have a port held back that was not one's own", true, "its user gets it again", l.b.grant(back) == 0)
	for network, port := range map[string]uint16{"tcp": victimPort, "udp": otherPort} {
		a := l.a.do(order.Order{Op: order.Bind, Path: network, Addr: ap(hostIP, port).String()})
		free := l.a.do(order.Order{Op: order.Bind, Path: network, Addr: ap(hostIP, 9602).String()})
		l.note("bind(2) of a lease's port, "+network, a.Errno == unix.EADDRINUSE, a.Errno, free.Errno == 0)
	}
}

// limits asks for too much, and has the other user served meanwhile.
func (l *trial) limits() {
	items := make([]proto.Item, 3*otherGrants)
	for i := range items {
		items[i] = proto.Item{Proto: proto.UDP, Addr: host4, Port: uint16(20000 + i)}
	}
	a := l.b.do(order.Order{Op: order.Grant, Items: items})
	n, refused := 0, true
	for _, r := range a.Results {
		if r.Errno == 0 {
			n++
		} else if r.Errno != unix.ENOBUFS {
			refused = false
		}
	}
	well := proto.Item{Proto: proto.UDP, Addr: host4, Port: 21000}
	l.note(fmt.Sprintf("to have %d grants, of %d allowed", len(items), otherGrants), refused && n > 0 && n <= otherGrants,
		fmt.Sprintf("%d, then %v", n, unix.ENOBUFS), l.a.grant(well) == 0)
	l.b.do(order.Order{Op: order.Release, Items: items[:n]})

	var had []int
	var last order.Answer
	for range 3 * otherLeases {
		if last = l.b.do(order.Order{Op: order.Lease, Path: l.socket()}); last.Errno == 0 {
			had = append(had, last.Lease)
		}
	}
	also := l.a.do(order.Order{Op: order.Lease, Path: l.socket()})
	l.note(fmt.Sprintf("to have %d leases, of %d allowed", 3*otherLeases+1, otherLeases), len(had) == otherLeases-1 && last.Errno != 0,
		fmt.Sprintf("%d, then %v", len(had)+1, last.Errno), also.Errno == 0)
	for _, i := range had {
		l.b.do(order.Order{Op: order.End, Lease: i})
	}
	l.a.do(order.Order{Op: order.End, Lease: also.Lease})
}

// files gets at what is root's. The control is that root finds it.
func (l *trial) files() {
	pins, err := filepath.Glob(l.pins + "/*")
	if err != nil {
		l.t.Fatal(err)
	}
	for what, paths := range map[string][]string{
		"the pins' directory":             {l.pins},
		fmt.Sprintf("%d pins", len(pins)): pins,
		"the state of rootd":              {filepath.Join(l.dir, "rootd.state")},
		"the policy":                      {filepath.Join(l.dir, "policy.toml")},
		"the memory of rootd":             {fmt.Sprintf("/proc/%d/mem", l.rootd.cmd.Process.Pid)},
	} {
		failed, there := true, len(paths) > 0
		hows := map[string]syscall.Errno{}
		for _, p := range paths {
			if _, err := os.Stat(p); err != nil {
				there = false
			}
			for how, errno := range l.a.do(order.Order{Op: order.Touch, Path: p}).Tried {
				hows[how] = errno
				failed = failed && errno != 0
			}
		}
		l.note("to open, remove or load "+what, failed, hows, there)
	}
}

// junk is what rootd must not take.
func junk() map[string][]byte {
	must := func(m proto.Message) []byte {
		b, err := proto.Append(nil, 1, m)
		if err != nil {
			panic(err)
		}
		return b
	}
	grant := must(proto.Grant{Items: []proto.Item{{Proto: proto.TCP, Addr: host4, Port: 5000}}})
	return map[string][]byte{
		"one byte": {1}, "text": []byte("GET / HTTP/1.1\r\n\r\n"), "ones": bytes.Repeat([]byte{0xff}, 1000),
		"another version": append([]byte{9}, grant[1:]...), "a type there is not": append([]byte{1, 0x60}, grant[2:]...),
		"a message cut": grant[:len(grant)-1], "a message with more": append(bytes.Clone(grant), 0),
		"65537 bytes": make([]byte, proto.MaxMessage+1), "131072 bytes": make([]byte, 2*proto.MaxMessage),
		"rootd's own message": must(proto.Welcome{Lease: 1, Device: "lo"}),
		"a revocation":        must(proto.Revoked{Items: []proto.Item{{Proto: proto.TCP, Addr: host4, Port: victimPort}}}),
	}
}

// messages has the socket misused while a transfer of a lease goes on.
func (l *trial) messages() {
	c := l.dialFrom(l.peer, "tcp", ap(hostIP, victimPort).String())
	text := strings.Repeat("transfer", 2000)
	// during counts echoes while f runs, and fails where one is slow.
	during := func(what string, f func() (failed bool, how any)) {
		stop := make(chan struct{})
		ended := make(chan error)
		var n int
		var worst time.Duration
		go func() {
			for {
				begin := time.Now()
				if err := exchange(c, text); err != nil {
					ended <- err
					return
				}
				n, worst = n+1, max(worst, time.Since(begin))
				select {
				case <-stop:
					ended <- nil
					return
				default:
				}
			}
		}()
		failed, how := f()
		close(stop)
		err := <-ended
		l.note(what, failed && err == nil, fmt.Sprintf("%v; %d echoes of 16 kB of another lease's, the slowest %v, %v", how, n, worst.Round(time.Millisecond), err),
			n > 0 && worst < 2*time.Second)
	}
	for what, b := range junk() {
		during("to say "+what, func() (bool, any) {
			a := l.b.do(order.Order{Op: order.Say, Path: l.socket(), Packets: [][]byte{b}})
			return a.Errno == unix.EPROTO && a.Closed, a.Errno
		})
	}
	hello, _ := proto.Append(nil, 1, proto.Hello{Program: "flood"})
	ask, _ := proto.Append(nil, 2, proto.Status{})
	during("to flood the socket for 1.5 s", func() (bool, any) {
		a := l.b.do(order.Order{Op: order.Flood, Path: l.socket(), N: 8, Millis: 1500, Packets: [][]byte{hello, ask, ask, ask}})
		return true, fmt.Sprintf("%d messages", a.Count)
	})
	during("to flood the socket with junk for 1 s", func() (bool, any) {
		a := l.b.do(order.Order{Op: order.Flood, Path: l.socket(), N: 8, Millis: 1000, Packets: [][]byte{make([]byte, 60000)}})
		return true, fmt.Sprintf("%d messages", a.Count)
	})
	during("to hold 200 connections and say nothing for 1 s", func() (bool, any) {
		done := make(chan order.Answer, 1)
		go func() { done <- l.b.do(order.Order{Op: order.Slow, Path: l.socket(), N: 200, Millis: 1000}) }()
		time.Sleep(300 * time.Millisecond)
		also := l.a.do(order.Order{Op: order.Lease, Path: l.socket()}) // another user is served
		l.a.do(order.Order{Op: order.End, Lease: also.Lease})
		return also.Errno == 0, fmt.Sprintf("%d held, another user: %v", (<-done).Count, also.Errno)
	})
	during("to flood the device with forged packets for 1 s", func() (bool, any) {
		forged, _ := l.mark()
		burst := make([][]byte, 500)
		for i := range burst {
			burst[i] = offload{}.with(udpPacket(netip.AddrPortFrom(host4, victimPort), to4, forged))
		}
		n := 0
		for end := time.Now().Add(time.Second); time.Now().Before(end); n += len(burst) {
			l.a.send(burst...)
		}
		return !l.eyes.saw(forged), fmt.Sprintf("%d packets", n)
	})
}

// keeping has a lease end whose device was kept in every way, once by closing
// the connection and once by death. Control: with the lease, the same sends.
func (l *trial) keeping() {
	for _, how := range []string{"the connection closed", "the client killed"} {
		h := l.hostile(other)
		lease := h.do(order.Order{Op: order.Lease, Path: l.socket()})
		h.must(lease.Errno)
		h.must(h.grant(proto.Item{Proto: proto.UDP, Addr: host4, Port: 9800}))
		tried := h.do(order.Order{Op: order.Keep}).Tried
		if tried["TUNSETIFF"] == 0 {
			l.t.Errorf("TUNSETIFF a second time succeeds")
		}
		path := filepath.Join(os.TempDir(), fmt.Sprintf("alptrace-hostile-%d", h.cmd.Process.Pid))
		l.t.Cleanup(func() { _ = os.Remove(path) })
		h.must(h.do(order.Order{Op: order.Give, Path: path}).Errno)
		taken := l.a.do(order.Order{Op: order.Take, Path: path})
		l.a.must(taken.Errno)
		send := func(by *hostile, lease int, mark string) []syscall.Errno {
			return by.do(order.Order{Op: order.Send, Lease: lease, Packets: plain(udpPacket(netip.AddrPortFrom(host4, 9800), to4, mark))}).Errnos
		}
		_, honest1 := l.mark()
		_, honest2 := l.mark()
		send(h, 0, honest1)
		send(l.a, taken.Lease, honest2)
		control := eventually(5*time.Second, func() bool { return l.eyes.saw(honest1) && l.eyes.saw(honest2) })

		var gone time.Duration
		begin := time.Now()
		if how == "the client killed" {
			h.kill()
		} else {
			h.do(order.Order{Op: order.End})
		}
		l.within(l.host, func() error {
			for time.Since(begin) < 3*time.Second {
				if _, err := net.InterfaceByName(lease.Device); err != nil {
					gone = time.Since(begin)
					return nil
				}
				time.Sleep(time.Millisecond)
			}
			return nil
		})
		forged, _ := l.mark()
		errnos := send(l.a, taken.Lease, forged)
		if how != "the client killed" {
			errnos = append(errnos, send(h, 0, forged)...)
		}
		time.Sleep(20 * time.Millisecond)
		failed := gone > 0 && gone < 500*time.Millisecond && !l.eyes.saw(forged)
		for _, e := range errnos {
			failed = failed && e != 0
		}
		l.note("to keep the device, "+how, failed, fmt.Sprintf("gone after %v; write: %v; %v", gone.Round(time.Millisecond), errnos, tried), control)
	}
}
