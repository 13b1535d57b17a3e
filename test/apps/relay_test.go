package apps

import (
	"strings"
	"testing"
)

// hostServers are servers on the host's loopback: HTTP (four and six), a sum
// after half-close, a UDP echo. They run until the file "stop" appears.
const hostServers = `
start httpd busybox httpd -f -p 127.0.0.1:8080 -h "$D/www"; a=$!
start httpd6 busybox httpd -f -p '[::1]:8080' -h "$D/www"; b=$!
start sum socat -t10 TCP-LISTEN:7002,bind=127.0.0.1,fork,reuseaddr SYSTEM:sha256sum; c=$!
start udp socat -t10 UDP-RECVFROM:7003,bind=127.0.0.1,fork SYSTEM:'head -n1 | tr a-z A-Z'; d=$!
listening 8080
listening 8080 ::1
listening 7002
touch ready
n=0
until [ -e stop ]; do sleep 0.05; n=$((n + 1)); [ $n -lt 1000 ] || fail "never stopped"; done
for p in $a $b $c $d; do stop $p; done
`

// relayHost is the host as the stack sees it; natively the host is itself.
func relayHost() (four, six string) {
	if runner.native {
		return "127.0.0.1", "::1"
	}
	return "10.0.2.2", "fd00::2"
}

// startHostServers starts hostServers on the host's kernel; the returned
// function stops them.
func startHostServers(s *scene) (stop func()) {
	s.t.Helper()
	p := s.start(false, s.script(hostServers)...)
	stop = func() {
		s.t.Helper()
		s.file("stop", "")
		s.want(p.wait(), 0)
	}
	s.bashOn(false, `until_true 200 test -e ready`)
	return stop
}

// TestRelay: clients under alptrace, no privilege, and servers on the host's
// loopback.
func TestRelay(t *testing.T) {
	s := newScene(t, "busybox", "curl", "socat", "ping", "wget")
	s.net = []string{"--net", "relay"}
	four, six := relayHost()
	s.env = append(s.env, "H4="+four, "H6="+six)
	s.data("www/big", 16<<20)
	s.data("www/small", 700)
	stop := startHostServers(s)
	s.bash(`
curl -sS --fail -o big http://$H4:8080/big || fail "curl"
same big big www/big
curl -sS --fail -o big6 "http://[$H6]:8080/big" || fail "curl over IPv6"
same "big over IPv6" big6 www/big
wget -q -O wbig http://$H4:8080/big || fail "wget"
same "big by wget" wbig www/big
for i in 1 2 3 4 5 6 7 8; do curl -sS --fail -o p$i http://$H4:8080/big & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4 5 6 7 8; do same "parallel $i" p$i www/big; done
for i in $(seq 60); do curl -sS --fail -o s http://$H4:8080/small || fail "small $i"; same "small $i" s www/small; done
# Half-close goes through, both ways.
equal "sum" "$(socat -t10 - TCP:$H4:7002 <www/big)" "$(sha256sum <www/big)"
for i in 1 2 3; do equal "datagram $i" "$(echo "datagram $i" | socat -t0.7 - UDP:$H4:7003)" "DATAGRAM $i"; done
# Refused is refused, at once.
t0=$(date +%s%N)
curl -s -o /dev/null http://$H4:9/
equal "refused" $? 7
[ $(($(date +%s%N) - t0)) -lt 1500000000 ] || fail "refused only after a while"
(printf x >&3; sleep 0.2; printf x >&3) 3<>/dev/udp/$H4/9 2>udp.err && fail "no error from a closed UDP port"
# A native write(2) on a stand-in says ECONNRESET where Linux has ECONNREFUSED.
grep -qE 'refused|reset by peer' udp.err || fail "not refused: $(cat udp.err)"
ping -n -c 3 -i 0.2 $H4 >ping.out || fail "ping: $(cat ping.out)"
equal "answers to ping" "$(grep -c "^64 bytes from $H4: icmp_seq=[1-3]" ping.out)" 3
`)
	if !runner.native {
		s.bash(`
# 127.0.0.1 is the stack's own: the host's server is not there.
curl -s -o /dev/null http://127.0.0.1:8080/small
equal "the host's loopback" $? 7
`)
	}
	stop()
}

// TestRelayResolver: names through the resolver of the host, which listens on
// a loopback address that the stack has too.
func TestRelayResolver(t *testing.T) {
	s := newScene(t, "dnsmasq", "busybox", "curl", "dig", "socat", "unshare")
	if s.ns == nil {
		t.Skip("needs root: a resolv.conf of its own")
	}
	s.net = []string{"--net", "relay"}
	four, six := relayHost()
	s.env = append(s.env, "H4="+four)
	s.data("www/small", 700)
	s.data("www/big", 100)
	// getaddrinfo asks for no addresses of a family of which the host has
	// nothing but loopback.
	if err := s.ns.do(func() error { return up("lo", "192.0.2.99/32") }); err != nil {
		t.Fatal(err)
	}
	s.file("resolv.conf", "nameserver 127.0.0.53\noptions timeout:3 attempts:1\n")
	s.file("dnsmasq.conf", strings.ReplaceAll(`
port=53
listen-address=127.0.0.53
bind-interfaces
no-resolv
no-hosts
user=root
keep-in-foreground
pid-file=@D@/dnsmasq.pid
host-record=host.test,`+four+","+six+`
`, "@D@", s.dir))
	stop := startHostServers(s)
	names := s.kernel().start(false, "dnsmasq", "-C", s.dir+"/dnsmasq.conf")
	s.bashOn(false, `listening 53 127.0.0.53`)
	s.before = []string{"unshare", "-m", "sh", "-c", `mount --bind "$D/resolv.conf" /etc/resolv.conf && exec "$@"`, "sh"}
	s.bash(`
equal "getent" "$(getent ahostsv4 host.test | awk '{print $1}' | sort -u)" "$H4"
curl -sS --fail -o small http://host.test:8080/small || fail "curl by name"
same small small www/small
equal "dig" "$(dig +short +tries=1 host.test)" "$H4"
equal "dig over TCP" "$(dig +short +tcp +tries=1 host.test)" "$H4"
getent hosts none.test && fail "a name that does not exist resolves"
true
`)
	stop()
	_ = names.Process.Kill()
	names.wait()
}

// TestPublish: a client on the host's kernel, nginx under alptrace.
func TestPublish(t *testing.T) {
	s := newScene(t, "nginx", "curl", "socat")
	s.net = []string{"--net", "relay", "--publish", "18080:8080", "--publish", "127.0.0.1:18081:8081", "--publish", "17003:7003/udp"}
	web, other, udp := "18080", "18081", "17003"
	if runner.native {
		web, other, udp = "8080", "8081", "7003"
	}
	s.env = append(s.env, "WEB="+web, "OTHER="+other, "UDP="+udp)
	s.data("www/big", 16<<20)
	s.data("post", 8<<20)
	s.file("nginx.conf", nginxConfig(s.dir, "8080", "8081"))
	server := s.start(true, s.script(wireServer)...)
	client := s.start(false, s.script(`
until_true 100 curl -sS --fail -o /dev/null http://127.0.0.1:$WEB/whoami
curl -sS --fail -o big http://127.0.0.1:$WEB/big || fail "curl"
same big big www/big
for i in 1 2 3 4 5 6 7 8; do curl -sS --fail -o p$i http://127.0.0.1:$OTHER/big & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4 5 6 7 8; do same "parallel $i" p$i www/big; done
curl -sS --fail -T post http://127.0.0.1:$WEB/up/file || fail "PUT"
same put www/up/file post
equal "datagram" "$(echo "datagram" | socat -t0.7 - UDP:127.0.0.1:$UDP)" "DATAGRAM"
`)...).wait()
	s.file("stop", "")
	if client.code() != 0 {
		t.Logf("server: stdout %s\nstderr %s", server.wait().out, server.wait().err)
	}
	s.want(client, 0)
	s.want(server.wait(), 0)
}
