package apps

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTrace: a line for each socket call, decoded as strace has it, in a file
// or on stderr; stdout stays PROG's.
func TestTrace(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t, "python3")
	prog := s.file("calls.py", `
import socket
l = socket.create_server(("127.0.0.1", 8080))
c = socket.create_connection(("127.0.0.1", 8080))
a, peer = l.accept()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
c.getpeername()
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
u.sendto(b"hello", ("::1", 9))
n = socket.socket()
n.setblocking(False)
try:
    n.getpeername()
except OSError:
    pass
n2 = socket.socket()
try:
    n2.connect(("127.0.0.1", 1))
except OSError:
    pass
c.shutdown(socket.SHUT_WR)
print("printed")
`)
	wants := []string{
		`socket\(AF_INET, SOCK_STREAM\|SOCK_CLOEXEC, IPPROTO_IP\) = \d+ `,
		`bind\(\d+, \{sa_family=AF_INET, sin_port=htons\(8080\), sin_addr=inet_addr\("127\.0\.0\.1"\)\}, 16\) = 0 `,
		`listen\(\d+, \d+\) = 0 `,
		`connect\(\d+, \{sa_family=AF_INET, sin_port=htons\(8080\), .*\}, 16\) = 0 `,
		`accept4\(\d+, .*, SOCK_CLOEXEC\) = \d+ `,
		`setsockopt\(\d+, SOL_TCP, TCP_NODELAY, \[1\], 4\) = 0 `,
		`getpeername\(\d+, .*8080.*\) = 0 `,
		`sendto\(\d+, "hello", 5, 0, \{sa_family=AF_INET6, sin6_port=htons\(9\), .*"::1".*\}, 28\) = 5 `,
		`getpeername\(\d+, .*\) = -1 ENOTCONN \(Transport endpoint is not connected\)`,
		`connect\(\d+, \{sa_family=AF_INET, sin_port=htons\(1\), .*\}, 16\) = -1 ECONNREFUSED \(Connection refused\)`,
		`shutdown\(\d+, SHUT_WR\) = 0 `,
	}
	check := func(where, text string) {
		t.Helper()
		for _, w := range wants {
			// A pid in front, the duration in seconds at the end.
			re := regexp.MustCompile(`(?m)^\[?(pid )? *\d+\]? .*` + w + `.*<\d+\.\d+>$`)
			if !re.MatchString(text) {
				t.Errorf("%s has no line %s", where, w)
			}
		}
		if t.Failed() {
			t.Logf("%s:\n%s", where, text)
		}
	}
	s.net = []string{"--net", "none", "--trace=" + s.dir + "/calls.trace"}
	r := s.run("/usr/bin/python3", prog)
	s.want(r, 0)
	if r.out != "printed\n" || r.err != "" {
		t.Errorf("--trace=FILE: stdout %q, stderr %q", r.out, r.err)
	}
	check("the file", s.read("calls.trace"))
	s.net = []string{"--net", "none", "--trace"}
	r = s.run("/usr/bin/python3", prog)
	s.want(r, 0)
	if r.out != "printed\n" {
		t.Errorf("--trace: stdout %q", r.out)
	}
	check("stderr", r.err)
}

// TestTraceOrder: the lines of one thread stand in the order of its calls, those
// that waited too; a call that a signal ended has its line.
func TestTraceOrder(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t, "python3")
	prog := s.file("order.py", `
import os, signal, socket, threading, time
l = socket.create_server(("127.0.0.1", 8080))
def connect():
    for _ in range(100):
        c = socket.create_connection(("127.0.0.1", 8080))
        c.recv(1)
        c.close()
th = threading.Thread(target=connect)
th.start()
for _ in range(100):
    a, _ = l.accept()
    a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    a.shutdown(socket.SHUT_RDWR)
    a.close()
th.join()
def alarm(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    l.accept()
except TimeoutError:
    pass
l.listen()
pid = os.fork()
if pid == 0:
    l.accept()
time.sleep(0.2)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
`)
	s.net = []string{"--net", "none", "--trace=" + s.dir + "/calls.trace"}
	s.want(s.run("/usr/bin/python3", prog), 0)
	text := s.read("calls.trace")
	server := ""
	var calls []string
	var killed bool
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		tid, rest, _ := strings.Cut(line, " ")
		call, _, _ := strings.Cut(strings.TrimSpace(rest), "(")
		interrupted := strings.HasSuffix(rest, ") = ? ERESTARTSYS (To be restarted if SA_RESTART is set)")
		if server == "" && call == "accept4" {
			server = tid
		}
		switch {
		case tid == server && interrupted:
			calls = append(calls, call+" interrupted")
		case tid == server && !strings.HasPrefix(call, "get"): // Python's own
			calls = append(calls, call)
		case interrupted && call == "accept4":
			killed = true
		}
	}
	got := strings.Join(calls, " ")
	want := strings.Repeat("accept4 setsockopt shutdown ", 100) + "accept4 interrupted listen"
	if i := strings.Index(got, "accept4"); i < 0 || got[i:] != want {
		t.Errorf("calls of the server: %s", got)
	}
	if !killed {
		t.Error("no line of the call that a process was killed in")
	}
	if t.Failed() {
		t.Logf("trace:\n%s", tail(text))
	}
}

// TestStats: the table at exit counts calls, sockets, bytes and packets.
func TestStats(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t, "busybox", "curl", "socat")
	s.net = []string{"--net", "relay", "--stats"}
	s.data("www/big", 4<<20)
	stop := startHostServers(s)
	r := s.run("curl", "-sS", "--fail", "-o", s.dir+"/big", "http://10.0.2.2:8080/big")
	stop()
	s.want(r, 0)
	if s.read("big") != s.read("www/big") {
		t.Error("the body differs")
	}
	lower := strings.ToLower(r.err)
	for _, w := range []string{"count", "median", "p99", "socket", "connect", "getsockopt", "packets", "sockets", "retransmi"} {
		if !strings.Contains(lower, w) {
			t.Errorf("the table does not say %q", w)
		}
	}
	if !regexp.MustCompile(`(?m)^\s*connect\s+[1-9]\d*\s`).MatchString(r.err) {
		t.Error("no line of connect with its count")
	}
	if !regexp.MustCompile(`\b4\.[0-9]+ MiB|\b4[1-9][0-9]{5}\b`).MatchString(r.err) {
		t.Error("no line tells of 4 MiB")
	}
	if t.Failed() {
		t.Logf("stderr:\n%s", r.err)
	}
}

// TestPcap: tshark reads the capture, finds the handshake, the directions and
// nanoseconds, and puts the body of the HTTP response together again.
func TestPcap(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t, "busybox", "curl", "socat", "tshark")
	s.data("www/big", 1<<20)
	s.data("www/small", 10)
	stop := startHostServers(s)
	s.net = []string{"--net", "relay", "--pcap", s.dir + "/relay.pcapng"}
	s.want(s.run("curl", "-sS", "--fail", "-o", s.dir+"/big", "http://10.0.2.2:8080/big"), 0)
	stop()
	shark := func(args ...string) string {
		t.Helper()
		r := s.start(false, append([]string{"tshark", "-r", s.dir + "/relay.pcapng"}, args...)...).wait()
		s.want(r, 0)
		return strings.TrimSpace(r.out)
	}
	fields := func(filter string, names ...string) [][]string {
		t.Helper()
		args := []string{"-Y", filter, "-T", "fields"}
		for _, n := range names {
			args = append(args, "-e", n)
		}
		var rows [][]string
		for _, l := range strings.Split(shark(args...), "\n") {
			rows = append(rows, strings.Split(l, "\t"))
		}
		return rows
	}
	syn := fields("tcp.flags.syn == 1", "ip.src", "ip.dst", "tcp.dstport", "tcp.flags.ack", "frame.packet_flags_direction", "frame.time_epoch")
	if len(syn) != 2 || len(syn[0]) != 6 {
		t.Fatalf("SYNs: %q", syn)
	}
	truth := func(s string) bool { return s == "1" || s == "True" }
	if r := syn[0]; r[0] != "10.0.2.15" || r[1] != "10.0.2.2" || r[2] != "8080" || truth(r[3]) {
		t.Errorf("SYN: %q", r)
	}
	if r := syn[1]; r[0] != "10.0.2.2" || r[1] != "10.0.2.15" || !truth(r[3]) {
		t.Errorf("SYN, ACK: %q", r)
	}
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			t.Errorf("direction %q: %v", s, err)
		}
		return n
	}
	if out, in := number(syn[0][4]), number(syn[1][4]); out != 2 || in != 1 {
		t.Errorf("directions %d and %d, want 2 (outbound) and 1 (inbound)", out, in)
	}
	nanos := false
	for _, r := range fields("tcp", "frame.time_epoch") {
		nanos = nanos || !strings.HasSuffix(r[0], "000")
	}
	if !nanos {
		t.Error("no stamp is finer than a microsecond")
	}
	objects := filepath.Join(s.dir, "objects")
	shark("-q", "--export-objects", "http,"+objects)
	got, err := os.ReadFile(filepath.Join(objects, "big"))
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256([]byte(s.read("www/big"))) {
		t.Errorf("the body in the capture has %d bytes and differs", len(got))
	}
	if bad := shark("-Y", "_ws.malformed || ip.checksum.status == \"Bad\""); bad != "" {
		t.Errorf("malformed: %s", tail(bad))
	}
}

// TestPcapWire: the capture of an Ethernet link has ARP, neighbour discovery
// and Ethernet headers, and is whole although alptrace ended in between.
func TestPcapWire(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t, "nginx", "curl", "socat", "tshark")
	s.data("www/big", 3<<20)
	s.file("nginx.conf", nginxConfig(s.dir, "8080", "[::]:8080"))
	a, b := wired(s)
	b.net = append(b.net, "--pcap", s.dir+"/wire.pcapng")
	server := a.start(true, a.script(wireServer)...)
	b.bash(`
until_true 60 curl -sS --fail --max-time 2 -o /dev/null http://10.0.0.1:8080/whoami
curl -sS --fail -o big http://10.0.0.1:8080/big && curl -sS --fail -o six http://[fd01::1]:8080/big || fail curl
same big big www/big; same six six www/big
`)
	s.file("stop", "")
	s.want(server.wait(), 0)
	for _, c := range []struct{ filter, what string }{
		{"arp && arp.dst.proto_ipv4 == 10.0.0.1", "ARP"},
		{"icmpv6.type == 135", "neighbour solicitation"},
		{"eth && ip.src == 10.0.0.1 && tcp.srcport == 8080 && tcp.len > 0", "data over IPv4"},
		{"eth && ipv6.src == fd01::1 && tcp.srcport == 8080 && tcp.len > 0", "data over IPv6"},
		{"tcp.flags.fin == 1 && ip.src == 10.0.0.2", "FIN"},
	} {
		r := s.start(false, "tshark", "-r", s.dir+"/wire.pcapng", "-Y", c.filter).wait()
		s.want(r, 0)
		if r.out == "" {
			t.Errorf("no %s (%s)", c.what, c.filter)
		}
	}
}
