package lab_test

import (
	"bytes"
	"encoding/csv"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// plotted runs alplab plot in a folder and gives what it wrote to standard
// output.
func plotted(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command(alplab(t), append([]string{"plot"}, args...)...)
	c.Dir = dir
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("alplab plot %s: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// number sums what tshark printed of one field.
func number(t *testing.T, rows [][]string, column int) (sum float64) {
	t.Helper()
	for _, r := range rows {
		v, err := strconv.ParseFloat(r[column], 64)
		if err != nil {
			t.Fatalf("tshark: %q", r)
		}
		sum += v
	}
	return sum
}

// TestPlotAgainstTshark draws a curl over a bad network, and compares what is
// drawn with what tshark makes of the same capture.
func TestPlotAgainstTshark(t *testing.T) {
	s := newSeen(t, "curl", "tshark")
	url := web(t, 3_000_000)
	s.run("--impair", "delay=10ms rate=20mbit queue=40p seed=3", "--impair-in", "delay=10ms rate=20mbit queue=100p loss=1% seed=3",
		"--pcap", "run.pcapng", "curl", "-s", "-o", "got", "-T", "/dev/null", url)

	const data = "tcp.srcport != 0 && ip.src == 10.0.2.2"
	payload := number(t, s.fields("run.pcapng", data, "tcp.len"), 0)
	onWire := number(t, s.fields("run.pcapng", data, "ip.len"), 0)
	again := len(s.fields("run.pcapng", data+" && (tcp.analysis.retransmission || tcp.analysis.out_of_order)", "frame.number"))
	if again == 0 {
		t.Fatal("nothing was lost: the test shows nothing")
	}

	// The table: from, to, ..., of the second line of the connection.
	var row []string
	for l := range strings.Lines(plotted(t, s.dir, "--list", "run.pcapng")) {
		if f := strings.Fields(l); len(f) > 10 && strings.HasPrefix(f[0], "10.0.2.2:") {
			row = f
		}
	}
	if row == nil {
		t.Fatal("the connection is not listed")
	}
	column := func(i int) int {
		n, err := strconv.Atoi(row[i])
		if err != nil {
			t.Fatalf("%q", row)
		}
		return n
	}
	if got := column(5); got != int(payload) {
		t.Errorf("%d bytes of payload, tshark says %v", got, payload)
	}
	if got := column(7) + column(8); got != again {
		t.Errorf("%d sent again or out of order, tshark says %d", got, again)
	}

	rows, err := csv.NewReader(strings.NewReader(plotted(t, s.dir, "--kind", "seq,throughput", "--bin", "100ms", "--format", "csv", "-o", "-", "run.pcapng"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var bits, marks float64
	for _, r := range rows[1:] {
		v, err := strconv.ParseFloat(r[5], 64)
		if err != nil {
			t.Fatal(err)
		}
		switch r[3] {
		case "throughput":
			bits += v * 0.1
		case "retransmission", "out of order":
			marks++
		}
	}
	if int(marks) != again {
		t.Errorf("%v marks in the numbers, tshark says %d", marks, again)
	}
	// The last bin may be cut off.
	if bits/8 > onWire*1.001 || bits/8 < onWire*0.95 {
		t.Errorf("%.0f bytes in the bins, tshark says %.0f", bits/8, onWire)
	}
	for _, name := range []string{"run.svg", "run.png", "run.pdf"} {
		plotted(t, s.dir, "-o", name, "run.pcapng")
		if b, err := os.ReadFile(s.path(name)); err != nil || len(b) < 5000 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	svg, err := os.ReadFile(s.path("run.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"Sequence number (MB)", "Round-trip time (", "Throughput (Mbit/s)", "retransmission"} {
		if !strings.Contains(string(svg), label) {
			t.Errorf("no %q in the picture", label)
		}
	}
}

// TestPlotRTT draws an upload, and looks for each round-trip time that tshark
// finds.
func TestPlotRTT(t *testing.T) {
	s := newSeen(t, "curl", "tshark")
	url := web(t, 10)
	if err := os.WriteFile(s.path("up"), make([]byte, 500_000), 0o644); err != nil {
		t.Fatal(err)
	}
	s.run("--impair", "delay=10ms jitter=3ms rate=50mbit", "--pcap", "run.pcapng", "curl", "-s", "-o", "got", "-T", "up", url)
	rows, err := csv.NewReader(strings.NewReader(plotted(t, s.dir, "--kind", "rtt", "--format", "csv", "-o", "-", "run.pcapng"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	type sample struct{ at, rtt float64 }
	var drawn []sample
	for _, r := range rows[1:] {
		at, _ := strconv.ParseFloat(r[4], 64)
		v, _ := strconv.ParseFloat(r[5], 64)
		drawn = append(drawn, sample{at, v})
	}
	want := s.fields("run.pcapng", "tcp.analysis.ack_rtt && ip.src == 10.0.2.2", "frame.time_relative", "tcp.analysis.ack_rtt")
	if len(want) < 10 || len(drawn) < 10 {
		t.Fatalf("%d round-trip times of tshark's, %d drawn", len(want), len(drawn))
	}
	for _, r := range want {
		at, _ := strconv.ParseFloat(r[0], 64)
		v, _ := strconv.ParseFloat(r[1], 64)
		// In one part of 2048 of the time, one of those within 0.25% is drawn.
		if !slices.ContainsFunc(drawn, func(d sample) bool { return math.Abs(d.at-at) < 0.005 && math.Abs(d.rtt-v) < 0.003*v }) {
			t.Errorf("tshark's %v s at %v s is not drawn", v, at)
		}
	}
}

// TestPlotRefuses gives what cannot be drawn.
func TestPlotRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.pcapng"), []byte("no capture"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"x.pcapng", "-o", "x.svg"}, "neither a capture"},
		{[]string{"x.pcapng", "-o", "x.gif"}, `no format "gif"`},
		{[]string{"x.pcapng"}, "-o FILE"},
		{[]string{"gone.pcapng", "-o", "x.svg"}, "no such file"},
	} {
		cmd := exec.Command(alplab(t), append([]string{"plot"}, c.args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v, %s, want %q", c.args, err, out, c.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "x.svg")); err == nil {
			t.Errorf("%s: there is a picture", c.args)
		}
	}
}
