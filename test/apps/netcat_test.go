package apps

import "testing"

// TestNetcat: the three netcats of Debian, as servers and as clients of each
// other, TCP and UDP.
func TestNetcat(t *testing.T) {
	s := newScene(t, "nc.openbsd", "nc.traditional", "ncat")
	s.data("sent", 3<<20)
	s.data("small", 1200)
	s.bash(`
# listens PORT: in the listener's own view of the network, without connecting.
give() { local i; for ((i = 0; i < 100; i++)); do "$@" <sent 2>/dev/null && return 0; sleep 0.05; done; fail "never sent: $*"; }
port=6000
for server in "nc.openbsd -l 127.0.0.1 PORT" "nc.traditional -l -s 127.0.0.1 -p PORT" "ncat -l 127.0.0.1 PORT"; do
	for client in "nc.openbsd -N 127.0.0.1" "nc.traditional -q0 127.0.0.1" "ncat --send-only 127.0.0.1"; do
		port=$((port + 1))
		rm -f silence; mkfifo silence; exec 8<>silence
		${server/PORT/$port} >received <&8 & rx=$!
		give $client $port
		n=0
		until cmp -s received sent; do n=$((n + 1)); [ $n -lt 100 ] || break; sleep 0.05; done
		same "$client to $server" received sent
		kill $rx 2>/dev/null
		wait $rx 2>/dev/null
		exec 8>&-
	done
done
# A forking server with a program on the connection.
start ncat ncat -k -l 127.0.0.1 6100 --sh-exec 'head -c 3145728 | sha256sum'
ncat=$!
listening 6100
for i in 1 2 3; do equal "ncat --sh-exec $i" "$(nc.openbsd 127.0.0.1 6100 <sent)" "$(sha256sum <sent)"; done
stop $ncat
start ncat6 ncat -6 -k -l ::1 6101 --sh-exec 'head -c 3145728'
ncat6=$!
listening 6101 ::1
nc.openbsd ::1 6101 <sent >back6 || fail "nc over IPv6"
same "IPv6" back6 sent
stop $ncat6
# UDP: datagrams one way, and an exchange.
start udp nc.openbsd -u -l 127.0.0.1 6200
udp=$!
heard() { printf 'x' >/dev/udp/127.0.0.1/6200; grep -q x udp.log; }
until_true 100 heard
stop $udp
start cat nc.traditional -u -l -s 127.0.0.1 -p 6201 -e /bin/cat
cat=$!
exec 7<>/dev/udp/127.0.0.1/6201
answered() { printf ping >&7; [ "$(dd bs=2000 count=1 status=none <&7 | head -c 4)" = ping ]; }
until_true 50 answered
dd if=small bs=1200 status=none >&7
n=0
until cmp -s small.back small; do
	n=$((n + 1)); [ $n -lt 20 ] || break
	timeout 5 dd bs=2000 count=1 status=none <&7 >small.back
done
same "a datagram and back" small.back small
exec 7>&-
stop $cat
# Scanning: an open and a closed port.
start scan nc.openbsd -lk 127.0.0.1 6300
scan=$!
listening 6300
nc.openbsd -z 127.0.0.1 6300 || fail "an open port looks closed"
nc.openbsd -z 127.0.0.1 6301 && fail "a closed port looks open"
stop $scan
`)
}

// TestPing: ICMP echo sockets, IPv4 and IPv6. (Raw sockets want root.)
func TestPing(t *testing.T) {
	s := newScene(t, "ping")
	s.bash(`
ping -n -c 5 -i 0.2 -s 1000 127.0.0.1 >four || fail "ping: $(cat four)"
grep -q '5 packets transmitted, 5 received, 0% packet loss' four || fail "$(cat four)"
equal "answers" "$(grep -c '^1008 bytes from 127.0.0.1: icmp_seq=[1-5] ttl=64' four)" 5
ping -6 -n -c 3 -i 0.2 ::1 >six || fail "ping -6: $(cat six)"
equal "answers over IPv6" "$(grep -c '^64 bytes from ::1: icmp_seq=[1-3] ttl=64' six)" 3
`)
}

// TestPingRoot: busybox ping, which takes raw sockets.
func TestPingRoot(t *testing.T) {
	s := newScene(t, "ping", "busybox")
	s.asRoot()
	s.bash(`
busybox ping -c 3 127.0.0.1 >four || fail "busybox ping: $(cat four)"
equal "answers" "$(grep -c 'seq=[0-2] ttl=64' four)" 3
busybox ping -6 -c 2 ::1 >six || fail "busybox ping -6: $(cat six)"
equal "answers over IPv6" "$(grep -c 'seq=[01] ttl=64' six)" 2
`)
}
