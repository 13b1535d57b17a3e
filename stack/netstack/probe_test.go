package netstack

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/pair"
	"github.com/alptrace/alptrace/stack"
)

// probeLog is what a Probe has told.
type probeLog struct {
	mu sync.Mutex
	s  []stack.TCPSample
}

func (l *probeLog) add(s stack.TCPSample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s = append(l.s, s)
}

func (l *probeLog) samples() []stack.TCPSample {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s[:len(l.s):len(l.s)]
}

// states are the states in the order in which they were seen.
func (l *probeLog) states() (states []tcpState) {
	for _, s := range l.samples() {
		if n := len(states); n == 0 || states[n-1] != tcpState(s.State) {
			states = append(states, tcpState(s.State))
		}
	}
	return states
}

// waitState waits until the last state is want.
func (l *probeLog) waitState(t *testing.T, want tcpState) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if s := l.states(); len(s) > 0 && s[len(s)-1] == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("states %v, want %d in the end", l.states(), want)
		}
	}
}

// probedPair is two engines on a network that spec describes, probed.
func probedPair(t *testing.T, spec string) (a, b *Engine, la, lb *probeLog) {
	t.Helper()
	l, r := pair.New(pair.Options{Features: link.Features{Csum: true, TSO: true}})
	s, err := impair.Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	worse, err := impair.Wrap(l, impair.Config{In: s, Out: s})
	if err != nil {
		t.Fatal(err)
	}
	made := func(l link.Link, addr string) (*Engine, *probeLog) {
		e, err := New(Config{Links: []link.Link{l}, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}, Probe: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		log := new(probeLog)
		e.Probe(log.add)
		return e, log
	}
	a, la = made(worse, "10.0.0.1/24")
	b, lb = made(r, "10.0.0.2/24")
	return a, b, la, lb
}

func TestProbe(t *testing.T) {
	a, b, la, lb := probedPair(t, "delay=10ms rate=50mbit queue=20p")
	client, server := connection(t, a, b, "10.0.0.2:0")
	const size = 4 << 20
	go func() {
		client.writeAll(make([]byte, size))
		client.Shutdown(unix.SHUT_WR)
	}()
	if n, err := server.drain(discard{}); n != size || err != 0 {
		t.Fatal(n, err)
	}
	server.Close()
	client.Close()
	la.waitState(t, tcpTimeWait)
	lb.waitState(t, tcpClose)

	var most stack.TCPSample
	for _, s := range la.samples() {
		if s.Local != la.samples()[0].Local || s.Local.Addr() != netip.MustParseAddr("10.0.0.1") || s.Remote.Addr() != netip.MustParseAddr("10.0.0.2") {
			t.Fatalf("a sample of %s > %s", s.Local, s.Remote)
		}
		most.SndCwnd, most.InFlight = max(most.SndCwnd, s.SndCwnd), max(most.InFlight, s.InFlight)
		most.RTT, most.RTO = max(most.RTT, s.RTT), max(most.RTO, s.RTO)
		most.TotalRetrans, most.CAState = max(most.TotalRetrans, s.TotalRetrans), max(most.CAState, s.CAState)
		most.SndMSS, most.SndSsthresh = max(most.SndMSS, s.SndMSS), max(most.SndSsthresh, s.SndSsthresh)
		most.SndWnd = max(most.SndWnd, s.SndWnd)
		if s.State == uint8(tcpEstablished) && s.InFlight > s.SndCwnd+3*uint64(s.SndMSS) && s.CAState == caOpen {
			t.Errorf("%d bytes in flight, cwnd %d", s.InFlight, s.SndCwnd)
		}
	}
	// 20 packets wait at most, and 62,500 bytes are on the line in 10 ms.
	if most.SndMSS < 1400 || most.SndMSS > 1460 || most.SndCwnd < 60000 || most.InFlight < 60000 || most.TotalRetrans == 0 ||
		most.RTT < 20*time.Millisecond || most.RTT > 60*time.Millisecond || most.RTO < 200*time.Millisecond ||
		most.CAState != caRecovery && most.CAState != caLoss || most.SndSsthresh == 0 || most.SndWnd < 100000 {
		t.Errorf("the most of each: %+v", most)
	}
	want := []tcpState{tcpSynSent, tcpEstablished, tcpFinWait1, tcpFinWait2, tcpTimeWait}
	if got := la.states(); !subsequence(got, want) {
		t.Errorf("client: states %v, want %v", got, want)
	}
	want = []tcpState{tcpSynRecv, tcpEstablished, tcpCloseWait, tcpLastAck, tcpClose}
	if got := lb.states(); !subsequence(got, want) {
		t.Errorf("server: states %v, want %v", got, want)
	}
	a.probe.mu.Lock()
	defer a.probe.mu.Unlock()
	if n := len(a.probe.conns); n != 0 {
		t.Errorf("%d connections are kept", n)
	}
}

// subsequence says whether got has nothing but want, in order: FIN_WAIT1 and 2
// may be passed through between two samples.
func subsequence(got, want []tcpState) bool {
	if len(got) == 0 || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] || len(got) < len(want)-1 {
		return false
	}
	for _, w := range want {
		if len(got) > 0 && got[0] == w {
			got = got[1:]
		}
	}
	return len(got) == 0
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// TestProbeTimeout: the retransmission timer is seen when it expires, not with
// the next packet that comes.
func TestProbeTimeout(t *testing.T) {
	a, b, la, _ := probedPair(t, "down=150ms@200ms")
	client, _ := connection(t, a, b, "10.0.0.2:0")
	time.Sleep(250 * time.Millisecond)
	client.writeAll([]byte("lost"))
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s := la.samples()
		if last := s[len(s)-1]; last.Timeouts > 0 {
			if last.CAState != caLoss || last.SndCwnd != uint64(last.SndMSS) || last.TotalRetrans == 0 || last.RTO < 400*time.Millisecond {
				t.Errorf("%+v", last)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no timeout seen: %+v", s[len(s)-1])
		}
	}
}

// TestProbeReset: both ends of a reset, and a refused connection.
func TestProbeReset(t *testing.T) {
	a, b, la, lb := probedPair(t, "delay=1ms")
	client, _ := connection(t, a, b, "10.0.0.2:0")
	client.Abort()
	la.waitState(t, tcpClose)
	lb.waitState(t, tcpClose)
	n := len(la.samples())
	must(t, "connect", socket(t, a, unix.AF_INET, unix.SOCK_STREAM, 0).dial(addr("10.0.0.2:9")), unix.ECONNREFUSED)
	la.waitState(t, tcpClose)
	if la.samples()[n].State != uint8(tcpSynSent) {
		t.Errorf("%+v", la.samples()[n])
	}
	a.Probe(nil)
	n = len(la.samples())
	connection(t, a, b, "10.0.0.2:0")
	if m := len(la.samples()); m != n {
		t.Errorf("%d samples after the end", m-n)
	}
}
