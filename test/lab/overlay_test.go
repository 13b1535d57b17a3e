package lab_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// overlay is a place where programs are run, unprivileged, on networks between
// machines.
type overlay struct {
	t   *testing.T
	dir string
	bin string
}

func newOverlay(t *testing.T, programs ...string) *overlay {
	t.Helper()
	need(t, programs...)
	o := &overlay{t, tempDir(t), alptrace(t)}
	if err := os.Chmod(o.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return o
}

// file writes a file of the programs' user.
func (o *overlay) file(name, text string, mode os.FileMode) string {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		o.t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, unprivileged, unprivileged); err != nil {
			o.t.Fatal(err)
		}
	}
	return path
}

// key makes a key file.
func (o *overlay) key(name string) string {
	o.t.Helper()
	out, err := exec.Command(o.bin, "--gen-key").Output()
	if err != nil {
		o.t.Fatal(err)
	}
	return o.file(name, string(out), 0o600)
}

// member is where and how an alptrace runs: in a namespace ("" is the test's own),
// with flags.
type overlayMember struct {
	ns    string
	flags []string
}

// command is a program under alptrace; native, if m has no flags.
func (o *overlay) command(m overlayMember, args ...string) *exec.Cmd {
	var words []string
	if m.ns != "" {
		words = append(words, "ip", "netns", "exec", m.ns)
	}
	if len(m.flags) > 0 {
		if os.Getuid() == 0 {
			words = append(words, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
		}
		words = append(append(append(words, o.bin), m.flags...), "--")
	}
	words = append(words, args...)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	o.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = o.dir
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + o.dir, "TMPDIR=" + o.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// start starts a program that serves until stop, which is called at the test's
// end at the latest.
func (o *overlay) start(m overlayMember, args ...string) (stop func(syscall.Signal)) {
	o.t.Helper()
	cmd := o.command(m, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	var once sync.Once
	stop = func(sig syscall.Signal) {
		once.Do(func() {
			_ = syscall.Kill(-cmd.Process.Pid, sig)
			_ = cmd.Wait()
			if o.t.Failed() {
				o.t.Logf("%v:\n%s", args, out.String())
			}
		})
	}
	o.t.Cleanup(func() { stop(syscall.SIGKILL) })
	return stop
}

// run runs a program to its end, and returns what it said and its status.
func (o *overlay) run(m overlayMember, args ...string) (string, int) {
	o.t.Helper()
	out, err := o.command(m, args...).CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		o.t.Fatal(err)
	} else if err != nil {
		return string(out), err.(*exec.ExitError).ExitCode()
	}
	return string(out), 0
}

// want runs a program until it succeeds, for a while: a server may not serve yet.
func (o *overlay) want(m overlayMember, args ...string) string {
	o.t.Helper()
	var out string
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var code int
		if out, code = o.run(m, args...); code == 0 {
			return out
		}
		if time.Now().After(end) {
			o.t.Fatalf("%v: status %d\n%s", args, code, out)
		}
	}
}

// overlayBulk is what a server serves, bytes.
const overlayBulk = 30 << 20

// nginx is the command line of a server on port 80, of both families, of a file
// "big" and of "whoami", which names the client.
func (o *overlay) nginx(name, extra string) []string {
	o.t.Helper()
	if err := os.Truncate(o.file("big", "", 0o644), overlayBulk); err != nil {
		o.t.Fatal(err)
	}
	conf := o.file(name+".conf", fmt.Sprintf(`daemon off; master_process off; error_log stderr; pid %[1]s/%[2]s.pid; %[3]s
events {}
http {
	access_log off; sendfile on;
	client_body_temp_path %[1]s/%[2]s.t1; proxy_temp_path %[1]s/%[2]s.t2; fastcgi_temp_path %[1]s/%[2]s.t3;
	uwsgi_temp_path %[1]s/%[2]s.t4; scgi_temp_path %[1]s/%[2]s.t5;
	server { listen 80; listen [::]:80; root %[1]s; location /whoami { return 200 "$remote_addr %[2]s\n"; } }
}
`, o.dir, name, extra), 0o644)
	if err := os.Chmod(o.dir, 0o777); err != nil {
		o.t.Fatal(err)
	}
	return []string{"nginx", "-e", "stderr", "-c", conf}
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if strings.TrimSpace(got) != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// fetch downloads "big" once, and checks its length.
func (o *overlay) fetch(m overlayMember, addr string) {
	o.t.Helper()
	t0 := time.Now()
	out := o.want(m, "curl", "-sS", "--fail", "--max-time", "40", "-o", "/dev/null", "-w", "%{size_download}", "http://"+addr+"/big")
	equal(o.t, "bytes of "+addr, out, fmt.Sprint(overlayBulk))
	o.t.Logf("%d MiB from %s in %v", overlayBulk>>20, addr, time.Since(t0).Round(time.Millisecond))
}

// TestOverlayUDP: three members on loopback, of which two know the first only;
// bulk, IPv6, UDP by ping, a member that is killed and comes back, and one with
// another key.
func TestOverlayUDP(t *testing.T) {
	o := newOverlay(t, "nginx", "curl", "ping")
	key, port := o.key("key"), udpPort(t)
	at := func(n int, listen string) overlayMember {
		return overlayMember{flags: []string{"--net", "udp:" + listen, "--net-key", key, "--addr", fmt.Sprintf("10.0.0.%d/24", n), "--addr", fmt.Sprintf("fd01::%d/64", n)}}
	}
	first := fmt.Sprintf("127.0.0.1:%d", port)
	client := at(3, ",localhost:"+fmt.Sprint(port))
	stop := o.start(at(1, first), o.nginx("one", "")...)
	o.start(at(2, "127.0.0.1:0,"+first), o.nginx("two", "")...)
	curl := func(addr string) string {
		return o.want(client, "curl", "-sS", "--max-time", "5", "http://"+addr+"/whoami")
	}
	equal(t, "whoami", curl("10.0.0.1"), "10.0.0.3 one")
	equal(t, "whoami, IPv6", curl("[fd01::1]"), "fd01::3 one")
	equal(t, "whoami of the one that was never named", curl("10.0.0.2"), "10.0.0.3 two")
	o.fetch(client, "10.0.0.1")
	o.fetch(client, "[fd01::2]")
	o.want(client, "ping", "-n", "-c", "3", "-i", "0.2", "-s", "1300", "10.0.0.1")

	other := client
	other.flags = append([]string{}, client.flags...)
	other.flags[3] = o.key("other")
	if out, code := o.run(other, "curl", "-sS", "--max-time", "2", "http://10.0.0.1/whoami"); code == 0 {
		t.Errorf("with another key: %s", out)
	}
	stop(syscall.SIGKILL)
	o.start(at(1, first), o.nginx("again", "")...)
	equal(t, "whoami of the one that came back", curl("10.0.0.1"), "10.0.0.3 again")
}

// TestOverlayUDPRefused: without a key, with one that others can read, or with a
// place that cannot be, nothing is run.
func TestOverlayUDPRefused(t *testing.T) {
	o := newOverlay(t)
	loose := o.key("loose")
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flags, want string }{
		{"--net udp::7000 --addr 10.0.0.1/24", "needs a key"},
		{"--net udp::7000 --addr 10.0.0.1/24 --net-key " + loose, "others have access"},
		{"--net udp::7000 --addr 10.0.0.1/24 --net-key none", "no such file"},
		{"--net udp:192.0.2.1:7000 --addr 10.0.0.1/24 --net-key " + o.key("key"), "cannot assign requested address"},
	} {
		out, code := o.run(overlayMember{flags: strings.Fields(c.flags)}, "echo", "has run")
		if code == 0 || !strings.Contains(out, c.want) || strings.Contains(out, "has run") {
			t.Errorf("%s: status %d, %s", c.flags, code, out)
		}
	}
}

// namespaces makes network namespaces, with lo up.
func namespaces(t *testing.T, names ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	for _, n := range names {
		ip(t, "netns", "add", n)
		t.Cleanup(func() { ip(t, "netns", "del", n) })
		ip(t, "-n", n, "link", "set", "lo", "up")
	}
}

// ip is ip(8).
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// TestOverlayUDPNamespaces: between machines, over IPv4 and over IPv6, also where
// the way is narrower than the members' MTU.
func TestOverlayUDPNamespaces(t *testing.T) {
	o := newOverlay(t, "nginx", "curl", "iperf3", "ip")
	a, b := fmt.Sprintf("ov-a%d", os.Getpid()), fmt.Sprintf("ov-b%d", os.Getpid())
	namespaces(t, a, b)
	ip(t, "link", "add", "ov0", "netns", a, "type", "veth", "peer", "name", "ov0", "netns", b)
	for i, ns := range []string{a, b} {
		ip(t, "-n", ns, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "ov0")
		ip(t, "-n", ns, "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "ov0", "nodad")
		ip(t, "-n", ns, "link", "set", "ov0", "up")
	}
	key := o.key("key")
	member := func(ns string, n int, spec string) overlayMember {
		return overlayMember{ns, []string{"--net", "udp:" + spec, "--net-key", key, "--addr", fmt.Sprintf("10.0.0.%d/24", n)}}
	}
	o.start(member(a, 1, ":7000"), o.nginx("web", "")...)
	four, six := member(b, 2, ",192.0.2.1:7000"), member(b, 3, "[::]:7000,[2001:db8::1]:7000")
	for _, m := range []overlayMember{four, six} {
		o.fetch(m, "10.0.0.1")
	}
	for _, ns := range []string{a, b} {
		ip(t, "-n", ns, "link", "set", "ov0", "mtu", "1300")
	}
	for _, m := range []overlayMember{four, six} {
		o.fetch(m, "10.0.0.1")
	}
	o.start(member(a, 4, ":7001,192.0.2.1:7000"), "iperf3", "-s")
	out := o.want(member(b, 5, ",192.0.2.1:7001"), "iperf3", "-c", "10.0.0.4", "-t", "2", "-R")
	t.Log(out)
}

// wgKeys is a WireGuard private key and its public one.
func wgKeys(t *testing.T) (private, public [32]byte) {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(k.Bytes()), [32]byte(k.PublicKey().Bytes())
}

func b64(k [32]byte) string { return base64.StdEncoding.EncodeToString(k[:]) }

// overlayDNS is a name server that answers 10.9.0.1 to everything (RFC 1035 4.1).
const overlayDNS = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.9.0.1", 53))
while True:
    q, who = s.recvfrom(2000)
    end = q.index(0, 12) + 5
    s.sendto(q[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + q[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x0a\x09\0\1", who)
`

// TestOverlayWG: two alptraces, a name server inside the VPN, and what is outside
// of it.
func TestOverlayWG(t *testing.T) {
	o := newOverlay(t, "nginx", "curl", "python3", "ping")
	sa, pa := wgKeys(t)
	sb, pb := wgKeys(t)
	psk, port := b64(sa), udpPort(t)
	server := o.file("server.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = 10.9.0.1/24, fd09::1/64\nListenPort = %d\n[Peer]\nPublicKey = %s\nPresharedKey = %s\nAllowedIPs = 10.9.0.2/32, fd09::2/128\n", b64(sa), port, b64(pb), psk), 0o600)
	client := o.file("client.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = 10.9.0.2/24, fd09::2/64\nDNS = 10.9.0.1\nPostUp = touch ran\n[Peer]\nPublicKey = %s\nPresharedKey = %s\nAllowedIPs = 10.9.0.0/24, fd09::/64\nEndpoint = localhost:%d\nPersistentKeepalive = 25\n", b64(sb), b64(pa), psk, port), 0o600)
	script := strings.Join(o.nginx("web", ""), " ") + " & python3 " + o.file("dns.py", overlayDNS, 0o644) + " & wait"
	o.start(overlayMember{flags: []string{"--net", "wg:" + server}}, "sh", "-c", script)
	m := overlayMember{flags: []string{"--net", "wg:" + client}}
	out := o.want(m, "curl", "-sS", "--max-time", "5", "http://10.9.0.1/whoami")
	if !strings.Contains(out, "client.conf:5: PostUp is not run") || !strings.HasSuffix(strings.TrimSpace(out), "10.9.0.2 web") {
		t.Errorf("whoami: %q", out)
	}
	if _, err := os.Stat(filepath.Join(o.dir, "ran")); err == nil {
		t.Error("PostUp was run")
	}
	if out := o.want(m, "curl", "-sS", "--max-time", "5", "http://[fd09::1]/whoami"); !strings.Contains(out, "fd09::2 web") {
		t.Errorf("IPv6: %q", out)
	}
	if out := o.want(m, "curl", "-sS", "-4", "--max-time", "5", "http://web.vpn.test/whoami"); !strings.Contains(out, "10.9.0.2 web") {
		t.Errorf("by name: %q", out)
	}
	if out := o.want(m, "curl", "-sS", "--max-time", "40", "-o", "/dev/null", "-w", "%{size_download} %{speed_download}", "http://10.9.0.1/big"); !strings.Contains(out, fmt.Sprint(overlayBulk)) {
		t.Errorf("bulk: %q", out)
	}
	o.want(m, "ping", "-n", "-c", "3", "-i", "0.2", "10.9.0.1")
	if out, code := o.run(m, "ping", "-n", "-c", "1", "10.8.0.1"); code == 0 || !strings.Contains(out, "Network is unreachable") {
		t.Errorf("outside of AllowedIPs: status %d, %q", code, out)
	}
	out, code := o.run(overlayMember{flags: []string{"--net", "wg:" + o.file("bad.conf", "[Interface]\nPrivateKey = x\nAddr = 1\n", 0o600)}}, "echo", "has run")
	if code == 0 || !strings.Contains(out, "bad.conf:2: PrivateKey") || !strings.Contains(out, "bad.conf:3: Addr") || strings.Contains(out, "has run") {
		t.Errorf("a bad file: status %d, %q", code, out)
	}
}

// TestOverlayWGDevice: against wireguard-go with a TUN device of the kernel's: the
// kernel's stack at the other end, as client and as server.
func TestOverlayWGDevice(t *testing.T) {
	o := newOverlay(t, "nginx", "curl", "ip")
	ns := fmt.Sprintf("ov-w%d", os.Getpid())
	namespaces(t, ns)
	sk, pk := wgKeys(t)
	sa, pa := wgKeys(t)
	const port = 51820
	settings := fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nallowed_ip=10.9.0.2/32\nallowed_ip=fd09::2/128\n",
		hex.EncodeToString(sk[:]), port, hex.EncodeToString(pa[:]))
	dev, err := wireguardIn(ns, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	ip(t, "-n", ns, "addr", "add", "10.9.0.1/24", "dev", "wg0")
	ip(t, "-n", ns, "addr", "add", "fd09::1/64", "dev", "wg0", "nodad")
	ip(t, "-n", ns, "link", "set", "wg0", "up")
	conf := o.file("vpn.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = 10.9.0.2/32, fd09::2/128\n[Peer]\nPublicKey = %s\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 127.0.0.1:%d\nPersistentKeepalive = 1\n", b64(sa), b64(pk), port), 0o600)
	inside, kernel := overlayMember{ns, []string{"--net", "wg:" + conf}}, overlayMember{ns: ns}
	stop := o.start(kernel, o.nginx("kernel", "")...)
	equal(t, "whoami", o.want(inside, "curl", "-sS", "--max-time", "5", "http://10.9.0.1/whoami"), "10.9.0.2 kernel")
	equal(t, "whoami, IPv6", o.want(inside, "curl", "-sS", "--max-time", "5", "http://[fd09::1]/whoami"), "fd09::2 kernel")
	o.fetch(inside, "10.9.0.1")
	stop(syscall.SIGTERM)
	o.start(inside, o.nginx("alptrace", "")...)
	equal(t, "whoami of the kernel", o.want(kernel, "curl", "-sS", "--max-time", "5", "http://10.9.0.2/whoami"), "10.9.0.1 alptrace")
	o.fetch(kernel, "10.9.0.2")
}

// wireguardIn is wireguard-go with a TUN device wg0 in a namespace.
func wireguardIn(ns, settings string) (*device.Device, error) {
	type made struct {
		dev *device.Device
		err error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		h, err := netns.GetFromName(ns)
		if err == nil {
			err = netns.Set(h)
			_ = h.Close()
		}
		if err != nil {
			c <- made{nil, err}
			return
		}
		t, err := tun.CreateTUN("wg0", device.DefaultMTU)
		if err != nil {
			c <- made{nil, err}
			return
		}
		dev := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, "wireguard-go: "))
		if err = dev.IpcSet(settings); err == nil {
			err = dev.Up()
		}
		c <- made{dev, err}
	}()
	m := <-c
	return m.dev, m.err
}
