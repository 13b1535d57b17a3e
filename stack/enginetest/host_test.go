package enginetest_test

import (
	"net/netip"
	"testing"

	"github.com/alptrace/alptrace/stack/enginetest"
	"github.com/alptrace/alptrace/stack/host"
)

// TestHost checks the expectations of the suite against the kernel.
func TestHost(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Net {
		e, err := host.New(host.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		lo4, lo6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
		return enginetest.Net{
			A: e, B: e,
			A4: lo4, B4: lo4, A6: lo6, B6: lo6,
			Broadcast: netip.MustParseAddr("127.255.255.255"),
		}
	}, nil)
}
