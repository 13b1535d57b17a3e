package lan

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/pair"
)

// scene is a switch with hosts that note what they receive.
type scene struct {
	sw    *Switch
	hosts []link.Link
	mu    sync.Mutex
	got   []string
	at    time.Time
}

func newScene(t *testing.T, n int) *scene {
	s := &scene{at: time.Unix(0, 0)}
	var ports []link.Link
	for i := range n {
		host, port := pair.New(pair.Options{Medium: link.Ethernet})
		ports = append(ports, port)
		s.hosts = append(s.hosts, host)
		if err := host.Start(func(pkts []link.Packet) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, p := range pkts {
				s.got = append(s.got, fmt.Sprintf("%d:%s", i, p.Bufs[0][14:]))
			}
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = host.Close() })
	}
	var err error
	if s.sw, err = New(ports, func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.at }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.sw.Close() })
	return s
}

func mac(n int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, byte(n)} }

var broadcast = net.HardwareAddr{255, 255, 255, 255, 255, 255}

// send sends a frame and waits for it to arrive want times.
func (s *scene) send(t *testing.T, from int, dst net.HardwareAddr, text string, want ...string) {
	t.Helper()
	f := append(append(append([]byte{}, dst...), mac(from)...), 8, 0)
	f = append(f, text...)
	if _, err := s.hosts[from].Send([]link.Packet{{Bufs: [][]byte{f}}}); err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	for range 500 {
		s.mu.Lock()
		got = map[string]int{}
		for _, g := range s.got {
			got[g]++
		}
		s.mu.Unlock()
		if len(got) >= len(want) && len(want) > 0 {
			break
		}
		time.Sleep(time.Millisecond)
		if len(want) == 0 {
			time.Sleep(20 * time.Millisecond)
			break
		}
	}
	time.Sleep(2 * time.Millisecond)
	s.mu.Lock()
	n := len(s.got)
	s.got = nil
	s.mu.Unlock()
	if n != len(want) {
		t.Errorf("%s: %v, want %v", text, got, want)
	}
	for _, w := range want {
		if got[w] != 1 {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestSwitch(t *testing.T) {
	s := newScene(t, 3)
	s.send(t, 0, mac(1), "unknown", "1:unknown", "2:unknown")
	s.send(t, 1, mac(0), "learned", "0:learned")
	s.send(t, 0, mac(1), "both", "1:both")
	s.send(t, 2, broadcast, "all", "0:all", "1:all")
	s.send(t, 0, mac(0), "itself")
	s.send(t, 0, net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, "stp")
	if n := s.sw.Addrs(); n != 3 {
		t.Errorf("%d addresses, want 3", n)
	}
	s.mu.Lock()
	s.at = s.at.Add(Ageing + time.Second)
	s.mu.Unlock()
	s.send(t, 0, mac(1), "aged", "1:aged", "2:aged")
}
