#!/usr/bin/env bash
# demo-receivers.sh: the same file, downloaded by the same curl, on receivers that
# acknowledge in different ways, from senders of different years. Table and
# picture go to out/receivers. Root is not needed where users may make namespaces
# (for the kernel's TCP) and open /dev/net/tun. docs/demo-receivers.md tells what
# it shows.
#
#   SIZE (bytes), LINK (docs/impair.md) and RUNS (of which the median counts) may
#   be set.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "demo-receivers: $*" >&2; exit 1; }
command -v go >/dev/null || fail "Go is needed: https://go.dev/dl/"
scripts/deps.sh busybox-static curl util-linux

SIZE=${SIZE:-5000000}
LINK=${LINK:-delay=50ms rate=100mbit queue=5000p}
RUNS=${RUNS:-3}
root=$PWD
out=$root/out/receivers
mkdir -p "$out"

dir=$(mktemp -d)
chmod 755 "$dir"
sender=
cleanup() {
	[[ -z $sender ]] || kill -KILL -- "-$sender" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

CGO_ENABLED=0 go build -o "$dir/" ./cmd/alptrace ./scripts/demoreceivers
export PATH="$dir:$PATH"
mkdir "$dir/www"
head -c "$SIZE" /dev/urandom >"$dir/www/file"

old=sack=off,timestamps=off,tlp=off,frto=off
httpd=(busybox httpd -f -p 10.9.0.2:80 -h "$dir/www")

# serve SENDER: the file's server on the wire, as 10.9.0.2.
serve() {
	local tcp
	case $1 in
	1999) tcp=alp,cc=reno1999,$old ;;
	bytes) tcp=alp,cc=abc,iw=1,$old ;;
	checks) tcp=alp,check=skip ;;
	linux)
		setsid unshare -Urn demoreceivers bridge -wire "$wire" -addr 10.9.0.2/24 "${httpd[@]}" &
		sender=$!
		return
		;;
	esac
	setsid alptrace --net "wire:$wire" --addr 10.9.0.2/24 --tcp "$tcp" "${httpd[@]}" &
	sender=$!
}

# download SENDER RECEIVER LINK CAPTURE: one run; prints seconds and whether the
# file is right.
download() {
	wire=$(mktemp -d "$dir/wire.XXXX")
	serve "$1"
	for _ in {1..100}; do [[ -n $(ls "$wire") ]] && break; sleep 0.05; done
	sleep 0.5
	local get=(curl -sS --max-time 40 -o "$dir/got" -w '%{time_total}' http://10.9.0.2/file) took
	rm -f "$dir/got"
	case $2 in
	kernel) took=$(unshare -Urn demoreceivers bridge -wire "$wire" -addr 10.9.0.1/24 -impair "$3" -pcap "$4" "${get[@]}" 2>"$dir/err") || true ;;
	*) took=$(alptrace --net "wire:$wire" --addr 10.9.0.1/24 --tcp "alp,ack=$2" --impair "$3" --pcap "$4" "${get[@]}" 2>"$dir/err") || true ;;
	esac
	local end="right"
	if [[ -s $dir/err ]]; then
		end=$(sed -n 's/^curl: ([0-9]*) //p' "$dir/err" | head -1)
	elif ! cmp -s "$dir/got" "$dir/www/file"; then
		end="corrupt"
	fi
	kill -KILL -- "-$sender" 2>/dev/null || true
	wait "$sender" 2>/dev/null || true
	sender=
	printf '%s\t%s\n' "$took" "$end"
}

# row SENDER RECEIVER LINK: the run whose time is the median.
row() {
	local n=$1-$2
	for i in $(seq "$RUNS"); do
		printf '%s\t%s\n' "$(download "$1" "$2" "$3" "$dir/$n.$i.pcapng")" "$i"
	done | sort -n | sed -n "$(((RUNS + 1) / 2))p" >"$dir/median"
	IFS=$'\t' read -r took end i <"$dir/median"
	cp "$dir/$n.$i.pcapng" "$out/$n${4:-}.pcapng"
	printf '| %s | %s | %.2f s | %s |\n' "$1" "$2" "$took" "$end" | tee -a "$table"
}

table=$out/table.md
printf '%s bytes, %s both ways; the median of %s runs\n\n| sender | receiver | time | the file |\n| --- | --- | --- | --- |\n' "$SIZE" "$LINK" "$RUNS" | tee "$table"
receivers=(delayed split dup optimistic kernel)
panels=()
for s in 1999 bytes linux; do
	case $s in
	1999) panels+=("a sender of 1999") ;;
	bytes) panels+=("a sender that counts bytes") ;;
	linux) panels+=("Linux") ;;
	esac
	for r in "${receivers[@]}"; do
		row "$s" "$r" "$LINK"
		panels+=("$out/$s-$r.pcapng=$r")
	done
done
printf '\nThe same with loss=0.3%%:\n\n| sender | receiver | time | the file |\n| --- | --- | --- | --- |\n' | tee -a "$table"
for r in delayed optimistic; do row linux "$r" "$LINK loss=0.3%" -loss; done
printf '\nA sender that withholds segments (check=skip):\n\n| sender | receiver | time | the file |\n| --- | --- | --- | --- |\n' | tee -a "$table"
for r in "${receivers[@]}"; do row checks "$r" "$LINK"; done

demoreceivers draw -o "$out/receivers.svg" "${panels[@]}"
demoreceivers draw -o "$out/receivers.png" "${panels[@]}"
echo
echo "out/receivers has the table, the picture and the captures."
