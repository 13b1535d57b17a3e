package apps

import (
	"encoding/json"
	"fmt"
	"testing"
)

// iperfReport is the part of iperf3 -J that the tests read.
type iperfReport struct {
	Error string
	End   struct {
		SumSent     struct{ Bytes int64 } `json:"sum_sent"`
		SumReceived struct{ Bytes int64 } `json:"sum_received"`
		Sum         struct {
			Packets     int64
			LostPackets int64 `json:"lost_packets"`
		}
		Streams []struct {
			Sender struct{ Bytes int64 }
			UDP    struct{ Bytes int64 }
		}
	}
}

// TestIperf3: TCP up, down, parallel, with sendfile, both ways at once, over
// IPv6; UDP both ways. With -n iperf3's receiver stops counting when the sender says
// that it has ended, so a part of what was sent may be missing at its end.
func TestIperf3(t *testing.T) {
	s := newScene(t, "iperf3")
	const size = 20 << 20
	cases := []struct {
		name, flags string
		streams     int
		udp         bool
	}{
		{"tcp", "-n 20M", 1, false},
		{"reverse", "-n 20M -R", 1, false},
		{"zerocopy", "-n 20M -Z", 1, false},
		{"parallel", "-n 20M -P 4", 4, false},
		{"ipv6", "-n 20M -6", 1, false},
		{"options", "-n 20M -N -w 200K -M 1200 -C reno", 1, false},
		{"udp", "-t 1 -u -b 20M -l 1200", 1, true},
		{"udpreverse", "-t 1 -u -b 20M -l 1200 -R", 1, true},
	}
	// The server listens anew for each test, a moment after the last client has
	// gone, and says so.
	script := "start iperf3 iperf3 -s -p 5201 --forceflush\nserver=$!\nuntil_true 100 iperf3 -c 127.0.0.1 -p 5201 -n 1K\n"
	for i, c := range cases {
		host := "127.0.0.1"
		if c.name == "ipv6" {
			host = "::1"
		}
		script += fmt.Sprintf("until_true 100 grep -q 'test #%d)' iperf3.log\n", i+2)
		script += "iperf3 -c " + host + " -p 5201 -J " + c.flags + " >" + c.name + ".json || fail \"" + c.name + ": $(grep error " + c.name + ".json)\"\n"
	}
	s.bash(script + "stop $server\n")
	for _, c := range cases {
		var r iperfReport
		if err := json.Unmarshal([]byte(s.read(c.name+".json")), &r); err != nil || r.Error != "" {
			t.Errorf("%s: %v %s\nserver:\n%s", c.name, err, r.Error, tail(s.read("iperf3.log")))
			continue
		}
		if got := len(r.End.Streams); got != c.streams {
			t.Errorf("%s: %d streams, want %d", c.name, got, c.streams)
		}
		if c.udp {
			if u := r.End.Sum; u.Packets < 1500 || u.LostPackets*10 > u.Packets {
				t.Errorf("%s: %d datagrams, %d lost", c.name, u.Packets, u.LostPackets)
			}
			continue
		}
		if sent, got := r.End.SumSent.Bytes, r.End.SumReceived.Bytes; sent < size || got < sent/4 || got > sent {
			t.Errorf("%s: %d bytes received of %d sent, want %d sent", c.name, got, sent, size)
		}
	}
}
