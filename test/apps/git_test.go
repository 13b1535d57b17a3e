package apps

import "testing"

// TestGitDaemon: clone, push and fetch over the git protocol; the daemon runs a
// process with the connection on its standard input and output.
func TestGitDaemon(t *testing.T) {
	s := newScene(t, "git")
	s.data("blob", 4<<20)
	s.bash(`
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git config --global init.defaultBranch main
git config --global gc.auto 0
git init -q work && cd work || fail init
cp ../blob blob
for i in $(seq 40); do echo "line $i" >>log; git add . && git commit -q -m "commit $i" || fail commit; done
cd ..
mkdir srv && git clone -q --bare work srv/repo.git || fail bare
start daemon git daemon --base-path="$D/srv" --export-all --enable=receive-pack --listen=127.0.0.1 --port=9418 --reuseaddr --verbose --pid-file="$D/git.pid"
daemon=$!
listening 9418
git clone -q git://127.0.0.1/repo.git one || fail clone
equal "HEAD of the clone" "$(git -C one rev-parse HEAD)" "$(git -C work rev-parse HEAD)"
equal "commits" "$(git -C one rev-list --count HEAD)" 40
git -C one fsck --full --strict 2>fsck.log || fail "fsck of the clone"
same "the blob" one/blob blob
for i in 1 2 3 4; do git clone -q --depth 3 git://127.0.0.1/repo.git c$i & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4; do equal "shallow $i" "$(git -C c$i rev-list --count HEAD)" 3; done
echo pushed >one/new; git -C one add new; git -C one commit -q -m push
git -C one push -q origin main || fail push
git clone -q git://localhost/repo.git two || fail "second clone"
equal "HEAD after the push" "$(git -C two rev-parse HEAD)" "$(git -C one rev-parse HEAD)"
git ls-remote git://127.0.0.1/none.git 2>/dev/null && fail "an unknown repository was served"
# The daemon's own child serves; end both.
stop $daemon
[ -f git.pid ] && kill "$(cat git.pid)" 2>/dev/null
true
`)
}
