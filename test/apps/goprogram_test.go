package apps

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGo: a static Go HTTP server and client: raw system calls, the runtime's
// edge-triggered poller, sendfile and splice, listeners that ask for MPTCP.
func TestGo(t *testing.T) {
	s := newScene(t)
	bin := filepath.Join(s.dir, "gopair")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "./testdata/gopair")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	s.data("big", 2<<20)
	out := s.bash(`
start server ./gopair server big
server=$!
listening 8000
listening 8001
# Four times: the runtime's own signals interrupt calls, now and then at a bad moment.
for i in 1 2 3; do ./gopair client big >/dev/null || fail "client $i"; done
./gopair client big || fail client
kill $server
wait $server || fail "the server ended with $?"
`)
	if want := "http ok\nhttp2 ok\nudp ok\ntcp ok\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}
