package udp

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/alptrace/alptrace/internal/park"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/linktest"
	"github.com/alptrace/alptrace/link/internal/mesh"
)

// tap is somebody on the path between two members: it sees, and may change,
// every datagram.
type tap struct {
	conn *net.UDPConn
	far  netip.AddrPort

	mu   sync.Mutex
	near netip.AddrPort
	seen [][]byte // from the near side
	// change makes of a datagram those that are passed on.
	change func(b []byte, fromNear bool) [][]byte
}

// newTap stands before the member at far.
func newTap(t *testing.T, far string) *tap {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	x := &tap{conn: c, far: netip.MustParseAddrPort(far), change: func(b []byte, _ bool) [][]byte { return [][]byte{b} }}
	done := make(chan struct{})
	t.Cleanup(func() { _ = c.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			x.pass(bytes.Clone(buf[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
	}()
	return x
}

func (x *tap) pass(b []byte, from netip.AddrPort) {
	x.mu.Lock()
	defer x.mu.Unlock()
	to := x.near
	if from != x.far {
		x.near, to = from, x.far
		x.seen = append(x.seen, bytes.Clone(b))
	}
	for _, c := range x.change(b, from != x.far) {
		_, _ = x.conn.WriteToUDPAddrPort(c, to)
	}
}

func (x *tap) addr() string { return x.conn.LocalAddr().String() }

// set changes what the tap does.
func (x *tap) set(change func(b []byte, fromNear bool) [][]byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.change = change
}

// replay sends everything that the near side has ever sent, again.
func (x *tap) replay(to netip.AddrPort) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, b := range x.seen {
		_, _ = x.conn.WriteToUDPAddrPort(b, to)
	}
	return len(x.seen)
}

// TestReplay: what is repeated arrives once, and old handshakes lead to nothing,
// also with a member that has started anew.
func TestReplay(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	x := newTap(t, a.at())
	b := join(t, "127.0.0.1:0,"+x.addr(), Options{})
	b.members(t, 1)
	x.set(func(b []byte, _ bool) [][]byte { return [][]byte{b, b} }) // everything twice
	const n = 50
	for i := range n {
		b.send(t, b.frame(broadcast, []byte{byte(i)}))
	}
	got, _ := a.take(n)
	for i, f := range got {
		if f[14] != byte(i) {
			t.Errorf("frame %d is %d", i, f[14])
		}
	}
	dropped := a.Stats().RxDropped
	again := x.replay(netip.MustParseAddrPort(a.at()))
	linktest.Eventually(t, "the repeated are refused", func() bool { return a.Stats().RxDropped >= dropped+uint64(again) })
	if s := a.Stats(); s.Received != n || s.Members != 1 {
		t.Errorf("%+v", s)
	}
	// A new process with the key: old initiations, and old data.
	_ = a.Close()
	_ = b.Close()
	c := join(t, "127.0.0.1:0", Options{})
	again = x.replay(netip.MustParseAddrPort(c.at()))
	linktest.Eventually(t, "data of the dead is refused", func() bool { return c.Stats().RxDropped >= uint64(again-2) })
	if s := c.Stats(); s.Received != 0 || s.Members != 0 {
		t.Errorf("%+v", s)
	}
}

// TestGarbled: with every tenth datagram changed in a bit, or cut, or reordered,
// only frames as they were sent arrive, each at most once.
func TestGarbled(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	x := newTap(t, a.at())
	r := rand.New(rand.NewPCG(1, 2))
	var held []byte
	x.set(func(b []byte, _ bool) [][]byte {
		switch r.IntN(10) {
		case 0:
			c := bytes.Clone(b)
			c[r.IntN(len(c))] ^= 1 << r.IntN(8)
			return [][]byte{c}
		case 1:
			return [][]byte{b[:r.IntN(len(b))]}
		case 2:
			return [][]byte{append(bytes.Clone(b), 0)}
		case 3:
			out := [][]byte{b}
			if held != nil {
				out = append(out, held)
			}
			held = bytes.Clone(b)
			return out
		}
		return [][]byte{b}
	})
	b := join(t, "127.0.0.1:0,"+x.addr(), Options{})
	b.members(t, 1)
	const n = 1000
	for i := range n {
		b.send(t, b.frame(broadcast, fmt.Appendf(nil, "%04d", i)))
		if i%20 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(50 * time.Millisecond)
	got, _ := a.take(1)
	seen := map[string]bool{}
	for _, f := range got {
		s := string(f[14:])
		if k := 0; len(s) != 4 || seen[s] {
			t.Errorf("%q arrived", s)
		} else if _, err := fmt.Sscanf(s, "%d", &k); err != nil || k >= n {
			t.Errorf("%q arrived", s)
		}
		seen[s] = true
	}
	t.Logf("%d of %d arrived, %+v", len(got), n, a.Stats())
	if len(got) < n/2 {
		t.Errorf("%d of %d arrived", len(got), n)
	}
}

// TestRoaming: a member whose address changes (as behind a NAT that forgets) stays
// a member, and is answered at its new address.
func TestRoaming(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	x := newTap(t, a.at())
	b := join(t, "127.0.0.1:0,"+x.addr(), Options{})
	a.members(t, 1)
	b.members(t, 1)
	other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(a.at()))
	x.set(func(b []byte, fromNear bool) [][]byte {
		if !fromNear {
			return [][]byte{b}
		}
		_, _ = other.WriteToUDP(b, to) // the NAT's new port
		return nil
	})
	b.send(t, b.frame(broadcast, []byte("moved")))
	if got, _ := a.take(1); len(got) != 1 {
		t.Fatal("nothing from the new address")
	}
	if k := a.Stats().Members; k != 1 {
		t.Fatalf("%d members", k)
	}
	a.send(t, a.frame(b.HardwareAddr(), []byte("answer")))
	_ = other.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := other.ReadFromUDP(make([]byte, 2000)); err != nil {
		t.Errorf("no answer at the new address: %v", err)
	}
}

// TestNewKeys: a session that has become old is replaced without a frame lost.
func TestNewKeys(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	b := join(t, "127.0.0.1:0,"+a.at(), Options{rekey: time.Millisecond})
	b.members(t, 1)
	p := b.net.Members()[0]
	first := p.session.Load()
	sent := 0
	linktest.Eventually(t, "another session", func() bool {
		b.send(t, b.frame(broadcast, []byte("x")))
		sent++
		return p.session.Load() != first
	})
	for range 10 {
		b.send(t, b.frame(broadcast, []byte("x")))
		sent++
	}
	if got, _ := a.take(sent); len(got) != sent || a.Stats().Members != 1 {
		t.Errorf("%d of %d, %+v", len(got), sent, a.Stats())
	}
}

// TestFlood: a sender without the key gets no answer, and leaves nothing behind.
func TestFlood(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	b := join(t, "127.0.0.1:0,"+a.at(), Options{})
	b.members(t, 1)
	c, err := net.Dial("udp4", a.at())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 20000 {
		msg := make([]byte, []int{initLen, replyLen, 100, 1400, 3, 0}[i%6])
		for j := range msg {
			msg[j] = byte(r.Uint32())
		}
		if len(msg) > 4 {
			copy(msg, []byte{byte(1 + i%5), 0, 0, 0})
		}
		_, _ = c.Write(msg)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Read(make([]byte, 2000)); err == nil {
		t.Errorf("an answer of %d bytes", n)
	}
	b.send(t, b.frame(a.HardwareAddr(), []byte("still")))
	if got, _ := a.take(1); len(got) != 1 {
		t.Error("the member is not heard any more")
	}
	if a.Stats().Members != 1 {
		t.Errorf("%+v", a.Stats())
	}
}

// alone is a member's goroutine without a socket's traffic, for fuzzing.
func alone(t testing.TB) *members {
	t.Helper()
	l := &Link{log: slog.New(slog.DiscardHandler), born: time.Now()}
	l.net, _ = mesh.New[*peer](mesh.Config{MTU: DefaultMTU})
	s, err := newSuite(testKey)
	if err != nil {
		t.Fatal(err)
	}
	l.tx.fd = -1
	m := newMembers(context.Background(), l, s, -1)
	m.me = hello{memberID{1}, DefaultMTU}
	return m
}

// FuzzDatagram: whatever comes, from whoever has the key or has not, nothing
// panics and nothing grows without bound.
func FuzzDatagram(f *testing.F) {
	m := alone(f)
	s, err := newSuite(testKey)
	if err != nil {
		f.Fatal(err)
	}
	other := hello{memberID{2}, 1400}
	_, first, err := s.begin(7, &other)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first, false)
	f.Add(append([]byte{typeFrame, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 60)...), true)
	f.Add(append([]byte{typeControl, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 60)...), true)
	f.Add(append([]byte{typeReply, 0, 0, 0}, make([]byte, replyLen-4)...), true)
	from := netip.MustParseAddrPort("192.0.2.1:7")
	f.Fuzz(func(t *testing.T, b []byte, inside bool) {
		m.rx.gro.Reset()
		m.datagram(bytes.Clone(b), from)
		if inside { // with a MAC, or as the text of an authentic message
			if len(b) > macLen {
				m.datagram(m.noise.seal(bytes.Clone(b[:len(b)-macLen])), from)
			}
			p := &peer{l: m.l, who: other}
			p.to.Store(newEndpoint(from, true))
			p.session.Store(&session{})
			if m.l.net.Examine(p, b, &link.Offload{}) {
				m.rx.gro.Add(bytes.Clone(b), link.Ethernet)
			}
			m.operation(p, b)
		}
		m.rx.gro.Packets()
		if len(m.targets) > maxMembers || len(m.half) > maxHalf || len(m.sessions) > maxHalf || len(m.seen) > maxSeen {
			t.Fatalf("%d targets, %d half, %d sessions, %d seen", len(m.targets), len(m.half), len(m.sessions), len(m.seen))
		}
	})
}

// TestBounds: what one with the key can make a member keep is bounded too.
func TestBounds(t *testing.T) {
	m := alone(t)
	m.l.lot = new(park.Lot)
	from := netip.MustParseAddrPort("192.0.2.1:7")
	s, err := newSuite(testKey)
	if err != nil {
		t.Fatal(err)
	}
	answered, t0 := 0, time.Now()
	for i := range 2 * maxMembers {
		_, msg, err := s.begin(uint32(i), &hello{memberID{2, byte(i), byte(i >> 8)}, 1400})
		if err != nil {
			t.Fatal(err)
		}
		if !m.initiated(msg, from) {
			continue // too many: it may come again
		}
		answered++
		if m.initiated(msg, from) {
			t.Fatal("the same initiation is answered twice")
		}
	}
	if answered > maxMembers+1+int(50*time.Since(t0).Seconds()) || len(m.sessions) > maxHalf {
		t.Errorf("%d answered, %d sessions", answered, len(m.sessions))
	}
	var many []byte
	for i := range 1000 {
		many = append(many, make([]byte, 10)...)
		many = append(many, 0xff, 0xff, 192, 0, 2, byte(i), byte(i>>8)+1, 1)
	}
	for at := 0; at < len(many); at += maxAddrs * addrLen {
		m.learn(parseMembers(many[at:]))
	}
	if len(m.targets) != maxMembers {
		t.Errorf("%d targets", len(m.targets))
	}
	for i := range 70 {
		m.tick(time.Duration(i) * time.Second)
	}
	if len(m.targets) != 0 || len(m.sessions) != 0 || len(m.dialed) > 4*maxMembers {
		t.Errorf("after a minute: %d targets, %d sessions, %d dialed", len(m.targets), len(m.sessions), len(m.dialed))
	}
}

// TestHandshake: both sides get the same keys, one direction each; a changed bit
// anywhere, or another key, ends it.
func TestHandshake(t *testing.T) {
	sa, _ := newSuite(testKey)
	sb, _ := newSuite(testKey)
	ha, hb := hello{memberID{1}, 1400}, hello{memberID{2}, 9000}
	h, first, err := sa.begin(11, &ha)
	if err != nil || len(first) != initLen {
		t.Fatal(len(first), err)
	}
	for i := range first {
		for bit := range 8 {
			c := bytes.Clone(first)
			c[i] ^= 1 << bit
			if in, err := sb.open(c); err == nil {
				t.Fatalf("byte %d changed: %+v", i, in.hello)
			}
		}
	}
	in, err := sb.open(first)
	if err != nil || in.hello != ha || in.index != 11 {
		t.Fatalf("%+v, %v", in, err)
	}
	reply, kb, err := in.reply(sb, 22, &hb)
	if err != nil || len(reply) != replyLen || len(reply) > initLen+4 {
		t.Fatal(len(reply), err)
	}
	if c := bytes.Clone(reply); sa.verify(c) {
		c[40]++
		if sa.verify(c) {
			t.Error("a changed reply is taken")
		}
		if _, _, _, err := h.finish(c); err == nil {
			t.Error("a changed reply is finished")
		}
	}
	who, index, ka, err := h.finish(reply) // the true one, after the false one
	if err != nil || who != hb || index != 22 {
		t.Fatalf("%+v, %d, %v", who, index, err)
	}
	x, y := &session{keys: ka, remote: 22}, &session{keys: kb, remote: 11}
	for i, way := range [][2]*session{{x, y}, {y, x}} {
		b, ok := way[0].seal(nil, typeFrame, []byte("text"))
		c := bytes.Clone(b)
		if _, wrong := way[0].open(bytes.Clone(b)); !ok || wrong {
			t.Error("a message is opened by its sender")
		}
		if text, ok := way[1].open(b); !ok || string(text) != "text" {
			t.Errorf("way %d: %q, %v", i, text, ok)
		}
		if _, ok := way[1].open(c); ok {
			t.Error("a message is opened twice")
		}
	}
	x.counter = maxCounter
	if _, ok := x.seal(nil, typeFrame, nil); ok {
		t.Error("a worn session is used")
	}
	binary.BigEndian.PutUint32(first[4:], 12)
	other, _ := newSuite(Key{7})
	if _, err := other.open(first); err == nil {
		t.Error("another key opens it")
	}
}

func BenchmarkRTT(b *testing.B) {
	x := join(b, "127.0.0.1:0", Options{})
	y := join(b, "127.0.0.1:0,"+x.at(), Options{})
	x.members(b, 1)
	y.members(b, 1)
	back := make(chan struct{}, 4)
	var echo, ring func([]link.Packet)
	echo = func([]link.Packet) { _, _ = y.Send([]link.Packet{y.frame(x.HardwareAddr(), []byte{1})}) }
	ring = func([]link.Packet) { back <- struct{}{} }
	y.Link.recv.Store(&echo)
	x.Link.recv.Store(&ring)
	p := []link.Packet{x.frame(y.HardwareAddr(), []byte{1})}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = x.Send(p)
		<-back
	}
}

func BenchmarkSend64K(b *testing.B) {
	x := join(b, "127.0.0.1:0", Options{})
	y := join(b, "127.0.0.1:0,"+x.at(), Options{})
	x.members(b, 1)
	y.members(b, 1)
	drop := func([]link.Packet) {}
	y.Link.recv.Store(&drop)
	p := []link.Packet{linktest.Segments(x, y.HardwareAddr())}
	b.SetBytes(65000)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = x.Send(p)
	}
	b.ReportMetric(float64(y.Stats().Received)/float64(b.N), "packets/64KiB")
}
