package apps

import (
	"strconv"
	"strings"
	"testing"
)

// TestRsync: an rsync daemon; a tree comes down, a change goes up, and the
// delta of a large file is computed over the connection.
func TestRsync(t *testing.T) {
	s := newScene(t, "rsync")
	for i := range 150 {
		s.data("tree/d"+strconv.Itoa(i%7)+"/f"+strconv.Itoa(i), i*317)
	}
	s.data("tree/big", 10<<20)
	s.file("rsyncd.conf", strings.ReplaceAll(`
port = 8873
address = 127.0.0.1
use chroot = no
pid file = @D@/rsyncd.pid
lock file = @D@/rsyncd.lock
log file = @D@/rsyncd.log
[tree]
path = @D@/tree
read only = no
`, "@D@", s.dir))
	s.bash(`
start rsync rsync --daemon --no-detach --config "$D/rsyncd.conf"
rsync=$!
listening 8873
tree() { (cd "$1" && find . -type f | sort | xargs sha256sum); }
rsync -a rsync://127.0.0.1:8873/tree/ copy/ || fail "down"
equal "the tree" "$(tree copy)" "$(tree tree)"
equal "files" "$(tree copy | wc -l)" 151
printf 'changed in the middle' | dd of=copy/big bs=1 seek=5000000 conv=notrunc status=none
echo new >copy/new
rm copy/d0/f0
rsync -ac --delete --no-whole-file --stats copy/ rsync://127.0.0.1:8873/tree/ >stats.out || fail "up"
equal "the tree after the change" "$(tree tree)" "$(tree copy)"
literal=$(sed -n 's/^Literal data: \([0-9,]*\) .*/\1/p' stats.out | tr -d ,)
[ "$literal" -lt 100000 ] || fail "the delta of one change was $literal bytes"
for i in 1 2 3 4; do rsync -az rsync://127.0.0.1:8873/tree/ par$i/ & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4; do equal "parallel $i" "$(tree par$i)" "$(tree tree)"; done
rsync rsync://127.0.0.1:8873/none/ 2>/dev/null && fail "an unknown module was served"
stop $rsync
`)
}
