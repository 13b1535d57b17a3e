package apps

import (
	"strings"
	"testing"
)

// TestHaproxy: haproxy in front of nginx, as an HTTP proxy over two servers
// (one of them over IPv6) and as a TCP proxy that splices.
func TestHaproxy(t *testing.T) {
	s := newScene(t, "haproxy", "nginx", "curl")
	s.data("www/big", 12<<20)
	s.data("www/small", 3000)
	s.data("post", 4<<20)
	s.file("nginx.conf", nginxConfig(s.dir, "127.0.0.1:8081", "[::1]:8082"))
	s.file("haproxy.conf", strings.ReplaceAll(`
global
  maxconn 200
  nbthread 2
  stats socket @D@/haproxy.sock
defaults
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  option splice-auto
frontend web
  mode http
  bind 127.0.0.1:8080
  default_backend both
backend both
  mode http
  balance roundrobin
  http-response set-header X-Server %s
  option httpchk GET /small
  server four 127.0.0.1:8081 check inter 200ms fall 3
  server six [::1]:8082 check inter 200ms fall 3
listen raw
  mode tcp
  bind 127.0.0.1:8090 tfo
  option tcp-smart-connect
  option tcp-smart-accept
  server four 127.0.0.1:8081 tcp-ut 10s
listen refused
  mode http
  bind 127.0.0.1:8091
  retries 1
  server none 127.0.0.1:1
`, "@D@", s.dir))
	s.bash(`
start nginx nginx -e "$D/nginx.err.log" -c "$D/nginx.conf"
nginx=$!
listening 8081
start haproxy haproxy -db -f "$D/haproxy.conf"
haproxy=$!
listening 8080
for p in 8080 8090; do
	curl -sS --fail -o big.$p http://127.0.0.1:$p/big || fail "big through $p"
	same "big through $p" big.$p www/big
	for i in 1 2 3 4 5 6; do curl -sS --fail -o p$i http://127.0.0.1:$p/big & pids[i]=$!; done
	join "${pids[@]}"
	for i in 1 2 3 4 5 6; do same "parallel $i through $p" p$i www/big; done
	curl -sS --fail -T post http://127.0.0.1:$p/up/file.$p || fail "PUT through $p"
	same "PUT through $p" www/up/file.$p post
done
for i in $(seq 20); do curl -sS --fail -o small -D - http://127.0.0.1:8080/small; same "small $i" small www/small; done | tr -d '\r' | awk 'tolower($1) == "x-server:" {print $2}' | sort | uniq -c | awk '{print $2, $1}' >servers
equal "round robin" "$(paste -sd, servers)" "four 10,six 10"
equal "a server that refuses" "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8091/)" 503
stop $nginx QUIT
down() { [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/small)" = 503 ]; }
until_true 100 down
stop $haproxy
`)
}
