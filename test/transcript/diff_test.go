package transcript

import (
	"slices"
	"strings"
	"testing"
)

func TestStreams(t *testing.T) {
	got := streams("one\nserver| a\ntwo\nclient| x\nserver| b\nnot a stream| here\n")
	want := []string{"one", "two", "not a stream| here", "client| x", "server| a", "server| b"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct{ want, got, diff string }{
		{"a b c", "a b c", ""},
		{"", "", ""},
		{"a b c", "a x c", "   1   a\n   2 - b\n     + x\n"},
		{"a b c", "a b", "   2   b\n   3 - c\n"},
		{"b", "a b", "     + a\n"},
	} {
		if d := diff(strings.Fields(c.want), strings.Fields(c.got)); d != c.diff {
			t.Errorf("%q and %q: got %q, want %q", c.want, c.got, d, c.diff)
		}
	}
}

// TestExpected checks that an entry of the table is applied, and that one that
// fits no line is an error.
func TestExpected(t *testing.T) {
	got, err := expected("io_uring", "host", []string{"before", "io_uring_setup: ok"})
	if want := []string{"before", "io_uring_setup: ENOSYS"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := expected("io_uring", "host", []string{"something else"}); err == nil {
		t.Error("an entry that fits no line went unnoticed")
	}
}
