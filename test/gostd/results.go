package gostd

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// outcome is what a test came to.
type outcome string

// The outcomes, as "go test -v" has them.
const (
	pass outcome = "PASS"
	fail outcome = "FAIL"
	skip outcome = "SKIP"
)

// resultLine is a line of -test.v=test2json that ends a test; ^V comes before
// every line that is the framework's own.
var resultLine = regexp.MustCompile(`^\s*\x16?\s*--- (PASS|FAIL|SKIP): (\S+) \([0-9.]+s\)$`)

// parse reads the output of a test binary run with -test.v=test2json, and
// returns the outcome of each test and subtest.
func parse(r io.Reader) (map[string]outcome, error) {
	got := map[string]outcome{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		line := sc.Text()
		if i := strings.LastIndexByte(line, 0x16); i > 0 { // after output without a newline
			line = line[i:]
		}
		if m := resultLine.FindStringSubmatch(line); m != nil {
			got[m[2]] = outcome(m[1])
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read test output: %w", err)
	}
	return got, nil
}

// count is how many tests had the outcome.
func count(r map[string]outcome, want outcome) int {
	n := 0
	for _, o := range r {
		if o == want {
			n++
		}
	}
	return n
}

// differing lists, in order, the tests that passed in native and not in traced.
func differing(native, traced map[string]outcome) []string {
	var names []string
	for name, o := range native {
		if o == pass && traced[name] != pass {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// exception is a line of exceptions.txt.
type exception struct {
	pkg, test, cause string
}

// covers reports whether the exception is about the test of the package.
func (e exception) covers(pkg, test string) bool {
	if e.pkg != pkg {
		return false
	}
	if prefix, ok := strings.CutSuffix(e.test, "*"); ok {
		return strings.HasPrefix(test, prefix)
	}
	return e.test == test
}

// parseExceptions reads the lines of exceptions.txt.
func parseExceptions(text string) ([]exception, error) {
	var all []exception
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 3 {
			return nil, fmt.Errorf("exceptions.txt:%d: want package, test and cause: %q", i+1, line)
		}
		all = append(all, exception{f[0], f[1], strings.Join(f[2:], " ")})
	}
	return all, nil
}

// roots are the top-level tests of the names.
func roots(names []string) []string {
	var tops []string
	for _, n := range names {
		top, _, _ := strings.Cut(n, "/")
		if !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	return tops
}
