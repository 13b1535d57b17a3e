#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target for TIME.
set -euo pipefail
cd "$(dirname "$0")/.."
fuzztime=${1:-10s}
targets=0
while IFS=: read -r file _ decl; do
	name=${decl#func }
	name=${name%%(*}
	printf '== %s in %s\n' "$name" "$(dirname "$file")"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$fuzztime" -fuzzminimizetime 1x "./$(dirname "$file")"
	targets=$((targets + 1))
done < <(git grep -n --untracked -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go')
echo "$targets fuzz targets, $fuzztime each"
((targets > 0))
