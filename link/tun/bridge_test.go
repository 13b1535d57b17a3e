package tun

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alptrace/alptrace/link"
)

// TestIntegrationBridge has two kernels talk TCP through two devices joined
// here, with packets handed on whole, and cut by Segment.
func TestIntegrationBridge(t *testing.T) {
	for _, tc := range []struct {
		name string
		cut  bool
	}{{"whole", false}, {"cut", true}} {
		t.Run(tc.name, func(t *testing.T) { bridge(t, tc.cut) })
	}
}

func bridge(t *testing.T, cut bool) {
	addrs := func(last string) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix("10.78.0." + last + "/24"), netip.MustParsePrefix("fd78::" + last + "/64")}
	}
	inNetns(t, func() {
		server, err := Open("alpbr0", TUN, Options{HostAddrs: addrs("1")})
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		for _, network := range []string{"tcp4", "tcp6"} {
			ln, err := net.Listen(network, ":5000") // in this namespace for good
			if err != nil {
				t.Error(err)
				return
			}
			defer ln.Close()
			go digest(ln)
		}
		inNetns(t, func() {
			client, err := Open("alpbr1", TUN, Options{HostAddrs: addrs("2")})
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close()
			var big atomic.Int32
			handOn(client, server, cut, &big)
			handOn(server, client, cut, &big)
			for _, to := range []string{"10.78.0.1", "fd78::1"} {
				big.Store(0)
				transfer(t, to)
				if big.Load() < 10 {
					t.Errorf("%s: %d packets to be cut", to, big.Load())
				}
			}
		})
	})
}

// digest answers each connection with the digest of what came.
func digest(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			h := sha256.New()
			_, _ = io.Copy(h, c)
			_, _ = c.Write(h.Sum(nil))
			_ = c.Close()
		}()
	}
}

// handOn sends to b what a receives.
func handOn(a, b link.Link, cut bool, big *atomic.Int32) {
	var buf []byte
	_ = a.Start(func(pkts []link.Packet) {
		for i := range pkts {
			if pkts[i].GSO != link.GSONone {
				big.Add(1)
			}
			if !cut {
				_, _ = b.Send(pkts[i : i+1])
				continue
			}
			buf, _ = link.Segment(buf, pkts[i].Bufs[0], pkts[i].Offload, a.Medium(), a.MTU(), func(seg []byte) {
				_, _ = b.Send([]link.Packet{{Bufs: [][]byte{seg}}})
			})
		}
	})
}

// transfer sends 16 MiB from this thread's namespace and checks the digest.
func transfer(t *testing.T, to string) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(to, "5000"), 5*time.Second)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	data := make([]byte, 16<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	begin := time.Now()
	if _, err := c.Write(data); err != nil {
		t.Error(err)
		return
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if want := sha256.Sum256(data); err != nil || string(got) != string(want[:]) {
		t.Errorf("%s: digest %x, want %x, %v", to, got, want, err)
	}
	t.Logf("%s: %.0f MB/s", to, float64(len(data))/1e6/time.Since(begin).Seconds())
}
