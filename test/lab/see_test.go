package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alptrace/alptrace/observe/tcplog"
	"github.com/google/gopacket/pcapgo"
)

// seen is a place where runs are recorded, by an unprivileged user.
type seen struct {
	t   *testing.T
	dir string
}

func newSeen(t *testing.T, programs ...string) *seen {
	t.Helper()
	need(t, programs...)
	return &seen{t, tempDir(t)}
}

func (s *seen) path(name string) string { return filepath.Join(s.dir, name) }

// command is alptrace with --net relay and args, unprivileged, for a minute at most.
func (s *seen) command(args ...string) *exec.Cmd {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, alptrace(s.t), append([]string{"--net", "relay"}, args...)...)
	c.Dir = s.dir
	c.Env = append(os.Environ(), "HOME="+s.dir, "TMPDIR="+s.dir)
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
	}
	return c
}

// run runs it to its end, and gives what it wrote to standard error.
func (s *seen) run(args ...string) string {
	s.t.Helper()
	c := s.command(args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Run(); err != nil {
		s.t.Fatalf("%s: %v\n%s", args, err, stderr.String())
	}
	return stderr.String()
}

// fields has tshark print fields of each packet that filter chooses.
func (s *seen) fields(file, filter string, fields ...string) (rows [][]string) {
	s.t.Helper()
	args := []string{"-r", s.path(file), "-Y", filter, "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		s.t.Fatalf("tshark: %v", err)
	}
	for l := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimRight(l, "\n"), "|"))
	}
	return rows
}

// web serves n bytes on the host's loopback, and gives the URL as alptrace has it.
func web(t *testing.T, n int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(make([]byte, n))
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return fmt.Sprintf("http://10.0.2.2:%d/", l.Addr().(*net.TCPAddr).Port)
}

// TestSeeClient records a curl on a bad network: every packet has its name, and
// the log has all that the connection did.
func TestSeeClient(t *testing.T) {
	s := newSeen(t, "curl", "tshark")
	if err := os.WriteFile(s.path("up"), make([]byte, 2<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	s.run("--pcap", "c.pcapng", "--tcp-log", "c.log", "--impair", "delay=5ms rate=40mbit queue=20p loss=0.5% seed=3",
		"curl", "-sf", "-T", "up", "-o", "/dev/null", web(t, 100000))
	rows := s.fields("c.pcapng", "tcp", "frame.comment")
	if len(rows) < 100 {
		t.Fatalf("%d packets", len(rows))
	}
	for i, r := range rows {
		if !strings.HasPrefix(r[0], "curl[") || !strings.Contains(r[0], "] tcp 10.0.2.15:") {
			t.Fatalf("packet %d: %q", i, r[0])
		}
	}

	f, err := os.Open(s.path("c.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, h, err := tcplog.NewReader(f)
	if err != nil || h.Clock != tcplog.Wall || h.Engine != "netstack" || time.Since(h.Start) > time.Minute {
		t.Fatalf("%+v, %v", h, err)
	}
	count := map[string]int{}
	var sent, cwnd, maxQueue, retx uint64
	var states []string
	last := tcplog.Seconds(0)
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		count[rec.Ev]++
		if rec.T < last-tcplog.Seconds(5*time.Millisecond) {
			t.Errorf("time goes back to %v", rec.T)
		}
		last = rec.T
		switch rec.Ev {
		case tcplog.EvState:
			states = append(states, rec.State)
		case tcplog.EvCC:
			cwnd = max(cwnd, rec.Cwnd)
			retx = max(retx, rec.Retrans)
		case tcplog.EvSegment:
			if rec.Dir == tcplog.DirOut && !rec.Retx {
				sent += uint64(rec.Len)
			}
		case tcplog.EvQueue:
			maxQueue = max(maxQueue, rec.Pkts)
			continue
		}
		if rec.PID == 0 || rec.Prog != "curl" || rec.Conn != 1 {
			t.Fatalf("%+v", rec)
		}
	}
	if sent < 2<<20 || sent > 2<<20+10000 || cwnd < 14000 || retx == 0 || maxQueue < 5 || maxQueue > 20 {
		t.Errorf("sent %d, cwnd %d, retransmitted %d, queue %d", sent, cwnd, retx, maxQueue)
	}
	if count[tcplog.EvSegment] < len(rows) || count[tcplog.EvSegment] > len(rows)+2 || count[tcplog.EvFastRetx]+count[tcplog.EvRTO] == 0 || count[tcplog.EvRecovered] == 0 {
		t.Errorf("%v, and %d packets in the capture", count, len(rows))
	}
	if len(states) < 3 || states[0] != "SYN_SENT" || states[1] != "ESTABLISHED" {
		t.Errorf("states %v", states)
	}
}

// prefork accepts in two children, which answer with their numbers, and sends
// a datagram from a third.
const prefork = `
import os, socket, sys, time
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(("0.0.0.0", 8000)); l.listen(5)
for i in range(2):
    if os.fork() == 0:
        while True:
            c, a = l.accept()
            c.recv(100); c.send(b"%d\n" % os.getpid()); c.close()
if os.fork() == 0:
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.sendto(b"%d" % os.getpid(), ("10.0.2.2", 9)); os._exit(0)
print(os.getpid(), flush=True)
time.sleep(60)
`

// TestSeeForks: of a server whose children accept, each packet has the child's
// number, and those before it has accepted the listener's.
func TestSeeForks(t *testing.T) {
	s := newSeen(t, "python3", "tshark")
	port := freePort(t)
	c := s.command("--publish", fmt.Sprintf("127.0.0.1:%d:8000", port), "--pcap", "f.pcapng", "python3", "-c", prefork)
	c.Stderr = os.Stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	parent, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	parent = strings.TrimSpace(parent)
	time.Sleep(100 * time.Millisecond)
	answers := 0
	for range 6 {
		k, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = k.Write([]byte("?"))
		b, _ := io.ReadAll(k)
		k.Close()
		if len(b) > 0 && strings.TrimSpace(string(b)) != parent {
			answers++
		}
	}
	time.Sleep(700 * time.Millisecond) // packets reach the file
	_ = c.Process.Kill()
	_ = c.Wait()
	said := 0
	for _, r := range s.fields("f.pcapng", "tcp.srcport == 8000 && tcp.len > 0", "frame.comment", "tcp.payload") {
		pid := unhex(t, r[1])
		if said++; !strings.HasPrefix(r[0], "python3["+strings.TrimSpace(pid)+"] ") {
			t.Errorf("%q said %q", r[0], pid)
		}
	}
	if said != 6 || answers != 6 {
		t.Errorf("%d answers, %d in the capture", answers, said)
	}
	for _, r := range s.fields("f.pcapng", "tcp.dstport == 8000 && tcp.flags.syn == 1", "frame.comment") {
		if !strings.HasPrefix(r[0], "python3["+parent+"] ") {
			t.Errorf("a SYN of %q, the parent is %s", r[0], parent)
		}
	}
	udp := s.fields("f.pcapng", "udp.dstport == 9 && !icmp", "frame.comment", "data.data")
	if len(udp) != 1 || !strings.HasPrefix(udp[0][0], "python3["+unhex(t, udp[0][1])+"] udp ") {
		t.Errorf("datagrams: %q", udp)
	}
}

func unhex(t *testing.T, s string) string {
	t.Helper()
	var b []byte
	if _, err := fmt.Sscanf(s, "%x", &b); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return string(b)
}

// TestSeeNginx: the worker has the connections, the master the listener.
func TestSeeNginx(t *testing.T) {
	s := newSeen(t, "nginx", "tshark")
	conf := "daemon off; worker_processes 1; pid n.pid; error_log stderr;\nevents {}\nhttp { access_log off;\n" +
		"client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;\n" +
		"server { listen 8080; location / { return 200 hello; } } }\n"
	if err := os.WriteFile(s.path("n.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	c := s.command("--publish", fmt.Sprintf("127.0.0.1:%d:8080", port), "--pcap", "n.pcapng", "nginx", "-p", s.dir, "-c", "n.conf")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if r, err := http.Get(url); err == nil {
			r.Body.Close()
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(700 * time.Millisecond)
	_ = c.Process.Signal(syscall.SIGTERM)
	_ = c.Wait()
	syn := s.fields("n.pcapng", "tcp.dstport == 8080 && tcp.flags.syn == 1", "frame.comment")
	data := s.fields("n.pcapng", "tcp.srcport == 8080 && tcp.len > 0", "frame.comment")
	if len(syn) == 0 || len(data) == 0 {
		t.Fatalf("%d SYNs, %d with data", len(syn), len(data))
	}
	master, _, _ := strings.Cut(syn[0][0], "]")
	worker, _, _ := strings.Cut(data[0][0], "]")
	if !strings.HasPrefix(master, "nginx[") || !strings.HasPrefix(worker, "nginx[") || master == worker {
		t.Errorf("the listener is %q, the connection %q", syn[0], data[0])
	}
}

// TestSeeLive: who reads the capture from a pipe sees packets while the program
// runs, and the program's output is elsewhere.
func TestSeeLive(t *testing.T) {
	s := newSeen(t, "python3")
	url := strings.TrimSuffix(strings.TrimPrefix(web(t, 10), "http://"), "/")
	host, port, _ := net.SplitHostPort(url)
	c := s.command("--pcap", "-", "python3", "-c",
		"import socket,time\ns=socket.create_connection((\""+host+"\","+port+"))\nprint('connected',flush=True)\ntime.sleep(3)")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(stdout, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; n < 3; n++ {
		if _, _, err := r.ReadPacketData(); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(begin); d > 2500*time.Millisecond {
		t.Errorf("three packets after %s", d)
	}
	for {
		if _, _, err := r.ReadPacketData(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		n++
	}
	if err := c.Wait(); err != nil || stderr.String() != "connected\n" || n < 5 {
		t.Errorf("%v, %d packets, standard error %q", err, n, stderr.String())
	}
}

// TestSeeReaders: a reader that is slow, or gone, costs packets in the capture
// and nothing else.
func TestSeeReaders(t *testing.T) {
	s := newSeen(t, "curl")
	url := web(t, 64<<20)
	for _, gone := range []bool{false, true} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := s.command("--pcap", "-", "curl", "-sf", "-o", "/dev/null", url)
		var stderr bytes.Buffer
		c.Stdout, c.Stderr = w, &stderr
		begin := time.Now()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if gone {
			_, _ = io.ReadFull(r, make([]byte, 1000))
			r.Close()
		}
		if err := c.Wait(); err != nil {
			t.Errorf("%v: %s", err, stderr.String())
		}
		r.Close()
		if d := time.Since(begin); d > 30*time.Second {
			t.Errorf("took %s", d)
		}
		want := "i/o timeout"
		if gone {
			want = "broken pipe"
		}
		if n := strings.Count(stderr.String(), "alptrace: the capture of relay ends early"); n != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("gone %v: %q", gone, stderr.String())
		}
	}
}

// TestSeeRefused: what cannot be written is refused before the program starts.
func TestSeeRefused(t *testing.T) {
	s := newSeen(t)
	for _, c := range []struct{ flag, file, want string }{
		{"--pcap", "no/such/dir", "--pcap open no/such/dir: no such file or directory"},
		{"--pcap", "/proc/version", "permission denied"},
		{"--pcap", "/dev/full", "no space left on device"},
		{"--tcp-log", "no/such/dir", "--tcp-log open no/such/dir: no such file or directory"},
		{"--tcp-log", ".", "is a directory"},
	} {
		cmd := s.command(c.flag, c.file, "touch", "started")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 125 || !strings.Contains(string(out), c.want) {
			t.Errorf("%s %s: %v, %q", c.flag, c.file, err, out)
		}
		if _, err := os.Stat(s.path("started")); err == nil {
			t.Errorf("%s %s: started", c.flag, c.file)
		}
	}
	// A disk that is full later ends the record, not the run.
	if out := s.run("--tcp-log", "/dev/full", "true"); !strings.Contains(out, "the log of --tcp-log ends early") {
		t.Errorf("a full disk: %q", out)
	}
}

func TestSeeTerminal(t *testing.T) {
	s := newSeen(t, "script")
	c := s.command()
	sh := exec.Command("script", "-qec", c.Path+" --net relay --pcap - touch started", "/dev/null")
	sh.Dir = s.dir
	out, err := sh.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "standard output is a terminal") {
		t.Errorf("%v, %q", err, out)
	}
	if _, err := os.Stat(s.path("started")); err == nil {
		t.Error("started")
	}
}

// TestSeeRotate: as many files as asked for, none larger.
func TestSeeRotate(t *testing.T) {
	s := newSeen(t, "curl", "capinfos")
	s.run("--pcap", "r", "--pcap-size", "1MB", "--pcap-files", "10", "curl", "-sf", "-o", "/dev/null", web(t, 30<<20))
	files, _ := filepath.Glob(s.path("r*"))
	if len(files) != 10 {
		t.Fatalf("%d files", len(files))
	}
	for i, f := range files {
		out, err := exec.Command("capinfos", "-T", "-r", "-c", "-s", "-M", f).Output()
		fields := strings.Fields(string(out))
		if err != nil || len(fields) < 3 {
			t.Fatalf("capinfos %s: %v, %q", f, err, out)
		}
		packets, _ := strconv.Atoi(fields[1])
		size, _ := strconv.Atoi(fields[2])
		if filepath.Base(f) != "r"+strconv.Itoa(i) || packets == 0 || size == 0 || size > 1e6 {
			t.Errorf("%s: %q", f, fields)
		}
	}
}
