package apps

import "testing"

// TestPython: http.server and urllib, a forking socketserver, asyncio, UDP
// with selectors, a dual-stack listener, sendfile across fork.
func TestPython(t *testing.T) {
	s := newScene(t, "python3")
	s.data("www/big", 1<<20)
	s.testdata("pair.py")
	out := s.bash(`
start http4 /usr/bin/python3 -m http.server 8000 --bind 127.0.0.1 --directory "$D/www"
http4=$!
start http6 /usr/bin/python3 -m http.server 8001 --bind ::1 --directory "$D/www"
http6=$!
start forking /usr/bin/python3 pair.py forking "$D"
forking=$!
listening 8000
listening 8001 ::1
listening 8002
/usr/bin/python3 pair.py client "$D" || fail client
stop $http4; stop $http6; stop $forking
`)
	if want := "web ok\nforking ok\nasyncio ok\ndual ok\nudp ok\nsendfile ok\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}
