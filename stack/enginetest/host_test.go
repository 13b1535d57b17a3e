package enginetest_test

import (
	"net/netip"
	"testing"

	"github.com/alptrace/alptrace/stack/enginetest"
	"github.com/alptrace/alptrace/stack/host"
)

// newHost starts a host engine for one test.
func newHost(t *testing.T) *host.Engine {
	t.Helper()
	e, err := host.New(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func loopback(a, b *host.Engine) enginetest.Net {
	lo4, lo6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	return enginetest.Net{
		A: a, B: b,
		A4: lo4, B4: lo4, A6: lo6, B6: lo6,
		Broadcast: netip.MustParseAddr("127.255.255.255"),
	}
}

// TestHost checks the expectations of the suite against the kernel.
func TestHost(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Net {
		e := newHost(t)
		return loopback(e, e)
	}, nil)
}

// TestTwoHosts does so with two engines, which share the kernel.
func TestTwoHosts(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Net {
		return loopback(newHost(t), newHost(t))
	}, nil)
}
