#!/usr/bin/env bash
# test.sh [SUITE...]: installs what the tests need, runs the suites (all of them
# if none is named) and ends with a summary. The suites:
#
#   format      gofmt
#   vet         go vet, for amd64 and arm64; build for arm64
#   filter      the embedded seccomp filters are what the generator makes
#   unit        the tests of every package
#   transcript  small programs, natively and under alptrace, line for line
#   apps        real programs
#   lab         captures, logs, plots, the live page, overlays, networks of hosts
#   sharing     rootd: things are killed at random, and nobody else notices
#   gostd       the Go standard library's own tests, under alptrace
# shellcheck disable=SC2317 # functions are called by a name that is made
set -euo pipefail
cd "$(dirname "$0")/.."

all=(format vet filter unit transcript apps lab sharing gostd)
suites=("$@")
((${#suites[@]})) || suites=("${all[@]}")

# Tests of long runs are bounded one by one; these bound a suite.
declare -A limit=([unit]=5m [transcript]=8m [apps]=15m [lab]=8m [sharing]=10m [gostd]=10m)

delve=github.com/go-delve/delve/cmd/dlv@v1.27.2

mkdir -p out
log=$PWD/out/test.log
: >"$log"
began=$SECONDS
results=()
failed=0

# packages lists the Go packages of a suite.
packages() {
	case $1 in
	unit) go list ./... | grep -v '/test/' ;;
	*) echo "./test/$1/..." ;;
	esac
}

# go_test SUITE: its tests, as root where they make namespaces. The list of
# packages may have several words.
go_test() {
	local exec=()
	[[ $1 == unit ]] || exec=(-exec "$PWD/scripts/asroot.sh")
	local pkgs
	mapfile -t pkgs < <(packages "$1")
	go test -json -count=1 -timeout "${limit[$1]}" "${exec[@]}" "${pkgs[@]}" 2>&1 |
		tee -a "$log" | go run ./scripts/testsum -append out/test-totals
}

suite_format() {
	local bad
	bad=$(git ls-files -co --exclude-standard '*.go' | xargs -d '\n' gofmt -l) || return 1
	[[ -z $bad ]] || { echo "not formatted:"; echo "$bad"; return 1; }
}

suite_vet() {
	GOARCH=amd64 CGO_ENABLED=0 go vet ./... &&
		GOARCH=arm64 CGO_ENABLED=0 go build ./... &&
		GOARCH=arm64 CGO_ENABLED=0 go vet ./...
}

suite_filter() { scripts/filter-check.sh; }
suite_unit() { go_test unit; }
suite_transcript() { go_test transcript; }
suite_apps() { go_test apps; }
suite_lab() { PATH=$PATH:$PWD/out/bin go_test lab; }
suite_sharing() { go_test sharing; }
suite_gostd() { GOSTD_TABLE=$PWD/out/gostd.txt go_test gostd && cat out/gostd.txt; }

for s in "${suites[@]}"; do
	[[ " ${all[*]} " == *" $s "* ]] || { echo "test.sh: no suite $s; there are: ${all[*]}" >&2; exit 2; }
done

command -v go >/dev/null || { echo "test.sh: Go is needed: https://go.dev/dl/" >&2; exit 1; }
mapfile -t apps <test/apps/packages.txt
cc32=()
[[ $(dpkg --print-architecture) != amd64 ]] || cc32=(gcc-multilib) # the 32-bit programs
scripts/deps.sh gcc libc6-dev libseccomp-dev pkg-config clang llvm iproute2 util-linux chromium "${cc32[@]}" "${apps[@]}"
[[ " ${suites[*]} " != *" lab "* ]] || GOBIN=$PWD/out/bin CGO_ENABLED=0 go install "$delve"
rm -f out/test-totals

for s in "${suites[@]}"; do
	printf '\n== %s\n' "$s"
	start=$SECONDS
	if "suite_$s"; then
		word=passed
	else
		word=FAILED
		failed=1
	fi
	results+=("$(printf '%-11s %-6s %5d s' "$s" "$word" $((SECONDS - start)))")
done

printf '\n== summary\n'
printf '%s\n' "${results[@]}"
printf 'in %d s; the whole output is in out/test.log\n' $((SECONDS - began))
[[ ! -e out/test-totals ]] || go run ./scripts/testsum -total out/test-totals
exit $failed
