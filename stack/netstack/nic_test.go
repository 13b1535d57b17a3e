package netstack

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"github.com/alptrace/alptrace/link"
)

// offloadLink does what a device does for a packet with offloads: it cuts
// segments and completes checksums, so that the receiver, which is told
// nothing, checks both.
type offloadLink struct {
	link.Link
	medium link.Medium
	t      *testing.T
	cut    int // packets that were cut
}

func (l *offloadLink) Send(pkts []link.Packet) (int, error) {
	for i := range pkts {
		flat := make([]byte, 0, pkts[i].Len())
		for _, b := range pkts[i].Bufs {
			flat = append(flat, b...)
		}
		for _, seg := range l.segments(flat, pkts[i].Offload) {
			if _, err := l.Link.Send([]link.Packet{{Bufs: [][]byte{seg}}}); err != nil {
				return i, err
			}
		}
	}
	return len(pkts), nil
}

func (l *offloadLink) segments(b []byte, o link.Offload) [][]byte {
	if !o.NeedsCsum {
		return [][]byte{b}
	}
	if o.GSO == link.GSONone {
		l.complete(b, o)
		return [][]byte{b}
	}
	l.cut++
	ip := 0
	if l.medium == link.Ethernet {
		ip = 14
	}
	hdr, payload := b[:o.HdrLen], b[o.HdrLen:]
	if len(payload) <= int(o.GSOSize) {
		l.t.Errorf("GSO for %d bytes with segments of %d", len(payload), o.GSOSize)
	}
	tcp := int(o.CsumStart)
	seq := binary.BigEndian.Uint32(hdr[tcp+4:])
	pseudo := binary.BigEndian.Uint16(hdr[tcp+int(o.CsumOffset):])
	var segs [][]byte
	for off := 0; off < len(payload); off += int(o.GSOSize) {
		end := min(off+int(o.GSOSize), len(payload))
		s := append(append([]byte(nil), hdr...), payload[off:end]...)
		binary.BigEndian.PutUint32(s[tcp+4:], seq+uint32(off))
		if end < len(payload) {
			s[tcp+13] &^= 0x09 // FIN, PSH
		}
		if o.GSO == link.GSOTCP4 {
			binary.BigEndian.PutUint16(s[ip+2:], uint16(len(s)-ip))
			binary.BigEndian.PutUint16(s[ip+10:], 0)
			binary.BigEndian.PutUint16(s[ip+10:], ^checksum.Checksum(s[ip:ip+20], 0))
		} else {
			binary.BigEndian.PutUint16(s[ip+4:], uint16(len(s)-ip-40))
		}
		// The pseudo header's sum has the length of the whole; take it out.
		sum := checksum.Combine(pseudo, ^uint16(len(b)-tcp))
		binary.BigEndian.PutUint16(s[tcp+int(o.CsumOffset):], checksum.Combine(sum, uint16(len(s)-tcp)))
		l.complete(s, o)
		segs = append(segs, s)
	}
	return segs
}

// complete does the checksum from CsumStart on; the field has the sum of the
// pseudo header.
func (l *offloadLink) complete(b []byte, o link.Offload) {
	sum := ^checksum.Checksum(b[o.CsumStart:], 0)
	binary.BigEndian.PutUint16(b[o.CsumStart+o.CsumOffset:], sum)
}

// TestOffload checks the offloads that a nic asks of its link.
func TestOffload(t *testing.T) {
	for _, medium := range []link.Medium{link.IP, link.Ethernet} {
		for _, to := range []string{"10.0.0.2:0", "[fd00::2]:0"} {
			la, lb := newPipe(medium, true)
			o := &offloadLink{Link: la, medium: medium, t: t}
			a := newEngine(t, o, "10.0.0.1/24", "fd00::1/64")
			b := newEngine(t, lb, "10.0.0.2/24", "fd00::2/64")
			client, server := connection(t, a, b, to)
			data := make([]byte, 1<<20)
			for i := range data {
				data[i] = byte(i * 7 >> 3)
			}
			go func() {
				client.writeAll(data)
				client.Shutdown(unix.SHUT_WR)
			}()
			if got := server.readFull(len(data) + 1); string(got) != string(data) {
				t.Errorf("medium %d to %s: %d bytes of %d, or wrong ones", medium, to, len(got), len(data))
			}
			if o.cut == 0 {
				t.Errorf("medium %d to %s: no packet was left to be cut", medium, to)
			}
			if n := b.st.Stats().TCP.ChecksumErrors.Value(); n != 0 {
				t.Errorf("%d wrong checksums", n)
			}
			if s := a.Stats(); s.PacketsOut == 0 || s.BytesOut < uint64(len(data)) || s.PacketsIn == 0 || s.Sockets == 0 {
				t.Errorf("stats %+v", s)
			}
		}
	}
}

// TestLoss: retransmission over a link that loses packets.
func TestLoss(t *testing.T) {
	la, lb := newPipe(link.IP, false)
	n := 0
	la.drop = func([]byte) bool { n++; return n%23 == 7 }
	a := newEngine(t, la, "10.0.0.1/24")
	b := newEngine(t, lb, "10.0.0.2/24")
	client, server := connection(t, a, b, "10.0.0.2:0")
	data := make([]byte, 256<<10)
	go func() {
		client.writeAll(data)
		client.Shutdown(unix.SHUT_WR)
	}()
	if got := server.readFull(len(data) + 1); len(got) != len(data) {
		t.Errorf("%d bytes of %d", len(got), len(data))
	}
	if a.Stats().Retransmissions == 0 {
		t.Error("no retransmissions counted")
	}
}

// TestEnd: a closed engine leaves no goroutine.
func TestEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		la, _ := newPipe(link.Ethernet, true)
		e, err := New(Config{Links: []link.Link{la}})
		if err != nil {
			t.Fatal(err)
		}
		ep, _ := e.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		ep.Listen(1)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		ep.Close()
	}
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before+2 {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines more\n%s", runtime.NumGoroutine()-before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		e, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
}
