package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alptrace/alptrace/bench/result"
)

// program builds the load program, static as the benchmark runs it.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "load")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// loopback is an address of the loopback interface with a free port.
func loopback(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// begin starts the program; the result comes when it has ended. Words that it
// says come on words, and are each answered with a line if answer is set.
func begin(t *testing.T, path, args string, answer bool) (words chan string, done chan result.Load) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, strings.Fields(args)...)
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	words, done = make(chan string, 8), make(chan result.Load, 1)
	go func() {
		defer close(words)
		var r result.Load
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if json.Unmarshal(lines.Bytes(), &r) != nil {
				words <- lines.Text()
				if answer {
					_, _ = in.Write([]byte("on\n"))
				}
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		done <- r
	}()
	return words, done
}

func TestPairs(t *testing.T) {
	path := program(t)
	for _, c := range []struct {
		name, server, client string
		check                func(server, client result.Load) bool
	}{
		{"bulk", "sink", "source -time 100ms", func(s, c result.Load) bool {
			return s.Bytes > 0 && s.Bytes == c.Bytes && s.Seconds > 0
		}},
		{"bulk, the other way", "source -time 100ms", "sink", func(s, c result.Load) bool {
			return c.Bytes > 0 && s.Bytes == c.Bytes
		}},
		{"round trip", "echo", "ping -time 100ms", func(s, c result.Load) bool {
			return c.Count > 0 && s.Count >= c.Count && 0 < c.P50 && c.P50 <= c.P99
		}},
		{"connections", "conn-server -n 50 -threads 3", "conn-client -n 50 -threads 2", func(s, c result.Load) bool {
			return s.Count == 50 && c.Count == 50 && c.Seconds > 0
		}},
		{"held", "hold-server -n 30", "hold-client -n 30 -warm 10", func(s, c result.Load) bool {
			return s.Count == 30 && c.Count == 30
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := loopback(t)
			words, server := begin(t, path, c.server+" -listen "+addr, false)
			if w := <-words; w != "ready" {
				t.Fatalf("the server says %q", w)
			}
			_, client := begin(t, path, c.client+" -connect "+addr, true)
			cr, sr := wait(t, client), wait(t, server)
			if !c.check(sr, cr) {
				t.Errorf("server %+v, client %+v", sr, cr)
			}
		})
	}
}

func TestDatagrams(t *testing.T) {
	path := program(t)
	for _, flags := range []string{"", " -addr"} {
		t.Run("flags"+flags, func(t *testing.T) {
			to, from := loopback(t), loopback(t)
			words, sink := begin(t, path, "udp-sink -listen "+to+" -peer "+from+flags, false)
			<-words
			_, source := begin(t, path, "udp-source -time 50ms -listen "+from+" -peer "+to+flags, false)
			sent, got := wait(t, source), wait(t, sink)
			if got.Count == 0 || got.Count > sent.Count || got.Bytes != 64*got.Count {
				t.Errorf("sent %+v, received %+v", sent, got)
			}
		})
	}
}

func TestCalls(t *testing.T) {
	path := program(t)
	for _, name := range []string{"getppid", "zero", "getsockname"} {
		_, done := begin(t, path, "calls -time 20ms -call "+name, false)
		if r := wait(t, done); r.Count == 0 || r.Seconds <= 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func wait(t *testing.T, done chan result.Load) result.Load {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
		return result.Load{}
	}
}
