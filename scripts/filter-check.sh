#!/usr/bin/env bash
# filter-check.sh: the embedded seccomp filters are what the generator makes.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=1 go run -tags libseccomp ./tracer/filter/gen -dir "$dir"
status=0
for made in "$dir"/*; do
	cmp "$made" "tracer/filter/${made##*/}" || status=1
done
((status == 0)) || echo "filter-check: run make generate, and commit what it makes" >&2
exit $status
