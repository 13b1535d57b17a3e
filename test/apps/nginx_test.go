package apps

import (
	"strings"
	"testing"
)

// nginxConfig is nginx with two workers, sendfile and keepalive, serving
// D/www at the given listen directives and echoing what is posted to /up/.
func nginxConfig(dir string, listen ...string) string {
	var l strings.Builder
	for _, a := range listen {
		l.WriteString("    listen " + a + ";\n")
	}
	return strings.NewReplacer("@D@", dir, "@LISTEN@", l.String()).Replace(`
worker_processes 2;
daemon off;
error_log @D@/nginx.err.log info;
pid @D@/nginx.pid;
events { worker_connections 512; multi_accept on; }
http {
  access_log @D@/access.log;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 30;
  keepalive_requests 100000;
  client_max_body_size 64m;
  client_body_temp_path @D@/t1; proxy_temp_path @D@/t2; fastcgi_temp_path @D@/t3;
  uwsgi_temp_path @D@/t4; scgi_temp_path @D@/t5;
  default_type application/octet-stream;
  server {
@LISTEN@
    root @D@/www;
    add_header X-Worker $pid;
    location /up/ { dav_methods PUT DELETE; create_full_put_path on; }
    location = /whoami { return 200 "$remote_addr $server_addr:$server_port\n"; }
  }
}
`)
}

// TestNginx: two workers on one listener, sendfile, keepalive, PUT, byte
// ranges, IPv6, reload (new workers take over the listening sockets) and quit.
func TestNginx(t *testing.T) {
	s := newScene(t, "nginx", "curl")
	s.data("www/big", 20<<20)
	s.data("www/small", 1000)
	s.data("post", 5<<20)
	s.file("nginx.conf", nginxConfig(s.dir, "127.0.0.1:8080 reuseport", "127.0.0.1:8081", "[::1]:8080"))
	s.bash(`
start nginx nginx -e "$D/nginx.err.log" -c "$D/nginx.conf"
nginx=$!
listening 8080
curl -sS --fail -o big http://127.0.0.1:8080/big || fail "curl big"
same big big www/big
curl -sS --fail -o big6 http://[::1]:8080/big || fail "curl big over IPv6"
same big6 big6 www/big
for i in 1 2 3 4 5 6 7 8; do curl -sS --fail -o p$i http://127.0.0.1:8081/big & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4 5 6 7 8; do same "parallel $i" p$i www/big; done
# One connection, 100 requests.
conns=$(curl -sS --fail -w '%{stderr}%{num_connects}\n' -o 'one.#1' 'http://127.0.0.1:8080/small?[1-100]' 2>&1 | awk '{n += $1} END {print n}')
equal "connections of 100 requests" "$conns" 1
for i in $(seq 100); do same "keepalive $i" one.$i www/small; done
curl -sS --fail -T post http://127.0.0.1:8080/up/file || fail "PUT"
same put www/up/file post
curl -sS --fail -r 12345-2345678 -o part http://127.0.0.1:8080/big || fail "range"
tail -c +12346 www/big | head -c 2333334 >part.want
same range part part.want
equal whoami "$(curl -sS http://127.0.0.1:8081/whoami)" "127.0.0.1 127.0.0.1:8081"
equal whoami6 "$(curl -sS http://[::1]:8080/whoami)" "::1 ::1:8080"
# Both workers answer.
workers=$(for i in $(seq 60); do curl -sS -o /dev/null -D - http://127.0.0.1:8080/small; done | tr -d '\r' | awk '/^X-Worker/ {print $2}' | sort -u)
equal "workers that answered" "$(echo "$workers" | wc -l)" 2
kill -HUP $nginx
old() { for w in $workers; do kill -0 $w 2>/dev/null && return 1; done; return 0; }
until_true 100 old
curl -sS --fail -o again http://127.0.0.1:8080/big || fail "after reload"
same "after reload" again www/big
kill -QUIT $nginx
wait $nginx || fail "nginx quit with $?"
curl -s -o /dev/null http://127.0.0.1:8080/small
equal "curl after quit" $? 7
`)
}

// TestNginxWrk: wrk checks every body that it gets over keepalive connections.
func TestNginxWrk(t *testing.T) {
	s := newScene(t, "nginx", "wrk", "curl")
	s.file("www/page", strings.Repeat("0123456789", 100))
	s.file("nginx.conf", nginxConfig(s.dir, "127.0.0.1:8080"))
	s.file("check.lua", `
local want = string.rep("0123456789", 100)
threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) good = 0; bad = 0 end
function response(status, headers, body)
  if status == 200 and body == want then good = good + 1 else bad = bad + 1 end
end
function done(summary, latency, requests)
  local good, bad = 0, 0
  for _, t in ipairs(threads) do good = good + t:get("good"); bad = bad + t:get("bad") end
  local e = summary.errors
  print(string.format("RESULT good %s bad %d errors %d", good > 200 and "many" or good, bad, e.connect + e.read + e.write + e.status + e.timeout))
end
`)
	s.bash(`
start nginx nginx -e "$D/nginx.err.log" -c "$D/nginx.conf"
nginx=$!
listening 8080
wrk -t2 -c32 -d2s -s check.lua http://127.0.0.1:8080/page >wrk.log || fail "wrk"
equal wrk "$(grep RESULT wrk.log)" "RESULT good many bad 0 errors 0"
stop $nginx QUIT
`)
}

// TestNginxRoot: the master is root and binds port 80, the workers drop to
// nobody.
func TestNginxRoot(t *testing.T) {
	s := newScene(t, "nginx", "curl")
	s.asRoot()
	s.data("www/f", 1<<20)
	s.file("nginx.conf", "user nobody nogroup;\n"+nginxConfig(s.dir, "80"))
	s.bash(`
start nginx nginx -e "$D/nginx.err.log" -c "$D/nginx.conf"
nginx=$!
listening 80
curl -sS --fail -o f http://127.0.0.1/f || fail curl
same f f www/f
worker=$(curl -sS -o /dev/null -D - http://127.0.0.1/f | tr -d '\r' | awk '/^X-Worker/ {print $2}')
equal "worker's uid" "$(stat -c %u /proc/$worker)" 65534
stop $nginx QUIT
`)
}
