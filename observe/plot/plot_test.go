package plot

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// maker of captures: a client at 10.0.0.1:4000, a server at 10.0.0.2:80.
type made struct {
	t        testing.TB
	linkType layers.LinkType
	w        interface {
		WritePacket(gopacket.CaptureInfo, []byte) error
	}
	buf gopacket.SerializeBuffer
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// seg is a segment at a time in ms after the epoch.
type seg struct {
	ms       float64
	server   bool
	seq, ack uint32
	flags    string
	len      int
	wnd      uint16
	options  []layers.TCPOption
}

func (m *made) write(s seg) {
	src, dst := net.IP{10, 0, 0, 1}, net.IP{10, 0, 0, 2}
	tcp := &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: s.seq, Ack: s.ack, Window: s.wnd, Options: s.options,
		SYN: strings.Contains(s.flags, "S"), ACK: strings.Contains(s.flags, "A"),
		FIN: strings.Contains(s.flags, "F"), RST: strings.Contains(s.flags, "R")}
	if s.server {
		src, dst = dst, src
		tcp.SrcPort, tcp.DstPort = 80, 4000
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	all := []gopacket.SerializableLayer{ip, tcp, gopacket.Payload(make([]byte, s.len))}
	if m.linkType == layers.LinkTypeEthernet {
		eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
		all = append([]gopacket.SerializableLayer{eth}, all...)
	}
	if err := gopacket.SerializeLayers(m.buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: s.len < 2000}, all...); err != nil {
		m.t.Fatal(err)
	}
	b := m.buf.Bytes()
	ci := gopacket.CaptureInfo{Timestamp: epoch.Add(time.Duration(s.ms * 1e6)), CaptureLength: len(b), Length: len(b)}
	if err := m.w.WritePacket(ci, b); err != nil {
		m.t.Fatal(err)
	}
}

// capture writes a file of segments in a format: pcapng, pcap (raw IP) or eth
// (pcap of Ethernet).
func capture(t testing.TB, format string, segs []seg) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made."+format)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := &made{t: t, linkType: layers.LinkTypeRaw, buf: gopacket.NewSerializeBuffer()}
	if format == "pcapng" {
		ng, err := pcapgo.NewNgWriter(f, m.linkType)
		if err != nil {
			t.Fatal(err)
		}
		defer ng.Flush()
		m.w = ng
	} else {
		if format == "eth" {
			m.linkType = layers.LinkTypeEthernet
		}
		w := pcapgo.NewWriterNanos(f)
		if err := w.WriteFileHeader(1<<18, m.linkType); err != nil {
			t.Fatal(err)
		}
		m.w = w
	}
	for _, s := range segs {
		m.write(s)
	}
	return path
}

func option(kind layers.TCPOptionKind, data ...byte) layers.TCPOption {
	return layers.TCPOption{OptionType: kind, OptionLength: uint8(2 + len(data)), OptionData: data}
}

func sackOption(lo, hi uint32) layers.TCPOption {
	return option(layers.TCPOptionKindSACK, byte(lo>>24), byte(lo>>16), byte(lo>>8), byte(lo), byte(hi>>24), byte(hi>>16), byte(hi>>8), byte(hi))
}

// lossy is a transfer of 10,000 bytes whose sequence numbers wrap: the third
// segment is lost, selectively acknowledged around, and sent again.
func lossy() []seg {
	const isn = math.MaxUint32 - 2999 // wraps within the data
	at := func(n uint32) uint32 { return isn + 1 + n }
	mss := option(layers.TCPOptionKindMSS, 1000>>8, 1000&0xff)
	scale := option(layers.TCPOptionKindWindowScale, 3)
	segs := []seg{
		{ms: 0, seq: 100, flags: "S", wnd: 1000, options: []layers.TCPOption{mss, scale}},
		{ms: 10, server: true, seq: isn, ack: 101, flags: "SA", wnd: 1000, options: []layers.TCPOption{mss, scale}},
		{ms: 20, seq: 101, ack: at(0), flags: "A", wnd: 1000},
	}
	for i := range uint32(10) {
		segs = append(segs, seg{ms: 30 + float64(i), server: true, seq: at(i * 1000), ack: 101, flags: "A", len: 1000, wnd: 1000})
	}
	segs = append(segs,
		seg{ms: 50, seq: 101, ack: at(2000), flags: "A", wnd: 1000},
		seg{ms: 53, seq: 101, ack: at(2000), flags: "A", wnd: 1000, options: []layers.TCPOption{sackOption(at(3000), at(4000))}},
		seg{ms: 59, seq: 101, ack: at(2000), flags: "A", wnd: 1000, options: []layers.TCPOption{sackOption(at(3000), at(10000))}},
		seg{ms: 60, server: true, seq: at(2000), ack: 101, flags: "A", len: 1000, wnd: 1000},
		seg{ms: 80, seq: 101, ack: at(10000), flags: "A", wnd: 2000},
		seg{ms: 90, server: true, seq: at(10000), ack: 101, flags: "FA", wnd: 1000},
		seg{ms: 110, seq: 101, ack: at(10001), flags: "FA", wnd: 2000},
		seg{ms: 120, server: true, seq: at(10001), ack: 102, flags: "A", wnd: 1000},
	)
	return segs
}

func load(t *testing.T, o Options, paths ...string) *Picture {
	t.Helper()
	p, err := Load(paths, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestKnownTransfer(t *testing.T) {
	for _, format := range []string{"pcapng", "pcap", "eth"} {
		t.Run(format, func(t *testing.T) {
			p := load(t, Options{}, capture(t, format, lossy()))
			if len(p.Warnings) != 0 || len(p.curves) != 1 {
				t.Fatalf("warnings %q, %d curves", p.Warnings, len(p.curves))
			}
			c := p.curves[0]
			f := c.flow()
			if want := "10.0.0.2:80 to 10.0.0.1:4000"; c.label != want {
				t.Errorf("label %q, want %q", c.label, want)
			}
			if f.retxN != 1 || f.oooN != 0 || f.payload != 11000 || f.acked != 10000 {
				t.Errorf("retransmitted %d, out of order %d, payload %d, acked %d", f.retxN, f.oooN, f.payload, f.acked)
			}
			// SYN, the ACK of two segments, two SACKs, the FIN; the retransmission
			// and what was selectively acknowledged before give none.
			ms := time.Millisecond
			if s := f.rttStats; s.N != 5 || s.Min != 10*ms || s.Max != 20*ms || s.Sum != 10*ms+19*ms+20*ms+20*ms+20*ms {
				t.Errorf("round-trip times %+v", s)
			}
			if len(f.retxMarks) != 1 || f.retxMarks[0].Lo != 2001 || f.retxMarks[0].Hi != 3001 {
				t.Errorf("retransmissions %v", f.retxMarks)
			}
			last := func(l *line) float64 { pts := l.points(); return pts[len(pts)-1].V }
			if got := last(f.ack); got != 10002 {
				t.Errorf("the line of acknowledgments ends at %v", got)
			}
			if got := last(f.wnd); got != 10002+2000<<3 {
				t.Errorf("the line of the window ends at %v", got)
			}
			if got := greatest(f.flight.points()); got != 10000 {
				t.Errorf("at most %v bytes unacknowledged", got)
			}
		})
	}
}

// svgPaths counts the strokes of a colour and the parts that they have.
func svgPaths(svg []byte, colour string) (paths, parts int) {
	for _, l := range strings.Split(string(svg), "<path ")[1:] {
		if strings.Contains(l, "stroke:"+colour) {
			paths++
			parts += strings.Count(l[:strings.Index(l, "style")], "M")
		}
	}
	return paths, parts
}

func TestMarksInPicture(t *testing.T) {
	const isn, n = 1000, 40
	segs := []seg{{ms: 0, seq: isn, flags: "S", wnd: 100}, {ms: 1, server: true, seq: 1, ack: isn + 1, flags: "SA", wnd: 100}}
	for i := range uint32(n) {
		s := seg{ms: 10 + float64(i)*10, seq: isn + 1 + i*100, ack: 2, flags: "A", len: 100, wnd: 100}
		segs = append(segs, s)
		if i%4 == 0 {
			s.ms += 5
			segs = append(segs, s)
		}
	}
	path := capture(t, "pcapng", segs)
	p := load(t, Options{Kinds: []string{Seq}}, path)
	var svg bytes.Buffer
	if err := p.Write(&svg, SVG); err != nil {
		t.Fatal(err)
	}
	// A bar and a cross of two strokes for each, and a cross in the legend.
	if _, parts := svgPaths(svg.Bytes(), "#D55E00"); parts != 3*n/4+2 {
		t.Errorf("%d strokes in the retransmissions' colour, want %d", parts, 3*n/4+2)
	}
	for _, want := range []string{">10 retransmissions<", ">Sequence number (kB)<", ">Time (ms)<", ">SYN<", ">ACK<"} {
		if !strings.Contains(svg.String(), want) {
			t.Errorf("no %s in the picture", want)
		}
	}
	for _, format := range []string{PNG, PDF} {
		var b bytes.Buffer
		if err := p.Write(&b, format); err != nil || b.Len() < 5000 {
			t.Errorf("%s: %d bytes, %v", format, b.Len(), err)
		}
	}
}

// table reads a CSV picture: series to values by time.
func table(t *testing.T, p *Picture) map[string][][2]float64 {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b, CSV); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][][2]float64)
	for _, r := range rows[1:] {
		at, _ := strconv.ParseFloat(r[4], 64)
		v, _ := strconv.ParseFloat(r[5], 64)
		out[r[0]+"/"+r[3]] = append(out[r[0]+"/"+r[3]], [2]float64{at, v})
	}
	return out
}

func TestThroughputBins(t *testing.T) {
	p := load(t, Options{Bin: 20 * time.Millisecond}, capture(t, "pcapng", lossy()))
	got := table(t, p)
	// 30..39 ms: ten packets of 1040 bytes; 60 ms: one. Acknowledged at 50 to 59
	// ms: 9000; at 80 ms: the last 1000.
	wantThroughput := []float64{48, 10400, 0, 1040, 40, 0}
	wantGoodput := []float64{0, 0, 9000, 0, 1000, 0}
	for name, want := range map[string][]float64{"throughput/throughput": wantThroughput, "throughput/goodput": wantGoodput} {
		for i, w := range want {
			if i >= len(got[name]) {
				t.Fatalf("%s: %v", name, got[name])
			}
			if g := got[name][i][1]; math.Abs(g-w*8/0.02) > 1 {
				t.Errorf("%s in bin %d: %v bit/s, want %v", name, i, g, w*8/0.02)
			}
		}
	}
}

func TestOffloadedSegments(t *testing.T) {
	mss := option(layers.TCPOptionKindMSS, 1000>>8, 1000&0xff)
	p := load(t, Options{}, capture(t, "pcapng", []seg{
		{ms: 0, seq: 0, flags: "S", wnd: 100, options: []layers.TCPOption{mss}},
		{ms: 10, server: true, seq: 0, ack: 1, flags: "SA", wnd: 100, options: []layers.TCPOption{mss}},
		{ms: 20, seq: 1, ack: 1, flags: "A", len: 30000, wnd: 100},
		{ms: 30, server: true, seq: 1, ack: 10001, flags: "A", wnd: 100},
		{ms: 40, server: true, seq: 1, ack: 30001, flags: "A", wnd: 100},
	}))
	f := p.curves[0].flow()
	if f.rttStats.N != 3 || f.rttStats.Max != 20*time.Millisecond {
		t.Errorf("round-trip times %+v", f.rttStats)
	}
	var sum float64
	for _, b := range f.throughput {
		sum += b
	}
	if want := 44.0 + 30000 + 30*40; sum != want { // as 30 packets
		t.Errorf("%v bytes on the wire, want %v", sum, want)
	}
}

func TestMillionPackets(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	var segs []seg
	const n = 300_000
	for i := range uint32(n) {
		segs = append(segs, seg{ms: float64(i) * 0.1, seq: i * 1000, ack: 1, flags: "A", len: 1000, wnd: 100})
		if i%2 == 1 {
			segs = append(segs, seg{ms: float64(i)*0.1 + 0.05, server: true, seq: 1, ack: (i + 1) * 1000, flags: "A", wnd: 100})
		}
	}
	path := capture(t, "pcap", segs)
	start := time.Now()
	p := load(t, Options{}, path)
	var svg bytes.Buffer
	if err := p.Write(&svg, SVG); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d packets in %v, %d bytes of SVG", len(segs), time.Since(start), svg.Len())
	if svg.Len() > 600_000 {
		t.Errorf("a picture of %d bytes", svg.Len())
	}
	if f := p.curves[0].flow(); f.packets != n || f.retxN != 0 {
		t.Errorf("%d packets, %d retransmissions", f.packets, f.retxN)
	}
}

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, `{"schema":"alptrace-tcp-log/1","start":"2026-01-02T03:04:05Z","clock":"virtual","host":"c"}`)
	fmt.Fprintln(f, `{"t":0.1,"ev":"cc","conn":1,"local":"10.0.0.1:4000","remote":"10.0.0.2:80","prog":"curl","cwnd":14480,"ssthresh":2000000000,"in_flight":2896,"srtt":0.02,"rto":0.2}`)
	fmt.Fprintln(f, `{"t":0.2,"ev":"fast_retx","conn":1,"local":"10.0.0.1:4000","remote":"10.0.0.2:80","cwnd":28960,"ssthresh":14480}`)
	fmt.Fprintln(f, `{"t":0.3,"ev":"cc","conn":1,"local":"10.0.0.1:4000","remote":"10.0.0.2:80","cwnd":28960,"ssthresh":20000,"in_flight":14480,"srtt":0.03}`)
	fmt.Fprintln(f, `{"t":0.1,"ev":"queue","link":"l","dir":"out","pkts":5,"dropped":1}`)
	fmt.Fprintln(f, `{"t":0.4,"ev":"queue","link":"l","dir":"out","pkts":9,"dropped":4,"marked":2}`)
	fmt.Fprint(f, `{"t":0.5,"ev":"queue","li`)
	f.Close()
	p := load(t, Options{}, path)
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "cut off") {
		t.Errorf("warnings %q", p.Warnings)
	}
	got := table(t, p)
	for name, want := range map[string][2]float64{
		"cwnd/cwnd": {0.2, 28960}, "cwnd/ssthresh": {0.2, 20000}, "cwnd/in flight": {0.2, 14480},
		"rtt/srtt": {0.2, 0.03}, "queue/length": {0.3, 9}, "queue/dropped": {0.3, 3}, "queue/ECN mark": {0.3, 2},
	} {
		list := got[name]
		if len(list) == 0 || math.Abs(list[len(list)-1][0]-want[0]) > 1e-9 || math.Abs(list[len(list)-1][1]-want[1]) > 1e-9 {
			t.Errorf("%s: %v, want %v at the end", name, list, want)
		}
	}
}

func TestErrors(t *testing.T) {
	good := capture(t, "pcapng", lossy())
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path, want string
		o          Options
	}{
		{write("empty", nil), "empty", Options{}},
		{write("text", []byte("hello world")), "neither a capture", Options{}},
		{write("json", []byte(`{"a": 1}`+"\n")), "schema", Options{}},
		{write("short", whole[:10]), "cut off", Options{}},
		{good, `no kind "sek": there are seq, cwnd`, Options{Kinds: []string{"sek"}}},
		{good, "no connection :81", Options{Conns: []string{":81"}}},
		{good, "no size", Options{Size: "huge"}},
		{good, "no palette", Options{Palette: "pink"}},
		{good, "nothing is between", Options{From: time.Hour}},
		{good, "nothing is between", Options{From: 2, To: 1}},
	} {
		if _, err := Load([]string{c.path}, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: error %v, want %q", filepath.Base(c.path), c.o, err, c.want)
		}
	}
	p := load(t, Options{}, write("cut", whole[:len(whole)-100]))
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "cut off") || p.curves[0].flow().packets < 5 {
		t.Errorf("cut file: warnings %q", p.Warnings)
	}
	if err := load(t, Options{Kinds: []string{Queue}}, good).Write(&bytes.Buffer{}, SVG); err == nil || !strings.Contains(err.Error(), "kind queue") {
		t.Errorf("queue of a capture: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"schema":"alptrace-tcp-log/1"}` + "\n" + `{"t":1,"ev":"seg","conn":1,"local":"1.2.3.4:5","remote":"1.2.3.5:6","seq":1,"len":9,"sack":[[1,2]]}`))
	f.Add([]byte{0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a})
	for _, format := range []string{"pcapng", "pcap", "eth"} {
		b, err := os.ReadFile(capture(f, format, lossy()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Load([]string{path}, Options{})
		if err != nil {
			return
		}
		for _, format := range []string{SVG, CSV} {
			_ = p.Write(&bytes.Buffer{}, format)
		}
	})
}

func TestIntervals(t *testing.T) {
	var s intervals
	for _, c := range []struct{ lo, hi, fresh uint64 }{
		{10, 20, 10}, {30, 40, 10}, {15, 18, 0}, {20, 30, 10}, {5, 45, 10}, {50, 60, 10}, {1, 2, 1}, {0, 100, 49},
	} {
		if got := s.add(c.lo, c.hi); got != c.fresh {
			t.Errorf("add [%d,%d): %d new, want %d", c.lo, c.hi, got, c.fresh)
		}
	}
	if len(s) != 1 || s.below(30) != 30 || s.overlaps(0, 30) || !s.overlaps(29, 31) {
		t.Errorf("%v", s)
	}
}
