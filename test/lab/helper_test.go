package lab_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// binaries is a folder for the commands that the tests build, where any user can
// run them; it is removed at the end.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "alptrace-lab-bin-")
	if err != nil {
		return "", err
	}
	built = dir
	return dir, os.Chmod(dir, 0o755)
})

var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// build builds a command of ours.
func build(name, path string, flags ...string) error {
	c := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", path}, flags...), "github.com/alptrace/alptrace/cmd/"+name)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return nil
}

// once builds a command, once for all tests.
func once(name string) func() (path string, err error) {
	return sync.OnceValues(func() (string, error) {
		dir, err := binaries()
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, name)
		return path, build(name, path)
	})
}

var builtAlptrace, builtAlplab = once("alptrace"), once("alplab")

// alptrace is the command's path: that which ALPTRACE_RUNNER names, or a fresh
// build.
func alptrace(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("ALPTRACE_RUNNER"); path != "" {
		return path
	}
	path, err := builtAlptrace()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// alplab is the other command's path, of a fresh build.
func alplab(t *testing.T) string {
	t.Helper()
	path, err := builtAlplab()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// unprivileged is the user of the labs when the tests are root's.
const unprivileged = 65534

// need skips the test where programs are not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// serveData serves n random bytes on the host's loopback, and returns the port
// and their hash.
func serveData(t *testing.T, n int) (port string, sum [32]byte) {
	t.Helper()
	data := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{'u', 'i'}).Read(data); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(s.Close)
	return s.URL[strings.LastIndex(s.URL, ":")+1:], sha256.Sum256(data)
}

// tempDir is a folder that the programs' user may write.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "alptrace-lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// freePort is a TCP port of loopback that is free.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// udpPort is a UDP port of the machine's that is free.
func udpPort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}
