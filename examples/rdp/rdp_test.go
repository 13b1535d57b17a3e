package rdp

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/sim"
	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/netstack"
	"github.com/alptrace/alptrace/stack/transport"
)

// network is two hosts; sockets of TCP get rdp. The bulk flow is from a to b, the
// answers of reqresp from b to a: all that arrives is compared with what was sent.
const network = `
duration = "120s"
[host.a]
traffic = [
    {kind = "bulk", to = "b", bytes = "1MB", count = 2},
    {kind = "reqresp", to = "b", interval = "50ms", bytes = "20kB", stop = "10s"},
]
[host.b]
[[link]]
between = ["a", "b"]
impair = "%s"
`

func simulate(t *testing.T, impair string, seed uint64) *sim.Result {
	t.Helper()
	lab, err := topo.Parse("rdp.toml", fmt.Appendf(nil, "seed = %d\n"+network, seed, impair), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sim.Load(lab, sim.Options{Engine: func(_ string, cfg netstack.Config) (stack.Engine, error) {
		cfg.Transports, cfg.MapTCP = transport.Registered(), "rdp"
		return netstack.New(cfg)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNetworks: over networks of all kinds, in virtual time, everything arrives as
// it was sent.
func TestNetworks(t *testing.T) {
	for _, impair := range []string{
		"",
		"rate=10mbit delay=10ms",
		"delay=10ms loss=2%",
		"delay=10ms loss=10%",
		"delay=10ms dup=10%",
		"delay=10ms jitter=5ms reorder=10%",
		"delay=10ms corrupt=2%",
		"rate=10mbit delay=5ms jitter=2ms loss=2% dup=2% reorder=5% corrupt=0.5%",
		"rate=2mbit delay=20ms queue=10p",
	} {
		t.Run(impair, func(t *testing.T) {
			for seed := range uint64(3) {
				r := simulate(t, impair, seed+1)
				for _, f := range r.Flows {
					if f.Kind == "bulk" && f.Received != 1_000_000 {
						t.Errorf("seed %d: %s: %d bytes of 1000000 arrived", seed+1, f.Name, f.Received)
					}
					if f.Kind == "reqresp" && f.Returned == 0 {
						t.Errorf("seed %d: %s: no answers", seed+1, f.Name)
					}
					if f.Error+f.Corrupt != "" {
						t.Errorf("seed %d: %s: error %q, corrupt %q", seed+1, f.Name, f.Error, f.Corrupt)
					}
				}
			}
		})
	}
}

// TestSame: the same seed gives the same packets.
func TestSame(t *testing.T) {
	const impair = "rate=10mbit delay=5ms loss=2% reorder=5%"
	if a, b := simulate(t, impair, 7), simulate(t, impair, 7); a.Hash != b.Hash {
		t.Errorf("two runs differ: %s, %s", a.Hash, b.Hash)
	}
}

// FuzzReceive: packets with any flags and numbers neither panic nor make up
// bytes.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{syn, version, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0})
	f.Add([]byte{ack | fin, version, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 4, 0, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerLen {
			return
		}
		h := &host{}
		p := transport.Registered()[0]
		s := transport.NewSocket(h, &p, 1000, 1000)
		s.Connect()
		for len(b) >= headerLen {
			n := min(headerLen+int(b[0]>>5), len(b))
			s.Receive(b[:n])
			b = b[n:]
		}
		if s.Readable() > 1000 || s.Err() != 0 && s.Err() != unix.ECONNREFUSED && s.Err() != unix.ECONNRESET {
			t.Errorf("%d bytes, %v", s.Readable(), s.Err())
		}
		s.Write(make([]byte, s.Space()))
		s.End()
		s.Abort()
	})
}
