//go:build libseccomp && cgo

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	seccomp "github.com/seccomp/libseccomp-golang"
)

// TestUpToDate fails when the embedded filters are not what this generator
// makes; go generate -tags libseccomp ./tracer/filter renews them.
func TestUpToDate(t *testing.T) {
	if err := seccomp.SetAPI(apiLevel); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, target := range targets {
		if err := write(dir, target.goarch, target.native, target.foreign); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "filter_*"))
	if err != nil || len(names) != 2*len(targets) {
		t.Fatalf("generated %v: %v", names, err)
	}
	for _, name := range names {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("..", filepath.Base(name)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator makes", filepath.Base(name))
		}
	}
}
