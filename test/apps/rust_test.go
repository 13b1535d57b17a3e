package apps

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRust: a pair of std::net programs: an echo server that splices, many
// clients with peek and timeouts, UDP.
func TestRust(t *testing.T) {
	s := newScene(t, "rustc")
	src := s.testdata("pair.rs")
	bin := filepath.Join(s.dir, "pair")
	if out, err := exec.Command(program(t, "rustc"), "--edition", "2021", "-o", bin, src).CombinedOutput(); err != nil {
		t.Fatalf("rustc: %v\n%s", err, out)
	}
	s.data("big", 2<<20)
	out := s.bash(`
start server ./pair server
server=$!
listening 9100
listening 9101 ::1
./pair client big || fail client
stop $server
`)
	if want := "tcp ok\nerrors ok\nudp ok\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}
