# Functions for the scripts of scenes. Sourced by bash, with D the scene's directory.
set -u
umask 022
cd "$D" || exit 1
started=()

fail() { echo "FAIL: $*" >&2; exit 1; }

# start NAME CMD...: runs CMD in the background, its output in NAME.log; $! is its pid.
start() {
	local name=$1
	shift
	"$@" >"$D/$name.log" 2>&1 </dev/null &
	started+=($!)
}

# stop PID [SIGNAL]: ends a process that start started and waits for it.
stop() {
	kill "-${2:-TERM}" "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	return 0
}

cleanup() {
	local p
	for p in ${started[@]+"${started[@]}"}; do kill -TERM "$p" 2>/dev/null && set -- again; done
	[ $# = 0 ] || sleep 0.3 # for servers that end their own processes
	for p in ${started[@]+"${started[@]}"}; do kill -KILL "$p" 2>/dev/null; done
}
trap cleanup EXIT

# listening PORT [HOST]: waits until a connection is accepted.
listening() {
	local i
	for ((i = 0; i < 300; i++)); do
		(exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null && return 0
		[ ${#started[@]} = 0 ] || kill -0 "${started[@]}" 2>/dev/null || fail "no server runs any more"
		sleep 0.05
	done
	fail "nothing listens on ${2:-127.0.0.1} port $1"
}

# until_true N CMD...: tries CMD, at most N times, 0.1 s apart.
until_true() {
	local n=$1 i
	shift
	for ((i = 0; i < n; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.1
	done
	fail "never succeeded: $*"
}

# equal WHAT GOT WANT: fails unless the two strings are the same.
equal() { [ "$2" = "$3" ] || fail "$1: got '${2:0:300}', want '${3:0:300}'"; }

# same WHAT FILE FILE: fails unless the two files have the same bytes.
same() { cmp "$2" "$3" >&2 || fail "$1: $2 ($(stat -c %s "$2" 2>&1) bytes) differs from $3 ($(stat -c %s "$3") bytes)"; }

# join PID...: waits for each, and fails if one failed.
join() {
	local p
	for p in "$@"; do wait "$p" || fail "process $p of a parallel run: status $?"; done
}

sum() { sha256sum <"$1" | cut -d' ' -f1; }
