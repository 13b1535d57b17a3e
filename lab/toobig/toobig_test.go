package toobig

import (
	"net/netip"
	"testing"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/pair"
)

// TestTooBig: the MTU is filled in, and the checksum is right as before.
func TestTooBig(t *testing.T) {
	lab, err := topo.Parse("test.toml", []byte(`
[host.a]
[host.b]
[router.r]
[[link]]
between = ["a", "r"]
[[link]]
between = ["r", "b"]
mtu = 1300
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b := pair.New(pair.Options{})
	defer a.Close()
	defer b.Close()
	l := Wrap(a, lab.Node("r"))
	msg := make([]byte, tooBigLen)
	msg[0], msg[6], msg[tooBigType] = 0x60, icmpv6, packetTooBig
	dst := netip.MustParseAddr("fd00:a1b:0:2::2").As16()
	copy(msg[tooBigDst:], dst[:])
	sum := func(b []byte) (s uint32) {
		for i := 0; i < len(b); i += 2 {
			s += uint32(b[i])<<8 + uint32(b[i+1])
		}
		for s>>16 != 0 {
			s = s>>16 + s&0xffff
		}
		return s
	}
	csum := ^uint16(sum(msg[40:]))
	msg[tooBigCsum], msg[tooBigCsum+1] = byte(csum>>8), byte(csum)
	p := []link.Packet{{Bufs: [][]byte{msg[:45], msg[45:]}}} // as it comes, in pieces
	if _, err := l.Send(p); err != nil {
		t.Fatal(err)
	}
	got := p[0].AppendTo(nil)
	if mtu := int(got[tooBigMTU+2])<<8 | int(got[tooBigMTU+3]); mtu != 1300 {
		t.Errorf("MTU %d, want 1300", mtu)
	}
	if s := sum(got[40:]); s != 0xffff {
		t.Errorf("checksum wrong: sum %#x", s)
	}
}
