package apps

import (
	"encoding/json"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// everywhere runs a script of clients on the peer, on the host's kernel and
// under another alptrace of the host. WHO is which of them, A the addresses of
// the host as it is reached from there, and U the same as in a URL.
func (h *sharing) everywhere(text string) {
	h.stack.t.Helper()
	const far, near, own = "10.77.0.1 fd77::1", "10.77.0.1 127.0.0.1 ::1", "127.0.0.1 fd77::1"
	set := func(who, addrs string) string {
		return "WHO=" + who + "\nA='" + addrs + `'
url() { case $1 in *:*) echo "http://[$1]:$2" ;; *) echo "http://$1:$2" ;; esac; }
` + text
	}
	h.peer.bashOn(false, set("peer", far))
	h.kernel.bashOn(false, set("kernel", near))
	h.stack.bash(set("stack", own))
}

// served starts a script of servers under alptrace, which ends with them
// listening, and waits until it has.
func (h *sharing) served(text string) *proc {
	h.stack.t.Helper()
	return h.stack.start(true, h.stack.script(text+"\necho ready\nwait\n")...).ready()
}

// TestHostNginx: nginx's workers, on one listener and on one each (reuseport),
// through a reload; python's http.server on all addresses and on loopback.
func TestHostNginx(t *testing.T) {
	h := newSharing(t, "nginx", "curl", "python3", "wrk")
	h.stack.data("www/big", 5<<20)
	h.stack.file("www/page", "page\n")
	h.stack.data("post", 1<<20)
	h.stack.file("nginx.conf", nginxConfig(h.stack.dir, "8080", "[::]:8080", "8083 reuseport", "[::]:8083 reuseport"))
	p := h.served(`
start nginx nginx -e "$D/nginx.err.log" -c "$D/nginx.conf"
start all /usr/bin/python3 -m http.server -d "$D/www" -b :: 8084
start lo /usr/bin/python3 -m http.server -d "$D/www" -b 127.0.0.1 8085
for port in 8080 8083 8084 8085; do listening $port; done
`)
	clients := `
want=$(sha256sum <www/big)
for a in $A; do
	for port in 8080 8083 8084; do
		equal "$port of $a" "$(curl -sS --fail --max-time 20 "$(url $a $port)/big" | sha256sum)" "$want"
	done
	for port in 8080 8083; do
		curl -sS --fail --max-time 20 -T post "$(url $a $port)/up/$WHO" || fail "PUT to $a"
		same "put to $a" www/up/$WHO post
		who=$(curl -sS --max-time 5 "$(url $a $port)/whoami")
		equal "$a as the server has it" "${who#* }" "$a:$port"
	done
done
for i in 1 2 3 4 5 6 7 8; do curl -sS --fail --max-time 20 -o $WHO.$i http://10.77.0.1:8083/big & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4 5 6 7 8; do same "parallel $i" $WHO.$i www/big; done
# Both workers answer: each of the reuseport listeners is reached.
curl -sS -D $WHO.head -H 'Connection: close' -o /dev/null 'http://10.77.0.1:8083/page?[1-40]'
equal "workers that answer" "$(tr -d '\r' <$WHO.head | awk '/^X-Worker/ {print $2}' | sort -u | wc -l)" 2
`
	h.everywhere(clients + `
if [ $WHO = peer ]; then
	curl -sS --max-time 5 -o /dev/null http://10.77.0.1:8085/page 2>/dev/null
	equal "what listens on loopback is refused" $? 7
else
	equal "on loopback" "$(curl -sS --fail --max-time 5 http://127.0.0.1:8085/page)" page
fi
`)
	h.peer.bashOn(false, `
wrk -t1 -c16 -d1s http://10.77.0.1:8080/page >wrk.out || fail wrk
! grep -E 'Socket errors|Non-2xx' wrk.out >&2 || fail "wrk: $(cat wrk.out)"
[ $(awk '/requests in/ {print $1}' wrk.out) -gt 200 ] || fail "wrk: $(cat wrk.out)"
old=$(sort -u peer.head | tr -d '\r' | awk '/^X-Worker/ {print $2}')
kill -HUP $(cat nginx.pid)
gone() { for w in $old; do kill -0 $w 2>/dev/null && return 1; done; return 0; }
until_true 100 gone
`+"WHO=peer\nA='10.77.0.1 fd77::1'\nurl() { case $1 in *:*) echo \"http://[$1]:$2\" ;; *) echo \"http://$1:$2\" ;; esac; }\n"+clients)
	p.end(unix.SIGTERM)
}

// TestHostRedis: redis under alptrace, redis-benchmark from everywhere, and a
// replica on the kernel of the peer.
func TestHostRedis(t *testing.T) {
	h := newSharing(t, "redis-server", "redis-benchmark", "redis-cli")
	h.stack.data("value", 3<<20)
	h.stack.mkdir("one")
	h.stack.mkdir("two")
	p := h.served(`
start redis redis-server --port 6379 --bind 0.0.0.0 :: --protected-mode no --save '' --dir "$D/one" --tcp-keepalive 10 --daemonize no
listening 6379
`)
	h.everywhere(`
for a in $A; do
	r() { redis-cli -h $a "$@"; }
	r flushall >/dev/null
	redis-benchmark -h $a -c 20 -n 1000 -t set,get,incr,lpush -q >$WHO.1.log || fail "redis-benchmark to $a"
	redis-benchmark -h $a -c 10 -n 10000 -P 16 -t incr -q >$WHO.2.log || fail "redis-benchmark -P to $a"
	equal "incr by $a" "$(r get counter:__rand_int__)" 11000
	equal "lpush by $a" "$(r llen mylist)" 1000
	r -x set blob <value >/dev/null
	r get blob | head -c $(stat -c %s value) >$WHO.back
	same "blob by $a" $WHO.back value
done
`)
	h.peer.bashOn(false, `
redis-cli -h 10.77.0.1 config set repl-diskless-sync-delay 0 >/dev/null
start replica redis-server --port 6380 --bind 127.0.0.1 --save '' --dir "$D/two" --replicaof 10.77.0.1 6379
replica=$!
listening 6380
copied() { [ "$(redis-cli -p 6380 strlen blob)" = $(stat -c %s value) ]; }
until_true 100 copied
redis-cli -h fd77::1 set after replication >/dev/null
followed() { [ "$(redis-cli -p 6380 get after)" = replication ]; }
until_true 50 followed
redis-cli -p 6380 get blob | head -c $(stat -c %s value) >copy
same "the replica's blob" copy value
redis-cli -p 6380 shutdown nosave
wait $replica || fail "the replica ended with $?"
`)
	p.end(unix.SIGTERM)
}

// TestHostPostgres: postgres under alptrace, a process for each connection;
// pgbench from everywhere, whose sums must agree, and COPY out and in.
func TestHostPostgres(t *testing.T) {
	h := newSharing(t, "postgres", "pgbench", "initdb", "psql")
	env := []string{"PG=" + filepath.Dir(program(t, "postgres")), "PGUSER=scene", "PGPORT=5433", "PGDATABASE=postgres", "PGCONNECT_TIMEOUT=5"}
	for _, s := range []*scene{h.stack, h.kernel, h.peer} {
		s.env = env
	}
	p := h.served(`
PATH=$PG:$PATH
initdb -D "$D/db" -A trust -U scene --no-sync --locale=C -E UTF8 >initdb.log 2>&1 || fail "initdb: $(tail -3 initdb.log)"
echo 'host all all all trust' >>db/pg_hba.conf
start postgres postgres -D "$D/db" -c listen_addresses=* -c port=5433 -c unix_socket_directories= -c fsync=off -c max_connections=30 -c tcp_keepalives_idle=30 -c tcp_user_timeout=20000
until_true 100 psql -h 127.0.0.1 -c 'select 1'
pgbench -h 127.0.0.1 -i -s 1 -q >pginit.log 2>&1 || fail "pgbench -i: $(tail -3 pginit.log)"
`)
	h.everywhere(`
PATH=$PG:$PATH
for PGHOST in $A; do
	export PGHOST
	q() { psql -X -A -t -c "$1"; }
	before=$(q 'select count(*) from pgbench_history')
	pgbench -c 4 -j 2 -t 15 -n >$WHO.bench.log 2>&1 || fail "pgbench: $(tail -3 $WHO.bench.log)"
	grep -q 'transactions actually processed: 60/60' $WHO.bench.log || fail "$(cat $WHO.bench.log)"
	equal "history by $PGHOST" "$(q 'select count(*) from pgbench_history')" $((before + 60))
	pgbench -c 4 -C -t 3 -n -S >$WHO.conn.log 2>&1 || fail "pgbench -C: $(tail -3 $WHO.conn.log)"
	equal "sums by $PGHOST" "$(q 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers)')" "t|t"
	[ $WHO = peer ] && equal "the client as the server has it" "$(q 'select inet_client_addr(), inet_server_addr()')" "${PGHOST%1}2|$PGHOST"
done
psql -X -c "copy (select i, md5(i::text) from generate_series(1, 100000) i) to stdout" >$WHO.rows || fail "copy out"
q "create table $WHO (i int, m text)" >/dev/null
psql -X -c "copy $WHO from stdin" <$WHO.rows >/dev/null || fail "copy in"
equal "rows back" "$(q "select count(*), sum(i), bool_and(m = md5(i::text)) from $WHO")" "100000|5000050000|t"
`)
	p.end(unix.SIGTERM)
}

// hostSSHScript logs in at each address, and copies.
const hostSSHScript = `
go() { timeout 30 ssh -F ssh.conf "$@"; }
for a in $A; do
	go $a 'id -u; echo $SSH_CONNECTION | cut -d" " -f3,4; exit 42' >$WHO.login
	equal "status from $a" $? 42
	equal "login at $a" "$(cat $WHO.login)" "$(id -u)
$a 2222"
	go $a cat <sent >$WHO.back || fail "cat through ssh to $a"
	same "through ssh to $a" $WHO.back sent
done
scp -q -F ssh.conf sent "10.77.0.1:$D/$WHO.put" || fail "scp to"
same "scp to" $WHO.put sent
scp -q -O -F ssh.conf "10.77.0.1:$D/sent" $WHO.got || fail "scp from"
same "scp from" $WHO.got sent
start $WHO.tunnel ssh -F ssh.conf -N -L 127.0.0.1:2223:127.0.0.1:2222 10.77.0.1
tunnel=$!
listening 2223
equal "through -L" "$(go -p 2223 127.0.0.1 echo inner)" inner
stop $tunnel
`

// TestHostSSH: sshd under alptrace, of an ordinary user who has a shell, with
// logins, copies and a tunnel from everywhere; and the kernel's sshd on the
// peer, with ssh under alptrace.
func TestHostSSH(t *testing.T) {
	h := newSharing(t, "sshd", "ssh", "scp", "ssh-keygen")
	u, err := user.Lookup("postgres") // a system user with a shell
	if err != nil {
		t.Fatalf("%v: it comes with the Debian package postgresql", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	for _, s := range []*scene{h.stack, h.kernel, h.peer} {
		s.as(uid, gid)
	}
	h.stack.data("sent", 2<<20)
	config := strings.ReplaceAll(sshdConfig, "@D@", h.stack.dir)
	config = strings.NewReplacer("ListenAddress 127.0.0.1", "ListenAddress 0.0.0.0", "ListenAddress ::1", "ListenAddress ::").Replace(config)
	h.stack.file("sshd.conf", config)
	p := h.served(`
ssh-keygen -q -t ed25519 -N '' -f host_key
ssh-keygen -q -t ed25519 -N '' -f id
cp id.pub authorized_keys
{ printf 'the-host '; cat host_key.pub; } >known
cat >ssh.conf <<END
Host *
  Port 2222
  User $(id -un)
  IdentityFile $D/id
  IdentitiesOnly yes
  UserKnownHostsFile $D/known
  HostKeyAlias the-host
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
END
start sshd /usr/sbin/sshd -D -e -f "$D/sshd.conf"
listening 2222
`)
	h.everywhere(hostSSHScript)
	p.end(unix.SIGTERM)
	k := h.peer.start(false, h.peer.script(`
start sshd.peer /usr/sbin/sshd -D -e -f "$D/sshd.conf" -o PidFile="$D/peer.pid"
listening 2222
echo ready
wait`)...).ready()
	h.stack.bash(`
go() { timeout 30 ssh -F ssh.conf "$@"; }
for a in 10.77.0.2 fd77::2; do
	equal "login at $a" "$(go $a 'echo $SSH_CONNECTION' | cut -d' ' -f1,3)" "${a%2}1 $a"
	go $a cat <sent >back || fail "cat through ssh to $a"
	same "through ssh to $a" back sent
done
`)
	k.end(unix.SIGTERM)
}

// TestHostIperf3: iperf3 in both roles, both ways, TCP and UDP, between the
// stack and the peer, the kernel of the same host and another stack.
func TestHostIperf3(t *testing.T) {
	h := newSharing(t, "iperf3")
	const tests = `
n=1
for a in $A; do
	for way in "" -R "-P 4 -w 200K" -u "-u -R"; do
		case $way in -u*) how="-n 1M -b 20M -l 1200" ;; *) how="-n 10M" ;; esac
		until_true 100 grep -q "test #$n)" $LOG
		iperf3 -c $a -p $PORT -J $how $way >$WHO.$n.json || fail "iperf3 $way to $a: $(grep error $WHO.$n.json)"
		n=$((n + 1))
	done
done
`
	check := func(who string, count int) {
		t.Helper()
		for n := 1; n <= count; n++ {
			name := who + "." + strconv.Itoa(n) + ".json"
			var r iperfReport
			if err := json.Unmarshal([]byte(h.stack.read(name)), &r); err != nil || r.Error != "" {
				t.Errorf("%s: %v %s", name, err, r.Error)
				continue
			}
			sent, got := r.End.SumSent.Bytes, r.End.SumReceived.Bytes
			switch {
			case n%5 == 4 || n%5 == 0: // UDP
				if u := r.End.Sum; u.Packets < 800 || u.LostPackets*5 > u.Packets {
					t.Errorf("%s: %d datagrams, %d lost", name, u.Packets, u.LostPackets)
				}
			case sent < 10<<20 || got < 1<<20 || got > sent: // see TestIperf3
				t.Errorf("%s: %d bytes received of %d sent", name, got, sent)
			}
		}
	}
	run := func(who string, s *scene, traced bool, addrs string, server *scene, tracedServer bool, port string) {
		t.Helper()
		log := who + ".log"
		p := server.start(tracedServer, server.script("start "+who+" iperf3 -s -p "+port+" --forceflush\nuntil_true 100 grep -q 'test #1)' "+log+"\necho ready\nwait\n")...).ready()
		s.bashOn(traced, "WHO="+who+"\nPORT="+port+"\nLOG="+log+"\nA='"+addrs+"'\n"+tests)
		p.end(unix.SIGTERM)
		check(who, 5*len(strings.Fields(addrs)))
	}
	run("peer", h.peer, false, "10.77.0.1 fd77::1", h.stack, true, "5201")
	run("kernel", h.kernel, false, "127.0.0.1", h.stack, true, "5201")
	run("other", h.stack, true, "10.77.0.1", h.stack, true, "5201")
	run("client", h.stack, true, "10.77.0.2 fd77::2", h.peer, false, "5201")
	run("beside", h.stack, true, "127.0.0.1", h.kernel, false, "5202")
}

// TestHostForks: servers with a process for each connection (socat), with
// processes that share a port by SO_REUSEPORT (python), and with answers from
// the address that was asked (dnsmasq).
func TestHostForks(t *testing.T) {
	h := newSharing(t, "socat", "python3", "dig", "dnsmasq")
	for _, f := range []string{"f1", "f2", "f3"} {
		h.stack.data(f, 300_000)
	}
	h.stack.testdata("workers.py")
	p := h.served(`
start echo socat -t10 TCP6-LISTEN:7000,ipv6only=0,fork,reuseaddr EXEC:cat
start proxy socat -t10 TCP6-LISTEN:7001,ipv6only=0,fork,reuseaddr TCP4:10.77.0.1:7000
start sum socat -t10 TCP6-LISTEN:7002,ipv6only=0,fork,reuseaddr,keepalive,nodelay SYSTEM:sha256sum
start upper socat -t10 UDP6-RECVFROM:7003,ipv6only=0,fork SYSTEM:'head -n1 | tr a-z A-Z'
start workers /usr/bin/python3 workers.py 7004 3
start dns dnsmasq -k -C /dev/null -u "" -p 5300 -R -h --address=/test.example/192.0.2.7 --pid-file=
for port in 7000 7001 7002 5300; do listening $port; done
until_true 50 grep -q ready workers.log
`)
	clients := `
sock() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }
for a in $A; do
	s=$(sock $a)
	for i in 1 2 3; do
		socat -t10 - TCP:$s:7000 <f$i >$WHO.e$i & x[i]=$!
		socat -t10 - TCP:$s:7001 <f$i >$WHO.p$i & y[i]=$!
	done
	join "${x[@]}" "${y[@]}"
	for i in 1 2 3; do same "echo $i of $a" $WHO.e$i f$i; same "proxy $i of $a" $WHO.p$i f$i; done
	equal "sum of $a" "$(socat -t10 - TCP:$s:7002 <f1)" "$(sha256sum <f1)"
	equal "datagram of $a" "$(echo "datagram $WHO" | socat -t0.3 - UDP:$s:7003)" "$(echo "datagram $WHO" | tr a-z A-Z)"
	equal "dig @$a" "$(dig +short +time=2 @$a -p 5300 test.example)" 192.0.2.7
	equal "dig +tcp @$a" "$(dig +tcp +short +time=2 @$a -p 5300 test.example)" 192.0.2.7
done
`
	ask := `
/usr/bin/python3 - $A <<'END' || fail "shared port, $WHO"
import socket, sys
want = {b"worker %d" % n for n in range(@N@)}
for a in sys.argv[1:]:
    tcp, udp = set(), set()
    for i in range(60):
        with socket.create_connection((a, 7004), 5) as c:
            tcp.add(c.makefile("rb").read().strip())
        with socket.socket(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_DGRAM) as u:
            u.settimeout(5)
            u.connect((a, 7004))
            u.send(b"datagram %d" % i)
            who, data = u.recv(2000).split(b" datagram ")
            assert int(data) == i, data
            udp.add(who)
    if tcp != want or udp != want:
        sys.exit(f"{a}: {tcp} over TCP, {udp} over UDP, want {want}")
END
`
	h.everywhere(clients + strings.ReplaceAll(ask, "@N@", "3"))
	// One worker ends: the others get what it would have got.
	last := strings.Fields(h.stack.read("workers.log"))
	pid, err := strconv.Atoi(last[len(last)-2])
	if err != nil {
		t.Fatal(err)
	}
	if w, err := os.FindProcess(pid); err != nil || w.Signal(unix.SIGTERM) != nil {
		t.Fatalf("end worker %d: %v", pid, err)
	}
	h.everywhere("\nsleep 0.1\n" + strings.ReplaceAll(ask, "@N@", "2"))
	p.end(unix.SIGTERM)
}
