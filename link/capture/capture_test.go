package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/pair"
)

// partial is an IPv4 TCP packet of n payload bytes whose checksum is left open.
func partial(eth bool, n int) link.Packet {
	ip := make([]byte, 40+n)
	ip[0], ip[8], ip[9], ip[32], ip[33] = 0x45, 64, 6, 0x50, 0x18
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[10:], ^link.Checksum(ip[:20], 0))
	binary.BigEndian.PutUint16(ip[20:], 1000)
	binary.BigEndian.PutUint16(ip[22:], 2000)
	sum := link.Checksum(ip[12:20], 6)
	binary.BigEndian.PutUint16(ip[36:], link.Checksum([]byte{byte((20 + n) >> 8), byte(20 + n)}, sum))
	p := link.Packet{Bufs: [][]byte{ip}}
	p.Offload = link.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 16}
	if n > 1460 {
		p.GSO, p.GSOSize, p.HdrLen = link.GSOTCP4, 1460, 40
	}
	if eth {
		p.Bufs = [][]byte{{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}, ip}
		p.CsumStart += 14
		p.HdrLen += 14
	}
	return p
}

// sink is a file in memory.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *sink) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

var features = link.Features{Csum: true, TSO: true}

func TestFile(t *testing.T) {
	for _, m := range []link.Medium{link.IP, link.Ethernet} {
		a, b := pair.New(pair.Options{Medium: m, Features: features})
		var f sink
		stamp := time.Unix(1700000000, 123456789)
		c, err := Wrap(a, &f, Options{Comment: "a run", Description: "a pair", Now: func() time.Time { stamp = stamp.Add(1); return stamp }})
		if err != nil {
			t.Fatal(err)
		}
		echoed := make(chan struct{}, 9)
		_ = b.Start(func(pkts []link.Packet) { _, _ = b.Send(pkts) })
		_ = c.Start(func(pkts []link.Packet) {
			for range pkts {
				echoed <- struct{}{}
			}
		})
		eth := m == link.Ethernet
		for _, n := range []int{0, 1, 1001, 64000} {
			if k, err := c.Send([]link.Packet{partial(eth, n)}); k != 1 || err != nil {
				t.Fatal(k, err)
			}
			<-echoed
		}
		if err := errors.Join(c.Close(), c.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
		checkFile(t, f.bytes(), m)
		checkTshark(t, f.bytes())
	}
}

func checkFile(t *testing.T, file []byte, m link.Medium) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	want := layers.LinkTypeRaw
	if m == link.Ethernet {
		want = layers.LinkTypeEthernet
	}
	ifc, err := r.Interface(0)
	if err != nil || ifc.Name != "pair0" || ifc.Description != "a pair" || ifc.LinkType != want || r.SectionInfo().Comment != "a run" {
		t.Errorf("interface %+v, %+v, %v", ifc, r.SectionInfo(), err)
	}
	n := 0
	for ; ; n++ {
		b, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if at := int64(1700000000123456790 + n); ci.Timestamp.UnixNano() != at {
			t.Errorf("packet %d at %d, want %d", n, ci.Timestamp.UnixNano(), at)
		}
		if m == link.Ethernet {
			b = b[14:]
		}
		p := gopacket.NewPacket(b, layers.LayerTypeIPv4, gopacket.Default)
		if tcp, ok := p.TransportLayer().(*layers.TCP); !ok || len(tcp.Payload) != []int{0, 1, 1001, 64000}[n/2] {
			t.Errorf("packet %d: %v", n, p)
		}
		sum := link.Checksum([]byte{byte((len(b) - 20) >> 8), byte(len(b) - 20)}, link.Checksum(b[12:20], 6))
		if s := link.Checksum(b[20:], sum); s != 0xffff {
			t.Errorf("packet %d: TCP sums to %#x", n, s)
		}
	}
	if n != 8 {
		t.Errorf("%d packets", n)
	}
}

// checkTshark has the reference implementation read the file.
func checkTshark(t *testing.T, file []byte) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Log("no tshark to read the file with")
		return
	}
	name := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tshark", "-r", name, "-o", "tcp.check_checksum:TRUE", "-T", "fields",
		"-e", "frame.packet_flags_direction", "-e", "tcp.checksum.status", "-e", "frame.len")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, l := range lines {
		f := strings.Fields(l)
		dir := []string{"0x00000002", "0x00000001"}[i%2]
		if len(f) != 3 || f[0] != dir && f[0] != dir[9:] || f[1] != "1" && f[1] != "Good" {
			t.Errorf("tshark, packet %d: %q", i, l)
		}
	}
	if len(lines) != 8 {
		t.Errorf("tshark sees %d packets", len(lines))
	}
}

// TestFlush: the file is whole, and up to date, without Close.
func TestFlush(t *testing.T) {
	a, b := pair.New(pair.Options{Features: features})
	defer b.Close()
	var f sink
	c, err := Wrap(a, &f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := len(f.bytes())
	_, _ = c.Send([]link.Packet{partial(false, 100)})
	if len(f.bytes()) != before {
		t.Error("not buffered")
	}
	for end := time.Now().Add(5 * time.Second); len(f.bytes()) == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not flushed")
		}
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(f.bytes()), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if b, _, err := r.ReadPacketData(); err != nil || len(b) != 140 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for range 5 { // more than the buffer goes out at once
		_, _ = c.Send([]link.Packet{partial(false, 64000)})
	}
	if len(f.bytes()) < flushSize {
		t.Error("the buffer grows")
	}
}

type broken struct{ n int }

var errFull = errors.New("no space")

func (w *broken) Write(b []byte) (int, error) {
	if w.n--; w.n < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestWriteFails(t *testing.T) {
	a, b := pair.New(pair.Options{Features: features})
	defer b.Close()
	if _, err := Wrap(a, &broken{}, Options{}); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	c, err := Wrap(a, &broken{1}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if n, err := c.Send([]link.Packet{partial(false, 64000)}); n != 1 || err != nil {
			t.Fatalf("the link suffers: %d, %v", n, err)
		}
	}
	if err := c.Close(); !errors.Is(err, errFull) {
		t.Errorf("close: %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	a, b := pair.New(pair.Options{Features: features, Queue: 1 << 14})
	var f sink
	c, err := Wrap(a, &f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 500
	all, left := make(chan struct{}), n
	_ = c.Start(func(pkts []link.Packet) {
		if left -= len(pkts); left == 0 {
			close(all)
		}
	})
	var wg sync.WaitGroup
	for _, l := range []link.Link{c, c, b} {
		wg.Go(func() {
			for i := range n {
				_, _ = l.Send([]link.Packet{partial(false, i)})
			}
		})
	}
	wg.Wait()
	select {
	case <-all:
	case <-time.After(10 * time.Second):
		t.Fatal("packets are missing")
	}
	if err := errors.Join(c.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(f.bytes()), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for {
		if _, _, err := r.ReadPacketData(); err != nil {
			break
		}
		got++
	}
	if got != 3*n {
		t.Errorf("%d packets of %d", got, 3*n)
	}
}

func BenchmarkSend(b *testing.B) {
	for _, n := range []int{64, 64000} {
		p := []link.Packet{partial(false, n)}
		l, _ := pair.New(pair.Options{Features: features, Queue: 1})
		c, err := Wrap(l, io.Discard, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Send(p)
			}
		})
	}
}
