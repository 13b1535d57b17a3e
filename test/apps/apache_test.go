package apps

import (
	"strings"
	"testing"
)

// TestApache: mpm_prefork, whose children take turns on a shared listener,
// with keepalive, sendfile and CGI-less uploads of large request bodies.
func TestApache(t *testing.T) {
	s := newScene(t, "apache2", "curl")
	s.data("www/big", 8<<20)
	s.data("www/small", 500)
	s.mkdir("run")
	s.file("apache.conf", strings.ReplaceAll(`
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule env_module /usr/lib/apache2/modules/mod_env.so
TypesConfig /dev/null
ServerRoot @D@
DefaultRuntimeDir @D@/run
PidFile @D@/run/apache.pid
ErrorLog @D@/apache.err.log
LogLevel info
ServerName localhost
Listen 127.0.0.1:8080
Listen 127.0.0.1:8081
Listen [::1]:8080
StartServers 4
MinSpareServers 4
MaxSpareServers 8
MaxRequestWorkers 16
EnableSendfile On
KeepAlive On
KeepAliveTimeout 2
MaxKeepAliveRequests 0
AcceptFilter http data
DocumentRoot @D@/www
Header set X-Took "%D"
<Directory @D@/www>
  Require all granted
</Directory>
`, "@D@", s.dir))
	s.bash(`
# It ends by a signal to its process group: give it one of its own.
start apache setsid apache2 -f "$D/apache.conf" -DFOREGROUND
apache=$!
listening 8080
for i in 1 2 3 4 5 6 7 8; do curl -sS --fail -o p$i http://127.0.0.1:808$((i % 2))/big & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4 5 6 7 8; do same "parallel $i" p$i www/big; done
curl -sS --fail -o six 'http://[::1]:8080/big' || fail IPv6
same IPv6 six www/big
conns=$(curl -sS --fail -w '%{stderr}%{num_connects}\n' -o 'one.#1' 'http://127.0.0.1:8080/small?[1-60]' 2>&1 | awk '{n += $1} END {print n}')
equal "connections of 60 requests" "$conns" 1
for i in $(seq 60); do same "keepalive $i" one.$i www/small; done
# Graceful restart: children are replaced, the listeners stay.
kill -USR1 $apache
sleep 0.3
for i in $(seq 20); do curl -sS --fail -o g http://127.0.0.1:8081/small || fail "request $i after the restart"; same "after restart $i" g www/small; done
stop $apache
curl -s -o /dev/null http://127.0.0.1:8080/small
equal "curl after the end" $? 7
`)
}
