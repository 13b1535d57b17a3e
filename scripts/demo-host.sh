#!/usr/bin/env bash
# demo-host.sh: two stacks on one address. In a network namespace with a peer
# beside it, the kernel and the user-space stack serve, call and are called on the
# same IP address; the packets are captured at the peer. It needs root, for the
# namespaces and for rootd; who runs alptrace in it is nobody.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' off=$'\e[0m'; else bold='' dim='' green='' off=''; fi
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
fail() { echo "demo: $*" >&2; exit 1; }
((EUID == 0)) || fail "root is needed: sudo scripts/demo-host.sh"
scripts/deps.sh busybox-static curl iproute2 util-linux nginx-light tcpdump

host=alpdemo-host-$$ peer=alpdemo-peer-$$ dir=$(mktemp -d)
chmod 755 "$dir"
pids=()
cleanup() {
	for p in ${pids[@]+"${pids[@]}"}; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	ip netns del "$host" 2>/dev/null || true
	ip netns del "$peer" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

make --no-print-directory build >"$dir/build.log" 2>&1 || { cat "$dir/build.log"; fail "the build failed"; }
cp bin/alptrace bin/rootd "$dir/"
ip netns add "$host"
ip netns add "$peer"
ip link add demo0 netns "$host" type veth peer name demo0 netns "$peer"
ip -n "$host" addr add 10.66.0.1/24 dev demo0
ip -n "$peer" addr add 10.66.0.2/24 dev demo0
for ns in "$host" "$peer"; do
	ip -n "$ns" link set lo up
	ip -n "$ns" link set demo0 up
done

# in_ns NAME COMMAND...: unlike ip netns exec it leaves /sys as it is, where rootd
# pins its programs.
in_ns() { nsenter --net="/run/netns/$1" -- "${@:2}"; }

# serve NAME COMMAND...: a program that runs until the end.
serve() {
	nsenter --net="/run/netns/$1" -- "${@:2}" &
	pids+=($!)
}
user=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --)

# show NAME USER COMMAND...: shows the command and runs it in a namespace.
show() {
	printf '%s%s$ %s%s\n' "$green" "$1: " "${*:3}" "$off"
	local ns=$host as=()
	[[ $1 == peer ]] && ns=$peer
	[[ $2 == nobody ]] && as=("${user[@]}")
	in_ns "$ns" "${as[@]}" env "PATH=$dir:$PATH" timeout 20 "${@:3}" || fail "it failed"
}

# await NAME PORT: until something answers at 10.66.0.1.
await() {
	for _ in {1..100}; do
		in_ns "$peer" curl -so /dev/null --max-time 2 "http://10.66.0.1:$1/" && return
		sleep 0.05
	done
	fail "nothing answers on port $1"
}

# nginx_conf NAME PORT: the configuration of an nginx with a page of its own.
nginx_conf() {
	mkdir -m 777 "$dir/$1"
	echo "This page comes from $3." >"$dir/$1/index.html"
	cat >"$dir/$1.conf" <<-CONF
		daemon off; worker_processes 2; pid $dir/$1/pid; error_log $dir/$1/error.log;
		events { }
		http { access_log off; client_body_temp_path $dir/$1; proxy_temp_path $dir/$1; fastcgi_temp_path $dir/$1;
			uwsgi_temp_path $dir/$1; scgi_temp_path $dir/$1; server { listen 10.66.0.1:$2; root $dir/$1; } }
	CONF
}
nginx_conf kernel 8000 "the kernel's stack"
nginx_conf stack 8080 "the user-space stack"
mkdir "$dir/peer"
echo "This page comes from the peer." >"$dir/peer/index.html"

serve "$host" "$dir/rootd" --socket "$dir/rootd.sock" --pins "/sys/fs/bpf/alpdemo-$$" --table alpdemo --log-level error 2>"$dir/rootd.log"
for _ in {1..100}; do
	[[ -S $dir/rootd.sock ]] && break
	kill -0 "${pids[0]}" 2>/dev/null || { echo "two stacks on one address are not possible here: $(cat "$dir/rootd.log")"; exit 0; }
	sleep 0.05
done
serve "$peer" busybox httpd -f -p 10.66.0.2:80 -h "$dir/peer"
serve "$peer" tcpdump --immediate-mode -Z root -i demo0 -U -w "$dir/peer.pcap" tcp 2>/dev/null
serve "$host" nginx -c "$dir/kernel.conf" -e "$dir/kernel/error.log"
serve "$host" "${user[@]}" "$dir/alptrace" --net host --rootd "$dir/rootd.sock" nginx -c "$dir/stack.conf" -e "$dir/stack/error.log"
await 8000
await 8080
since=$(date +%s.%N) # until then the kernel refused, for nobody was there

printf '\n%s%s%s\n' "$bold" "Two stacks on one address" "$off"
echo "the host is 10.66.0.1, the peer 10.66.0.2; nginx runs twice on the host:"
echo "   as root on the kernel's stack, port 8000; as nobody under alptrace --net host, port 8080"

heading "1. The peer asks both"
show peer root curl -s http://10.66.0.1:8000/
show peer root curl -s http://10.66.0.1:8080/

heading "2. A program of the host's kernel asks the stack, by the host's own address"
show host root curl -s http://10.66.0.1:8080/

heading "3. Two programs ask the peer: one by each stack, from one address"
show host root curl -s -w 'from %{local_ip}\n' http://10.66.0.2/
show host nobody alptrace --net host --rootd "$dir/rootd.sock" curl -s -w 'from %{local_ip}\n' http://10.66.0.2/

heading "4. A port that one stack has, the other refuses"
printf '%s%s%s\n' "$green" "host: \$ alptrace --net host busybox httpd -f -p 10.66.0.1:8000" "$off"
if in_ns "$host" "${user[@]}" timeout 5 "$dir/alptrace" --net host --rootd "$dir/rootd.sock" busybox httpd -f -p 10.66.0.1:8000; then
	fail "it was not refused"
fi
printf '%s%s%s\n' "$green" "host: \$ busybox httpd -f -p 10.66.0.1:8080" "$off"
if in_ns "$host" timeout 5 busybox httpd -f -p 10.66.0.1:8080; then fail "it was not refused"; fi

heading "5. What the peer saw: the SYN of each connection and its answer"
sleep 0.3
printf '%s' "$dim"
tcpdump -nn -r "$dir/peer.pcap" 'tcp[tcpflags] & tcp-syn != 0' 2>/dev/null | cut -c1-150 | tail -n 12
printf '%s' "$off"
resets=$(tcpdump -tt -nn -r "$dir/peer.pcap" 'tcp[tcpflags] & tcp-rst != 0 and src host 10.66.0.1 and tcp src port 8080' 2>/dev/null |
	awk -v since="$since" '$1 > since' | wc -l)
echo "resets from the kernel on the stack's port: $resets"
((resets == 0)) || fail "the kernel answered for the stack"

heading "6. rootd status"
show host root rootd status --socket "$dir/rootd.sock"
