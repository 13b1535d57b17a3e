#!/usr/bin/env bash
# demo-lab.sh: a network of eight hosts on one machine, with real programs, its
# live page and its pictures; then the same network in virtual time, twice. Run by
# root it goes on as nobody: a laboratory needs no privilege.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -t 1 ]]; then bold=$'\e[1m' green=$'\e[32m' off=$'\e[0m'; else bold='' green='' off=''; fi
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
command_line() { printf '%s$ %s%s\n' "$green" "$*" "$off"; }
fail() { echo "demo-lab: $*" >&2; exit 1; }

command -v go >/dev/null || fail "Go is needed: https://go.dev/dl/"
scripts/deps.sh curl python3 util-linux chromium

dir=$(mktemp -d)
chmod 755 "$dir"
mkdir -m 777 "$dir/work"
lab=
cleanup() {
	[[ -z $lab ]] || kill "$lab" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

echo "building alplab ..."
make --no-print-directory build >"$dir/build.log" 2>&1 || { cat "$dir/build.log"; fail "the build failed"; }
CGO_ENABLED=0 go build -o "$dir/pageshot" ./scripts/pageshot
cp bin/alplab "$dir/"
cp -r examples "$dir/examples"
chmod -R a+rX "$dir"
out=$PWD/out/demo-lab
mkdir -p "$out"

user=()
if ((EUID == 0)); then user=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --); fi
export PATH="$dir:$PATH" HOME="$dir/work" TMPDIR="$dir/work"
cd "$dir/work"

# run shows a command and runs it as the user.
run() {
	command_line "$@"
	timeout 60 "${user[@]}" "$@" || fail "it failed"
}

heading "1. Four curls, four servers, one bottleneck of 20 Mbit/s: as $("${user[@]}" id -un), without a device or a namespace"
sed -n '1,10p' "$dir/examples/lab/dumbbell.toml"
command_line alplab up --ui 0 examples/lab/dumbbell.toml
timeout 60 "${user[@]}" alplab up --ui 0 -o "$dir/work/dumbbell" "$dir/examples/lab/dumbbell.toml" 2>up.log &
lab=$!
for _ in {1..200}; do
	url=$(grep -om1 'http://[^ ]*' up.log || true)
	[[ -z $url ]] || break
	sleep 0.05
done
[[ -n $url ]] || { cat up.log; fail "the lab does not run"; }
echo "its live page: $url"
run alplab exec client1 ping -c 2 -q server4
timeout 60 "${user[@]}" pageshot -host server1 -link bottleneck "$url" page.png || fail "no picture of the page"
wait "$lab" || { cat up.log; fail "the lab failed"; }
lab=
grep -E '^(PROGRAM|client[0-9]/)' dumbbell/summary.txt
grep -E '^(LINK|bottleneck)' dumbbell/summary.txt
cp page.png dumbbell/dumbbell.svg "$out/"

heading "2. How the first transfer went, from its capture"
run alplab plot --kind seq --conn :8000 --title "server1 to client1" -o seq.svg dumbbell/server1-eth0.pcapng
cp seq.svg "$out/"

heading "3. A network of the same shape in virtual time, twice: the same seed, the same packets"
command_line alplab sim examples/sim/dumbbell.toml
timeout 60 "${user[@]}" alplab sim "$dir/examples/sim/dumbbell.toml" | tee first | tail -n 3
command_line alplab sim examples/sim/dumbbell.toml
timeout 60 "${user[@]}" alplab sim "$dir/examples/sim/dumbbell.toml" | tee second | tail -n 3
[[ $(grep ^hash first) == $(grep ^hash second) ]] || fail "the packets differ"

heading "The pictures are in out/demo-lab:"
cat <<TEXT
    page.png      the live page, while the transfers ran
    dumbbell.svg  windows, round-trip times, throughput, and the queue that they share
    seq.svg       every segment of one of them
TEXT
