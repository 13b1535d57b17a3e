package apps

import "testing"

// TestSocat: a process for each connection, with a program on it (EXEC) and
// with a second connection behind it (a proxy); UDP with a process for each
// datagram; half-close.
func TestSocat(t *testing.T) {
	s := newScene(t, "socat")
	for _, f := range []string{"f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8"} {
		s.data(f, 300_000)
	}
	s.bash(`
start echo socat -t10 TCP-LISTEN:7000,bind=127.0.0.1,fork,reuseaddr EXEC:cat
echo=$!
start proxy socat -t10 TCP6-LISTEN:7001,bind=[::1],fork,reuseaddr TCP4:127.0.0.1:7000
proxy=$!
start sum socat -t10 TCP-LISTEN:7002,bind=127.0.0.1,fork,reuseaddr,keepalive,nodelay SYSTEM:'sha256sum'
sum=$!
start upper socat -t10 UDP-RECVFROM:7003,bind=127.0.0.1,fork SYSTEM:'head -n1 | tr a-z A-Z'
upper=$!
listening 7000
listening 7001 ::1
listening 7002
for i in 1 2 3 4 5 6 7 8; do
	socat -t10 - TCP:127.0.0.1:7000 <f$i >e$i & a[i]=$!
	socat -t10 - TCP6:[::1]:7001 <f$i >p$i & b[i]=$!
done
join "${a[@]}" "${b[@]}"
for i in 1 2 3 4 5 6 7 8; do same "echo $i" e$i f$i; same "proxy $i" p$i f$i; done
# The server answers only after the client's half-close.
for i in 1 2 3; do equal "sum $i" "$(socat -t10 - TCP:127.0.0.1:7002 <f$i)" "$(sha256sum <f$i)"; done
for i in 1 2 3; do equal "datagram $i" "$(echo "datagram $i" | socat -t0.7 - UDP:127.0.0.1:7003)" "DATAGRAM $i"; done
equal "refused" "$(socat - TCP:127.0.0.1:7999 2>&1 </dev/null | grep -o 'Connection refused')" "Connection refused"
for p in $echo $proxy $sum $upper; do stop $p; done
`)
}
