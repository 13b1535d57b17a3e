package apps

import "testing"

// TestJava: HttpServer and HttpClient, blocking sockets with a thread each,
// channels with transferTo, datagrams.
func TestJava(t *testing.T) {
	s := newScene(t, "java", "javac")
	s.data("big", 1<<20)
	s.testdata("Pair.java")
	out := s.bash(`
start server java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto Pair.java server "$D"
server=$!
listening 8000
listening 8001
listening 8002
java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC Pair.java client "$D" || fail client
stop $server
`)
	if want := "http ok\nsockets ok\ndatagrams ok\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}
