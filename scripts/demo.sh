#!/usr/bin/env bash
# demo.sh: unmodified programs on the user-space stack, and the packets that it
# sent for them. Run by root it goes on as nobody: alptrace needs no privilege.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' off=$'\e[0m'; else bold='' dim='' green='' off=''; fi
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
command_line() { printf '%s$ %s%s\n' "$green" "$*" "$off"; }
fail() { echo "demo: $*" >&2; exit 1; }

command -v go >/dev/null || fail "Go is needed: https://go.dev/dl/"
scripts/deps.sh busybox-static curl iproute2 util-linux

dir=$(mktemp -d)
chmod 755 "$dir"
pids=()
cleanup() {
	for p in ${pids[@]+"${pids[@]}"}; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

echo "building alptrace ..."
make --no-print-directory build >"$dir/build.log" 2>&1 || { cat "$dir/build.log"; fail "the build failed"; }
export CGO_ENABLED=0
go build -o "$dir/democlient" ./scripts/democlient
go build -o "$dir/pcapshow" ./scripts/pcapshow
cp bin/alptrace "$dir/alptrace"
cp "$(command -v busybox)" "$dir/busybox"
mkdir -m 777 "$dir/captures"
mkdir -m 755 "$dir/host" "$dir/stack"
echo "This page is served by the host's kernel." >"$dir/host/page"
echo "This page is served from the user-space stack." >"$dir/stack/page"

# user runs a command as an unprivileged user.
user=()
if ((EUID == 0)); then user=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --); fi
export PATH="$dir:$PATH"
cd "$dir/captures"

# free_port prints a port of the host on which nothing listens.
free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000)) # below the ephemeral ports
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
	done
}

# await PORT: until something listens on a port of the host's loopback.
await() {
	for _ in {1..100}; do
		(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
		sleep 0.05
	done
	fail "nothing listens on port $1"
}

# show WANT COMMAND...: shows the command, runs it as the user, and checks its
# output.
show() {
	local want=$1 got
	shift
	command_line "$@"
	got=$(timeout 30 "${user[@]}" "$@") || fail "it failed"
	echo "$got"
	[[ $got == "$want" ]] || fail "that is not what was expected"
}

# packets FILE [N]: the first packets of a capture.
packets() {
	printf '%s' "$dim"
	pcapshow -n "${2:-5}" -from 10.0.2.15 "$1" || fail "no packets of the user-space stack"
	printf '%s' "$off"
}

port=$(free_port)
"${user[@]}" busybox httpd -f -p "127.0.0.1:$port" -h "$dir/host" &
pids+=($!)
await "$port"
page=$(cat "$dir/host/page")

printf '\n%s%s%s\n' "$bold" "alptrace: unmodified programs on a network stack in user space" "$off"
echo "running as $("${user[@]}" id -un), with no capability and no daemon"
echo "10.0.2.15 is the address of the user-space stack; the host's own are:"
ip -brief address | awk '{ $2 = ""; print "   ", $0 }'
if ip -brief address | grep -qw 10.0.2.15; then fail "the host has 10.0.2.15 itself"; fi

heading "1. A static busybox, a page of a server on the host (10.0.2.2 is the host)"
show "$page" alptrace --pcap busybox.pcapng busybox wget -qO- "http://10.0.2.2:$port/page"
packets busybox.pcapng 6

heading "2. curl, dynamically linked"
show "$page" alptrace --pcap curl.pcapng curl -s "http://10.0.2.2:$port/page"
packets curl.pcapng

heading "3. A static Go program, with no libc to intercept"
show "$page" alptrace --pcap go.pcapng democlient "http://10.0.2.2:$port/page"
packets go.pcapng

heading "4. A forking server on the stack, its port published on the host"
published=$(free_port)
serve=(alptrace --publish "127.0.0.1:$published:80" --pcap server.pcapng --trace=server.trace
	busybox httpd -f -p 80 -h "$dir/stack")
command_line "${serve[*]} &"
"${user[@]}" "${serve[@]}" &
server=$!
pids+=("$server")
# The host's port is there before the server is.
for _ in {1..100}; do
	grep -q '^[0-9]* *listen(.*= 0' server.trace 2>/dev/null && break
	sleep 0.05
done
for _ in 1 2; do
	show "$(cat "$dir/stack/page")" curl -s "http://127.0.0.1:$published/page"
done
kill "$server"
wait "$server" 2>/dev/null || true
packets server.pcapng
echo "its socket calls; each connection is served, and ended, by a process of its own:"
printf '%s' "$dim"
grep -vE 'setsockopt|-1 E' server.trace | sed -E 's, <[0-9.]+>$,,' || true
printf '%s' "$off"

heading "All of it ran on the user-space stack."
cd "$OLDPWD"
if ((EUID == 0)); then
	scripts/demo-host.sh
else
	echo "As root, scripts/demo-host.sh shows it on the host's own address, beside the kernel."
fi
