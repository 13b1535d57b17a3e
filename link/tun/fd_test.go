package tun

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
)

// rawDevice is a TUN descriptor with the flags, as another process hands it over.
func rawDevice(t *testing.T, name string, flags uint16) int {
	t.Helper()
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return -1
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		err = configure(name, &Options{MTU: 1300})
	}
	if err != nil {
		t.Error(err)
	}
	return fd
}

func TestIntegrationOpenFD(t *testing.T) {
	inNetns(t, func() {
		fd := rawDevice(t, "alpfd0", unix.IFF_NO_PI|unix.IFF_VNET_HDR)
		l, err := OpenFD(fd, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		if l.Name() != "alpfd0" || l.MTU() != 1300 || !l.Features().TSO {
			t.Errorf("%s, mtu %d, %+v", l.Name(), l.MTU(), l.Features())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}

		plain, err := OpenFD(rawDevice(t, "alpfd1", unix.IFF_NO_PI), Options{})
		if err != nil {
			t.Error(err)
			return
		}
		defer plain.Close()
		if plain.Features() != (link.Features{}) {
			t.Errorf("offloads without vnet headers: %+v", plain.Features())
		}
		ip := make([]byte, 40)
		ip[0] = 0x45
		p := link.Packet{Bufs: [][]byte{ip}}
		if n, err := plain.Send([]link.Packet{p}); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		p.Offload = link.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 16}
		if n, err := plain.Send([]link.Packet{p, {Bufs: p.Bufs}}); n != 1 || !errors.Is(err, unix.EINVAL) {
			t.Errorf("a checksum that nobody completes: %d, %v", n, err)
		}
	})
}

// lockedBuffer is a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestIntegrationDeviceDeleted: delivery ends, rather than spin.
func TestIntegrationDeviceDeleted(t *testing.T) {
	inNetns(t, func() {
		var log lockedBuffer
		l, err := Open("alpdel0", TUN, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Error(err)
			return
		}
		_ = l.Start(func([]link.Packet) {})
		dev, err := netlink.LinkByName("alpdel0")
		if err == nil {
			err = netlink.LinkSetDown(dev)
		}
		if err != nil {
			t.Error(err)
			return
		}
		ip := make([]byte, 40)
		ip[0] = 0x45
		p := []link.Packet{{Bufs: [][]byte{ip}}}
		if n, err := l.Send(p); n != 0 || !errors.Is(err, unix.EIO) {
			t.Errorf("send while down: %d, %v", n, err)
		}
		if err := netlink.LinkDel(dev); err != nil {
			t.Error(err)
		}
		select {
		case <-l.(*Link).done:
		case <-time.After(10 * time.Second):
			t.Error("delivery goes on")
		}
		if !strings.Contains(log.String(), "delivery ended") {
			t.Errorf("log: %q", log.String())
		}
		if n, err := l.Send(p); n != 0 || err == nil {
			t.Errorf("send after the end: %d, %v", n, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestIntegrationCloseUnderLoad closes while packets go both ways.
func TestIntegrationCloseUnderLoad(t *testing.T) {
	inNetns(t, func() {
		r := &responder{l: setUp(t, TUN), t: t, fast: true}
		var after bool // written after Close: the race detector sees a late recv
		_ = r.l.Start(func(pkts []link.Packet) {
			if after {
				t.Error("recv after Close")
			}
			_, _ = r.l.Send(pkts)
		})
		c, err := net.Dial("udp4", ourIP.String()+":7")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 3000 {
					_, _ = c.Write([]byte("x"))
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		if err := errors.Join(r.l.Close(), r.l.Close()); err != nil {
			t.Error(err)
		}
		after = true
		wg.Wait()
	})
}
