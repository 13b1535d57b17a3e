package tun

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
)

// BenchmarkRTT is the round trip of one byte from a UDP socket of the kernel to
// the link's receive function and back.
func BenchmarkRTT(b *testing.B) {
	inNetns(b, func() {
		r := &responder{l: setUp(b, TUN), t: b, fast: true}
		defer r.l.Close()
		_ = r.l.Start(r.recv)
		// A blocking socket, as a program outside Go's poller has it.
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err == nil {
			err = unix.Connect(c, &unix.SockaddrInet4{Port: 7, Addr: ourIP.As4()})
		}
		if err == nil {
			err = unix.SetsockoptTimeval(c, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
		}
		if err != nil {
			b.Error(err)
			return
		}
		defer unix.Close(c)
		buf := make([]byte, 10)
		b.ReportAllocs()
		for b.Loop() {
			_, _ = unix.Write(c, buf[:1])
			if _, err := unix.Read(c, buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkIn is TCP bulk from the kernel.
func BenchmarkIn(b *testing.B) {
	inNetns(b, func() {
		r, c := dial(b)
		defer r.l.Close()
		defer c.Close()
		buf := make([]byte, 1<<18)
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Error(err)
				return
			}
		}
		b.ReportMetric(float64(r.biggest.Load()), "max-packet-bytes")
	})
}

// BenchmarkOut is TCP bulk to the kernel, in packets of 64 KiB.
func BenchmarkOut(b *testing.B) {
	inNetns(b, func() {
		r, c := dial(b)
		defer r.l.Close()
		defer c.Close()
		got := make(chan int64, 1)
		go func() {
			n, _ := io.Copy(io.Discard, struct{ io.Reader }{c})
			got <- n
		}()
		const n = 32000 // within the window that the kernel opens with
		payload := make([]byte, n)
		r.acked.Store(r.seq)
		b.SetBytes(n)
		b.ReportAllocs()
		for b.Loop() {
			r.gso(payload)
			for r.acked.Load() != r.seq { // stop and wait: no window to keep
				time.Sleep(0)
			}
		}
	})
}

func dial(b *testing.B) (*responder, net.Conn) {
	r := start(b, TUN)
	c, err := net.DialTimeout("tcp4", ourIP.String()+":80", 5*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	<-r.open
	return r, c
}

// BenchmarkUDPIn counts datagrams of one byte from the kernel.
func BenchmarkUDPIn(b *testing.B) {
	inNetns(b, func() {
		r := &responder{l: setUp(b, TUN), t: b}
		var n, calls int
		_ = r.l.Start(countInto(&n, &calls))
		c, err := net.Dial("udp4", ourIP.String()+":9")
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		for b.Loop() {
			_, _ = c.Write([]byte{1})
		}
		_ = r.l.Close()
		b.ReportMetric(float64(n)/float64(b.N), "received/sent")
		b.ReportMetric(float64(n)/float64(max(calls, 1)), "packets/batch")
	})
}

func countInto(n, calls *int) func([]link.Packet) {
	return func(p []link.Packet) { *n += len(p); *calls++ }
}
