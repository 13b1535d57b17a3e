package lab_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// liveRun is a program under alptrace --ui.
type liveRun struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string // of the page
	mu   sync.Mutex
	last liveState
	done chan error
}

// liveState is what the test reads of the page's events.
type liveState struct {
	Links []struct {
		Packets [2]uint64 `json:"packets"` // in, out
		Waiting [2]int    `json:"waiting"`
		Paused  bool      `json:"paused"`
	} `json:"links"`
}

// startLive starts a program under alptrace with a page and the given flags, as
// an unprivileged user.
func startLive(t *testing.T, dir string, flags []string, program ...string) *liveRun {
	t.Helper()
	args := append(append([]string{alptrace(t), "--ui", ":0"}, flags...), append([]string{"--"}, program...)...)
	if os.Getuid() == 0 {
		args = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, args...)
	}
	r := &liveRun{t: t, cmd: exec.Command(args[0], args[1:]...), done: make(chan error, 1)}
	r.cmd.Dir, r.cmd.Env = dir, append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for r.url == "" && lines.Scan() {
		r.url = regexp.MustCompile(`http://\S+/`).FindString(lines.Text())
	}
	go func() {
		var rest bytes.Buffer
		io.Copy(&rest, stderr)
		err := r.cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, rest.String())
		}
		r.done <- err
	}()
	t.Cleanup(func() { r.cmd.Process.Signal(syscall.SIGKILL) })
	if r.url == "" {
		t.Fatalf("no URL on standard error: %v", <-r.done)
	}
	return r
}

// follow keeps the latest of the page's events in r.last.
func (r *liveRun) follow() {
	resp, err := http.Get(r.url + "events")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	go func() {
		sc := bufio.NewScanner(resp.Body)
		sc.Buffer(nil, 16<<20)
		for sc.Scan() {
			if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
				var s liveState
				if json.Unmarshal([]byte(data), &s) == nil && len(s.Links) > 0 {
					r.mu.Lock()
					r.last = s
					r.mu.Unlock()
				}
			}
		}
	}()
}

func (r *liveRun) state() liveState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// TestLivePage follows a real transfer on the page: what it shows, the knobs,
// the pause and the single step.
func TestLivePage(t *testing.T) {
	need(t, "curl", "setpriv")
	b := newBrowser(t)
	dir := tempDir(t)
	port, sum := serveData(t, 12<<20)
	out := filepath.Join(dir, "got")
	r := startLive(t, dir, []string{"--net", "relay", "--impair", "delay=10ms rate=8mbit queue=50p"},
		"curl", "-sSN", "-o", out, "http://10.0.2.2:"+port+"/")
	size := func() int64 {
		st, err := os.Stat(out)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	// mbit is the rate at which the file grows, Mbit/s.
	mbit := func(d time.Duration) float64 {
		before, began := size(), time.Now()
		time.Sleep(d)
		return float64(size()-before) * 8 / 1e6 / time.Since(began).Seconds()
	}
	b.run(chromedp.Navigate(r.url))
	r.follow()
	shows := func(table string, want ...string) bool {
		for _, row := range b.cells(table) {
			line, all := strings.Join(row, " "), true
			for _, w := range want {
				all = all && strings.Contains(line, w)
			}
			if all {
				return true
			}
		}
		return false
	}
	b.until(20*time.Second, "the socket", func() bool {
		return shows("#sockets", "curl", "tcp", "ESTABLISHED", "10.0.2.2:"+port, "Mbit/s", "KiB")
	})
	b.until(5*time.Second, "the process", func() bool { return shows("#processes", "curl") })
	b.until(5*time.Second, "the call", func() bool { return shows("#calls", "curl", "connect(", "EINPROGRESS") })
	b.until(5*time.Second, "packets", func() bool { return shows("#packets", "in", "tcp", "10.0.2.2:"+port, "ACK") })
	if got := b.text("#spec"); eval[string](b, `document.querySelector("#spec").value`) != "delay=10ms rate=8mbit queue=50p" {
		t.Errorf("impairment %q", got)
	}
	rate := func() float64 {
		return eval[float64](b, `parseFloat(document.querySelector("#way-in").cells[1].innerText)`)
	}
	b.until(10*time.Second, "a rate near 8 Mbit/s", func() bool { v := rate(); return v > 6.8 && v < 9.2 })
	if got := mbit(2 * time.Second); got < 5.5 || got > 9 {
		t.Errorf("the transfer runs at %.1f Mbit/s, asked for 8", got)
	}

	turn := func(knob, value string) {
		t.Helper()
		b.run(chromedp.Evaluate[chromedp.Void](`{ const k = document.querySelector("#knob-` + knob + `"); k.value = "` + value + `"; k.dispatchEvent(new Event("change", {bubbles: true})); }`))
	}
	turn("rate", "2")
	b.until(5*time.Second, "the knob", func() bool { v := rate(); return v > 1.5 && v < 2.5 })
	if got := mbit(3 * time.Second); got < 1.2 || got > 2.4 {
		t.Errorf("after the knob the transfer runs at %.1f Mbit/s, asked for 2", got)
	}
	ground := func() string {
		return eval[string](b, `getComputedStyle(document.body).backgroundColor`)
	}
	b.scheme(false)
	light := ground()
	b.shot("light")
	b.scheme(true)
	if ground() == light {
		t.Error("dark is light")
	}
	b.shot("dark")
	// A page that comes later, or back, sees the whole.
	b.run(chromedp.Reload())
	b.until(5*time.Second, "all of it after a reload", func() bool {
		return shows("#sockets", "curl", "ESTABLISHED") && shows("#calls", "connect(") && shows("#packets", "tcp") && shows("#processes", "curl")
	})

	b.run(chromedp.Click("#pause"))
	b.until(5*time.Second, "paused, with packets held", func() bool {
		s := r.state().Links
		return len(s) == 1 && s[0].Paused && s[0].Waiting[0] > 0 && b.text("#status") == "link paused"
	})
	time.Sleep(500 * time.Millisecond) // what had passed has been read
	// One packet at a time. It may be one behind a hole of a lost one, which brings
	// the program nothing until the hole is filled.
	had := size()
	for steps := 1; size() == had; steps++ {
		if steps > 60 {
			t.Fatalf("%d steps brought nothing", steps-1)
		}
		before := r.state().Links[0]
		b.run(chromedp.Click("#step-in"))
		b.until(5*time.Second, "one packet", func() bool { return r.state().Links[0].Packets != before.Packets })
		time.Sleep(300 * time.Millisecond)
		after := r.state().Links[0]
		if after.Packets[0] != before.Packets[0]+1 || after.Packets[1] != before.Packets[1] {
			t.Errorf("one step in: packets from %v to %v", before.Packets, after.Packets)
		}
		if grown := size() - had; steps == 1 && grown > 1500 {
			t.Errorf("the step brought %d bytes", grown)
		}
	}
	b.shot("paused")

	turn("rate", "200")
	b.run(chromedp.Click("#pause"))
	select {
	case err := <-r.done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the transfer does not end")
	}
	got, err := os.ReadFile(out)
	if err != nil || sha256.Sum256(got) != sum {
		t.Errorf("%d bytes, not those that were sent: %v", len(got), err)
	}
	b.until(5*time.Second, "the end", func() bool { return b.text("#status") == "ended: exit status 0" })
	b.until(time.Second, "the last of the socket", func() bool { return shows("#sockets", "curl", "CLOSE", "12.0 MiB") })
}

// TestLiveAccess: who may not look.
func TestLiveAccess(t *testing.T) {
	need(t, "sleep", "setpriv")
	r := startLive(t, tempDir(t), []string{"--net", "none"}, "sleep", "20")
	root := r.url[:strings.LastIndex(strings.TrimSuffix(r.url, "/"), "/")+1]
	for _, c := range []struct {
		name, method, url string
		header            http.Header
		want              int
	}{
		{"right", "GET", r.url, nil, 200},
		{"script", "GET", r.url + "app.js", nil, 200},
		{"no token", "GET", root, nil, 403},
		{"wrong token", "GET", root + strings.Repeat("0", 32) + "/", nil, 403},
		{"short token", "GET", r.url[:len(r.url)-2] + "/", nil, 403},
		{"wrong token, events", "GET", root + strings.Repeat("f", 32) + "/events", nil, 403},
		{"another host", "GET", r.url, http.Header{"Host": {"evil.example"}}, 403},
		{"forwarded port", "GET", r.url, http.Header{"Host": {"localhost:9000"}}, 200},
		{"change by GET", "GET", r.url + "link", nil, 404},
		{"change as a form", "POST", r.url + "link", http.Header{"Content-Type": {"text/plain"}}, 415},
		{"another origin", "POST", r.url + "link", http.Header{"Origin": {"http://evil.example"}}, 403},
		{"another site", "GET", r.url + "events", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"no such link", "POST", r.url + "link", http.Header{"Content-Type": {"application/json"}}, 422},
	} {
		req, err := http.NewRequest(c.method, c.url, strings.NewReader(`{"link":"x","do":"pause"}`))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range c.header {
			req.Header[k] = v
		}
		req.Host = c.header.Get("Host")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", c.name, resp.StatusCode, c.want)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: headers %v", c.name, resp.Header)
		}
	}
	ran := filepath.Join(t.TempDir(), "ran")
	if out, err := exec.Command(alptrace(t), "--ui", "0.0.0.0:0", "touch", ran).CombinedOutput(); err == nil || !strings.Contains(string(out), "only loopback") {
		t.Errorf("listens to all: %v, %s", err, out)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the program ran all the same")
	}
}
