package netstack

import (
	"net/netip"
	"testing"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack/enginetest"
)

// TestContract runs the suite of package stack's contract between two engines
// on every kind of cable, and within one.
func TestContract(t *testing.T) {
	for _, c := range []struct {
		name   string
		medium link.Medium
		tso    bool
		except map[string]string
	}{
		{"IP", link.IP, true, nil},
		{"Ethernet", link.Ethernet, false, map[string]string{
			"Datagram/Overflow": "datagrams that wait for the neighbour's address may be overtaken",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			enginetest.Run(t, func(t *testing.T) enginetest.Net {
				a, b := newPair(t, c.medium, c.tso)
				n := enginetest.Net{
					A: a, B: b,
					A4: netip.MustParseAddr("10.0.0.1"), B4: netip.MustParseAddr("10.0.0.2"),
					A6: netip.MustParseAddr("fd00::1"), B6: netip.MustParseAddr("fd00::2"),
					Broadcast: netip.MustParseAddr("10.0.0.255"),
				}
				if c.medium == link.IP {
					n.Hole = netip.MustParseAddr("10.0.0.77")
				}
				return n
			}, c.except)
		})
	}
	t.Run("Loopback", func(t *testing.T) {
		enginetest.Run(t, func(t *testing.T) enginetest.Net {
			e := newEngine(t, nil)
			lo4, lo6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
			return enginetest.Net{A: e, B: e, A4: lo4, B4: lo4, A6: lo6, B6: lo6, Broadcast: netip.MustParseAddr("127.255.255.255")}
		}, nil)
	})
}
