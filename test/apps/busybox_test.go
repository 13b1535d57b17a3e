package apps

import "testing"

// TestBusybox: static busybox httpd (a process for each connection, the
// connection on its descriptors 0 and 1, CGI below), its wget, and its nc both
// ways; and Debian's wget and curl against the same server.
func TestBusybox(t *testing.T) {
	s := newScene(t, "busybox", "curl", "wget")
	s.data("www/big", 8<<20)
	s.file("www/index.html", "<p>hello from busybox</p>\n")
	s.fileMode("www/cgi-bin/echo", []byte("#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\necho \"method $REQUEST_METHOD from $REMOTE_ADDR\"\nhead -c \"$CONTENT_LENGTH\"\n"), 0o755)
	s.data("post", 100_000)
	s.bash(`
start httpd busybox httpd -f -p 127.0.0.1:8080 -h "$D/www"
httpd=$!
listening 8080
busybox wget -q -O bb.html http://127.0.0.1:8080/ || fail "busybox wget"
same index bb.html www/index.html
busybox wget -q -O bb.big http://127.0.0.1:8080/big || fail "busybox wget big"
same big bb.big www/big
for i in 1 2 3 4 5 6 7 8; do wget -q -O w$i http://127.0.0.1:8080/big & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4 5 6 7 8; do same "wget $i" w$i www/big; done
curl -sS --fail -r 1000-4999 -o part http://127.0.0.1:8080/big || fail "curl range"
tail -c +1001 www/big | head -c 4000 >part.want
same range part part.want
curl -sS --fail --data-binary @post -o cgi http://127.0.0.1:8080/cgi-bin/echo || fail "curl cgi"
{ echo "method POST from 127.0.0.1"; cat post; } >cgi.want
same cgi cgi cgi.want
equal "status of a missing page" "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/none)" 404
stop $httpd
curl -s http://127.0.0.1:8080/ -o /dev/null
equal "curl with no server" $? 7
`)
}

// TestBusyboxNc: busybox nc as server (-e forks a program onto the connection)
// and as client.
func TestBusyboxNc(t *testing.T) {
	s := newScene(t, "busybox")
	s.data("sent", 3<<20)
	s.bash(`
start nc busybox nc -ll -p 9000 -e sha256sum
nc=$!
listening 9000
for i in 1 2 3; do
	got=$(busybox nc 127.0.0.1 9000 <sent | cut -d' ' -f1)
	equal "sum $i" "$got" "$(sum sent)"
done
stop $nc
# A plain listener; its own side of the conversation stays open and silent.
mkfifo silence
exec 8<>silence
busybox nc -l -p 9001 >received <&8 &
rx=$!
until_true 100 busybox nc -w 5 127.0.0.1 9001 <sent
wait $rx
same received received sent
`)
}

// TestCurl: curl's own protocols beyond a plain GET, against busybox httpd:
// several transfers in one process, IPv6, keepalive and timeouts.
func TestCurl(t *testing.T) {
	s := newScene(t, "busybox", "curl")
	s.data("www/a", 1<<20)
	s.data("www/b", 2<<20)
	s.data("www/c", 10)
	s.bash(`
start httpd busybox httpd -f -p '[::]:8080' -h "$D/www"
httpd=$!
listening 8080
curl -sS --fail --parallel -o a 'http://127.0.0.1:8080/a' -o b 'http://[::1]:8080/b' -o c 'http://localhost:8080/c' || fail "parallel curl"
same a a www/a; same b b www/b; same c c www/c
for i in $(seq 50); do echo "url=http://127.0.0.1:8080/c"; echo "output=$D/many.$i"; done >many.cfg
curl -sS --fail -K many.cfg || fail "fifty transfers"
for i in $(seq 50); do same "transfer $i" many.$i www/c; done
# A peer that accepts and says nothing: --max-time ends it (exit status 28).
kill -STOP $httpd
curl -s --max-time 1 -o /dev/null http://127.0.0.1:8080/c
equal "curl with a silent server" $? 28
kill -CONT $httpd
stop $httpd
`)
}
