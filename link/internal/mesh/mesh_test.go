package mesh

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
)

// end is a member that counts what it is sent.
type end struct {
	Port
	got int
}

func (e *end) Send(pkts []link.Packet) int { e.got += len(pkts); return len(pkts) }

func frame(dst, src Addr) []byte {
	return append(append(append([]byte{}, dst[:]...), src[:]...), 0x88, 0xb5)
}

func packet(b []byte) []link.Packet { return []link.Packet{{Bufs: [][]byte{b[:3], b[3:]}}} }

// TestLearn: a frame goes to all until its address is known, then to one; a
// member takes its addresses with it, and an address may move.
func TestLearn(t *testing.T) {
	m, err := New[*end](Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := new(end), new(end)
	m.Add(a)
	m.Add(b)
	here := Addr(m.HardwareAddr())
	there := Addr{2, 0, 0, 0, 0, 1}
	want := func(what string, na, nb int) {
		t.Helper()
		a.got, b.got = 0, 0
		if n, err := m.Send(packet(frame(there, here))); n != 1 || err != nil {
			t.Fatalf("%s: %d, %v", what, n, err)
		}
		if a.got != na || b.got != nb {
			t.Errorf("%s: a got %d, b %d", what, a.got, b.got)
		}
	}
	want("unknown", 1, 1)
	if !m.Examine(a, frame(here, there), &link.Offload{}) {
		t.Error("a frame for us is not delivered")
	}
	want("at a", 1, 0)
	if m.Examine(b, frame(Addr{2, 9}, there), &link.Offload{}) {
		t.Error("a frame for another is delivered")
	}
	want("moved to b", 0, 1)
	m.Examine(a, frame(here, there), &link.Offload{})
	want("and back", 1, 0)
	m.Remove(a)
	want("a gone", 0, 1)
	if s := m.Stats(); s.Members != 1 || s.RxOther != 1 {
		t.Errorf("%+v", s)
	}
}

// TestBounds: a member that claims many addresses, ours among them, and frames
// that nobody accepts.
func TestBounds(t *testing.T) {
	m, err := New[*end](Config{})
	if err != nil {
		t.Fatal(err)
	}
	e, here := new(end), Addr(m.HardwareAddr())
	m.Add(e)
	for i := range 3 * MaxMACs {
		m.Examine(e, frame(here, Addr{2, 0, 0, 0, 1, byte(i)}), &link.Offload{})
	}
	m.Examine(e, frame(here, here), &link.Offload{})
	if macs := m.table.Load().macs; len(macs) != MaxMACs || macs[here] != nil {
		t.Errorf("%d addresses learned of one member, ours: %v", len(macs), macs[here])
	}
	for _, b := range [][]byte{nil, make([]byte, EthLen-1), frame(here, Addr{1}), append(frame(here, Addr{2}), make([]byte, 1501)...)} {
		if m.Examine(e, b, &link.Offload{}) {
			t.Errorf("%d bytes are delivered", len(b))
		}
	}
	if s := m.Stats(); s.RxDropped != 4 {
		t.Errorf("%+v", s)
	}
	for n, want := range map[int]error{4: unix.EINVAL, EthLen + VLANLen + 1501: unix.EMSGSIZE} {
		if k, err := m.Send(packet(make([]byte, n))); k != 0 || !errors.Is(err, want) {
			t.Errorf("send of %d bytes: %d, %v", n, k, err)
		}
	}
	for _, c := range []Config{{MTU: 67}, {MTU: link.MaxPacket + 1}, {HardwareAddr: net.HardwareAddr{1, 2, 3, 4, 5, 6}}, {HardwareAddr: net.HardwareAddr{2}}} {
		if _, err := New[*end](c); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
