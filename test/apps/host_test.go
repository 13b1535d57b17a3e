package apps

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const fetch = `
fetch() { # fetch ADDR PORT: has the file, byte for byte
	until_true 50 curl -sS --max-time 5 -o /dev/null "http://$1:$2/page"
	equal "page of $1" "$(curl -sS --fail --max-time 20 "http://$1:$2/big" | sha256sum)" "$(sha256sum <"$D/www/big")"
}
`

// TestHostServer: a server under alptrace on the host's own addresses serves
// the peer, the kernel's programs on the same host and other alptraces, by
// every address; a server of the kernel's beside it is not disturbed.
func TestHostServer(t *testing.T) {
	h := newSharing(t, "busybox", "curl")
	h.stack.data("www/big", 5<<20)
	h.stack.file("www/page", "page\n")
	stack := h.stack.serve(true, "8080")
	kernel := h.kernel.serve(false, "8081")
	h.peer.bashOn(false, fetch+`
for a in 10.77.0.1 '[fd77::1]'; do fetch $a 8080; fetch $a 8081; done
`)
	local := fetch + `
for a in 10.77.0.1 127.0.0.1 127.0.0.9 localhost '[fd77::1]' '[::1]'; do fetch $a 8080; fetch $a 8081; done
`
	h.kernel.bashOn(false, local)
	h.stack.bash(local)
	r := h.stack.start(true, "curl", "-sS", "-o", "/dev/null", "http://127.0.0.1:8080/page")
	h.stack.want(r.wait(), 0)
	stack.end(unix.SIGTERM)
	kernel.end(unix.SIGTERM)
	eventually(t, 3*time.Second, "the leases are gone", func() bool { return h.leases() == 0 })
}

// TestHostClient: clients under alptrace, to the peer and to the kernel of the
// same host: HTTP with real servers, echo, refusal.
func TestHostClient(t *testing.T) {
	h := newSharing(t, "nginx", "curl", "ping", "dig", "dnsmasq")
	h.stack.data("www/big", 5<<20)
	h.stack.file("www/page", "page\n")
	h.stack.mkdir("k")
	h.stack.mkdir("p")
	for _, side := range []string{"k", "p"} {
		h.stack.file(side+"/nginx.conf", nginxConfig(h.stack.dir+"/"+side, "8080", "[::]:8080"))
		if err := os.Symlink(h.stack.dir+"/www", h.stack.dir+"/"+side+"/www"); err != nil {
			t.Fatal(err)
		}
	}
	server := func(s *scene, side, addr string) *proc {
		return s.start(false, s.script(`
start `+side+` nginx -e "$D/`+side+`/nginx.err.log" -c "$D/`+side+`/nginx.conf"
start dns.`+side+` dnsmasq -k -C /dev/null -u "" -p 5300 -R -h --bind-interfaces --listen-address=`+addr+` --address=/test.example/192.0.2.7 --pid-file=
listening 8080
echo ready
wait`)...).ready()
	}
	p, k := server(h.peer, "p", "10.77.0.2"), server(h.kernel, "k", "10.77.0.1")
	h.stack.bash(fetch + `
for a in 10.77.0.2 '[fd77::2]' 10.77.0.1 '[fd77::1]' 127.0.0.1 '[::1]'; do fetch $a 8080; done
equal whoami "$(curl -sS http://10.77.0.2:8080/whoami)" "10.77.0.1 10.77.0.2:8080"
equal whoami6 "$(curl -sS 'http://[fd77::2]:8080/whoami')" "fd77::1 fd77::2:8080"
equal "whoami, own address" "$(curl -sS http://10.77.0.1:8080/whoami)" "10.77.0.1 10.77.0.1:8080"
equal "whoami, loopback" "$(curl -sS http://127.0.0.1:8080/whoami)" "127.0.0.1 127.0.0.1:8080"
for a in 10.77.0.2 10.77.0.1 127.0.0.1 '[::1]'; do
	curl -sS --max-time 5 -o /dev/null "http://$a:9/"
	equal "refused by $a" $? 7
done
for a in 10.77.0.2 10.77.0.1 127.0.0.1 fd77::2 ::1; do
	ping -n -c 2 -i 0.2 -W 2 $a >ping.out || fail "ping $a: $(cat ping.out)"
done
for a in 10.77.0.2 10.77.0.1; do
	equal "dig @$a" "$(dig +short +time=2 @$a -p 5300 test.example)" 192.0.2.7
	equal "dig +tcp @$a" "$(dig +tcp +short +time=2 @$a -p 5300 test.example)" 192.0.2.7
done
curl -sS --max-time 5 -o /dev/null http://198.51.100.1/
equal "no way" $? 7
`)
	p.end(unix.SIGTERM)
	k.end(unix.SIGTERM)
}

// TestHostDatagram: UDP of all sizes between the stack and the peer, the kernel
// of the same host, and another stack, both ways.
func TestHostDatagram(t *testing.T) {
	h := newSharing(t, "python3")
	py := h.stack.testdata("udp.py")
	stack := h.stack.start(true, "python3", py, "serve", "7000").ready()
	kernel := h.kernel.start(false, "python3", py, "serve", "7001").ready()
	peer := h.peer.start(false, "python3", py, "serve", "7002").ready()
	for _, c := range []struct {
		s      *scene
		traced bool
		port   string
		addrs  []string
	}{
		{h.peer, false, "7000", []string{"10.77.0.1", "fd77::1"}},
		{h.kernel, false, "7000", []string{"10.77.0.1", "127.0.0.1", "fd77::1", "::1"}},
		{h.stack, true, "7000", []string{"10.77.0.1", "127.0.0.1", "fd77::1", "::1"}},
		{h.stack, true, "7001", []string{"10.77.0.1", "127.0.0.1", "fd77::1", "::1"}},
		{h.stack, true, "7002", []string{"10.77.0.2", "fd77::2"}},
	} {
		r := c.s.start(c.traced, append([]string{"python3", py, "ask", c.port}, c.addrs...)...).wait()
		if r.code() != 0 {
			t.Errorf("traced %v to port %s:\n%s%s", c.traced, c.port, r.out, r.err)
		}
	}
	for _, p := range []*proc{stack, kernel, peer} {
		p.end(unix.SIGTERM)
	}
}

// TestHostPorts: a port in use on one side is EADDRINUSE on the other, and a
// privileged port EACCES.
func TestHostPorts(t *testing.T) {
	h := newSharing(t, "busybox", "python3")
	h.stack.file("www/page", "page\n")
	h.stack.file("bind.py", `
import errno, socket, sys
bad = 0
for line in sys.argv[1:]:
    typ, addr, port, reuse, want = line.split()
    s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM if typ == "udp" else socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
    try:
        s.bind((addr, int(port)))
        if typ == "tcp": s.listen()
        got = "ok"
    except OSError as e:
        got = errno.errorcode[e.errno]
    if got != want:
        print(line, "got", got)
        bad = 1
    s.close()
sys.exit(bad)
`)
	stack := h.stack.serve(true, "8080")
	kernel := h.kernel.serve(false, "8081")
	py := h.stack.testdata("udp.py")
	udp := h.stack.start(true, "python3", py, "serve", "7000").ready()
	kudp := h.kernel.start(false, "python3", py, "serve", "7001").ready()
	check := func(s *scene, traced bool, lines ...string) {
		t.Helper()
		if r := s.start(traced, append([]string{"python3", s.dir + "/bind.py"}, lines...)...).wait(); r.code() != 0 {
			t.Errorf("traced %v: %s%s", traced, r.out, r.err)
		}
	}
	taken := func(tcp, udp string) (lines []string) {
		for _, reuse := range []string{"0", "1"} {
			for _, addr := range []string{"0.0.0.0", "127.0.0.1", "10.77.0.1", "::", "::1", "fd77::1"} {
				lines = append(lines, "tcp "+addr+" "+tcp+" "+reuse+" EADDRINUSE")
				if reuse == "0" {
					lines = append(lines, "udp "+addr+" "+udp+" "+reuse+" EADDRINUSE")
				}
			}
		}
		return lines
	}
	check(h.kernel, false, taken("8080", "7000")...)
	check(h.stack, true, taken("8081", "7001")...)
	check(h.stack, true, taken("8080", "7000")...) // another alptrace
	check(h.stack, true,
		"tcp 0.0.0.0 81 1 EACCES", "udp :: 81 0 EACCES", "tcp 10.77.0.99 8082 0 EADDRNOTAVAIL", "tcp fd77::99 8082 0 EADDRNOTAVAIL",
		"tcp 0.0.0.0 8082 0 ok", "tcp :: 8082 0 ok", "tcp 127.0.0.1 8082 0 ok", "tcp 10.77.0.1 0 0 ok", "udp :: 8082 0 ok", "udp 0.0.0.0 0 0 ok")
	// What was given back is the kernel's again.
	check(h.kernel, false, "tcp 0.0.0.0 8082 0 ok", "udp :: 8082 0 ok")
	stack.end(unix.SIGTERM)
	udp.end(unix.SIGTERM)
	eventually(t, 3*time.Second, "the leases are gone", func() bool { return h.leases() == 0 })
	check(h.kernel, false, "udp :: 7000 0 ok")
	check(h.stack, true, "tcp 0.0.0.0 8080 1 ok") // held back for others
	kernel.end(unix.SIGTERM)
	kudp.end(unix.SIGTERM)
}

// TestHostKilled: alptrace killed leaves nothing; rootd killed and started
// again breaks no connection, neither the stack's nor the kernel's.
func TestHostKilled(t *testing.T) {
	h := newSharing(t, "python3")
	py := h.stack.testdata("tcp.py")
	stack := h.stack.start(true, "python3", py, "serve", "7000").ready()
	peer := h.peer.start(false, "python3", py, "serve", "7000").ready()
	const seconds = "5"
	asks := map[string]*proc{
		"peer to stack":          h.peer.start(false, "python3", py, "ask", "10.77.0.1", "7000", seconds),
		"kernel to stack":        h.kernel.start(false, "python3", py, "ask", "127.0.0.1", "7000", seconds),
		"stack to peer":          h.stack.start(true, "python3", py, "ask", "10.77.0.2", "7000", seconds),
		"stack to stack, IPv6":   h.stack.start(true, "python3", py, "ask", "::1", "7000", seconds),
		"kernel to peer, beside": h.kernel.start(false, "python3", py, "ask", "fd77::2", "7000", seconds),
	}
	for what, p := range asks {
		eventually(t, 10*time.Second, what+" is connected", func() bool { return strings.Contains(p.out.String(), "connected") })
	}
	_ = h.rootd.Process.Kill()
	h.rootd.wait()
	time.Sleep(700 * time.Millisecond)
	h.start()
	for what, p := range asks {
		r := p.wait()
		var n, worst int
		_, err := fmt.Sscanf(r.out, "connected\n%d %d", &n, &worst)
		if r.code() != 0 || err != nil || n < 200 || worst > 1000 {
			t.Errorf("%s: status %d, %q%s", what, r.code(), r.out, r.err)
		}
	}
	// The lease is as before: ports can be had and the server is reached.
	h.stack.want(h.stack.start(true, "python3", py, "ask", "10.77.0.1", "7000", "0.2").wait(), 0)
	h.peer.want(h.peer.start(false, "python3", py, "ask", "fd77::1", "7000", "0.2").wait(), 0)
	if n := h.leases(); n != 1 {
		t.Errorf("%d leases, want 1", n)
	}
	stack.end(unix.SIGKILL)
	eventually(t, time.Second, "the killed one's lease is gone", func() bool { return h.leases() == 0 })
	r := h.peer.start(false, "python3", py, "ask", "10.77.0.1", "7000", "0.2").wait()
	if r.code() == 0 {
		t.Error("the killed server answers")
	}
	peer.end(unix.SIGTERM)
}

// TestHostAuto: without rootd --net auto is relay, with it host, and --stats
// says so.
func TestHostAuto(t *testing.T) {
	h := newSharing(t, "busybox")
	auto := h.stack.at(h.stack.ns, "--stats", "--rootd", h.socket)
	if r := auto.run("busybox", "true"); !strings.Contains(r.err, "netstack, host") || r.code() != 0 {
		t.Errorf("with rootd: %s", r.err)
	}
	h.stop()
	began := time.Now()
	if r := auto.run("busybox", "true"); !strings.Contains(r.err, "netstack, relay") || r.code() != 0 {
		t.Errorf("without rootd: %s", r.err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("without rootd it took %v", d)
	}
	if r := h.stack.run("busybox", "true"); r.code() != 125 || !strings.Contains(r.err, "rootd") {
		t.Errorf("--net host without rootd: status %d, %s", r.code(), r.err)
	}
}

// TestHostChanges: addresses and routes that change while the stack runs are
// followed.
func TestHostChanges(t *testing.T) {
	h := newSharing(t, "python3")
	py := h.stack.testdata("tcp.py")
	stack := h.stack.start(true, "python3", py, "serve", "7000").ready()
	peer := h.peer.start(false, "python3", py, "serve", "7000").ready()
	must := func(ns *netns, fn func() error) {
		t.Helper()
		if err := ns.do(fn); err != nil {
			t.Fatal(err)
		}
	}
	// The client asks when it finds the file.
	client := h.stack.start(true, h.stack.script(`
ask() { timeout 5 python3 `+py+` ask "$1" 7000 0.1 >>ask.out 2>&1; }
ask 10.88.0.2 && fail "there is a way already"
touch step1
until [ -e go1 ]; do sleep 0.05; done
ask 10.88.0.2 || fail "no way to the new network: $(cat ask.out)"
touch step2
until [ -e go2 ]; do sleep 0.05; done
ask 10.88.0.2 && fail "there is a way still"
exit 0`)...)
	step := func(name string) {
		t.Helper()
		eventually(t, 15*time.Second, name, func() bool { _, err := os.Stat(h.stack.dir + "/" + name); return err == nil })
	}
	step("step1")
	must(h.stack.ns, func() error { return up("eth0", "10.88.0.1/24") })
	must(h.peer.ns, func() error { return up("eth0", "10.88.0.2/24") })
	time.Sleep(200 * time.Millisecond)
	h.stack.file("go1", "")
	step("step2")
	// The server on the wildcard address has the new address, too.
	h.peer.want(h.peer.start(false, "python3", py, "ask", "10.88.0.1", "7000", "0.1").wait(), 0)
	must(h.stack.ns, func() error {
		dev, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		a, _ := netlink.ParseAddr("10.88.0.1/24")
		return netlink.AddrDel(dev, a)
	})
	time.Sleep(200 * time.Millisecond)
	h.stack.file("go2", "")
	h.stack.want(client.wait(), 0)
	h.peer.want(h.peer.start(false, "python3", py, "ask", "10.77.0.1", "7000", "0.1").wait(), 0)
	stack.end(unix.SIGTERM)
	peer.end(unix.SIGTERM)
}

// TestHostPathMTU: behind a router whose next network takes 1300 bytes, bulk
// and datagrams arrive both ways, from both of the host's stacks.
func TestHostPathMTU(t *testing.T) {
	h := newSharing(t, "busybox", "curl", "python3")
	h.stack.data("www/big", 3<<20)
	h.stack.file("www/page", "page\n")
	far := newNetns(t)
	veth(t, "eth1", h.peer.ns, "10.78.0.1/24", far, "10.78.0.2/24")
	route := func(dst, gw string, mtu int) error {
		p, err := netlink.ParseIPNet(dst)
		if err != nil {
			return err
		}
		r := &netlink.Route{Dst: p, Gw: net.ParseIP(gw)}
		if mtu > 0 { // of a router: a narrow link, but its device must take what comes back
			r.MTU, r.MTULock = mtu, true
			dev, err := netlink.LinkByName("eth1")
			if err != nil {
				return err
			}
			r.LinkIndex, r.Gw = dev.Attrs().Index, nil
			return netlink.RouteReplace(r)
		}
		return netlink.RouteAdd(r)
	}
	for _, step := range []struct {
		ns *netns
		fn func() error
	}{
		{h.peer.ns, func() error { return up("eth1", "fd78::1/64") }},
		{far, func() error { return up("eth1", "fd78::2/64") }},
		{h.peer.ns, func() error {
			for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
				if err := os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0); err != nil {
					return err
				}
			}
			if err := route("10.78.0.2/32", "", 1300); err != nil {
				return err
			}
			return route("fd78::2/128", "", 1300)
		}},
		{h.stack.ns, func() error { return route("10.78.0.0/24", "10.77.0.2", 0) }},
		{h.stack.ns, func() error { return route("fd78::/64", "fd77::2", 0) }},
		{far, func() error { return route("10.77.0.0/24", "10.78.0.1", 0) }},
		{far, func() error { return route("fd77::/64", "fd78::1", 0) }},
	} {
		if err := step.ns.do(step.fn); err != nil {
			t.Fatal(err)
		}
	}
	there := h.peer.at(far)
	py := h.stack.testdata("udp.py")
	udp := there.start(false, "python3", py, "serve", "7000").ready()
	web := there.serve(false, "8081")
	own := h.stack.serve(true, "8080")
	kernel := h.kernel.serve(false, "8082")
	// The stack first: the kernel must not have learned the path's MTU for it.
	r := h.stack.start(true, "python3", py, "ask", "7000", "10.78.0.2", "fd78::2").wait()
	if r.code() != 0 {
		t.Errorf("datagrams: %s%s", r.out, r.err)
	}
	there.bashOn(false, fetch+`
for a in 10.77.0.1 '[fd77::1]'; do fetch $a 8080; fetch $a 8082; done
`)
	h.stack.bash(fetch + `
for a in 10.78.0.2 '[fd78::2]'; do fetch $a 8081; done
`)
	for _, p := range []*proc{udp, web, own, kernel} {
		p.end(unix.SIGTERM)
	}
}
