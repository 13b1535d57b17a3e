package apps

import "testing"

// TestMemcached: memcached with four threads over TCP (IPv4, IPv6) and UDP,
// the client being bash's own sockets and socat.
func TestMemcached(t *testing.T) {
	s := newScene(t, "memcached", "socat", "nc.openbsd")
	s.data("value", 900_000)
	s.bash(`
start memcached memcached -p 11211 -U 11211 -l 127.0.0.1,::1 -t 4 -m 64
memcached=$!
listening 11211
# 500 keys in one pipelined connection.
for i in $(seq 500); do printf 'set key%d 0 0 %d\r\nvalue-%s\r\n' $i $((6 + ${#i})) $i; done >load
{ cat load; printf 'quit\r\n'; } | nc.openbsd 127.0.0.1 11211 >load.out
equal "stored" "$(grep -c '^STORED' load.out)" 500
{ for i in $(seq 500); do printf 'get key%d\r\n' $i; done; printf 'quit\r\n'; } | nc.openbsd ::1 11211 | tr -d '\r' | grep '^value-' >got
seq 500 | sed 's/^/value-/' >got.want
same "500 keys" got got.want
# A large value, over the binary-safe text protocol.
{ printf 'set blob 7 0 900000\r\n'; cat value; printf '\r\nget blob\r\nquit\r\n'; } | nc.openbsd 127.0.0.1 11211 >blob.out
{ printf 'STORED\r\nVALUE blob 7 900000\r\n'; cat value; printf '\r\nEND\r\n'; } >blob.want
same blob blob.out blob.want
# Eight clients at once, incrementing one counter.
printf 'set n 0 0 1\r\n0\r\nquit\r\n' | nc.openbsd 127.0.0.1 11211 >/dev/null
for c in 1 2 3 4 5 6 7 8; do
	{ for i in $(seq 100); do printf 'incr n 1\r\n'; done; printf 'quit\r\n'; } | nc.openbsd 127.0.0.1 11211 >/dev/null & pids[c]=$!
done
join "${pids[@]}"
equal "counter" "$(printf 'get n\r\nquit\r\n' | nc.openbsd 127.0.0.1 11211 | tr -d '\r' | sed -n 2p)" 800
# UDP: an 8-byte frame header, then the same protocol.
udp=$(printf '\0\1\0\0\0\1\0\0get key77\r\n' | socat -t1 - UDP:127.0.0.1:11211 | tail -c +9 | tr -d '\r' | sed -n 2p)
equal "over UDP" "$udp" value-77
stop $memcached
`)
}
