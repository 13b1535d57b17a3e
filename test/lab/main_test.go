package lab_test

import (
	"os"
	"sync"
	"testing"
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
