package gostd

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	got, err := parse(strings.NewReader("\x16=== RUN   TestA\nnoise\n\x16--- PASS: TestA (0.01s)\n" +
		"\x16=== RUN   TestB\n\x16=== RUN   TestB/x_y\nno newline\x16--- FAIL: TestB (1.00s)\n    \x16--- SKIP: TestB/x_y (0.00s)\n" +
		"    --- PASS: TestB/deep/er (0.00s)\n--- PASS: not a result\nPASS\n"))
	want := map[string]outcome{"TestA": pass, "TestB": fail, "TestB/x_y": skip, "TestB/deep/er": pass}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if n := count(got, pass); n != 2 {
		t.Errorf("%d passed", n)
	}
}

func TestDiffering(t *testing.T) {
	native := map[string]outcome{"A": pass, "B": pass, "C": fail, "D": pass, "E": skip}
	traced := map[string]outcome{"A": pass, "B": fail, "C": fail, "E": fail, "F": pass}
	if got, want := differing(native, traced), []string{"B", "D"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := roots([]string{"B", "D/x", "D/y", "D"}), []string{"B", "D"}; !slices.Equal(got, want) {
		t.Errorf("roots %v, want %v", got, want)
	}
}

func TestParseExceptions(t *testing.T) {
	got, err := parseExceptions("# comment\n\nnet TestX the cause of it\nos TestY/* another\n")
	want := []exception{{"net", "TestX", "the cause of it"}, {"os", "TestY/*", "another"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, %v", got, err)
	}
	if !got[0].covers("net", "TestX") || got[0].covers("net", "TestX/y") || got[0].covers("os", "TestX") {
		t.Error("an exact name covers the wrong tests")
	}
	if !got[1].covers("os", "TestY/deep") || got[1].covers("os", "TestY") {
		t.Error("a pattern covers the wrong tests")
	}
	if _, err := parseExceptions("net TestX\n"); err == nil {
		t.Error("an exception without a cause is taken")
	}
}
