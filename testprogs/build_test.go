package testprogs

import (
	"debug/elf"
	"os/exec"
	"strings"
	"testing"
)

// TestBuild builds one program of each linkage and looks at what came out.
func TestBuild(t *testing.T) {
	for _, c := range []struct {
		name    string
		how     Linkage
		dynamic bool
	}{
		{"tcp_echo", Dynamic, true},
		{"tcp_echo", Static, false},
		{"nolibc_echo", Raw, false},
		{"gonet", Go, false},
		{"tcp_echo", M32, false},
		{"nolibc_echo", Raw32, false},
		{"gonet", Go32, false},
	} {
		t.Run(c.name+"/"+string(c.how), func(t *testing.T) {
			path := BuildLinked(t, c.name, c.how)
			if again := BuildLinked(t, c.name, c.how); again != path {
				t.Errorf("built twice: %s, then %s", path, again)
			}
			f, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			interp := f.Section(".interp") != nil
			if interp != c.dynamic {
				t.Errorf("%s has an interpreter: %v, want %v", path, interp, c.dynamic)
			}
			if c.how != Raw {
				return
			}
			if out, err := exec.Command(path).CombinedOutput(); err != nil || !strings.Contains(string(out), "connect: 0") {
				t.Errorf("run: %v\n%s", err, out)
			}
		})
	}
}

// TestList wants every source to be listed once: names are keys elsewhere.
func TestList(t *testing.T) {
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range list {
		if seen[p.Name] {
			t.Errorf("two programs are named %s", p.Name)
		}
		seen[p.Name] = true
	}
	if len(list) < 60 {
		t.Errorf("%d programs, want at least 60", len(list))
	}
}
