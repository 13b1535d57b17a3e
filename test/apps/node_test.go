package apps

import "testing"

// TestNode: node's http server and fetch, keep-alive agents, net, dgram, and
// a cluster of processes that pass connections over AF_UNIX.
func TestNode(t *testing.T) {
	s := newScene(t, "node")
	s.data("big", 2<<20)
	s.testdata("pair.mjs")
	out := s.bash(`
start server node pair.mjs server "$D"
server=$!
start cluster node pair.mjs cluster "$D"
cluster=$!
listening 8000
listening 8001
listening 8003
node pair.mjs client "$D" || fail client
stop $server; stop $cluster
`)
	if want := "http ok\nnet ok\ndgram ok\ncluster ok\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}
