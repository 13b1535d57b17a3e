package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuild builds a package of the user's, without and with a go.mod.
func TestBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles alptrace")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	text, err := os.ReadFile("../../examples/mycc/mycc.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, mod := range map[string]string{"bare": "", "module": "module example.org/own\n\ngo 1.24\n"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{"mycc.go": string(text)}
			if mod != "" {
				files["go.mod"] = mod
			}
			for n, s := range files {
				if err := os.WriteFile(filepath.Join(dir, n), []byte(s), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			bin := filepath.Join(t.TempDir(), "mytrace")
			c := rootCommand()
			c.SetArgs([]string{"build", "--with", dir, "--source", "../..", "-o", bin})
			if err := c.Execute(); err != nil {
				t.Fatal(err)
			}
			out, _ := exec.Command(bin, "--tcp", "alp,cc=?", "true").CombinedOutput()
			if !strings.Contains(string(out), " mycc ") {
				t.Errorf("it does not know mycc: %s", out)
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, args := range [][]string{{"build"}, {"build", "--with", "/nowhere"}, {"build", "--with", "../../docs"}, {"build", "--with", ".", "--source", "/"}} {
		c := rootCommand()
		c.SetArgs(args)
		if err := c.Execute(); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestList(t *testing.T) {
	var b bytes.Buffer
	if err := list(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bbr", "optimistic", "newreno", "rfc793", "skip", "initial window"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
