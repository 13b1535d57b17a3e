package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     counts
		broken   bool
		prints   string
	}{
		{"subtests count, their parent does not", `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"run","Package":"p","Test":"A/y"}
{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"skip","Package":"p","Test":"A/y"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`, counts{1, 0, 1}, false, "ok  \tp\t1.5s\t1 passed, 1 skipped\n"},
		{"the output of what failed", `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p","Elapsed":0.1}
`, counts{0, 1, 0}, true, "why\nFAIL\tp\t0.1s\t0 passed, 1 failed\n"},
		{"a package that panics", `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"panic: x\n"}
{"Action":"fail","Package":"p","Elapsed":0}
`, counts{0, 1, 0}, true, "panic: x\n"},
		{"a package that does not build", `
{"ImportPath":"p","Action":"build-output","Output":"syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","Elapsed":0}
`, counts{0, 1, 0}, true, "syntax error\n"},
		{"lines that are no events", "warning: x\n", counts{}, false, "warning: x\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			s := newSummary(&out)
			if err := s.read(strings.NewReader(strings.TrimPrefix(c.in, "\n"))); err != nil {
				t.Fatal(err)
			}
			if s.total != c.want || s.broken != c.broken {
				t.Errorf("%+v, broken %v; want %+v, broken %v", s.total, s.broken, c.want, c.broken)
			}
			if !strings.Contains(out.String(), c.prints) {
				t.Errorf("printed %q, want %q in it", out.String(), c.prints)
			}
		})
	}
}

func TestTotal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "totals")
	if err := os.WriteFile(name, []byte("1 0 2\n10 0 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if ok, err := printTotal(name, &out); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	if want := "11 passed, 0 failed, 2 skipped\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
