package sim

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/observe/tcplog"
)

// TestRecord: captures and logs have virtual time, and recording changes nothing.
func TestRecord(t *testing.T) {
	const text = `
duration = "2s"
[host.a]
traffic = [{kind = "bulk", to = "b", bytes = "100kB"}]
[host.b]
[router.r]
[[link]]
between = ["a", "r"]
impair = "rate=1mbit delay=10ms queue=10p"
[[link]]
between = ["r", "b"]
`
	plain := run(t, text, Options{})
	lab, err := topo.Parse("x.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var o Options
	rec, err := o.Record(dir, true, true)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(lab, o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(0)
	if err := errors.Join(err, s.Close(), rec.Close()); err != nil {
		t.Fatal(err)
	}
	if r.Hash != plain.Hash {
		t.Error("recording changes the packets")
	}
	for _, name := range []string{"a-eth0", "b-eth0", "r-eth0", "r-eth1"} {
		if n := packets(t, filepath.Join(dir, name+".pcapng")); n < 100 {
			t.Errorf("%s: %d packets", name, n)
		}
	}
	if m := records(t, filepath.Join(dir, "a.tcp.jsonl")); m[tcplog.EvState] < 2 || m[tcplog.EvSegment] < 50 || m[tcplog.EvCC] < 10 {
		t.Errorf("a's log: %v", m)
	}
	if m := records(t, filepath.Join(dir, "queues.jsonl")); m[tcplog.EvQueue] < 10 {
		t.Errorf("the queues' log: %v", m)
	}
}

// packets counts those of a capture, whose times must be virtual.
func packets(t *testing.T, name string) (n int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for ; ; n++ {
		_, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if d := ci.Timestamp.Sub(Epoch).Seconds(); d < 0 || d > 2 {
			t.Fatalf("%s: a packet after %v s", name, d)
		}
	}
}

// records counts those of a log, by kind.
func records(t *testing.T, name string) map[string]int {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, h, err := tcplog.NewReader(f)
	if err != nil || h.Clock != tcplog.Virtual {
		t.Fatalf("%s: %+v, %v", name, h, err)
	}
	m := make(map[string]int)
	for {
		x, err := r.Read()
		if errors.Is(err, io.EOF) {
			return m
		}
		if err != nil {
			t.Fatal(err)
		}
		m[x.Ev]++
	}
}
