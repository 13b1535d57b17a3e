#!/usr/bin/env bash
# asroot.sh COMMAND...: runs the command as root with this user's Go, or as this
# user where there is no sudo. It is what go test -exec runs test binaries with:
# they make network namespaces.
set -euo pipefail
if ((EUID == 0)) || ! command -v sudo >/dev/null; then
	exec "$@"
fi
# What root builds goes to a cache of root's own, so that no file in the user's
# cache ends up with another owner.
exec sudo env "PATH=$PATH" "GOMODCACHE=$(go env GOMODCACHE)" "GOCACHE=/var/tmp/alptrace-root-gocache" \
	"GOFLAGS=$(go env GOFLAGS)" "GOPROXY=$(go env GOPROXY)" \
	"ALPTRACE_RUNNER=${ALPTRACE_RUNNER-}" "ALPTRACE_FLAGS=${ALPTRACE_FLAGS-}" "GOSTD_TABLE=${GOSTD_TABLE-}" "$@"
