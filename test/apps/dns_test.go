package apps

import (
	"strings"
	"testing"
)

// TestDNS: dig against dnsmasq, over UDP and TCP, IPv4 and IPv6, with an answer
// too long for UDP.
func TestDNS(t *testing.T) {
	s := newScene(t, "dnsmasq", "dig")
	var long strings.Builder
	for i := range 60 {
		long.WriteString("txt-record=long.test,text-" + strings.Repeat("x", 60) + string(rune('a'+i%26)) + string(rune('a'+i/26)) + "\n")
	}
	s.file("dnsmasq.conf", strings.ReplaceAll(`
port=5353
no-resolv
no-hosts
edns-packet-max=16000
keep-in-foreground
log-facility=-
pid-file=@D@/dnsmasq.pid
address=/v4.test/192.0.2.7
address=/v6.test/2001:db8::7
txt-record=txt.test,hello
srv-host=_http._tcp.test,v4.test,8080,5,6
ptr-record=7.2.0.192.in-addr.arpa,v4.test
cname=alias.test,v4.test
host-record=v4.test,192.0.2.7
`, "@D@", s.dir)+long.String())
	s.bash(`
start dnsmasq dnsmasq -C "$D/dnsmasq.conf"
dnsmasq=$!
listening 5353
q() { dig +short +tries=1 +time=3 -p 5353 "$@"; }
equal A "$(q @127.0.0.1 v4.test)" 192.0.2.7
equal AAAA "$(q @127.0.0.1 AAAA v6.test)" 2001:db8::7
equal "A over IPv6" "$(q @::1 v4.test)" 192.0.2.7
equal "A over TCP" "$(q @127.0.0.1 +tcp v4.test)" 192.0.2.7
equal "A over TCP and IPv6" "$(q @::1 +tcp v4.test)" 192.0.2.7
equal TXT "$(q @127.0.0.1 TXT txt.test)" '"hello"'
equal SRV "$(q @127.0.0.1 SRV _http._tcp.test)" "5 6 8080 v4.test."
equal PTR "$(q @127.0.0.1 -x 192.0.2.7)" v4.test.
# 60 records: truncated over UDP, then asked again over TCP by dig itself.
equal "long, over UDP then TCP" "$(q @127.0.0.1 TXT long.test +noedns | sort -u | wc -l)" 60
dig @127.0.0.1 -p 5353 TXT long.test +noedns +ignore +tries=1 | grep -q 'flags:.* tc ' || fail "not truncated"
equal "long, in one datagram" "$(q @127.0.0.1 TXT long.test +bufsize=16000 +ignore | sort -u | wc -l)" 60
for i in $(seq 1 20); do q @127.0.0.1 v4.test >a$i & pids[i]=$!; done
join "${pids[@]}"
for i in $(seq 1 20); do equal "parallel $i" "$(cat a$i)" 192.0.2.7; done
dig @127.0.0.1 -p 5353 nowhere.test2 +tries=1 +time=3 | grep -q 'status: REFUSED' || fail "an unknown name is not refused"
stop $dnsmasq
# Nothing listens: the ICMP error reaches dig's socket, at once.
t0=$(date +%s%N)
q @127.0.0.1 v4.test >refused.out && fail "an answer from nowhere"
grep -q 'connection refused' refused.out || fail "not refused: $(cat refused.out)"
[ $(($(date +%s%N) - t0)) -lt 2500000000 ] || fail "refused only after a timeout"
`)
}
