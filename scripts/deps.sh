#!/usr/bin/env bash
# deps.sh PACKAGE...: installs those of the Debian packages that are missing,
# with sudo unless run by root. Services that come with them are not started.
set -euo pipefail

missing=()
for p in "$@"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[[ $status == installed ]] || missing+=("$p")
done
((${#missing[@]})) || exit 0

root=()
if ((EUID != 0)); then
	command -v sudo >/dev/null || {
		echo "deps: missing: ${missing[*]}; install them as root" >&2
		exit 1
	}
	root=(sudo)
fi

echo "installing ${missing[*]}"
# A policy that forbids it keeps Debian from starting the servers that it installs.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
	trap '"${root[@]}" rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
	"${root[@]}" chmod 755 "$policy"
fi
log=$(mktemp)
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 "$@" </dev/null >>"$log" 2>&1; }
if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; }; then
	tail -20 "$log" >&2
	echo "deps: apt-get failed; its output is in $log" >&2
	exit 1
fi
rm -f "$log"
