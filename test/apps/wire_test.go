package apps

import (
	"syscall"
	"testing"
	"time"
)

// wired makes the scene's two ends of a wire: two alptraces of one directory,
// or natively two namespaces joined by a veth.
func wired(s *scene) (a, b *scene) {
	s.t.Helper()
	if runner.native {
		if s.ns == nil {
			s.t.Skip("needs root")
		}
		other := newNetns(s.t)
		veth(s.t, "wire0", s.ns, "10.0.0.1/24", other, "10.0.0.2/24")
		for _, e := range []struct {
			ns   *netns
			addr string
		}{{s.ns, "fd01::1/64"}, {other, "fd01::2/64"}} {
			if err := e.ns.do(func() error { return up("wire0", e.addr) }); err != nil {
				s.t.Fatal(err)
			}
		}
		return s, s.at(other)
	}
	s.mkdir("wire")
	wire := "wire:" + s.dir + "/wire"
	return s.at(s.ns, "--net", wire, "--addr", "10.0.0.1/24", "--addr", "fd01::1/64"),
		s.at(s.ns, "--net", wire, "--addr", "10.0.0.2/24", "--addr", "fd01::2/64")
}

// wireServer is nginx, and an echo over UDP, until the file "stop" appears.
const wireServer = `
start nginx nginx -e "$D/nginx.err.log" -c "$D/nginx.conf"
nginx=$!
start udp socat -t10 UDP-RECVFROM:7003,fork SYSTEM:'head -n1 | tr a-z A-Z'
udp=$!
n=0
until [ -e stop ]; do sleep 0.05; n=$((n + 1)); [ $n -lt 1000 ] || fail "never stopped"; done
stop $nginx QUIT; stop $udp
`

// TestWire: nginx and curl on a wire, 100 MB by their sum, uploads, UDP, ping,
// IPv6 with neighbour discovery.
func TestWire(t *testing.T) {
	s := newScene(t, "nginx", "curl", "socat", "ping")
	s.data("www/huge", 100<<20)
	s.data("www/big", 5<<20)
	s.data("post", 20<<20)
	s.file("nginx.conf", nginxConfig(s.dir, "8080", "[::]:8080"))
	a, b := wired(s)
	server := a.start(true, a.script(wireServer)...)
	client := b.start(true, b.script(`
until_true 60 curl -sS --fail --max-time 2 -o /dev/null http://10.0.0.1:8080/whoami
equal whoami "$(curl -sS http://10.0.0.1:8080/whoami)" "10.0.0.2 10.0.0.1:8080"
equal whoami6 "$(curl -sS http://[fd01::1]:8080/whoami)" "fd01::2 fd01::1:8080"
equal huge "$(curl -sS --fail http://10.0.0.1:8080/huge | sha256sum)" "$(sha256sum <www/huge)"
curl -sS --fail -o six http://[fd01::1]:8080/big || fail "IPv6"
same six six www/big
for i in 1 2 3 4 5 6 7 8; do curl -sS --fail -o p$i http://10.0.0.1:8080/big & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4 5 6 7 8; do same "parallel $i" p$i www/big; done
curl -sS --fail -T post http://10.0.0.1:8080/up/file || fail "PUT"
same put www/up/file post
equal "datagram" "$(echo "datagram" | socat -t0.7 - UDP:10.0.0.1:7003)" "DATAGRAM"
ping -n -c 3 -i 0.2 -s 1400 10.0.0.1 >ping.out || fail "ping: $(cat ping.out)"
ping -n -6 -c 3 -i 0.2 fd01::1 >ping6.out || fail "ping -6: $(cat ping6.out)"
curl -s -o /dev/null http://10.0.0.1:9/
equal "refused" $? 7
curl -s -o /dev/null --max-time 8 http://10.0.0.77:8080/
[ $? = 7 ] || [ $? = 28 ] || fail "an address that nobody has"
`)...).wait()
	s.file("stop", "")
	if client.code() != 0 {
		t.Logf("server: stdout %s\nstderr %s", server.wait().out, server.wait().err)
	}
	s.want(client, 0)
	s.want(server.wait(), 0)
}

// TestWireRejoin: a member that dies by SIGKILL, and another with its address.
func TestWireRejoin(t *testing.T) {
	onlyAlptrace(t)
	s := newScene(t, "nginx", "curl", "socat")
	s.data("www/big", 3<<20)
	s.file("nginx.conf", nginxConfig(s.dir, "8080", "[::]:8080"))
	a, b := wired(s)
	fetch := `
rm -f big
until_true 60 curl -sS --fail --max-time 2 -o /dev/null http://10.0.0.1:8080/whoami
curl -sS --fail -o big http://10.0.0.1:8080/big || fail curl
same big big www/big
`
	for round := range 3 {
		server := a.start(true, a.script(wireServer)...)
		b.bash(fetch)
		if round == 2 {
			s.file("stop", "")
			s.want(server.wait(), 0)
			break
		}
		if err := syscall.Kill(server.Process.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		server.wait()
		if left := s.ns.emptied(3 * time.Second); s.ns != nil && len(left) > 0 {
			t.Fatalf("left after SIGKILL: %v", left)
		}
	}
}
