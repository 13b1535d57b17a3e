// Command testsum reads what go test -json writes, prints a line for each
// package and the whole output of what failed, and counts.
//
//	go test -json ./... | testsum [-append FILE]
//	testsum -total FILE
//
// With -append it adds its counts to a file; with -total it prints the sum of
// those, as "N passed, N failed, N skipped". A subtest counts, a test that has
// subtests does not. It exits with 1 if anything failed.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// counts are tests by outcome.
type counts struct{ passed, failed, skipped int }

// summary gathers events.
type summary struct {
	out    io.Writer
	total  counts
	pkg    map[string]*counts
	output map[string][]string // by test, or by package for what is no test's
	parent map[string]bool     // tests with subtests
	broken bool
}

func main() {
	appendTo := flag.String("append", "", "add the counts to this file")
	total := flag.String("total", "", "print the sum of the counts in this file")
	flag.Parse()
	ok, err := run(*appendTo, *total)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(appendTo, total string) (ok bool, err error) {
	if total != "" {
		return printTotal(total, os.Stdout)
	}
	s := newSummary(os.Stdout)
	if err := s.read(os.Stdin); err != nil {
		return false, err
	}
	if appendTo != "" {
		f, err := os.OpenFile(appendTo, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return false, err
		}
		_, err = fmt.Fprintln(f, s.total.passed, s.total.failed, s.total.skipped)
		if err := errors.Join(err, f.Close()); err != nil {
			return false, err
		}
	}
	return !s.broken && s.total.failed == 0, nil
}

// printTotal prints the sum of the lines of counts in the named file.
func printTotal(name string, w io.Writer) (ok bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var sum counts
	for {
		var c counts
		if _, err := fmt.Fscanln(f, &c.passed, &c.failed, &c.skipped); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		sum.add(c)
	}
	_, err = fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", sum.passed, sum.failed, sum.skipped)
	return sum.failed == 0, err
}

func (c *counts) add(d counts) {
	c.passed += d.passed
	c.failed += d.failed
	c.skipped += d.skipped
}

func newSummary(w io.Writer) *summary {
	return &summary{out: w, pkg: map[string]*counts{}, output: map[string][]string{}, parent: map[string]bool{}}
}

// read handles events until the end of r. Lines that are none (a failed build
// of an old Go) are printed as they are.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) == nil && e.Action != "":
			s.handle(e)
		default:
			fmt.Fprint(s.out, line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) handle(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "build-fail":
		s.broken = true
	case "run":
		for name := e.Test; strings.Contains(name, "/"); {
			name = name[:strings.LastIndex(name, "/")]
			s.parent[e.Package+" "+name] = true
		}
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(e, key)
		}
	}
}

func (s *summary) endTest(e event, key string) {
	if e.Action == "fail" {
		for _, line := range s.output[key] {
			fmt.Fprint(s.out, line)
		}
	}
	delete(s.output, key)
	if s.parent[key] && e.Action != "fail" {
		return
	}
	c := s.pkg[e.Package]
	if c == nil {
		c = &counts{}
		s.pkg[e.Package] = c
	}
	switch e.Action {
	case "pass":
		c.passed++
	case "fail":
		c.failed++
	case "skip":
		c.skipped++
	}
}

func (s *summary) endPackage(e event) {
	c := s.pkg[e.Package]
	if c == nil {
		c = &counts{}
	}
	s.total.add(*c)
	switch e.Action {
	case "pass":
		fmt.Fprintf(s.out, "ok  \t%s\t%.1fs\t%d passed", e.Package, e.Elapsed, c.passed)
		if c.skipped > 0 {
			fmt.Fprintf(s.out, ", %d skipped", c.skipped)
		}
		fmt.Fprintln(s.out)
	case "skip": // no tests
	case "fail":
		s.broken = true
		if c.failed == 0 { // it did not build, panicked or took too long
			s.total.failed++
		}
		for _, key := range s.unfinished(e.Package) {
			for _, line := range s.output[key] {
				if !strings.HasPrefix(line, "FAIL") { // said below, with counts
					fmt.Fprint(s.out, line)
				}
			}
		}
		fmt.Fprintf(s.out, "FAIL\t%s\t%.1fs\t%d passed, %d failed\n", e.Package, e.Elapsed, c.passed, c.failed)
	}
}

// unfinished lists the keys of output that no test's end has printed: of the
// package itself, and of tests that were running when it died.
func (s *summary) unfinished(pkg string) []string {
	var keys []string
	for key := range s.output {
		if strings.HasPrefix(key, pkg+" ") {
			keys = append(keys, key)
		}
	}
	return keys
}
