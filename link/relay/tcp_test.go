package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

func families(t *testing.T, f func(t *testing.T, loopback string)) {
	t.Run("ipv4", func(t *testing.T) { f(t, "127.0.0.1:0") })
	t.Run("ipv6", func(t *testing.T) { f(t, "[::1]:0") })
}

func noise(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

func TestBulk(t *testing.T) {
	data := noise(48 << 20)
	want := sha256.Sum256(data)
	for _, mtu := range []int{DefaultMTU, 1500} {
		t.Run(fmt.Sprint("mtu ", mtu), func(t *testing.T) {
			families(t, func(t *testing.T, loopback string) {
				n := newNear(t, Config{MTU: mtu})
				got := make(chan [32]byte, 1)
				addr := host(t, loopback, func(c *net.TCPConn) {
					h := sha256.New()
					_, _ = io.Copy(h, c)
					got <- [32]byte(h.Sum(nil))
					_, _ = c.Write(data)
					_ = c.Close()
				})
				c := n.dial(t, n.via(addr))
				if _, err := c.Write(data); err != nil {
					t.Fatal(err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if <-got != want {
					t.Error("the host received something else")
				}
				h := sha256.New()
				if _, err := io.Copy(h, c); err != nil {
					t.Fatal(err)
				}
				if [32]byte(h.Sum(nil)) != want {
					t.Error("the near stack received something else")
				}
				c.Close()
				eventually(t, "the flow's end", func() bool { return n.r.Stats().TCP == Flows{0, 1} })
			})
		})
	}
}

// Both directions at once, in odd sizes, with a reader that is slow.
func TestBothWays(t *testing.T) {
	n := newNear(t, Config{})
	c := n.dial(t, n.via(host(t, "127.0.0.1:0", echo)))
	data := noise(16 << 20)
	go func() {
		rest := data
		for len(rest) > 0 {
			k := min(len(rest), 1+rand.IntN(100_000))
			if _, err := c.Write(rest[:k]); err != nil {
				return
			}
			rest = rest[k:]
		}
		_ = c.CloseWrite()
	}()
	time.Sleep(300 * time.Millisecond) // until everything is full
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, not the %d sent", len(got), len(data))
	}
}

func TestHalfCloseByHost(t *testing.T) {
	families(t, func(t *testing.T, loopback string) {
		n := newNear(t, Config{})
		got := make(chan string, 1)
		addr := host(t, loopback, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("first"))
			_ = c.CloseWrite()
			b, _ := io.ReadAll(c)
			got <- string(b)
			c.Close()
		})
		c := n.dial(t, n.via(addr))
		if b, err := io.ReadAll(c); err != nil || string(b) != "first" {
			t.Fatalf("read %q, %v", b, err)
		}
		if _, err := c.Write([]byte("second")); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != "second" {
			t.Errorf("the host read %q", s)
		}
	})
}

func TestRefused(t *testing.T) {
	n := newNear(t, Config{})
	for _, to := range []netip.AddrPort{
		n.via(unused(t, "tcp")),
		netip.AddrPortFrom(n.r.cfg.Gateway6, unused(t, "tcp").Port()),
		netip.AddrPortFrom(n.r.cfg.DNS4, 54),
	} {
		_, err := n.connect(to, 5*time.Second)
		if _, ok := err.(*tcpip.ErrConnectionRefused); !ok {
			t.Errorf("connect to %v: %v, want refused", to, err)
		}
	}
}

func TestNoSuchNeighbour(t *testing.T) {
	seen := newICMPLog()
	n := newNearTap(t, Config{}, seen.tap)
	_, err := n.connect(netip.MustParseAddrPort("10.0.2.77:80"), 5*time.Second)
	if _, ok := err.(*tcpip.ErrHostUnreachable); !ok {
		t.Errorf("connect over ipv4: %v, want host unreachable", err)
	}
	// The stack of this test ignores this code, so look at the packet itself.
	_, _ = n.connect(netip.MustParseAddrPort("[fd00::77]:80"), 50*time.Millisecond)
	seen.want(t, "3/1 10.0.2.2", true)
	seen.want(t, "1/3 fd00::2", true)
}

func TestResetByHost(t *testing.T) {
	for _, after := range []string{"data", "fin"} {
		t.Run("after "+after, func(t *testing.T) {
			n := newNear(t, Config{})
			addr := host(t, "127.0.0.1:0", func(c *net.TCPConn) {
				_, _ = c.Write([]byte("x"))
				if after == "fin" {
					_ = c.CloseWrite()
					time.Sleep(100 * time.Millisecond)
				} else {
					var b [1]byte
					_, _ = c.Read(b[:])
				}
				resetConn(c)
			})
			c := n.dial(t, n.via(addr))
			var b [1]byte
			if _, err := c.Read(b[:]); err != nil {
				t.Fatal(err)
			}
			if after == "data" {
				_, _ = c.Write(b[:])
			}
			eventually(t, "RST at the near stack", func() bool {
				_, isReset := c.ep.LastError().(*tcpip.ErrConnectionReset)
				return isReset || n.r.Stats().TCPReset == 1 && c.ep.State() != uint32(4) && errState(c)
			})
			eventually(t, "the flow's end", func() bool { return n.r.Stats().TCP.Open == 0 })
		})
	}
}

// errState reports whether writing to c fails, as it does after an RST.
func errState(c *conn) bool {
	_, err := c.Write([]byte("y"))
	return err != nil
}

func TestResetByNear(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprint("host not reading ", busy), func(t *testing.T) {
			n := newNear(t, Config{})
			got := make(chan error, 1)
			reset := make(chan struct{})
			addr := host(t, "127.0.0.1:0", func(c *net.TCPConn) {
				if busy {
					<-reset
				}
				_, err := io.Copy(io.Discard, c)
				got <- err
				c.Close()
			})
			c := n.dial(t, n.via(addr))
			if busy {
				_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				_, _ = c.Write(make([]byte, 64<<20)) // until everything is full
			} else if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true})
			c.Close()
			eventually(t, "the flow's end", func() bool { return n.r.Stats().TCP.Open == 0 })
			close(reset)
			if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the host got %v, want ECONNRESET", err)
			}
		})
	}
}

func TestManyFlows(t *testing.T) {
	const flows = 2000
	n := newNear(t, Config{})
	addr := n.via(host(t, "127.0.0.1:0", echo))
	var (
		wg    sync.WaitGroup
		up    sync.WaitGroup
		conns [flows]*conn
	)
	up.Add(flows)
	for i := range flows {
		wg.Go(func() {
			c, err := n.connect(addr, 30*time.Second)
			up.Done()
			if err != nil {
				t.Errorf("flow %d: %v", i, err)
				return
			}
			conns[i] = c
			defer c.Close()
			up.Wait() // all at once
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			msg := fmt.Appendf(nil, "flow %d", i)
			if _, err := c.Write(msg); err != nil {
				t.Errorf("flow %d: %v", i, err)
				return
			}
			_ = c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, msg) {
				t.Errorf("flow %d: read %q, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	eventually(t, "the end of all flows", func() bool { return n.r.Stats().TCP == Flows{0, flows} })
}

// What was acknowledged to the near stack is in the host's hands when Close
// returns, although the host has read nothing until then.
func TestCloseDelivers(t *testing.T) {
	r := make(chan int64, 1)
	closed := make(chan struct{})
	n := newNear(t, Config{})
	addr := host(t, "127.0.0.1:0", func(c *net.TCPConn) {
		<-closed
		k, _ := io.Copy(io.Discard, c)
		r <- k
	})
	c := n.dial(t, n.via(addr))
	const size = 1 << 20
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	eventually(t, "near stack's last ACK", func() bool { return n.r.Stats().TCP.Open == 0 || c.ep.State() != uint32(4) })
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// The near engine's own drain: its FIN is acknowledged.
	time.Sleep(50 * time.Millisecond)
	if err := n.r.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n.r.Close(); err != nil {
		t.Fatal(err)
	}
	close(closed)
	if k := <-r; k != size {
		t.Errorf("the host read %d bytes of %d", k, size)
	}
}

func TestDrainEnds(t *testing.T) {
	n := newNear(t, Config{DrainTimeout: -1})
	stop := make(chan struct{})
	defer close(stop)
	c := n.dial(t, n.via(host(t, "127.0.0.1:0", func(c *net.TCPConn) { <-stop; c.Close() })))
	_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	_, _ = c.Write(make([]byte, 64<<20))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := n.r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain with a host that does not read: %v", err)
	}
}
